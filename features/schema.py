"""The schema of a feature file: how it is created, checked and digested."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SCHEMA_VERSION = 2
BLOCK_BYTES = 2**25
CHUNK_BYTES = 2**18
COLUMN_KINDS = {"labels": "i", "split": "u", "ids": "S", "class_names": "S", "groups": "S"}  # as NumPy calls types


def create_feature_file(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    columns: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> h5py.File:
    """Create a feature file with empty layers and return it open.

    Args:
        path: the file.
        shapes: the shape (N, ...) of each layer.
        dtype: of the layers, float32 or float16.
        columns: `labels` (N,) int64, `ids` (N,) str, `split` (N,) uint8, `class_names` (K,) str, and `groups` (N,)
            str if the dataset has groups; texts become fixed-length UTF-8.
        attributes: what is written beside the schema's version.
    """
    file = h5py.File(path, "w")
    for name, shape in shapes.items():
        create_dataset(file, f"features/{name}", shape, dtype)
    for name, column in columns.items():
        values = np.asarray(_fixed_utf8(column) if COLUMN_KINDS[name] == "S" else column)
        create_dataset(file, name, values.shape, values.dtype)[...] = values
    file.attrs.update({"schema_version": SCHEMA_VERSION, **attributes})
    return file


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """Create an empty HDF5 dataset, chunked by rows, every chunk with HDF5's Fletcher-32 checksum."""
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = max(1, min(shape[0], CHUNK_BYTES // max(1, row_bytes)))
    return file.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), fletcher32=True)


def _fixed_utf8(texts: Sequence[str]) -> np.ndarray:
    encoded = [text.encode("utf-8") for text in texts]
    length = max(1, max(map(len, encoded), default=1))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def row_blocks(num_rows: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices that cover `num_rows` rows in order, each of at most 32 MiB (and at least one row)."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def stored_row_bytes(dataset: h5py.Dataset) -> int:
    """Return the bytes of one row in the file."""
    return int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize


def check_structure(file: h5py.File) -> None:
    """Raise ValueError unless the file's columns and layers are plain arrays of their kinds, held in this file.

    Nothing is read yet: no link is followed, and an array that claims to be larger than what the file holds is refused
    before it is allocated.
    """
    for name, kind in COLUMN_KINDS.items():
        if name != "groups" or name in file:
            check_array(file, name, kind, dimensions=(1,))
    is_own = isinstance(file.get("features", getlink=True), h5py.HardLink)
    if not is_own or not isinstance(file["features"], h5py.Group) or not file["features"].keys():
        raise ValueError("it has no layers")
    for name in file["features"]:
        check_array(file, f"features/{name}", "f", dimensions=(2, 4))


def check_array(file: h5py.File, name: str, kind: str, dimensions: tuple[int, ...]) -> None:
    """Raise ValueError unless a file holds an array itself, of the kind that is expected and as large as it claims.

    Args:
        file: the open file.
        name: the array's name.
        kind: the kind of its type as NumPy calls it; of floats ("f"), none is wider than float32.
        dimensions: the numbers of dimensions that it may have.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is missing, or a link to elsewhere")
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external:
        raise ValueError(f"{name} is no array of this file")
    if array.dtype.kind != kind or array.ndim not in dimensions or (kind == "f" and array.dtype.itemsize > 4):
        raise ValueError(f"{name} has the type {array.dtype} and {array.ndim} dimensions")
    if array.id.get_storage_size() < array.nbytes:
        raise ValueError(f"{name} claims {array.nbytes} bytes and holds {array.id.get_storage_size()}")


def plain_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the root attributes, NumPy's numbers as Python's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}


def values_digest(file: h5py.File, layers: Sequence[str]) -> str:
    """Return the SHA-256 over labels, ids, split and every layer's values, read back in order.

    Raises ValueError if a value is not finite, OSError if a chunk does not fit its checksum.
    """
    digest = hashlib.sha256()
    for name in ("labels", "ids", "split"):
        digest.update(np.ascontiguousarray(file[name][...]))
    for name in layers:
        layer = file[f"features/{name}"]
        for rows in row_blocks(len(layer), stored_row_bytes(layer)):
            block = layer[rows]
            if not np.isfinite(block).all():
                raise ValueError(f"layer {name} holds values that are not finite")
            digest.update(block)
    return digest.hexdigest()


def record_digest(file: h5py.File) -> str:
    """Return the SHA-256 over the root attributes and the names of classes and groups."""
    attributes = plain_attributes(file)
    attributes.pop("record_sha256", None)
    digest = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name in ("class_names", "groups"):
        if name in file:
            digest.update(np.ascontiguousarray(file[name][...]))
    return digest.hexdigest()
