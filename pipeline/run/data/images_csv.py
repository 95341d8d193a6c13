"""`images.csv`: what the images of a run looked like, for a cheap look at each stage: have they changed since?"""

import csv
import hashlib
import io
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import is_url
from thaw.features.errors import InputError, shown
from thaw.features.files.atomic import write_whole
from thaw.pipeline.config import PATH_KINDS, Common
from thaw.pipeline.run.data.dataset import dataset_of

log = logging.getLogger("thaw")

HEADER = ["id", "label", "stamp", "since"]
_NAMED = 2  # images that a line names
Seen = dict[str, tuple[str, str]]  # id -> class and stamp


@dataclass(frozen=True)
class ImageRecord:
    """The content of images.csv.

    Attributes:
        digests: of the dataset, as it was when the run began and after each change.
        archive: the stamp of the .zip or .npz that holds all images, "" for other data.
        seen: the class and stamp of each image.
        since: of each image, the index in `digests` of the first with its content.
    """

    digests: tuple[str, ...]
    archive: str
    seen: Seen
    since: dict[str, int]

    def changed_since(self, digest: str) -> set[str] | None:
        """Return the images whose content is not that of an earlier digest; None if it is not known."""
        if digest not in self.digests:
            return None
        index = self.digests.index(digest)
        return {name for name, since in self.since.items() if since > index}


def record_images(run: Path, dataset: Dataset) -> None:
    """Write the id, class and stamp of each image: the size and time of its file, or its checksum in a zip.

    What a former look found stays on record, so that each feature set can tell which of its rows are out of date.
    """
    path, seen, digest = run / "images.csv", _seen(dataset), dataset.digest()
    then = read_images(path)
    digests = then.digests if then else ()
    if not digests or digests[-1] != digest:
        digests = (*digests, digest)
    former = then.since if then else {}
    if then and digests != then.digests:  # otherwise only times have changed, if anything
        former = {name: former[name] for name in seen if name in former and then.seen[name][1] == seen[name][1]}
    archive = _archive_stamp(dataset.name)
    since = {name: former.get(name, len(digests) - 1) for name in seen}
    with write_whole(path) as file:
        file.write(_text(ImageRecord(digests, archive, seen, since)))


def _text(record: ImageRecord) -> str:
    """Return the text of images.csv; its second row holds a digest of the other rows, so that damage is found."""
    rows = _rows([[name, *found, record.since[name]] for name, found in record.seen.items()])
    whole = [" ".join(record.digests), record.archive]
    checked = hashlib.sha256("\n".join([*whole, rows]).encode()).hexdigest()
    return _rows([HEADER, ["", *whole, checked]]) + rows


def _rows(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)  # a name may hold a carriage return
    return text.getvalue()


def is_of_run(run: Path, dataset_sha256: object) -> bool:
    """Return whether a digest is of the images of a run, as they are or were, wherever they lie."""
    record = read_images(run / "images.csv")
    return record is not None and dataset_sha256 in record.digests


def warn_of_changes(settings: Common) -> None:
    """Say in one line what has changed of a run's images since: names, sizes, times and classes are looked at.

    Nothing is read of an image. Data that comes with a package or lies at a URL is left alone, and so is a run without
    `images.csv`.
    """
    kind, _, place = settings.dataset.partition(":")
    then = read_images(settings.run_folder / "images.csv")
    if kind not in PATH_KINDS or is_url(place) or then is None:
        return
    if then.archive and then.archive == _archive_stamp(settings.dataset):
        return
    run = settings.run_folder
    try:
        now = _seen(dataset_of(settings))
    except InputError as error:
        log.warning("the images of %s cannot be looked at (%s); what was extracted of them is used", run, error)
        return
    if said := changes(then.seen, now):
        log.warning(
            "the data changed since %s was made: %s; what was extracted before is used: type make features RUN=%s, "
            "which "
            "extracts the new ones alone, or put the images back",
            *(run, said, shlex.quote(str(run))),
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


def read_images(path: Path) -> ImageRecord | None:
    """Return what `path` holds, None if there is no such file; raises InputError if it is damaged."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        header, first, *rows = list(csv.reader(io.StringIO(text, newline="")))
        since = {name: int(index) for name, _, _, index in rows}
        seen = {name: (label, stamp) for name, label, stamp, _ in rows}
        if header != HEADER or first[0] or len(first) != len(HEADER):
            raise ValueError("other columns")
        record = ImageRecord(tuple(first[1].split()), first[2], seen, since)
        if _text(record) != text:
            raise ValueError("its digest is another one")
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and type the command again") from None
    return record


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


def _some(names: Sequence[str]) -> str:
    return shown(", ".join(names[:_NAMED])) + (" and so on" if len(names) > _NAMED else "")
