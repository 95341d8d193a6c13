"""`features.h5`: its schema, creating it, checking it, reading it by blocks of rows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from thaw.features.errors import CONTAINER_FAULTS, InputError
from thaw.features.files.hdf5_guard import check_heaps

SCHEMA_VERSION = 1
SPLITS = ("train", "validation", "test")
BLOCK_BYTES = 2**25
CHUNK_BYTES = 2**18


def row_blocks(num_rows: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices that cover `num_rows` rows in order, each of at most 32 MiB (and at least one row)."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def _row_bytes(dataset: h5py.Dataset) -> int:
    return int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """Create an empty dataset, chunked by rows, every chunk with HDF5's Fletcher-32 checksum."""
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = max(1, min(shape[0], CHUNK_BYTES // max(1, row_bytes)))
    return file.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), fletcher32=True)


def create_feature_file(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    columns: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> h5py.File:
    """Create a feature file at `path` with empty layers of the given (N, ...) shapes and return it open.

    `columns` holds `labels` (N,) int64, `ids` (N,) str, `split` (N,) uint8, `class_names` (K,) str, and `groups`
    (N,) str where the data set has them; texts become fixed-length UTF-8.
    """
    file = h5py.File(path, "w")
    for name, shape in shapes.items():
        create_dataset(file, f"features/{name}", shape, dtype)
    for name, column in columns.items():
        values = np.asarray(_fixed_utf8(column) if name in ("ids", "class_names", "groups") else column)
        create_dataset(file, name, values.shape, values.dtype)[...] = values
    file.attrs["schema_version"] = SCHEMA_VERSION
    for name, value in attributes.items():
        file.attrs[name] = value
    return file


def _fixed_utf8(texts: Sequence[str]) -> np.ndarray:
    encoded = [text.encode("utf-8") for text in texts]
    length = max(1, max(map(len, encoded), default=1))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def values_digest(file: h5py.File, layers: Sequence[str]) -> str:
    """Return the SHA-256 over labels, ids, split and every layer's values, read back in order, checking them finite.

    Raises ValueError where a value is not finite, OSError where a chunk's checksum does not hold.
    """
    digest = hashlib.sha256()
    for name in ("labels", "ids", "split"):
        digest.update(np.ascontiguousarray(file[name][...]))
    for name in layers:
        layer = file[f"features/{name}"]
        for rows in row_blocks(len(layer), _row_bytes(layer)):
            block = layer[rows]
            if not np.isfinite(block).all():
                raise ValueError(f"layer {name} holds values that are not finite")
            digest.update(block)
    return digest.hexdigest()


def check_structure(file: h5py.File) -> None:
    """Raise ValueError where the file's columns and layers are not plain arrays of their kinds, held in this file.

    Nothing is read yet: no link is followed, and an array that claims to be larger than what the file holds is refused
    before it is allocated.
    """
    kinds = {"labels": "i", "split": "u", "ids": "S", "class_names": "S"} | (
        {"groups": "S"} if "groups" in file else {}
    )
    for name, kind in kinds.items():
        check_array(file, name, kind, dimensions=(1,))
    if not isinstance(file.get("features", getlink=True), h5py.HardLink) or not _is_group(file, "features"):
        raise ValueError("it has no layers")
    for name in file["features"]:
        check_array(file, f"features/{name}", "f", dimensions=(2, 4))


def _is_group(file: h5py.File, name: str) -> bool:
    return isinstance(file[name], h5py.Group) and len(file[name]) > 0


def check_array(file: h5py.File, name: str, kind: str, dimensions: tuple[int, ...]) -> None:
    """Raise ValueError where `name` is no array of that kind in this very file, or claims more than the file holds."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is missing, or a link to elsewhere")
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external:
        raise ValueError(f"{name} is no array of this file")
    if array.dtype.kind != kind or array.ndim not in dimensions or (kind == "f" and array.dtype.itemsize > 4):
        raise ValueError(f"{name} has the type {array.dtype} and {array.ndim} dimensions")
    if array.id.get_storage_size() < array.nbytes:
        raise ValueError(f"{name} claims {array.nbytes} bytes and holds {array.id.get_storage_size()}")


def record_digest(file: h5py.File) -> str:
    """Return the SHA-256 over the root attributes and the names of classes and groups: what the values are of."""
    kept = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in file.attrs.items()
        if name != "record_sha256"
    }
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for name in ("class_names", "groups"):
        if name in file:
            digest.update(np.ascontiguousarray(file[name][...]))
    return digest.hexdigest()


class FeatureRows:
    """The rows of some layers where a mask holds, flattened side by side, read from the file when they are wanted.

    `shape` is (n, D), `dtype` float32; `places` (n,) are the rows in the file.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, file: "FeatureFile", layers: Sequence[str], mask: np.ndarray):
        self.file, self.layers, self.places = file, layers, np.flatnonzero(mask)
        self.shape = (len(self.places), file.row_bytes(layers) // 4)

    @classmethod
    def at(cls, file: "FeatureFile", layers: Sequence[str], places: np.ndarray) -> Self:
        """Return the rows at the ascending `places` (n,)."""
        rows = cls(file, layers, np.zeros(0, bool))
        rows.places, rows.shape = places, (len(places), rows.shape[1])
        return rows

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows (n, D), float32."""
        return self.file.read_side_by_side(self.layers, self.places[rows])


class FeatureFile:
    """A whole `features.h5`, open for reading; use it in a `with` block.

    Attributes: `layers` name -> shape (N, ...), `labels` (N,) int64, `ids` (N,) list of str, `split` (N,) uint8,
    `class_names` (K,) tuple of str, `groups` (N,) list of str or None, `attributes` the root attributes.
    Raises InputError where the file is missing, damaged or of another schema.
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
        except CONTAINER_FAULTS as error:
            raise InputError(
                f"{path} is not a whole feature file ({error}); remove it and type: make features"
            ) from None

    def _read_columns(self) -> None:
        file = self._file
        version = int(file.attrs["schema_version"])
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version}, expected {SCHEMA_VERSION}")
        check_structure(file)
        self.attributes: dict[str, Any] = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()
        }
        self.labels: np.ndarray = file["labels"][...]
        self.split: np.ndarray = file["split"][...]
        self.ids = [text.decode("utf-8") for text in file["ids"][...]]
        self.class_names = tuple(text.decode("utf-8") for text in file["class_names"][...])
        self.groups = [text.decode("utf-8") for text in file["groups"][...]] if "groups" in file else None
        self.layers: dict[str, tuple[int, ...]] = {name: layer.shape for name, layer in file["features"].items()}
        lengths = {len(self.labels), len(self.split), len(self.ids), len(self.groups or self.ids)}
        if {shape[0] for shape in self.layers.values()} | lengths != {len(self.ids)}:
            raise ValueError("its layers and columns differ in length")
        if len(set(self.ids)) != len(self.ids) or self.labels.min() < 0 or self.split.max() >= len(SPLITS):
            raise ValueError("an id is there twice, or a label or a side is none")
        if self.labels.max() >= len(self.class_names):
            raise ValueError(f"a label is beyond its {len(self.class_names)} classes")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def check_digests(self) -> None:
        """Read all of the file and raise InputError where anything in it changed since it was made."""
        try:
            received = {
                "values_sha256": values_digest(self._file, list(self.layers)),
                "record_sha256": record_digest(self._file),
            }
            changed = [name for name, digest in received.items() if self.attributes[name] != digest]
        except CONTAINER_FAULTS as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} is damaged ({reason}); remove it and type: make features") from None
        if changed:
            raise InputError(
                f"{self.path} changed since it was made: its {changed[0]} differs; remove it and type: make features"
            )

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the groups (n,) str of the rows at places (n,) or where a mask (N,) holds; None without groups."""
        return None if self.groups is None else np.array(self.groups)[rows]

    def row_bytes(self, layers: Sequence[str]) -> int:
        """Return the bytes that one image takes as float32 in the named layers side by side."""
        return 4 * sum(int(np.prod(self.layers[name][1:])) for name in layers)

    def read(self, layers: Sequence[str], mask: np.ndarray) -> np.ndarray:
        """Return the rows where `mask` (N,) bool holds: float32 (n, D), the layers flattened side by side.

        The file is read in order and in blocks, since picking single rows out of HDF5 is slow by orders of magnitude.
        """
        result = np.empty((int(mask.sum()), self.row_bytes(layers) // 4), np.float32)
        first_column = 0
        for name in layers:
            layer, first_row = self._file[f"features/{name}"], 0
            width = int(np.prod(layer.shape[1:]))
            for rows in row_blocks(len(layer), _row_bytes(layer)):
                if chosen := int(mask[rows].sum()):
                    block = self._block(layer, rows)[mask[rows]].reshape(chosen, width)
                    result[first_row : first_row + chosen, first_column : first_column + width] = block
                    first_row += chosen
            first_column += width
        return result

    def read_rows(self, layer: str, rows: np.ndarray) -> np.ndarray:
        """Return the rows of one layer at the ascending places `rows` (n,): float32 (n, ...), as the file keeps them.

        What lies between the first and the last of them is read in blocks, and only the wanted rows are kept.
        """
        stored = self._file[f"features/{layer}"]
        result, done = np.empty((len(rows), *stored.shape[1:]), np.float32), 0
        first = int(rows[0]) if len(rows) else 0
        for block in row_blocks(int(rows[-1]) + 1 - first if len(rows) else 0, _row_bytes(stored)):
            begin, end = first + block.start, first + block.stop
            places = rows[done : np.searchsorted(rows, end)]
            if len(places):
                result[done : done + len(places)] = self._block(stored, slice(begin, end))[places - begin]
                done += len(places)
        return result

    def read_side_by_side(self, layers: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Return the rows at the ascending places `rows` (n,): float32 (n, D), the layers flattened side by side."""
        parts = [self.read_rows(name, rows).reshape(len(rows), self.row_bytes([name]) // 4) for name in layers]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

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
        self.attributes = dict(self._file.attrs)
        self.layers = {name: layer.shape for name, layer in self._file["features"].items()}
