"""What choosing C costs beside an earlier checkout: one small measurement, and the row that comes of it."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks import choosing
from benchmarks.choosing_once import trials_of
from benchmarks.runner import ROOT
from thaw.models.selection.path import HeldOut


@pytest.mark.parametrize("strategy", ["svm", "logreg"])
def test_a_measurement_chooses_fits_and_labels(strategy: str, tmp_path: Path) -> None:
    values, labels = load_digits(return_X_y=True)
    given, test = slice(0, 300), slice(300, 500)
    parts = {"features": values[given].astype(np.float32), "labels": labels[given]}
    parts |= {"test_features": values[test].astype(np.float32), "test_labels": labels[test]}
    np.savez(tmp_path / "arrays.npz", **parts)
    found = choosing.measured(choosing.packaged(ROOT, tmp_path / "now"), tmp_path / "arrays.npz", strategy)
    assert found["seconds"] > 0
    assert found["chosen"] <= found["highest"]
    assert max(found["accuracies"]) > 0.9
    assert found["accuracy"] > 0.75


def test_trials_are_those_of_either_search() -> None:
    values = (0.1, 1.0, 10.0)
    earlier = trials_of([0.5, 0.75, -1.0], values)
    now = trials_of([HeldOut(np.array([True, False])), HeldOut(np.array([True, True, True, False]))], values)
    for trials in (earlier, now):
        assert [(trial.value, trial.accuracy) for trial in trials] == [(0.1, 0.5), (1.0, 0.75)]


def test_a_row_has_both_checkouts_and_how_far_they_are_apart() -> None:
    one = {"chosen": 0.1, "highest": 1.0, "accuracies": [0.9, 0.95], "accuracy": 0.91, "seconds": [8.0, 9.0, 7.0]}
    other = {**one, "accuracies": [0.902, 0.95, 0.94], "seconds": [2.0, 2.5, 1.5]}
    row = {"data": "digits", "strategy": "svm", "ratio": 4.0, "before": one, "now": other}
    cells = [cell.strip() for cell in choosing.line(row).strip("|").split("|")]
    assert cells[:3] == ["digits", "svm", "8.0 s"]
    assert (cells[3], cells[7]) == ("0.1 of 2 (highest 1)", "0.1 of 3 (highest 1)")
    assert cells[-2:] == ["4.0", "2.0"]


def test_made_up_rows_are_mostly_zero_and_of_many_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "MADE_UP", (60, 200, 3))
    found = choosing.made_up()
    assert found["features"].shape == found["test_features"].shape == (60, 200)
    assert 0.4 < (found["features"] == 0).mean() < 0.95
    scales = found["features"].std(axis=0)
    assert scales.max() > 10 * np.median(scales[scales > 0]) / 3
