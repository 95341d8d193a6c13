"""Successive halving over image sizes, on made-up features whose quality is known."""

from collections.abc import Callable

import numpy as np
import pytest

from thaw.pipeline.advice import size_search
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import SizeProbes, search
from thaw.pipeline.config import Shared

NUM_IMAGES = 1200


class Images:
    """The part of a feature file that a search reads: no image is read."""

    ids = tuple(map(str, range(NUM_IMAGES)))
    labels = np.arange(NUM_IMAGES) % 3
    split = np.zeros(NUM_IMAGES, np.uint8)
    groups = None
    layers = ("block4_pool", "block5_pool")
    attributes = {"seconds": 4.0}  # noqa: RUF012

    def groups_of(self, rows: np.ndarray) -> None:
        """No image has a group."""


def survey_of(given: frozenset[str] = frozenset(), **settings: object) -> Survey:
    return Survey(Shared.model_validate(settings), Images(), given)  # type: ignore[arg-type]


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], list[tuple[int, int]]]:
    """Return what makes the features of each size as good as is asked, and lists the extracted (size, images)."""

    def made(quality: dict[int, float]) -> list[tuple[int, int]]:
        calls: list[tuple[int, int]] = []

        def extract(survey: Survey, probes: SizeProbes, num_rows: int) -> None:
            calls.append((probes.image_size, num_rows - len(probes.rows)))
            probes.rows = survey.order[:num_rows]
            labels = Images.labels[probes.rows]
            for name in {name for setting in probes.settings for name in setting.names}:
                generator = np.random.default_rng(0)
                noise = generator.normal(0, 1, (num_rows, 6))
                signal = quality.get(probes.image_size, 0.3) * np.eye(6)[labels]
                probes.features[name] = (signal + noise).astype(np.float32)
            probes.seconds += 1.0

        monkeypatch.setattr(size_search, "extract_more", extract)
        return calls

    return made


def test_the_better_size_is_found_and_compared_with_the_runs_own(
    extracted: Callable[..., list[tuple[int, int]]],
) -> None:
    extracted({48: 1.0, 64: 3.0, 96: 1.0, 128: 0.9})
    tried, sizes = search(survey_of(), 100.0)
    assert set(sizes) == {48, 64}
    assert sizes[64].accuracy() > sizes[48].accuracy() + 0.1
    assert max(row.round for row in tried) > 1
    assert {row.image_size for row in tried if row.round == 1} >= {48, 64, 96}


def test_a_size_that_was_given_is_the_only_one(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    calls = extracted({96: 1.0})
    search(survey_of(frozenset({"image_size"}), image_size=96), 100.0)
    assert {size for size, _ in calls} == {96}


def test_sizes_above_128_are_tried_only_while_larger_is_better(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    calls = extracted({48: 3.0, 64: 2.9, 96: 2.95, 128: 2.9})
    search(survey_of(), 1000.0)
    assert max(size for size, _ in calls) <= 128
    calls = extracted({48: 0.5, 64: 1.0, 96: 1.5, 128: 2.0, 160: 2.5, 224: 3.0})
    search(survey_of(), 1000.0)
    assert max(size for size, _ in calls) == 224


def test_two_worse_sizes_in_a_row_end_the_round(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    calls = extracted({48: 3.0, 64: 0.5, 96: 0.5, 128: 3.0})
    search(survey_of(), 1000.0)
    assert {size for size, _ in calls} == {48, 64, 96}


def test_no_time_leaves_the_runs_own_size(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    calls = extracted({48: 1.0})
    _, sizes = search(survey_of(), 0.0)
    assert {size for size, _ in calls} == {48}
    assert list(sizes) == [48]


def test_the_runs_own_settings_stay_to_be_compared_with(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    extracted({48: 1.0, 64: 1.5})
    survey = survey_of()
    _, sizes = search(survey, 100.0)
    assert sizes[48].best_in(survey) is not None


def test_a_large_run_can_be_searched_from(extracted: Callable[..., list[tuple[int, int]]]) -> None:
    extracted({160: 1.0})
    _, sizes = search(survey_of(frozenset({"image_size"}), image_size=160), 10.0)
    assert list(sizes) == [160]


def test_layers_are_tried_alone_and_joined_and_the_best_averaged_one_below_them(
    extracted: Callable[..., list[tuple[int, int]]],
) -> None:
    def tried(given: frozenset[str] = frozenset(), averaged: str | None = None, **settings: object) -> set[str]:
        configurations, _ = search(survey_of(given, **settings), 10.0, averaged)
        return {f"{row.layer}:{row.pooling}" for row in configurations if row.image_size == 48}

    extracted({48: 1.0})
    usual = {f"block{number}_pool:{pooling}" for number in (3, 4, 5) for pooling in ("auto", "avg")}
    usual |= {"block3_pool+block4_pool+block5_pool:auto", "+".join(f"block{n}_pool" for n in range(1, 6)) + ":avg"}
    assert tried() == tried(averaged="block3_pool") == usual - {"block5_pool:avg"}
    assert tried(averaged="block2_pool") == usual - {"block5_pool:avg"} | {"block2_pool:avg"}
    assert {name.partition(":")[0] for name in tried(frozenset({"layers"}), layers="block5_pool")} == {"block5_pool"}
    pair = "block4_pool,block5_pool"
    assert not any("+" in name for name in tried(frozenset({"layers"}), layers=pair))  # the run has both


def test_a_network_that_ends_in_averages_is_tried_averaged_alone(
    extracted: Callable[..., list[tuple[int, int]]],
) -> None:
    extracted({224: 1.0})
    configurations, _ = search(survey_of(backbone="efficientnet_lite0"), 10.0)
    assert {row.pooling for row in configurations} == {"avg"}
    of_size = [row for row in configurations if (row.image_size, row.round) == (224, 1)]
    assert len(of_size) == len({row.layer for row in of_size})
    assert {"block5c_add", "top_activation"} <= {row.layer for row in of_size}
