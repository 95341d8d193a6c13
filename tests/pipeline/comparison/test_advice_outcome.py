"""How good the advice was, on made-up advice; `advice` is what the tests of the page take too."""

import io
from typing import Any

import pytest
from rich.console import Console

from thaw.pipeline.advice.tables import show
from thaw.pipeline.comparison.advice_outcome import judge, matches, sentence
from thaw.pipeline.run.advice_json import Candidate

from tests.builders.advice import advice, candidate, report


def one(**changed: Any) -> Candidate:
    return Candidate.model_validate(candidate(**changed))


@pytest.mark.parametrize(
    ("low", "helps", "outlook"),
    [(0.91, True, "more labels would help"), (0.88, True, "more labels may help"),
     (0.91, False, "more labels would hardly help")],
)  # fmt: skip
def test_more_labels_help_for_sure_only_beyond_the_accuracy_of_today(low: float, helps: bool, outlook: str) -> None:
    """The last point of the curve is 90 %."""
    curve = advice().learning_curve.model_copy(update={"interval_at_double": [low, 0.97], "more_labels_help": helps})
    assert curve.outlook == outlook


LOGREG = {"strategy": "logreg", "layer": "block4_pool", "hyperparameters": {"transform": "none"}}


@pytest.mark.parametrize(
    ("changed", "alike"),
    [({}, True), ({"features": "vgg16-96"}, False), ({"layer": "block5_pool"}, False),
     ({"strategy": "svm"}, False), ({"hyperparameters": {"transform": "sqrt"}}, False)],
)  # fmt: skip
def test_a_report_is_the_advised_one_by_feature_set_strategy_layer_and_transform(
    changed: dict[str, Any], alike: bool
) -> None:
    assert matches(one(), report("logreg", [1], **{**LOGREG, **changed})) is alike


def test_fine_tuning_is_the_advised_one_by_its_first_trained_layer() -> None:
    tuned = report("finetune", [1], strategy="finetune", layer="block5_conv1", hyperparameters={"transform": "sqrt"})
    advised = candidate("finetune", layer="block5_conv1")
    assert matches(Candidate.model_validate(advised), tuned)
    assert not matches(Candidate.model_validate(advised | {"layer": "block4_conv1"}), tuned)


def test_measured_inside_the_interval_and_the_distance_to_the_best() -> None:
    best, measured = report("svm", [1], strategy="svm"), report("logreg", [1, 2, 3], **LOGREG)
    judged = judge(one(), [best, measured])
    assert judged.report == measured
    assert judged.inside is True
    assert judged.behind == pytest.approx(2 / 60)
    assert sentence(judged, best) == (
        "Advice: logreg on block4_pool at 48 pixels, expected 97.0 % [94.0, 99.0]; measured 95.0 % (logreg), "
        "inside the expected interval; 3.3 points behind the best of this run, svm; 30.0 s expected, 15.8 s taken."
    )


def test_measured_outside_the_interval_and_the_best_itself() -> None:
    best = report("logreg", [], **LOGREG)
    judged = judge(one(), [best])
    assert judged.inside is False
    assert "outside the expected interval; the best of this run;" in sentence(judged, best)


def test_level_with_the_best() -> None:
    best = report("svm", [1], strategy="svm")
    level = judge(one(), [best, report("logreg", [2], **LOGREG)])
    assert "; level with the best, svm; " in sentence(level, best)


def test_of_two_alike_the_report_named_like_its_strategy_counts() -> None:
    named, plain = report("again", [], **LOGREG), report("logreg", [1], **LOGREG)
    judged = judge(one(), [named, plain])
    assert judged.report == plain


def test_advice_that_was_not_followed_has_the_command_to_type() -> None:
    best = report("svm", [1], strategy="svm")
    judged = judge(one(), [best])
    assert judged == (one(), None, None, None)
    assert sentence(judged, best).endswith("; it has not run yet: thaw logreg --run=runs/animals --layer=block4_pool")


def test_joined_layers_fit_a_terminal_of_80_columns() -> None:
    layers = "+".join(f"block{number}_pool" for number in range(1, 6))
    every = candidate("logreg", layer=layers, pooling="avg")
    two = candidate("logreg", layer="block4_pool+block5_pool", pooling="grid2+flat")
    written = io.StringIO()
    show(Console(width=80, file=written), advice(candidates=[every, two], recommended=two))
    lines = written.getvalue().splitlines()
    assert any(line.startswith("logreg    vgg16-48     block1_pool avg +  ") for line in lines)
    assert any(line.startswith("logreg    vgg16-48     block4_pool grid2 +  ") for line in lines)
    assert any(line.strip() == "block5_pool flat" for line in lines)
