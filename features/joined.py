"""Several feature sets of the same images side by side, read like one feature file."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile

JOINED = ("backbone", "weights_sha256", "values_sha256", "image_size", "engine", "device")


class JoinedFeatures(FeatureFile):
    """Open feature files of the same images; a layer is called `set/layer`, and each file is read on its own.

    The attributes in JOINED are those of all files joined by `+`, `seconds` is the sum, and of the others the first
    file's are there. The files are closed by whoever opened them.

    Args:
        files: the open files by the names of their sets.

    Raises:
        InputError: they hold different images.
    """

    def __init__(self, files: Mapping[str, FeatureFile]):
        self.files = dict(files)
        first = next(iter(files.values()))
        for other in files.values():
            check_same_images(first, other)
        self.path, self.labels, self.ids, self.split = first.path, first.labels, first.ids, first.split
        self.class_names, self.groups = first.class_names, first.groups
        self.layers = {f"{name}/{layer}": shape for name, one in files.items() for layer, shape in one.layers.items()}
        every = [one.attributes for one in files.values()]
        self.attributes: dict[str, Any] = {
            **first.attributes,
            **{name: "+".join(str(given[name]) for given in every) for name in JOINED},
            "seconds": sum(float(given["seconds"]) for given in every),
        }

    def __exit__(self, *error: object) -> None:
        """Leave the files open."""

    def check_digests(self) -> None:
        """Read all of the files and raise InputError if anything in one changed since it was made."""
        for file in self.files.values():
            file.check_digests()

    def _blocks(self, name: str, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        of_set, _, layer = name.partition("/")
        return self.files[of_set]._blocks(layer, rows)

    def parts(self, layer: str) -> dict[str, str]:
        """Return the layers of each set, joined by `+`, in `layer`: several `set/layer` joined by `+`."""
        found: dict[str, list[str]] = {}
        for name in split_layers(layer):
            found.setdefault(name.partition("/")[0], []).append(name.partition("/")[2])
        return {name: "+".join(layers) for name, layers in found.items()}


def check_same_images(first: FeatureFile, other: FeatureFile) -> None:
    """Raise InputError if two feature files do not hold the same images in the same splits."""
    if first.ids != other.ids or not np.array_equal(first.split, other.split):
        raise InputError(
            f"{first.path} and {other.path} hold different images, since some were skipped; choose one by --features"
        )
