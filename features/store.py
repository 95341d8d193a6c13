"""Read a feature file, whole or by blocks of rows."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.hdf5_guard import check_heaps
from thaw.features.schema import (
    SCHEMA_VERSION,
    check_structure,
    plain_attributes,
    record_digest,
    row_blocks,
    stored_row_bytes,
    values_digest,
)

SPLITS = ("train", "validation", "test")


class FeatureFile:
    """A whole feature file, open for reading; use it in a `with` block.

    Attributes:
        layers: the shape (N, ...) of each layer, by name.
        labels: int64 (N,).
        ids: the N ids.
        split: uint8 (N,), indices into SPLITS.
        class_names: the K classes.
        groups: the N groups, or None.
        attributes: the root attributes.

    Raises:
        InputError: the file is missing, damaged or of another schema.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            check_heaps(path)
            self._file = h5py.File(path, "r")
            try:
                self._read_columns()
            except BaseException:
                self._file.close()
                raise
        except FileNotFoundError:
            raise InputError(f"no feature file {path}; type: make features") from None
        except PermissionError as error:
            error.filename = str(path)  # which HDF5 says in the text alone
            raise
        except MemoryError:  # says nothing of the file
            raise
        except FILE_ERRORS as error:
            raise InputError(
                f"{path} is not a whole feature file ({error}); remove it and type: make features"
            ) from None

    def _read_columns(self) -> None:
        file = self._file
        version = int(file.attrs["schema_version"])
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version}, expected {SCHEMA_VERSION}")
        check_structure(file)
        self.attributes = plain_attributes(file)
        self.labels: np.ndarray = file["labels"][...]
        self.split: np.ndarray = file["split"][...]
        self.ids = _texts(file, "ids")
        self.class_names = tuple(_texts(file, "class_names"))
        self.groups = _texts(file, "groups") if "groups" in file else None
        self.layers: dict[str, tuple[int, ...]] = {name: layer.shape for name, layer in file["features"].items()}
        lengths = {len(self.labels), len(self.split), len(self.ids), len(self.groups or self.ids)}
        if {shape[0] for shape in self.layers.values()} | lengths != {len(self.ids)}:
            raise ValueError("its layers and columns differ in length")
        if len(set(self.ids)) != len(self.ids) or self.labels.min() < 0 or self.split.max() >= len(SPLITS):
            raise ValueError("an id is there twice, or a label or a split is none")
        if self.labels.max() >= len(self.class_names):
            raise ValueError(f"a label is beyond its {len(self.class_names)} classes")

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each image by its id."""
        return {name: row for row, name in enumerate(self.ids)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def check_digests(self) -> None:
        """Read all of the file and raise InputError if anything in it changed since it was made."""
        try:
            received = {
                "values_sha256": values_digest(self._file, list(self.layers)),
                "record_sha256": record_digest(self._file),
            }
            changed = [name for name, digest in received.items() if self.attributes[name] != digest]
        except FILE_ERRORS as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} is damaged ({reason}); remove it and type: make features") from None
        if changed:
            raise InputError(
                f"{self.path} changed since it was made: its {changed[0]} differs; remove it and type: make features"
            )

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the groups (n,) str of `rows`, indices (n,) or a mask (N,); None without groups."""
        return None if self.groups is None else np.array(self.groups)[rows]

    def row_bytes(self, layers: Sequence[str]) -> int:
        """Return the bytes that one image takes as float32 in the named layers side by side."""
        return 4 * sum(int(np.prod(self.layers[name][1:])) for name in layers)

    def read(self, layers: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Return rows of some layers, flattened side by side, as float32 (n, D).

        The file is read in order and in blocks, since HDF5 is slower by orders of magnitude at picking single rows.

        Args:
            layers: the names of the layers.
            rows: a mask (N,) bool, or the ascending indices (n,) of the rows.
        """
        rows = _indices(rows)
        result = np.empty((len(rows), self.row_bytes(layers) // 4), np.float32)
        column = 0
        for name in layers:
            width = self.row_bytes([name]) // 4
            for begin, block in self._blocks(name, rows):
                result[begin : begin + len(block), column : column + width] = block.reshape(len(block), width)
            column += width
        return result

    def read_rows(self, layer: str, rows: np.ndarray) -> np.ndarray:
        """Return the rows of one layer at the ascending indices `rows` (n,): float32 (n, ...), unflattened."""
        return self.read([layer], rows).reshape(len(rows), *self.layers[layer][1:])

    def _blocks(self, name: str, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the rows of a layer block by block, each with the index in `rows` of its first."""
        layer = self._file[f"features/{name}"]
        first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
        for block in row_blocks(last + 1 - first, stored_row_bytes(layer)):
            begin, end = first + block.start, first + block.stop
            here = slice(*np.searchsorted(rows, (begin, end)))
            if here.start < here.stop:
                yield here.start, self._block(layer, slice(begin, end))[rows[here] - begin]

    def _block(self, layer: h5py.Dataset, rows: slice) -> np.ndarray:
        try:
            return layer[rows]
        except OSError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path} is damaged in {layer.name} ({reason}); remove it, then: make features"
            ) from None


class FeatureLayers(FeatureFile):
    """The layers of a feature file alone, for a process that works on rows that another one has chosen.

    Of the attributes above only `layers` and `attributes` are there: ids and labels are not read.
    """

    def _read_columns(self) -> None:
        self.attributes: dict[str, Any] = dict(self._file.attrs)
        self.layers = {name: layer.shape for name, layer in self._file["features"].items()}


class FeatureRows:
    """Rows of some layers, flattened side by side, read from the file when they are wanted.

    `shape` is (n, D), `dtype` float32; `rows` (n,) are their indices in the file.

    Args:
        file: the open feature file.
        layers: the names of the layers.
        rows: a mask (N,) bool, or the ascending indices (n,) of the rows.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, file: FeatureFile, layers: Sequence[str], rows: np.ndarray):
        self.file, self.layers, self.rows = file, layers, _indices(rows)
        self.shape = (len(self.rows), file.row_bytes(layers) // 4)

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows (n, D), float32."""
        return self.file.read(self.layers, self.rows[rows])


def _indices(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _texts(file: h5py.File, name: str) -> list[str]:
    return [text.decode("utf-8") for text in file[name][...]]
