"""`export.json`: what of a result was exported, how large and how fast; writing it and reading it back checked."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.pipeline.formatting import size
from thaw.pipeline.run.report_json import Amount, Count, Name, Strict

log = logging.getLogger("thaw")

FILE = "export.json"
IMAGE_SIDE, BATCH_SIZE = 256, 32  # of the images that the latency is measured with
EXPORT_HEADINGS = ("Name", "Format", "Size", "One image, ms", f"{BATCH_SIZE} images, ms", "Measured by")
EXPORT_NOTE = f"Latency is from the pixels of {IMAGE_SIDE}x{IMAGE_SIDE} images to the probabilities, a median."
EXPORT_FORMATS = ("onnx", "keras", "savedmodel", "bundle")


class Exported(Strict):
    """One exported file: where, its size, and the latency in milliseconds, None where it could not be measured.

    Latencies are medians over square images of `image_side` pixels: one image, and `batch_size` at once.
    """

    format: Literal["onnx", "keras", "savedmodel", "bundle"]
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
    """The whole of `export.json`: one entry a format, the last that was made."""

    exports: list[Exported] = Field(min_length=1)


def read_exports(folder: Path) -> list[Exported]:
    """Return what was exported of the result in `folder`, [] where nothing was; InputError where it is damaged."""
    path = folder / FILE
    try:
        return Exports.model_validate_json(path.read_bytes()).exports
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is damaged ({reason}); remove it and export again") from None


def export_rows(run: Path, names: Sequence[str]) -> list[list[str]]:
    """Return a row of EXPORT_HEADINGS for each exported file of the results `names` that is still there.

    Of a damaged export.json the log tells.
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
                where = f"{entry.runtime or '-'}, {entry.cores} cores" if entry.runtime else "not measured"
                rows.append([name, entry.format, size(entry.bytes), *times, where])
    return rows


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def record_export(folder: Path, exported: Exported) -> Path:
    """Write `exported` into `folder`/export.json in place of an earlier one of its format, and return the path."""
    path = folder / FILE
    try:
        others = [other for other in read_exports(folder) if other.format != exported.format]
    except InputError:  # what is damaged is made anew
        others = []
    entries = sorted([*others, exported], key=lambda entry: EXPORT_FORMATS.index(entry.format))
    with write_whole(path) as file:
        file.write(json.dumps(Exports(exports=entries).model_dump(mode="json"), indent=2) + "\n")
    return path


def remove_exports(folder: Path) -> None:
    """Remove what was exported into a result's folder beside model.*, since it is of a model that is no more."""
    for name in (FILE, "bundle.zip"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "savedmodel", ignore_errors=True)
