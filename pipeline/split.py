"""The split stage: which image is for training, validation and test, drawn once and kept in split.csv."""

import csv
import hashlib
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from features.datasets import Dataset
from features.errors import InputError
from features.store import SPLITS, write_whole

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
HEADER = ["id", "label", "split"]


def main(folder: Path, dataset: Dataset, seed: int) -> np.ndarray:
    """Return the side of every image, (N,) uint8 positions in SPLITS, from split.csv, which is drawn if missing."""
    path = folder / "split.csv"
    if not path.exists():
        _write(path, dataset, draw_split(dataset, seed))
    return read_split(path, dataset)


def digest(folder: Path) -> str:
    """Return the SHA-256 of split.csv."""
    return hashlib.sha256((folder / "split.csv").read_bytes()).hexdigest()


def draw_split(dataset: Dataset, seed: int) -> np.ndarray:
    """Return (N,) uint8 positions in SPLITS: the sides that came with the data, and the others drawn.

    Without test images 20 % of what is not validation becomes test; then, without validation images, 10 % of the
    rest becomes validation. Stratified by class, seeded, and whole groups where the data set has groups.
    """
    given = np.array([side or "train" for side in dataset.given_split])
    split = np.select([given == side for side in SPLITS], range(len(SPLITS))).astype(np.uint8)
    for side, share in ((2, TEST_SHARE), (1, VALIDATION_SHARE)):
        if not (split == side).any():
            rest = np.flatnonzero(split == 0)
            split[_draw(dataset, rest, share, seed)] = side
    missing = [SPLITS[side] for side in range(3) if not (split == side).any()]
    if missing:
        raise InputError(
            f"{dataset.word} leaves no image for {missing[0]}; expected more images, or a split that names some"
        )
    return split


def _draw(dataset: Dataset, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    labels = dataset.labels[rows]
    if dataset.groups is not None:
        groups = np.array(dataset.groups)[rows]
        folds = round(1 / share)
        if len(set(groups)) < folds:
            raise InputError(
                f"{dataset.word} has {len(set(groups))} groups to draw {share:.0%} from; expected {folds} or more, or "
                "a split column that names the sides"
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        return rows[next(iter(splitter.split(rows, labels, groups)))[1]]
    _check_counts(dataset, labels, share)
    return train_test_split(rows, test_size=share, stratify=labels, random_state=seed)[1]


def _check_counts(dataset: Dataset, labels: np.ndarray, share: float) -> None:
    present, counts = np.unique(labels, return_counts=True)
    smallest = int(counts.argmin())
    if counts[smallest] < 2 or np.ceil(share * len(labels)) < len(present):
        raise InputError(
            f"class {dataset.class_names[present[smallest]]!r} of {dataset.word} has {counts[smallest]} image(s) among "
            f"{len(labels)} to draw {share:.0%} from; expected at least {round(1 / share)} images of each class"
        )


def _write(path: Path, dataset: Dataset, split: np.ndarray) -> None:
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, label, side in zip(dataset.ids, dataset.labels, split, strict=True):
            writer.writerow([name, dataset.class_names[label], SPLITS[side]])


def read_split(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the (N,) uint8 sides in `path`; raises InputError where it is not a split of this data set."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it, and the run's results, to draw it again"
        ) from None
    expected = [[name, dataset.class_names[label]] for name, label in zip(dataset.ids, dataset.labels, strict=True)]
    if header != HEADER or [row[:2] for row in rows] != expected or any(row[2:] not in _SIDES for row in rows):
        raise InputError(
            f"{path} lists other images than {dataset.word} has now; the data changed since the run began: start "
            f"another run with --run {path.parent}-2, or put the images back"
        )
    return np.array([SPLITS.index(row[2]) for row in rows], np.uint8)


_SIDES = [[side] for side in SPLITS]
