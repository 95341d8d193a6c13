"""The parts of a feature file that is being made: each whole, with a digest, and a record of what made it."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from thaw.features.datasets.remote import RemotePath
from thaw.features.errors import FILE_ERRORS
from thaw.features.extraction.spec import StoredLayers
from thaw.features.files.atomic import write_whole
from thaw.features.files.hdf5_guard import check_heaps
from thaw.features.schema import check_array, create_dataset

Found = TypeVar("Found")


class GrowingPart:
    """One part while its batches come in."""

    def __init__(self, layers: StoredLayers):
        self._layers = layers
        self._values: dict[str, list[np.ndarray]] = {name: [] for name in layers.shapes}
        self._rows: list[int] = []
        self._skipped: dict[str, str] = {}

    def add(self, rows: Sequence[int], views: Sequence[Mapping[str, np.ndarray]], skipped: Mapping[str, str]) -> None:
        """Pool and keep one batch.

        Args:
            rows: The n rows of the images that could be read.
            views: For each view of the images layer -> (n, H, W, C); none if no image of the batch could be read.
            skipped: The ids of the other images, with the reason.
        """
        if views:
            for name, values in self._layers.features_of(views).items():
                self._values[name].append(values)
        self._rows += rows
        self._skipped |= skipped

    def write(self, path: Path | RemotePath, record: Mapping[str, Any]) -> None:
        """Write what came in as one part, with `record` and the images that were skipped."""
        shapes, dtype = self._layers.shapes, self._layers.dtype
        layers = {
            name: np.concatenate([np.empty((0, *shapes[name]), dtype), *values])
            for name, values in self._values.items()
        }
        write_part(path, layers, np.array(self._rows, np.int64), {**record, "skipped": self._skipped})


def write_part(
    path: Path | RemotePath, layers: Mapping[str, np.ndarray], rows: np.ndarray, record: Mapping[str, Any]
) -> None:
    """Write one part: `layers` name -> (n, ...) values, `rows` (n,) int64 positions in the data set, and a record.

    `record` is kept as JSON; its `settings_sha256` tells which settings made the part. The HDF5 file is made in memory
    first: HDF5 itself can crash the process if the disk fills up, a plain write fails cleanly.
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
    if isinstance(path, RemotePath):
        path.write(buffer.getbuffer())
        return
    with write_whole(path, "wb") as target:
        target.write(buffer.getbuffer())


def read_part(
    path: Path | RemotePath, layers: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]] | None:
    """Read a part back as (`layers`, `rows`, `record`), or None if it is missing, damaged or not a part."""

    def whole(file: h5py.File) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]] | None:
        check_array(file, "rows", "i", dimensions=(1,))
        for name in layers:
            check_array(file, name, "f", dimensions=(2, 4))
        rows, record = file["rows"][...], _record(file)
        values = {name: file[name][...] for name in layers}
        digest = hashlib.sha256(rows)
        for name in layers:
            digest.update(values[name])
        return (values, rows, record) if digest.hexdigest() == record["values_sha256"] else None

    return _read(path, whole)


def peek_part(path: Path | RemotePath) -> dict[str, Any] | None:
    """Return a part's record without reading its values, or None if there is no readable part."""
    return _read(path, _record)


def _record(file: h5py.File) -> dict[str, Any]:
    return dict(json.loads(file.attrs["record"]))


def _read(path: Path | RemotePath, what: Callable[[h5py.File], Found]) -> Found | None:
    """Return what `what` reads of the part's open file, None if it is missing or cannot be read."""
    try:
        if isinstance(path, Path):
            check_heaps(path)
        with nullcontext(path) if isinstance(path, Path) else path.open_binary() as source, h5py.File(source) as file:
            return what(file)
    except MemoryError:  # says nothing of the part
        raise
    except FILE_ERRORS:
        return None
