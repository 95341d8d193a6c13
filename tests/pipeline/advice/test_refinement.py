"""The best setting that a run's features lack, judged on more images: on made-up features, row by row."""

import numpy as np
import pytest

from thaw.pipeline.advice import refinement, size_search
from thaw.pipeline.advice.linear_probes import best_probes
from thaw.pipeline.advice.refinement import Refinement, refine
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import Setting, SizeProbes, search
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Configuration

NUM_IMAGES, MISSING = 1200, "block3_pool"
LABELS = np.arange(NUM_IMAGES) % 3
NOISE = np.random.default_rng(0).normal(0, 1, (NUM_IMAGES, 6))


def quality(signal: float) -> np.ndarray:
    """Return features of all images (1200, 6): the classes' directions, `signal` long, in the same noise."""
    return np.asarray(signal * np.eye(6)[LABELS] + NOISE, np.float32)


class Images:
    """The part of a feature file that is read: its two layers are equally good, and no image is read."""

    ids = tuple(map(str, range(NUM_IMAGES)))
    labels = LABELS
    split = np.zeros(NUM_IMAGES, np.uint8)
    groups = None
    layers = ("block4_pool", "block5_pool")
    attributes = {"seconds": 4.0}  # noqa: RUF012

    def groups_of(self, rows: np.ndarray) -> None:
        """No image has a group."""

    def read(self, layers: list[str], mask: np.ndarray) -> np.ndarray:
        """Return the features of the images of a mask."""
        return quality(1.0)[mask]


def judged(
    monkeypatch: pytest.MonkeyPatch, signal: float, seconds: float, missing: str = MISSING
) -> tuple[list[Configuration], list[Configuration], Refinement | None, list[int]]:
    """Search with a missing layer of a given quality; return what was tried, the refinement's too, and its images."""
    numbers: list[int] = []

    def extract_more(survey: Survey, probes: SizeProbes, num_rows: int) -> None:
        numbers.append(num_rows)
        rows = survey.order[len(probes.rows) : num_rows]
        probes.rows = np.concatenate([probes.rows, np.sort(rows)])
        for name in {name for setting in probes.settings for name in setting.names}:
            values = quality(signal if name.startswith(MISSING) else 1.0)
            probes.features[name] = values[probes.rows]
        probes.seconds += 1.0

    monkeypatch.setattr(size_search, "extract_more", extract_more)
    monkeypatch.setattr(refinement, "extract_more", extract_more)
    monkeypatch.setattr(size_search, "MOST_ROWS", 600)
    settings = [Setting(layer, "avg", "none") for layer in (missing, "block4_pool")]
    monkeypatch.setattr(size_search, "_settings", lambda *_: settings)
    survey = Survey(Shared(image_size=32, pooling="avg"), Images(), frozenset({"image_size"}))  # type: ignore[arg-type]
    tried, sizes = search(survey, 100.0)
    numbers.clear()
    refined, more = refine(survey, sizes, best_probes(survey)[0], seconds)
    return tried, more, refined, numbers


def test_a_better_setting_is_judged_on_all_images_beside_the_runs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, more, found, numbers = judged(monkeypatch, 2.0, 100.0)
    assert found is not None
    assert found.setting.layer == MISSING
    assert len(found.own) == len(found.probed.correct) == NUM_IMAGES
    assert found.lead > 0.1
    assert numbers == [NUM_IMAGES]
    theirs, ours = more
    assert (theirs.layer, theirs.num_images, theirs.accuracy) == (MISSING, NUM_IMAGES, found.probed.accuracy)
    assert (ours.layer, ours.accuracy) == ("block4_pool", pytest.approx(found.own.mean()))
    assert theirs.round == ours.round == 1 + max(row.round for row in tried)


def test_both_are_judged_by_equal_rows_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, found, numbers = judged(monkeypatch, 1.0, 100.0)  # the missing layer equals the run's own
    assert found is not None
    assert numbers == [NUM_IMAGES]
    assert found.own.mean() > 0.5
    np.testing.assert_array_equal(found.probed.correct, found.own)


def test_time_bounds_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, found, numbers = judged(monkeypatch, 2.0, 1.0)  # 300 images a second, and 400 in the sample
    assert found is not None
    assert numbers == [700]
    assert len(found.own) == 700


def test_without_time_the_samples_figures_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    _, more, found, numbers = judged(monkeypatch, 2.0, 0.0)
    assert found is not None
    assert found.lead > 0.1
    assert len(found.own) == 400
    assert (more, numbers) == ([], [])


def test_a_setting_that_is_worse_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, more, found, numbers = judged(monkeypatch, 0.3, 100.0)
    assert found is not None
    assert found.lead < 0
    assert (more, numbers) == ([], [])


def test_joined_layers_are_judged_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, found, numbers = judged(monkeypatch, 2.0, 100.0, f"{MISSING}+block4_pool")
    assert found is not None
    assert found.setting.layer == f"{MISSING}+block4_pool"
    assert found.lead > 0.1
    assert numbers == [NUM_IMAGES]
