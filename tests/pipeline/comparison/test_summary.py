"""The verdict: the best strategy, those not worse, a test set that is too small, and the cost."""

from typing import Any

import numpy as np
import pytest

from thaw.models.metrics import compare, evaluate, holm
from thaw.pipeline.comparison.comparison import Comparison
from thaw.pipeline.comparison.summary import conclusion, cost, not_worse, p_value
from thaw.pipeline.run.report_json import Report

CLASSES = ["cat", "dog"]


def strategy(name: str, num_wrong: int, num_test: int, seconds: float | None = 60.0) -> tuple[Report, np.ndarray]:
    labels = np.arange(num_test) % 2
    right = np.arange(num_test) >= num_wrong
    called = np.where(right, labels, 1 - labels)
    probabilities = np.where(np.eye(2, dtype=bool)[called], 0.9, 0.1)
    content: dict[str, Any] = {
        "name": name, "strategy": name, "dataset": "d", "features": None, "backbone": None,
            "image_size": None, "layer": None, "class_names": CLASSES,
        **evaluate(labels, probabilities, CLASSES), "num_train": 9, "num_validation": 1, "num_test": num_test,
        "hyperparameters": {}, "seconds": {"features": None, "fit": seconds, "predict": None},
        "peak_memory_mb": None, "model_bytes": None, "split_sha256": "a" * 64, "features_sha256": None,
        "weights_sha256": None, "seed": 0, "device": None, "versions": {}, "command": "",
    }  # fmt: skip
    return Report.model_validate(content), right


def verdict(*given: tuple[Report, np.ndarray]) -> tuple[list[Report], list[Comparison]]:
    pairs = [(a, b) for k, a in enumerate(given) for b in given[k + 1 :]]
    results = [compare(a[1], b[1]) for a, b in pairs]
    adjusted = holm([result["mcnemar_p"] for result in results])
    comparisons = [
        Comparison(a[0].name, b[0].name, **result, holm_p=p)
        for (a, b), result, p in zip(pairs, results, adjusted, strict=True)
    ]
    return [report for report, _ in given], comparisons


def test_a_test_set_that_is_too_small_is_reported() -> None:
    given = verdict(strategy("svm", 1, 6), strategy("logreg", 2, 6), strategy("chance", 3, 6))
    assert given[0][0].has_too_few_images
    assert conclusion(*given) == (
        f"Best: svm, with 83.3 % of 6 test images correct. 6 test images are too few to tell these apart (svm, "
        f"logreg, chance): an interval of {given[0][0].interval_width:.0f} points; give more test images."
    )


@pytest.mark.parametrize(("num_test", "said"), [(1, "1 test image is"), (9, "9 test images are")])
def test_a_single_strategy_on_too_small_a_test_set(num_test: int, said: str) -> None:
    text = conclusion(*verdict(strategy("svm", 0, num_test)))
    assert f" {said} too few for a meaningful figure: an interval of " in text


def test_a_baseline_that_is_not_worse_means_too_few_images() -> None:
    given = verdict(
        strategy("svm", 2, 100), strategy("logreg", 3, 100), strategy("random", 4, 100), strategy("chance", 50, 100)
    )
    assert [report.name for report in not_worse(*given)] == ["logreg", "random"]
    assert conclusion(*given) == (
        "Best: svm, with 98.0 % of 100 test images correct. Not significantly worse: logreg. 100 test images are too "
        "few to tell it from a baseline, random; give more test images."
    )


def test_what_is_significantly_worse_is_not_mentioned() -> None:
    given = verdict(strategy("svm", 2, 500), strategy("chance", 250, 500))
    assert conclusion(*given) == "Best: svm, with 99.6 % of 500 test images correct."


def test_the_cost_names_the_quickest_that_is_not_worse() -> None:
    finetune, svm = strategy("finetune", 2, 300, 600.0), strategy("svm", 3, 300, 30.0)
    random = strategy("random", 4, 300, 1.0)
    assert cost(*verdict(finetune, svm, random)) == (
        "It took 10.0 min in all; svm, the quickest that is not significantly worse, 30.0 s."
    )
    assert cost(*verdict(svm, finetune)) == "It took 30.0 s in all."
    assert cost(*verdict(strategy("svm", 0, 30, None))) == "What it took is not known."


def test_the_cost_names_nothing_if_the_test_images_are_too_few() -> None:
    assert cost(*verdict(strategy("finetune", 1, 6, 600.0), strategy("svm", 2, 6, 30.0))) == "It took 10.0 min in all."


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0002, "<0.001"), (0.007, "0.007"), (0.0504, "0.0504"), (0.04996, "0.04996"), (0.05, "0.050"), (1.0, "1.000")],
)
def test_a_p_value_shows_whether_it_is_below_the_level(value: float, text: str) -> None:
    assert p_value(value) == text
