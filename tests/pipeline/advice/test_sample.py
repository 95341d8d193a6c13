"""Groups and copies stay whole: in the folds of the probes, and in the pilots of fine-tuning."""

import logging

import numpy as np
import pytest

from thaw.models.selection.probing import probe_folds
from thaw.pipeline.advice import copies
from thaw.pipeline.advice.copies import groups_with_copies
from thaw.pipeline.advice.fine_tuning_trials import draw_trial

from tests.builders.surveys import survey_of

LABELS = np.arange(120) % 2
KNOWN = np.zeros(120, np.uint8)


def test_images_without_copies_have_no_groups() -> None:
    assert survey_of(LABELS, KNOWN).groups is None


def test_copies_are_one_group_and_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(copies, "_thumbnail", lambda _, row: np.random.default_rng(row % 100).uniform(0, 1, (16, 16)))
    with caplog.at_level(logging.INFO, "thaw"):
        survey = survey_of(LABELS, KNOWN)
    groups = survey.groups
    assert groups is not None
    assert len(np.unique(groups)) == 100
    assert (groups[:20] == groups[100:]).all()
    assert "20 images that are not test are copies of others" in caplog.text
    for fit, held_out in survey.folds(np.arange(120)):
        assert not set(groups[fit]) & set(groups[held_out])


def test_test_images_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_thumbnail", lambda _, row: np.random.default_rng(row % 100).uniform(0, 1, (16, 16)))
    split = np.where(np.arange(120) < 100, 0, 2).astype(np.uint8)
    assert survey_of(LABELS, split).groups is None


def test_of_very_many_images_equal_files_alone_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST_COMPARED", 10)
    survey = survey_of(LABELS, KNOWN)
    monkeypatch.setattr(type(survey.dataset.images), "content", lambda _, i: str(i // 2).encode())
    groups = groups_with_copies(survey.dataset, survey.split)
    assert groups is not None
    assert len(np.unique(groups)) == 60


@pytest.mark.parametrize("num_groups", [1, 2, 3, 40])
def test_folds_with_few_groups(num_groups: int) -> None:
    groups = np.arange(120) // 2 % num_groups
    folds = probe_folds(LABELS, groups, 0)
    assert len(folds) >= 2
    for fit, held_out in folds if num_groups > 1 else []:
        assert not set(groups[fit]) & set(groups[held_out])


def test_no_group_is_on_two_sides_of_a_pilot() -> None:
    patients = tuple(f"patient {row // 8}" for row in range(120))
    survey = survey_of(LABELS, KNOWN, groups=patients)
    rows, split = draw_trial(survey, 60)
    sides = {name: set(split[np.array(patients)[rows] == name].tolist()) for name in set(patients)}
    assert all(len(found) <= 1 for found in sides.values())
    assert {0, 1, 2} <= set(split.tolist())
    assert len(np.unique(rows)) == len(rows)
