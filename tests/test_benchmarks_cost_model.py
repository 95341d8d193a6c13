"""The cost model at its limits, and the tables of docs/scaling.md against the constants that they are made of."""

import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import cost_model, scheduler_check
from benchmarks.cost_measurements import decoding_rate, join_rate
from benchmarks.cost_model import (
    DOCUMENT,
    FEATURE_BYTES,
    PART,
    cluster,
    document,
    estimate,
    part_seconds,
    read_constants,
    retry,
    spread_seconds,
)


@pytest.fixture
def constants() -> dict[str, float]:
    return read_constants()


@pytest.fixture
def calm(constants: dict[str, float]) -> dict[str, float]:
    """No losses, no stragglers, no time for the scheduler."""
    return constants | {"hours_to_loss": float("inf"), "stragglers": 0.0, "dispatch": 0.0}


def test_the_document_has_what_the_command_makes() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert document(text) == text
    assert text.count("| 10^10 | 1,000 |") == 2


def test_the_document_has_the_check_that_was_made() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = json.loads(scheduler_check.CHECKED.read_text(encoding="utf-8"))
    assert cost_model.put(text, "check", scheduler_check.table(found)) == text
    assert {row["workers"] for row in found} == {1, 2, 4}


@pytest.mark.parametrize("workers", [1, 10])
def test_without_losses_the_parts_take_whole_rounds(calm: dict[str, float], workers: int) -> None:
    found = estimate(calm, 100 * PART * workers, workers, "cpu")
    assert found.spread == pytest.approx(100 * part_seconds(calm, workers, "cpu"))


def test_twice_the_images_take_twice_the_time_and_the_money(calm: dict[str, float]) -> None:
    one, two = (estimate(calm, times * 10**8, 10, "gpu") for times in (1, 2))
    assert two.seconds == pytest.approx(2 * one.seconds, rel=1e-3)
    assert two.dollars == pytest.approx(2 * one.dollars, rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"engine_mnn": 1e-3}, "computing"),
        ({"decode_photo": 1e-3}, "decoding"),
        ({"storage": 1e3, "digest": 1e15, "join": 1e15}, "reading images"),
        ({"dispatch": 10.0}, "scheduler"),
        ({"join": 1.0}, "join by one process"),
        ({"digest": 1.0}, "digest by one process"),
    ],
)
def test_what_is_slowest_is_named(constants: dict[str, float], changed: dict[str, Any], expected: str) -> None:
    assert estimate(constants | changed, 10**6, 10, "cpu").bottleneck == expected


def test_the_cores_of_a_cpu_worker_are_shared_and_a_gpu_has_them_for_decoding(constants: dict[str, float]) -> None:
    busy = spread_seconds(constants, PART, 1, "cpu")
    assert part_seconds(constants, 1, "cpu") == pytest.approx(busy["computing"] + busy["decoding"])
    assert busy["writing parts"] == pytest.approx(PART * FEATURE_BYTES / constants["network"])
    busy = spread_seconds(constants, PART, 1, "gpu")
    assert part_seconds(constants, 1, "gpu") == pytest.approx(max(busy["computing"], busy["decoding"]))


def test_losses_and_stragglers_make_it_dearer(constants: dict[str, float], calm: dict[str, float]) -> None:
    often = constants | {"hours_to_loss": 0.05}
    assert estimate(often, 10**6, 10, "cpu").dollars > estimate(calm, 10**6, 10, "cpu").dollars


def test_a_retry_costs_a_part(constants: dict[str, float]) -> None:
    seconds, dollars = retry(constants, "gpu")
    assert seconds == part_seconds(constants, 1, "gpu")
    assert dollars == pytest.approx(seconds * constants["gpu_price"] / 3600)
    assert cluster(constants, 3) == replace(cluster(constants, 1), workers=3)


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.0, "1.0 s"), (120, "2.0 min"), (7200, "2.0 h"), (2e5, "2.3 days"), (1e8, "3.2 years")]
)
def test_times_are_said_in_fitting_units(seconds: float, said: str) -> None:
    assert cost_model._time(seconds) == said


def test_measurements_measure_something(tmp_path: Any) -> None:
    """A picture of four times the pixels takes longer, and the join leaves a whole file."""
    assert decoding_rate((32, 32)) > decoding_rate((512, 512)) > 1
    assert join_rate(tmp_path, 512) > 0
    assert (tmp_path / "features.h5").exists()
