"""The parts of a feature file that is being made: each whole, with a digest, and a record of what made it."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.store import create_dataset
from features.wholefiles import write_whole


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
