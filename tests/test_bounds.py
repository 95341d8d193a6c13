"""Memory that is bounded by what a stage may use, and a check of growth that can fail."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from thaw.features.store import FeatureFile
from thaw.pipeline.advice import linear_probes
from thaw.pipeline.config import Shared
from thaw.pipeline.training.memory import load_rows

from tests.builders.features import feature_file, features_of
from tests.builders.surveys import survey_of_file

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from leaks import Held, judge

from thaw.pipeline.training.memory import spare_memory_mb


def test_what_the_process_holds_already_counts(tmp_path: Path) -> None:
    assert spare_memory_mb(Shared(run=tmp_path, memory=1)) == 0
    assert 0 < spare_memory_mb(Shared(run=tmp_path, memory=10**6)) < 10**6


@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_rows_are_the_same_from_memory_and_from_the_file(tmp_path: Path, transform: str) -> None:
    feature_file(tmp_path)
    mask = np.arange(72) % 3 != 0
    with FeatureFile(features_of(tmp_path)) as features:
        held, read = (load_rows(features, "block4_pool+block5_pool", transform, mask, place) for place in (True, False))
        assert held.shape == read.shape == (48, 8)
        np.testing.assert_array_equal(held.read(slice(5, 30)), read.read(slice(5, 30)))


def test_advice_reads_features_that_do_not_fit_from_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature_file(tmp_path)
    monkeypatch.setattr(linear_probes, "CHOOSING_ROWS", 8)
    curves = []
    with caplog.at_level(logging.INFO), FeatureFile(features_of(tmp_path)) as features:
        features.split[:] = np.arange(72) % 6 // 5 * 2  # 60 rows that are not test
        for memory in (10**6, 1):
            survey = survey_of_file(Shared(run=tmp_path, memory=memory), features)
            curves.append(linear_probes.learning_curve(survey, linear_probes.best_probes(survey)[0])[0])
            assert ("its features are read from the file" in caplog.text) == (memory == 1)
    assert [point.accuracy for point in curves[0].points] == [point.accuracy for point in curves[1].points]


def test_growth_is_found() -> None:
    calm = [Held(8, 9, 850 + (number % 2)) for number in range(12)]
    assert judge(calm) == []
    assert judge([Held(8 + number, 9, 850) for number in range(12)]) == ["open files grew from 11 to 19"]
    assert judge([Held(8, 9 + number, 850) for number in range(12)]) == ["threads grew from 12 to 20"]
    assert judge([Held(8, 9, 850 + 8 * number) for number in range(12)]) == ["memory grew by 8.0 MB a round"]
