"""`skipped.csv`: the images that cannot be read and were left out by --skip-bad, with the reason."""

import csv
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.features.processor import num_cores
from thaw.pipeline.run.split_csv import read_table

log = logging.getLogger("thaw")

HEADER = ["id", "reason"]
WIDE_ENOUGH = 64  # pixels; a JPEG is decoded at an eighth of its size as long as its shorter side has so many


def left_out(dataset: Dataset, run: Path) -> dict[str, str]:
    """Return the images that the run left out before it drew its split, id -> reason; none of a run to be begun."""
    if not (run / "split.csv").exists():
        return {}
    known = dict(read_skipped(run / "skipped.csv"))
    in_split = {row[0] for row in read_table(run / "split.csv")} if known else set()
    return {name: why for name, why in known.items() if name in dataset.row_of and name not in in_split}


def unreadable(dataset: Dataset) -> dict[str, str]:
    """Return the images that cannot be read, id -> reason; every image is decoded, small if it is a JPEG."""
    log.info("reading all %s images once: those that cannot be read leave before the split", f"{len(dataset.ids):,}")

    def reason(row: int) -> str | None:
        try:
            dataset.read(row, WIDE_ENOUGH)
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(num_cores()) as pool:
        reasons = pool.map(reason, range(len(dataset.ids)))
        return {name: why for name, why in zip(dataset.ids, reasons, strict=True) if why is not None}


def read_skipped(path: Path) -> list[tuple[str, str]]:
    """Return (id, reason) of each image in `path`, none without such a file; raises InputError if it is damaged."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and type the command again") from None
    if header != HEADER or any(len(row) != 2 for row in rows):
        raise InputError(f"{path} is damaged; remove it and type the command again")
    return [(name, reason) for name, reason in rows]


def write_skipped(path: Path, skipped: Mapping[str, str]) -> None:
    """Write the images that were left out, beside those that `path` names already, and say how many there are."""
    if not skipped:
        return
    rows = {**dict(read_skipped(path)), **skipped}
    with write_whole(path) as file:
        every = _has_return(rows)
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
        writer.writerow(HEADER)
        writer.writerows(rows.items())
    log.warning("%d image(s) could not be read and were skipped; %s names them", len(skipped), path)


def _has_return(rows: Mapping[str, str]) -> bool:
    """Return whether a name holds a carriage return, which the csv module quotes only if its lines end with one."""
    return any("\r" in text for row in rows.items() for text in row)
