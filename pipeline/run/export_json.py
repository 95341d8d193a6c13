"""`export.json`: what was exported of a result, how large and how fast; writing it, and reading it back checked."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from thaw.features.errors import InputError
from thaw.pipeline.formatting import size
from thaw.pipeline.run.schema import Amount, Count, Name, Strict, read_json, write_json

log = logging.getLogger("thaw")

FILE = "export.json"
IMAGE_SIDE, BATCH_SIZE = 256, 32  # of the images for measuring the latency
EXPORT_HEADINGS = ("Name", "Format", "Size", "One image, ms", f"{BATCH_SIZE} images, ms", "Measured by")
EXPORT_NOTE = f"Latency is from the pixels of {IMAGE_SIDE}x{IMAGE_SIDE} images to the probabilities, a median."
Format = Literal["onnx", "keras", "savedmodel", "bundle"]
EXPORT_FORMATS = get_args(Format)


class Exported(Strict):
    """One exported file: its path, its size, and the latency in milliseconds, None if it could not be measured.

    Latencies are medians over square images of `image_side` pixels: one image, and `batch_size` at once.
    """

    format: Format
    path: Name
    bytes: Count
    runtime: Name | None
    cores: Count
    image_side: Count
    batch_size: Count
    milliseconds_one: Amount | None
    milliseconds_batch: Amount | None
    command: str


class Exports(Strict):
    """The whole of `export.json`: the last export of each format."""

    exports: list[Exported] = Field(min_length=1)


def read_exports(folder: Path) -> list[Exported]:
    """Return what was exported of the result in `folder`; raises InputError if export.json is damaged."""
    found = read_json(folder / FILE, Exports, "remove it and export again")
    return found.exports if found else []


def export_rows(run: Path, names: Sequence[str]) -> list[list[str]]:
    """Return a row of EXPORT_HEADINGS for each exported file of the results `names` if the file is still there.

    The log names a damaged export.json.
    """
    rows = []
    for name in names:
        try:
            entries = read_exports(run / name)
        except InputError as error:
            log.warning("%s", error)
            continue
        for entry in entries:
            if (run / name / entry.path).exists():
                times = [_milliseconds(value) for value in (entry.milliseconds_one, entry.milliseconds_batch)]
                measured_by = f"{entry.runtime}, {entry.cores} cores" if entry.runtime else "not measured"
                rows.append([name, entry.format, size(entry.bytes), *times, measured_by])
    return rows


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def record_export(folder: Path, exported: Exported) -> Path:
    """Write `exported` into `folder`/export.json in place of an earlier one of its format, and return the path."""
    try:
        others = [other for other in read_exports(folder) if other.format != exported.format]
    except InputError:  # a damaged file is written anew
        others = []
    entries = sorted([*others, exported], key=lambda entry: EXPORT_FORMATS.index(entry.format))
    return write_json(folder / FILE, Exports(exports=entries))


def remove_exports(folder: Path) -> None:
    """Remove what was exported into a result's folder: its model is about to be replaced."""
    for name in (FILE, "bundle.zip"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "savedmodel", ignore_errors=True)
