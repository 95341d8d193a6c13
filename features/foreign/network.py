"""A network from an ONNX file that stands where one of our own stands, as far as it is frozen."""

import functools
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from thaw.features.backbones.registry import Layer
from thaw.features.errors import InputError, shown
from thaw.features.foreign.onnx_file import ImageInput, OnnxContent, read_onnx, refused
from thaw.features.foreign.preprocessing import Stated, read_stated
from thaw.features.foreign.probing import Form, probe
from thaw.features.foreign.pruning import pruned
from thaw.features.onnx.runtime import onnxruntime_version

PREFIX = "onnx:"
NUM_NAMED = 12  # layers in a message


def safe_name(text: str) -> str:
    """Return a name that files, options and HDF5 can have: letters, digits, `.`, `_` and `-`.

    >>> safe_name("/blocks.11/Add_output_0")
    'blocks.11_Add_output_0'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.") or "_"


def name_of(path: Path) -> str:
    """Return the name of the network in a file, as it stands in reports: `onnx:` and the file's name without ending."""
    return f"{PREFIX}{safe_name(path.stem)}"


class OnnxNetwork:
    """The network in an ONNX file, which is read when something of it is wanted first."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self._forms: dict[tuple[str, int], Form] = {}

    @cached_property
    def content(self) -> OnnxContent:
        """The checked file."""
        if onnxruntime_version() is None:
            raise refused(self.path, "ONNX Runtime is not installed, which runs such networks; type make setup")
        return read_onnx(self.path)

    @property
    def image(self) -> ImageInput:
        """The input."""
        return self.content.image

    @cached_property
    def stated(self) -> Stated:
        """What the JSON file beside the ONNX file states of the preprocessing."""
        return read_stated(self.path.with_suffix(".json"))

    @property
    def normalization(self) -> str:
        """The normalisation that the JSON file states; raises InputError if it states none."""
        if self.stated.normalize is None:
            raise refused(
                self.path,
                f"nothing says how its images are prepared; expected mean and std in {self.path.with_suffix('.json')}, "
                'for example {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": 224}, or type '
                "--normalize rgb:0.485,0.456,0.406:0.229,0.224,0.225",
            )
        return self.stated.normalize

    @property
    def aspect(self) -> str | None:
        """How images become squares, if the JSON file states it."""
        return self.stated.aspect

    @property
    def resize(self) -> str | None:
        """How images are resized, if the JSON file states it."""
        return self.stated.resize

    @property
    def default_image_size(self) -> int:
        """The side of its images in pixels: of the fixed input, or as the JSON file states."""
        fixed, given = self.image.size, self.stated.image_size
        if fixed and given and fixed != given:
            where = self.path.with_suffix(".json")
            raise refused(
                self.path, f"its images have {fixed} pixels, and {where} says {given}; correct the size there"
            )
        if size := fixed or given:
            return size
        raise refused(
            self.path,
            f"it takes images of any size, and nothing says which it was trained with; expected size in "
            f"{self.path.with_suffix('.json')}, or type for example --image-size 224",
        )

    def check_image_size(self, image_size: int) -> None:
        """Raise InputError if the network takes images of one other size."""
        if (fixed := self.image.size) and fixed != image_size:
            raise InputError(
                f"--image-size {image_size}: {self.name} takes images of {fixed} pixels alone; leave --image-size out, "
                "or export the network with a free height and width"
            )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The outputs that features come from, in their order; their channels are seen when the network runs."""
        return tuple(Layer(safe_name(name), 0, probed=True, trainable=False) for name in self.content.outputs)

    @property
    def default_layers(self) -> str:
        """The layers that are extracted unless others are named: all outputs of rank 2 to 4, joined by a comma."""
        return ",".join(layer.name for layer in self.layers)

    def pooling(self, name: str) -> str:
        """Return the pooling that a name means: `avg` for `auto`, since nearly all networks end in averages."""
        return "avg" if name == "auto" else name

    @property
    def name_width(self) -> int:
        """The width, in characters, of the layers' names in a list of them."""
        return max(14, *(len(layer.name) for layer in self.layers))

    @property
    def num_parameters(self) -> int:
        """The floating-point numbers that the file holds as tensors of its graph."""
        return sum(
            math.prod(tensor.dims) for tensor in self.content.model.graph.initializer if tensor.data_type in (1, 10)
        )

    @cached_property
    def _tensors(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the tensors that depend on the image, by the layer's name; two of one name are both there."""
        found: dict[str, tuple[str, ...]] = {}
        dependent = {self.image.name}
        for node in self.content.model.graph.node:
            if dependent.intersection(node.input):
                outputs = [name for name in node.output if name]
                dependent.update(outputs)
                found |= {safe_name(name): (*found.get(safe_name(name), ()), name) for name in outputs}
        return found

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The names by which `--layers` takes the tensors of the graph, in their order."""
        return tuple(self._tensors)

    def tensor(self, layer: str) -> str:
        """Return the name of a layer's tensor in the file; raises InputError that lists the nearest names."""
        found = self._tensors.get(layer, ())
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{self.name} has {len(found)} tensors that {layer} means; choose another layer")
        near = get_close_matches(layer, self._tensors, n=NUM_NAMED) or [layer.name for layer in self.layers]
        raise InputError(f"{self.name} has no layer {shown(layer)!r}; expected for example one of {', '.join(near)}")

    def form(self, layer: str, image_size: int) -> Form:
        """Return what a layer gives for images of that size; raises InputError if features cannot be taken there."""
        key = (layer, image_size)
        if key not in self._forms:
            self.check_image_size(image_size)
            name = self.tensor(layer)
            model = pruned(self.content.model, (name,)).SerializeToString()
            (self._forms[key],) = probe(self.path, model, self.image, image_size, (name,)).values()
        return self._forms[key]

    def output_shape(self, layer: str, image_size: int) -> tuple[int, int, int]:
        """Return the (H, W, C) that becomes of a layer's output for images of that size, (1, 1, D) of a vector."""
        return self.form(layer, image_size).shape


@functools.lru_cache(maxsize=2)
def _network_in(path: Path, name: str, changed: tuple[int, int]) -> OnnxNetwork:
    """Return the network in a file; `changed` is its time and size, so that a file that was replaced is read anew."""
    return OnnxNetwork(path, name)


def open_network(path: Path, name: str) -> OnnxNetwork:
    """Return the network in a file by its name, whatever the file may hold: it is read when something is wanted."""
    try:
        status = path.stat()
    except OSError:
        return OnnxNetwork(path, name)
    return _network_in(path, name, (status.st_mtime_ns, status.st_size))
