"""`split.csv`: which image is for training, validation and test; drawn once, kept, and read back checked."""

import csv
import logging
import math
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError, shown
from thaw.features.files.atomic import file_digest, write_whole
from thaw.features.store import SPLITS
from thaw.pipeline.run.run_json import another_run

log = logging.getLogger("thaw")

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
HEADER = ["id", "label", "split"]
LAST_CELLS = [[name] for name in SPLITS]


def main(folder: Path, dataset: Dataset, seed: int) -> np.ndarray:
    """Return the split of every image, (N,) uint8 indices of SPLITS, from split.csv, which is drawn if it is missing.

    It is drawn again if the images changed before anything was made with it.
    """
    path = folder / "split.csv"
    if path.exists():
        try:
            return read_split(path, dataset)
        except InputError:
            if is_used(folder):
                raise
    _write(path, dataset, draw_split(dataset, seed))
    return read_split(path, dataset)


def is_used(folder: Path) -> bool:
    """Return whether anything was made by the split.csv of a run."""
    return any(folder.glob("features/*.h5")) or any(folder.glob("*/report.json"))


def update(folder: Path, dataset: Dataset) -> None:
    """Write split.csv for images that changed since: new ones join the training split, or their group's split.

    Those that came with a split keep it, those that are gone leave, and labels are the dataset's. Nothing is written if
    nothing changed, or if nothing was made by split.csv, which is drawn again then.
    """
    path = folder / "split.csv"
    if not path.exists() or not is_used(folder):
        return
    then = read_table(path)
    if [row[:2] for row in then] == _columns(dataset):
        return
    known = {row[0]: SPLITS.index(row[2]) for row in then}
    of_group = (
        {}
        if dataset.groups is None
        else {group: known[name] for group, name in zip(dataset.groups, dataset.ids, strict=True) if name in known}
    )
    split = []
    for row, name in enumerate(dataset.ids):
        own = SPLITS.index(dataset.given_split[row] or "train")
        split.append(known.get(name, own if dataset.groups is None else of_group.get(dataset.groups[row], own)))
    _write(path, dataset, np.array(split, np.uint8))
    num_new = sum(name not in known for name in dataset.ids)
    gone = len(known) - len(dataset.ids) + num_new
    log.info("%s: %d image(s) joined, the training split if no other was given, and %d left", path, num_new, gone)


def digest(folder: Path) -> str:
    """Return the SHA-256 of split.csv; raises InputError if there is none."""
    path = folder / "split.csv"
    if not path.exists():
        raise InputError(f"{path} is gone; put it back, or start another run: {another_run(folder)}")
    return file_digest(path)


def draw_split(dataset: Dataset, seed: int) -> np.ndarray:
    """Return the split of every image, (N,) uint8 indices of SPLITS: given by the dataset, or drawn.

    Without test images 20 % of the images that are not for validation become test images. Then, without validation
    images, 10 % of the rest become validation images. The draw is stratified by class and seeded, and takes whole
    groups if the dataset has groups.
    """
    split = np.array([SPLITS.index(name or "train") for name in _given_split(dataset)], np.uint8)
    to_draw = [(index, share) for index, share in ((2, TEST_SHARE), (1, VALIDATION_SHARE)) if index not in split]
    if dataset.groups is None:
        _check_counts(dataset, split, 1 + len(to_draw))
    for index, share in to_draw:
        rows = np.flatnonzero(split == 0)
        split[_draw(dataset, rows, share, seed)] = index
    return split


def _given_split(dataset: Dataset) -> list[str]:
    """Return the split that came with each image or its group; raises InputError if a group has two."""
    if dataset.groups is None:
        return list(dataset.given_split)
    splits: dict[str, str] = {}
    for group, name in zip(dataset.groups, dataset.given_split, strict=True):
        if name and splits.setdefault(group, name) != name:
            raise InputError(
                f"group {group!r} of {dataset.name} is in {splits[group]} and in {name}; expected all images of a "
                "group in one split: fix the split column, or leave it out"
            )
    return [splits.get(group, "") for group in dataset.groups]


def _draw(dataset: Dataset, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return about `share` of the `rows` (n,)."""
    labels = dataset.labels[rows]
    if dataset.groups is not None:
        return rows[_draw_groups(dataset, rows, share, seed)]
    count = max(math.ceil(share * len(rows)), len(np.unique(labels)))
    return train_test_split(rows, test_size=count, stratify=labels, random_state=seed)[1]


def _draw_groups(dataset: Dataset, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return indices of `rows` (n,): whole groups, about `share` of the rows, one group if there are few."""
    groups, labels = np.array(dataset.groups)[rows], dataset.labels[rows]
    num_groups = len(set(groups))
    largest_class = int(np.bincount(labels).max(initial=0))
    if num_groups < 2 or largest_class < 2:
        left = f"{num_groups} group(s)" if num_groups < 2 else "one image of each class"
        raise InputError(
            f"{dataset.name} has {left} left to draw {share:.0%} from; expected 3 groups or more, or a "
            "split column that names the splits"
        )
    num_folds = min(round(1 / share), num_groups, largest_class)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer images than there are folds
        drawn = [held_out for _, held_out in splitter.split(rows, labels, groups)]
    return next(held_out for held_out in drawn if len(held_out))


def _check_counts(dataset: Dataset, split: np.ndarray, needed: int) -> None:
    """Raise InputError if a class has too few images for training and for each split that is drawn."""
    present, counts = np.unique(dataset.labels[split == 0], return_counts=True)
    if needed > 1 and counts.min() < needed:
        fewest = int(counts.argmin())
        raise InputError(
            f"class {dataset.class_names[present[fewest]]!r} of {dataset.name} has {counts[fewest]} image(s) to draw "
            f"{needed} splits from; expected {needed} or more: add images, or remove the class"
        )


def gaps(dataset: Dataset, split: np.ndarray) -> list[str]:
    """Return a line for each way in which classes are missing from a split, uint8 (N,): what then cannot be right."""
    num_classes = len(dataset.class_names)
    counts = np.stack([np.bincount(dataset.labels[split == index], minlength=num_classes) for index in range(3)])
    unseen, lines = np.flatnonzero(counts[0] == 0), []
    if len(unseen):
        lines.append(
            f"no training images of {_with_counts(dataset, unseen, counts[1] + counts[2])}: no model can learn what is "
            "in test or validation alone, and these images count as mistakes"
        )
    for index, what in ((1, "the choice of settings cannot see them"), (2, "the accuracy says nothing of them")):
        lacking = np.flatnonzero((counts[index] == 0) & (counts[0] > 0))
        if len(lacking) and (split == index).any():
            lines.append(f"no {SPLITS[index]} images of {_with_counts(dataset, lacking, counts[0])}: {what}")
    return lines


def _with_counts(dataset: Dataset, labels: np.ndarray, counts: np.ndarray) -> str:
    listed = ", ".join(f"{shown(dataset.class_names[label])} ({counts[label]})" for label in labels[:5])
    return listed + (f" and {len(labels) - 5} more classes" if len(labels) > 5 else "")


def _columns(dataset: Dataset) -> list[list[str]]:
    """Return the first two cells of each row: the id and the class name of an image."""
    return [[name, dataset.class_names[label]] for name, label in zip(dataset.ids, dataset.labels, strict=True)]


def _write(path: Path, dataset: Dataset, split: np.ndarray) -> None:
    # The csv module quotes a carriage return only if its lines end with one.
    returns = any("\r" in text for text in (*dataset.ids, *dataset.class_names))
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
        writer.writerow(HEADER)
        writer.writerows([*cells, SPLITS[index]] for cells, index in zip(_columns(dataset), split, strict=True))


def unseen_classes(path: Path) -> str | None:
    """Return in one line the classes with test images and no training images in `path`; None if there are none.

    None too without the file. Raises InputError if it is damaged.
    """
    if not path.exists():
        return None
    rows = read_table(path)
    seen = {label for _, label, split in rows if split != "test"}
    counts = Counter(label for _, label, split in rows if split == "test" and label not in seen)
    if not counts:
        return None
    listed = ", ".join(f"{shown(label)} ({count})" for label, count in sorted(counts.items())[:5])
    more = f" and {len(counts) - 5} more classes" if len(counts) > 5 else ""
    return (
        f"{sum(counts.values())} test image(s) are of classes without training images, {listed}{more}: every strategy "
        "is "
        "wrong on them, and they count as mistakes."
    )


def read_table(path: Path) -> list[list[str]]:
    """Return the rows [id, label, split] in `path`; raises InputError if it is not such a table."""
    header, *rows = _read_rows(path)
    if header != HEADER or not rows or any(len(row) != 3 or row[2:] not in LAST_CELLS for row in rows):
        raise InputError(f"{path} is damaged; remove it, and the run's results, to draw it again")
    return rows


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file)) or [[]]
    except OSError as error:
        error.filename = str(path)  # the error of a failed read does not name the file
        raise
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it, and the run's results, to draw it again"
        ) from None


def read_split(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the split of every image in `path`, (N,) uint8; raises InputError if it is not a split of this dataset."""
    header, *rows = _read_rows(path)
    expected = _columns(dataset)
    if header != HEADER or [row[:2] for row in rows] != expected or any(row[2:] not in LAST_CELLS for row in rows):
        raise InputError(
            f"{path} lists other images than {dataset.name} has now; the data changed since the run began: start "
            f"another run with {another_run(path.parent)}, or put the images back"
        )
    return np.array([SPLITS.index(row[2]) for row in rows], np.uint8)
