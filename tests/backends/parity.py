"""Accuracy on CIFAR-10 images after the same training on each backend: minutes; a part of `make test-backends` alone.

`python -m pytest tests/backends/parity.py -s` prints the table that docs/results.md has.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.samples import write_subset

from tests.backends.environment import BACKENDS, ROOT, environment_of, interpreter

SIZES = {"train": 2000, "test": 6000}
pytestmark = pytest.mark.skipif(interpreter() is None, reason="JAX and PyTorch are not there: type make test-backends")

Accuracies = dict[str, dict[str, list[float]]]


@pytest.fixture(scope="module")
def found(cifar10_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Accuracies:
    """The test accuracies by backend and task, all from one file of activations."""
    folder, accuracies = tmp_path_factory.mktemp("parity"), {}
    write_subset(cifar10_zip, folder / "images.npz", SIZES)
    run = [sys.executable, "-m", "pipeline", "features", "--dataset", f"npz:{folder / 'images.npz'}"]
    run += ["--run", str(folder / "run"), "--pooling", "none"]
    subprocess.run(run, check=True, cwd=ROOT)
    for name in BACKENDS:
        environment = environment_of(name)
        if environment is None:
            continue
        script, out = ROOT / "tests" / "backends" / "trainings.py", folder / f"{name}.json"
        command = [str(interpreter()), str(script), str(folder / "run/features/vgg16-48-none.h5"), str(out)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        accuracies[name] = json.loads(out.read_text(encoding="utf-8"))
    return accuracies


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("task", ["head", "head, no dropout", "finetune, no dropout"])
def test_accuracy_is_within_three_tenths_of_a_point(found: Accuracies, task: str, backend: str) -> None:
    if backend not in found:
        pytest.skip(f"{backend} is not installed in the environment of make test-backends")
    received, expected = np.array(found[backend][task]), np.array(found["tensorflow"][task])
    differences = 100 * (received - expected)
    spread = differences.std(ddof=1) / len(differences) ** 0.5
    print(f"{task}, {backend}: {100 * received.mean():.2f} %, {differences.mean():+.2f} +- {spread:.2f} points")
    assert 100 * expected.mean() > 40  # of ten classes: it learns
    assert abs(differences.mean()) <= 0.3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sixteen_bits_train_as_well(found: Accuracies, precision: str) -> None:
    for name, accuracies in found.items():
        received, expected = (np.mean(accuracies[task]) for task in (f"head, {precision}", "head, no dropout"))
        print(f"head, {precision}, {name}: {100 * received:.2f} %, {100 * (received - expected):+.2f} points")
        assert abs(100 * (received - expected)) <= 0.5
