"""The rule of thumb's cells, what is recommended among candidates, and whether the two agree."""

from typing import Any

import pytest

from thaw.pipeline.advice.rule_of_thumb import RULES, recommend, rule_of_thumb, similarity
from thaw.pipeline.run.advice_json import (
    Candidate,
    DataSize,
    FineTuningForecast,
    LayerProfile,
    PerClass,
    RuleOfThumb,
    Similarity,
)


def layer(depth: int, accuracy: float, gain: float) -> LayerProfile:
    return LayerProfile(
        layer=f"block{depth}_pool",
        depth=depth,
        num_rows=1000,
        average_accuracy=accuracy,
        auto_accuracy=accuracy,
        auto_pooling="flat",
        random_accuracy=accuracy - gain,
        gain=gain,
        log_me=0.1,
    )


def candidate(strategy: Any, accuracy: float, minutes: float) -> Candidate:
    return Candidate(
        strategy=strategy,
        features="vgg16-48",
        backbone="vgg16",
        image_size=48,
        layer="block4_pool",
        pooling="flat",
        transform="none",
        command=f"thaw {strategy}",
        accuracy=accuracy,
        accuracy_interval=[accuracy - 0.02, min(1.0, accuracy + 0.02)],
        minutes=minutes,
    )


def size(cell: Any) -> DataSize:
    per_class = PerClass(fewest=1, median=1.0, most=1)
    return DataSize(
        num_train=1, num_validation=1, num_test=1, num_classes=2, images_per_class=per_class, cell=cell, reason="so"
    )


def near(cell: str) -> Similarity:
    found = similarity([layer(depth, 0.5 + 0.08 * depth, 0.3 if cell == "similar" else 0.02) for depth in range(1, 6)])
    assert found.cell == cell
    return found


def judged(amount: DataSize, closeness: Similarity, candidates: list[Candidate]) -> RuleOfThumb:
    return rule_of_thumb(amount, closeness, candidates, recommend(candidates))


def forecast(gain: float, half: float) -> FineTuningForecast:
    return FineTuningForecast(
        unfreeze_from="block4_pool",
        num_images=100,
        num_held_out=100,
        epochs=4,
        start_accuracy=0.9,
        accuracy=0.93,
        gain=gain,
        gain_interval=[gain - half, gain + half],
        expected_accuracy=0.93,
        expected_interval=[0.91, 0.95],
        minutes=9.0,
        seconds=30.0,
    )


def test_a_network_that_may_have_gained_by_chance_is_not_recommended() -> None:
    candidates = [candidate("finetune", 0.93, 9.0), candidate("svm", 0.9, 1.0)]
    assert recommend(candidates, [forecast(0.03, 0.01)]).strategy == "finetune"
    assert recommend(candidates, [forecast(0.03, 0.08)]).strategy == "svm"


def test_late_layers_far_above_a_random_network_are_similar() -> None:
    found = similarity(
        [layer(1, 0.4, 0.1), layer(2, 0.5, 0.2), layer(3, 0.6, 0.3), layer(4, 0.7, 0.3), layer(5, 0.6, 0.3)]
    )
    assert (found.cell, found.best_layer, found.depth) == ("similar", "block4_pool", 4)


@pytest.mark.parametrize(
    "layers",
    [
        [layer(1, 0.4, 0.1), layer(2, 0.7, 0.4), layer(3, 0.6, 0.3), layer(4, 0.5, 0.3), layer(5, 0.4, 0.3)],
        [layer(1, 0.4, 0.1), layer(2, 0.5, 0.1), layer(3, 0.6, 0.1), layer(4, 0.7, 0.1), layer(5, 0.6, 0.1)],
    ],
    ids=["an early layer is the best", "a random network is almost as good"],
)
def test_what_is_not_similar_is_different(layers: list[LayerProfile]) -> None:
    assert similarity(layers).cell == "different"


def test_of_what_is_within_half_a_point_the_cheapest_is_recommended() -> None:
    dear, cheap, worse = candidate("finetune", 0.904, 20.0), candidate("svm", 0.90, 1.0), candidate("logreg", 0.89, 0.5)
    assert recommend([dear, cheap, worse]) is cheap
    assert recommend([candidate("finetune", 0.92, 20.0), cheap, worse]).strategy == "finetune"


def test_a_feature_set_that_is_there_is_preferred_to_one_that_is_dearer() -> None:
    there, slower = candidate("svm", 0.90, 0.9), candidate("logreg", 0.904, 0.3)
    other = candidate("logreg", 0.9045, 2.0).model_copy(update={"features": "vgg16-64"})
    assert recommend([there, slower, other]) is slower
    better = other.model_copy(update={"accuracy": 0.92})
    assert recommend([there, slower, better]) is better


def test_a_linear_classifier_costs_less_than_any_network() -> None:
    linear, network = candidate("svm", 0.90, 3.0), candidate("finetune", 0.901, 2.0)
    assert recommend([network, linear]) is linear
    assert recommend([candidate("logreg", 0.902, 3.0), linear]).strategy == "logreg"


def test_each_cell_has_its_rule() -> None:
    for amount in ("small", "large"):
        for closeness in ("similar", "different"):
            rule = judged(size(amount), near(closeness), [candidate("svm", 0.9, 1.0)])
            assert (rule.cell, rule.strategy) == (f"{amount}-{closeness}", RULES[f"{amount}-{closeness}"][0])


def test_a_linear_classifier_agrees_with_the_other_linear_classifier() -> None:
    rule = judged(size("small"), near("similar"), [candidate("logreg", 0.9, 1.0), candidate("svm", 0.89, 1.0)])
    assert rule.agrees
    assert rule.evidence == "the measurements agree: logreg is expected at 90.0 %"


def test_a_better_strategy_than_the_rules_contradicts_it() -> None:
    rule = judged(size("small"), near("similar"), [candidate("finetune", 0.93, 9.0), candidate("svm", 0.9, 1.0)])
    assert not rule.agrees
    assert "contradict the rule: finetune is expected 3.0 points above svm" in rule.evidence


def test_a_gain_too_small_for_its_cost_contradicts_the_rule() -> None:
    rule = judged(size("large"), near("similar"), [candidate("finetune", 0.903, 9.0), candidate("svm", 0.9, 1.0)])
    assert not rule.agrees
    assert "finetune would gain 0.3 points, less than its cost is worth beside svm" in rule.evidence
