"""`features.h5` and its parts: schema, writing whole, checking, reading by blocks of rows."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import h5py
import numpy as np
from filelock import FileLock, Timeout

from features.errors import InputError

__all__ = ["SPLITS", "FeatureFile", "InputError", "create_feature_file", "whole_path", "write_whole"]

SCHEMA_VERSION = 1
SPLITS = ("train", "validation", "test")
BLOCK_BYTES = 2**25
CHUNK_BYTES = 2**18


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only when the block ends well.

    The file is flushed to the disk before it is renamed, and the folder after it, so that after a crash or a kill
    `path` is what it was before or whole. On an error the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None:  # a failed write does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Yield an open file (UTF-8 and `\\n` for text) that replaces `path` only when the block ends well."""
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    with whole_path(path) as temporary, temporary.open(mode, encoding=encoding, newline=newline) as file:
        yield file
        file.flush()


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of `name` (of all names unless given) that a killed process left in `folder`."""
    for path in folder.glob(f".{name}.*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def writing_alone(path: Path) -> Iterator[None]:
    """Hold the right to make `path`; raises InputError where another process has it. A dead process loses it."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is making {path}; wait for its end and type the command again") from None
    try:
        yield
    finally:
        lock.release()


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


def write_part(path: Path, layers: Mapping[str, np.ndarray], rows: np.ndarray, record: Mapping[str, Any]) -> None:
    """Write one part: `layers` name -> (n, ...) values, `rows` (n,) int64 positions in the data set, and a record.

    `record` is kept as JSON; its `settings_sha256` tells which settings made the part. The HDF5 file is made in memory
    first: HDF5 itself can crash the process where the disk fills up, a plain write fails cleanly.
    """
    digest = hashlib.sha256(np.ascontiguousarray(rows))
    for name in layers:
        digest.update(np.ascontiguousarray(layers[name]))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in layers.items():
            create_dataset(file, name, values.shape, values.dtype)[...] = values
        file["rows"] = rows
        file.attrs["record"] = json.dumps({**record, "values_sha256": digest.hexdigest()})
    with write_whole(path, "wb") as target:
        target.write(buffer.getbuffer())


def read_part(path: Path, layers: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]] | None:
    """Read a part back as (`layers`, `rows`, `record`), or None where it is missing, damaged or not a part."""
    try:
        with h5py.File(path, "r") as file:
            record = json.loads(file.attrs["record"])
            rows = file["rows"][...]
            values = {name: file[name][...] for name in layers}
    except (OSError, KeyError, ValueError, TypeError):
        return None
    digest = hashlib.sha256(rows)
    for name in layers:
        digest.update(values[name])
    return (values, rows, record) if digest.hexdigest() == record["values_sha256"] else None


def peek_part(path: Path) -> dict[str, Any] | None:
    """Return a part's record without reading its values, or None where there is no readable part."""
    try:
        with h5py.File(path, "r") as file:
            record = json.loads(file.attrs["record"])
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return record if isinstance(record, dict) else None


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


def check_space(path: Path, num_bytes: int) -> None:
    """Raise InputError where the disk of `path` has not room for `num_bytes` more, and 1 % for HDF5's own tables."""
    needed, free = int(1.01 * num_bytes) + 2**20, shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(
            f"{path} needs {needed / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB left; make room and type the "
            "command again: finished parts are kept"
        )


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


class FeatureFile:
    """A whole `features.h5`, open for reading; use it in a `with` block.

    Attributes: `layers` name -> shape (N, ...), `labels` (N,) int64, `ids` (N,) list of str, `split` (N,) uint8,
    `class_names` (K,) tuple of str, `groups` (N,) list of str or None, `attributes` the root attributes.
    Raises InputError where the file is missing, damaged or of another schema.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            self._read_columns()
        except FileNotFoundError:
            raise InputError(f"no feature file {path}; type: make features") from None
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is not a whole feature file ({error}); remove it and type: make features"
            ) from None

    def _read_columns(self) -> None:
        file = self._file
        version = int(file.attrs["schema_version"])
        if version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version}, expected {SCHEMA_VERSION}")
        self.attributes: dict[str, Any] = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()
        }
        self.labels: np.ndarray = file["labels"][...]
        self.split: np.ndarray = file["split"][...]
        self.ids = [text.decode("utf-8") for text in file["ids"][...]]
        self.class_names = tuple(text.decode("utf-8") for text in file["class_names"][...])
        self.groups = [text.decode("utf-8") for text in file["groups"][...]] if "groups" in file else None
        self.layers: dict[str, tuple[int, ...]] = {name: layer.shape for name, layer in file["features"].items()}
        if {shape[0] for shape in self.layers.values()} != {len(self.ids)}:
            raise ValueError("its layers and ids differ in length")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

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

    def _block(self, layer: h5py.Dataset, rows: slice) -> np.ndarray:
        try:
            return layer[rows]
        except OSError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path} is damaged in {layer.name} ({reason}); remove it, then: make features"
            ) from None
