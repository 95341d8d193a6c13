"""The split stage: which image is for training, validation and test, drawn once and kept in split.csv."""

import csv
import math
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest, write_whole
from thaw.features.store import SPLITS
from thaw.pipeline.run.run_json import another_run

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
HEADER = ["id", "label", "split"]


def main(folder: Path, dataset: Dataset, seed: int) -> np.ndarray:
    """Return the side of every image, (N,) uint8 positions in SPLITS, from split.csv, which is drawn if missing.

    It is drawn again where the images changed before anything was made with it.
    """
    path = folder / "split.csv"
    if path.exists():
        try:
            return read_split(path, dataset)
        except InputError:
            if any(folder.glob("**/features.h5")) or any(folder.glob("*/report.json")):
                raise
    _write(path, dataset, draw_split(dataset, seed))
    return read_split(path, dataset)


def digest(folder: Path) -> str:
    """Return the SHA-256 of split.csv; raises InputError where there is none."""
    path = folder / "split.csv"
    if not path.exists():
        raise InputError(f"{path} is gone; put it back, or start another run: {another_run(folder)}")
    return file_digest(path)


def draw_split(dataset: Dataset, seed: int) -> np.ndarray:
    """Return (N,) uint8 positions in SPLITS: the sides that came with the data, and the others drawn.

    Without test images 20 % of what is not validation becomes test; then, without validation images, 10 % of the
    rest becomes validation. Stratified by class, seeded, and whole groups where the data set has groups.
    """
    given = np.array([side or "train" for side in _sides_of_groups(dataset)])
    split = np.select([given == side for side in SPLITS], range(len(SPLITS))).astype(np.uint8)
    to_draw = [(side, share) for side, share in ((2, TEST_SHARE), (1, VALIDATION_SHARE)) if not (split == side).any()]
    if dataset.groups is None:
        _check_counts(dataset, split, 1 + len(to_draw))
    for side, share in to_draw:
        rest = np.flatnonzero(split == 0)
        split[_draw(dataset, rest, share, seed)] = side
    return split


def _sides_of_groups(dataset: Dataset) -> list[str]:
    """Return the side that came with each image or its group; raises InputError where a group has two."""
    if dataset.groups is None:
        return list(dataset.given_split)
    sides: dict[str, str] = {}
    for group, side in zip(dataset.groups, dataset.given_split, strict=True):
        if side and sides.setdefault(group, side) != side:
            raise InputError(
                f"group {group!r} of {dataset.word} is in {sides[group]} and in {side}; expected all images of a group "
                "on one side: mend the split column, or leave it out"
            )
    return [sides.get(group, "") for group in dataset.groups]


def _draw(dataset: Dataset, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    labels = dataset.labels[rows]
    if dataset.groups is not None:
        return rows[_draw_groups(dataset, rows, share, seed)]
    count = max(math.ceil(share * len(rows)), len(np.unique(labels)))
    return train_test_split(rows, test_size=count, stratify=labels, random_state=seed)[1]


def _draw_groups(dataset: Dataset, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return positions in `rows` that make up about `share` of them, in whole groups; one group where there are few."""
    groups, labels = np.array(dataset.groups)[rows], dataset.labels[rows]
    num_groups = len(set(groups))
    largest_class = int(np.bincount(labels).max(initial=0))
    if num_groups < 2 or largest_class < 2:
        left = f"{num_groups} group(s)" if num_groups < 2 else "one image of each class"
        raise InputError(
            f"{dataset.word} has {left} left to draw {share:.0%} from; expected 3 groups or more, or a "
            "split column that names the sides"
        )
    num_folds = min(round(1 / share), num_groups, largest_class)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer images than there are folds
        drawn = [held_out for _, held_out in splitter.split(rows, labels, groups)]
    return next(held_out for held_out in drawn if len(held_out))


def _check_counts(dataset: Dataset, split: np.ndarray, needed: int) -> None:
    """Raise InputError where a class has not an image for each side that is drawn and one for training."""
    present, counts = np.unique(dataset.labels[split == 0], return_counts=True)
    if needed > 1 and counts.min() < needed:
        fewest = int(counts.argmin())
        raise InputError(
            f"class {dataset.class_names[present[fewest]]!r} of {dataset.word} has {counts[fewest]} image(s) to draw "
            f"{needed} sides from; expected {needed} or more: add images, or remove the class"
        )


def _write(path: Path, dataset: Dataset, split: np.ndarray) -> None:
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, label, side in zip(dataset.ids, dataset.labels, split, strict=True):
            writer.writerow([name, dataset.class_names[label], SPLITS[side]])


def check_table(path: Path) -> None:
    """Raise InputError where `path` is no table of images, labels and sides."""
    header, *rows = _read_rows(path)
    if header != HEADER or not rows or any(len(row) != 3 or row[2:] not in _SIDES for row in rows):
        raise InputError(f"{path} is damaged; remove it, and the run's results, to draw it again")


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file)) or [[]]
    except OSError as error:
        error.filename = str(path)  # a failed read does not say of what
        raise
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it, and the run's results, to draw it again"
        ) from None


def read_split(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the (N,) uint8 sides in `path`; raises InputError where it is not a split of this data set."""
    header, *rows = _read_rows(path)
    expected = [[name, dataset.class_names[label]] for name, label in zip(dataset.ids, dataset.labels, strict=True)]
    if header != HEADER or [row[:2] for row in rows] != expected or any(row[2:] not in _SIDES for row in rows):
        raise InputError(
            f"{path} lists other images than {dataset.word} has now; the data changed since the run began: start "
            f"another run with {another_run(path.parent)}, or put the images back"
        )
    return np.array([SPLITS.index(row[2]) for row in rows], np.uint8)


_SIDES = [[side] for side in SPLITS]
