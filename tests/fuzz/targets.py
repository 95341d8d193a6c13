"""Every parser of what somebody else may have made: its seeds, how they are changed, and how bytes are read by it."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import mutations
import numpy as np
import seeds

from thaw.features.backbones import pytorch_file, registry, weights
from thaw.features.datasets.dataset import load_dataset
from thaw.features.foreign import preprocessing, pruning
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.images import decode
from thaw.features.images.preprocess import resize
from thaw.pipeline.inference import inputs

MOST_PIXELS = 2**18


class Target(NamedTuple):
    """A parser: `meet` reads bytes by it; `share` is its part of all executions, larger where it is quick.

    `allowed` are exceptions beyond InputError and OSError that its documentation names.
    """

    name: str
    meet: Callable[[bytes], object]
    seeds: list[bytes]
    share: int
    change: mutations.Change = mutations.raw
    most_bytes: int = 4096
    allowed: tuple[type[BaseException], ...] = ()


def file_target(name: str, path: Path, read: Callable[[], object], content: list[bytes], share: int) -> Target:
    """Return the target of what `read` reads from `path`, as JSON or a zip where its name says so."""

    def meet(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    zips, sizes = (".npz", ".zip", ".skops"), max(4096, 4 * max(map(len, content)))
    change = mutations.in_zip if path.suffix in zips else mutations.in_json if path.suffix == ".json" else mutations.raw
    return Target(name, meet, content, share, change, sizes)


def data_targets(folder: Path) -> Iterator[Target]:
    """Yield those of images and data sets; files are written into `folder`."""
    yield Target("image", _image, seeds.images(), 80, most_bytes=8192)
    (folder / "table").mkdir()
    (folder / "table" / "labels.txt").write_text("ant\nbee\n")
    for name in ("1.png", "2.png", "sub/3.png"):
        (folder / "table" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "table" / name).write_bytes(seeds.PNG)
    for kind, path, content, share in (
        ("folder", folder / "pictures.zip", seeds.archives(), 25),
        ("csv", folder / "table" / "table.csv", seeds.tables(), 120),
        ("csv", folder / "table" / "coco.json", seeds.coco(), 60),
        ("csv", folder / "table" / "lines.jsonl", seeds.json_lines(), 60),
        ("csv", folder / "table" / "list.txt", seeds.lists(), 60),
        ("npz", folder / "arrays.npz", seeds.arrays(), 25),
    ):
        yield file_target(path.name, path, _dataset(f"{kind}:{path}"), content, share)


def _image(content: bytes) -> None:
    image = decode.decode(content, "image", MOST_PIXELS, 9 if content[-1:] < b"\x80" else None)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size > 3 * MOST_PIXELS:
        raise AssertionError(f"decoded to {image.dtype} {image.shape}")
    resize(image[:256, :256], 8, "bilinear")


def _dataset(word: str) -> Callable[[], None]:
    def read() -> None:
        dataset = load_dataset(word, max_pixels=MOST_PIXELS)
        dataset.digest()
        for row in range(min(4, len(dataset.ids))):
            dataset.read(row)

    return read


def weight_targets(folder: Path) -> Iterator[Target]:
    """Yield those of network weights, in each kind of file that is read."""
    keras, state = seeds.keras_weights(folder), seeds.pytorch_state()
    for suffix, network, content, share in (
        (".h5", "vgg16", keras, 8),
        (".onnx", "vgg16", seeds.onnx_weights(), 40),
        (".npz", "alexnet", [seeds.npz(**state)], 20),
        (".safetensors", "alexnet", seeds.safetensors_weights(), 60),
    ):
        path, backbone = folder / f"weights{suffix}", registry.get_backbone(network)
        read = lambda path=path, backbone=backbone: weights.load_weights(str(path), backbone)  # noqa: E731
        target = file_target(path.name, path, read, content, share)
        yield target._replace(change=mutations.in_hdf5(keras[0])) if suffix == ".h5" else target
    path, stated = folder / "network.onnx", folder / "network.json"
    yield file_target(path.name, path, lambda: _foreign_network(path), seeds.onnx_networks(folder), 20)
    yield file_target(stated.name, stated, lambda: preprocessing.read_stated(stated), seeds.stated(), 100)
    states = seeds.pytorch_files()
    yield Target("weights.pth", _pytorch_state, states, 60, most_bytes=4 * max(map(len, states)), allowed=(ValueError,))


def _foreign_network(path: Path) -> None:
    """Read a network from an ONNX file, and look at its layers without running it."""
    network = OnnxNetwork(path, "onnx:network")
    for layer in network.layers:
        pruning.pruned(network.content.model, (network.tensor(layer.name),))


def _pytorch_state(content: bytes) -> None:
    """Read a file as if its digest were the published one; what a digest guards would never be met otherwise."""
    tensors = pytorch_file.read_state(content)
    if any(tensor.size > len(content) for tensor in tensors.values()):
        raise AssertionError("a tensor is larger than the file")
    for tensor in tensors.values():
        tensor.sum()  # every number is where the view says


def list_targets(folder: Path) -> Iterator[Target]:
    """Yield that of the names of images that come on standard input, one a line."""
    (folder / "new").mkdir()
    (folder / "new" / "1.png").write_bytes(seeds.PNG)

    def meet(content: bytes) -> None:
        lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        for path in islice(inputs.list_images(["-"], lines), 20):
            decode.decode(path, str(path), MOST_PIXELS)

    here = str(folder / "new" / "1.png").encode()
    yield Target("standard input", meet, [here + b"\n\r\n" + here + b"\r\n", b"gone.png\n*.png\n"], 100, most_bytes=512)
