"""`images.csv`: what the images of a run looked like when it began, for a cheap look at each stage: have they "
"changed?"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import is_url
from thaw.features.errors import InputError, shown
from thaw.features.files.atomic import write_whole
from thaw.pipeline.config import PATH_KINDS, Common
from thaw.pipeline.run.data.dataset import dataset_of

log = logging.getLogger("thaw")

HEADER = ["id", "label", "stamp"]
_NAMED = 2  # images that a line names
Seen = dict[str, tuple[str, str]]  # id -> class and stamp


def write_images(run: Path, dataset: Dataset) -> None:
    """Write the id, class and stamp of each image: the size and time of its file, or its checksum in a zip.

    The first line is of the archive that holds all of them, if there is one.
    """
    rows = [["", "", _archive_stamp(dataset.name)], *([name, *row] for name, row in _seen(dataset).items())]
    with write_whole(run / "images.csv") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
        writer.writerow(HEADER)
        writer.writerows(rows)


def warn_of_changes(settings: Common) -> None:
    """Say in one line what has changed of a run's images since it began: names, sizes, times and classes are looked at.

    Nothing is read of an image. Data that comes with a package or lies at a URL is left alone, and so is a run without
    `images.csv`.
    """
    kind, _, place = settings.dataset.partition(":")
    path = settings.run_folder / "images.csv"
    if kind not in PATH_KINDS or is_url(place) or not path.exists():
        return
    then = _read(path)
    _, archive = then.pop("", ("", ""))
    if archive and archive == _archive_stamp(settings.dataset):
        return
    try:
        now = _seen(dataset_of(settings))
    except InputError as error:
        log.warning("the images of %s cannot be looked at (%s); what was extracted of them is used", path.parent, error)
        return
    if said := changes(then, now):
        log.warning(
            "the data changed since %s began: %s; what was extracted before is used: put the images back, or start "
            "another "
            "run to use them as they are now",
            *(path.parent, said),
        )


def changes(then: Seen, now: Seen) -> str:
    """Return in words which images were added, removed, changed, or given another class; "" if none was."""
    both = then.keys() & now.keys()
    found = {
        "added": sorted(now.keys() - then.keys()),
        "removed": sorted(then.keys() - now.keys()),
        "changed": sorted(name for name in both if then[name][1] != now[name][1]),
        "of another class": sorted(name for name in both if then[name][0] != now[name][0]),
    }
    return ", ".join(f"{len(names)} {what} ({_some(names)})" for what, names in found.items() if names)


def _archive_stamp(word: str) -> str:
    """Return the size and time of a .zip or .npz, "" for other data."""
    path = Path(word.partition(":")[2])
    if word.startswith("csv:") or not path.is_file():
        return ""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _seen(dataset: Dataset) -> Seen:
    return {
        name: (dataset.class_names[label], dataset.images.stamp(row))
        for row, (name, label) in enumerate(zip(dataset.ids, dataset.labels, strict=True))
    }


def _read(path: Path) -> Seen:
    """Return what `path` holds; raises InputError if it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and type the command again") from None
    if header != HEADER or any(len(row) != len(HEADER) for row in rows):
        raise InputError(f"{path} is damaged; remove it and type the command again")
    return {name: (label, stamp) for name, label, stamp in rows}


def _some(names: Sequence[str]) -> str:
    return shown(", ".join(names[:_NAMED])) + (" and so on" if len(names) > _NAMED else "")
