"""The images and features that the sections share: parts of CIFAR-10, and its frozen features, made once."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.runner import ROOT
from benchmarks.settings import Settings
from thaw.features.datasets.dataset import load_dataset
from thaw.features.store import FeatureFile
from thaw.pipeline.run.run_json import features_path, read_run

MADE = ROOT / "runs" / "benchmark"
QUICK_SIZES = {"train": 600, "test": 200}


@dataclass(frozen=True)
class Samples:
    """Standardised features and labels, float32 (N, D) and int64 (N,), for training and for testing."""

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray

    def save(self, path: Path) -> str:
        """Write them to `path`.npy and so on, what contenders read, and return the path as text."""
        np.save(f"{path}.npy", self.features)
        np.savez(f"{path}.npz", labels=self.labels, test_features=self.test_features, test_labels=self.test_labels)
        return str(path)


def feature_file(settings: Settings) -> Path:
    """Return the path of a feature set of the images, of the run that was given or else made here once."""
    run = settings.run or MADE.with_name("benchmark-quick" if settings.quick else "benchmark")
    record = read_run(run)
    path = features_path(run, record.first if record else "vgg16-48")
    if not path.exists() and settings.run is None:
        run.mkdir(parents=True, exist_ok=True)
        dataset = f"folder:{settings.images}"
        if settings.quick:
            write_subset(settings.images, run / "subset.npz", QUICK_SIZES)
            dataset = f"npz:{run / 'subset.npz'}"
        command = [sys.executable, "-m", "pipeline", "features", "--dataset", dataset, "--run", str(run)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return path


def read_samples(settings: Settings, layer: str, num_train: int, num_test: int = 0, seed: int = 0) -> Samples:
    """Return up to `num_train` images that are not test and `num_test` that are, drawn by `seed`, of one layer."""
    generator = np.random.default_rng(seed)
    with FeatureFile(feature_file(settings)) as file:
        parts = []
        for is_test, size in ((False, num_train), (True, num_test)):
            rows = generator.permutation(np.flatnonzero((file.split == 2) == is_test))[:size]
            mask = np.zeros(len(file.split), bool)
            mask[rows] = True
            order = np.searchsorted(np.flatnonzero(mask), rows)
            parts += [file.read([layer], mask)[order], file.labels[rows]]
    features, labels, test_features, test_labels = parts
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    for values in (features, test_features):
        values -= mean.astype(np.float32)
        values /= deviation.astype(np.float32)
    return Samples(features, labels, test_features, test_labels)


def write_subset(images: Path | None, path: Path, sizes: dict[str, int], seed: int = 0) -> None:
    """Write sizes[split] images of each split, as many of each class, as `x_train`, `y_train`, `x_test`, `y_test`.

    `images` is CIFAR-10 as a folder, a zip or its archive; None: Keras downloads it.
    """
    dataset = load_dataset("cifar10", images)
    generator, arrays = np.random.default_rng(seed), {}
    for split, size in sizes.items():
        of_split = np.array([name.startswith(f"{split}/") for name in dataset.ids])
        each = size // len(dataset.class_names)
        classes = [np.flatnonzero(of_split & (dataset.labels == label)) for label in range(len(dataset.class_names))]
        rows = generator.permutation(np.concatenate([generator.choice(rows, each, replace=False) for rows in classes]))
        arrays[f"x_{split}"] = np.stack([dataset.read(row) for row in rows])
        arrays[f"y_{split}"] = dataset.labels[rows]
    np.savez(path, **arrays)
