"""How good the advice was, on made-up advice; `advice` is what the tests of the page take too."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from test_pipeline_report import CLASSES, IDS, add, fields, probabilities_with

from pipeline.advice import Advice, Candidate
from pipeline.advice_tables import show
from pipeline.hindsight import Made, all_made, judge, matches, run_of, sentence
from pipeline.schema import Report

LAYERS = [f"block{depth}_pool" for depth in range(1, 6)]


def candidate(strategy: str = "logreg", run: str = "runs/animals", **changed: Any) -> dict[str, Any]:
    content = {
        "strategy": strategy, "image_size": 48, "layer": "block4_pool", "pooling": "flat", "transform": "none",
        "command": f"python -m pipeline {strategy} --run={run} --layer=block4_pool", "accuracy": 0.97,
        "accuracy_interval": [0.94, 0.99], "minutes": 0.5,
    }  # fmt: skip
    return content | changed


def layer(depth: int) -> dict[str, Any]:
    accuracy = float(np.sin(depth / 2.5))
    return {
        "layer": LAYERS[depth - 1], "depth": depth, "num_rows": 200, "average_accuracy": 0.9 * accuracy,
        "auto_accuracy": 0.95 * accuracy, "auto_pooling": "flat", "random_accuracy": 0.4, "gain": 0.9 * accuracy - 0.4,
        "log_me": 0.2 * depth, "h_score": 1.5 * depth,
    }  # fmt: skip


def configuration(image_size: int, accuracy: float, kept: bool) -> dict[str, Any]:
    return {
        "image_size": image_size, "layer": "block4_pool", "pooling": "grid2", "transform": "sqrt",
        "strategy": "logreg", "round": 1, "num_images": 100, "accuracy": accuracy, "seconds": 2.5,
        "images_per_second": 80.0, "kept": kept,
    }  # fmt: skip


def pilot(unfreeze_from: str) -> dict[str, Any]:
    return {
        "unfreeze_from": unfreeze_from, "num_images": 150, "num_held_out": 50, "epochs": 3, "start_accuracy": 0.9,
        "accuracy": 0.93, "gain": 0.03, "gain_interval": [-0.01, 0.07], "expected_accuracy": 0.96,
        "expected_interval": [0.92, 0.99], "minutes": 3.0, "seconds": 20.0,
    }  # fmt: skip


def audit(class_names: list[str] = CLASSES) -> dict[str, Any]:
    doubt = {"id": "train/cat/7.png", "split": "train", "label": class_names[0], "suggested": class_names[1]}
    twin = {"id": IDS[0], "twin": "train/cat/1.png", "twin_split": "train"}
    return {
        "num_exact_duplicates": 1, "num_near_duplicates": 1,
        "duplicates": [
            {**twin, "exact": True, "similarity": 1.0, "same_label": True},
            {**twin, "id": IDS[1], "exact": False, "similarity": 0.9991, "same_label": False},
        ],
        "duplicate_test_ids": IDS[:2], "near_threshold": 0.995, "num_label_errors": 1,
        "label_errors": [{**doubt, "probability": 0.93, "margin": 0.9}],
        "class_counts": [{"class": name, "train": 60 + k, "validation": 7, "test": 20} for k, name in
                         enumerate(class_names)],
        "imbalance": 1.1, "imbalance_warning": None,
        "canary": {"resize": "article", "normalize": "article", "num_images": 100, "accuracy": 0.5,
                   "standard_accuracy": 0.7, "difference_interval": [-0.3, -0.1], "worse": True},
    }  # fmt: skip


def advice(class_names: list[str] = CLASSES, **changed: Any) -> Advice:
    """Return advice on the run of test_pipeline_report, which has `logreg` at 59 of 60."""
    points = [{"share": s, "num_images": int(200 * s), "accuracy": 0.5 + 0.4 * s, "standard_error": 0.02 / s**0.5}
              for s in (0.1, 0.3, 1.0)]  # fmt: skip
    content = {
        "schema_version": 1, "dataset": "folder:animals", "backbone": "vgg16", "image_size": 48, "seed": 0,
        "split_sha256": "a" * 64, "features_sha256": "b" * 64,
        "size": {"num_train": 200, "num_validation": 20, "num_test": 60, "num_classes": 3, "cell": "small",
                 "images_per_class": {"fewest": 66, "median": 73.0, "most": 74}, "reason": "73 images per class."},
        "similarity": {"best_layer": "block4_pool", "depth": 4, "num_layers": 5, "accuracy": 0.9, "gain": 0.5,
                       "random_accuracy": 0.4, "cell": "similar", "reason": "Block 4 is the best."},
        "layers": [layer(depth) for depth in range(1, 6)],
        "learning_curve": {"layer": "block4_pool", "points": points, "slope_per_doubling": 0.02,
                           "accuracy_at_double": 0.93, "interval_at_double": [0.88, 0.97], "more_labels_help": True},
        "configurations": [configuration(48, 0.8, False), configuration(64, 0.85, True)],
        "pilots": [pilot("block5_conv1"), pilot("block4_conv1")],
        "candidates": [candidate(), candidate("finetune", layer="block5_conv1", pooling="none")],
        "recommended": candidate(),
        "rule_of_thumb": {"cell": "small-similar", "strategy": "svm", "text": "a linear SVM", "agrees": True,
                          "evidence": "The probe is at 90 %."},
        "audit": audit(class_names), "budget_minutes": 1.0, "seconds": 50.0, "versions": {"numpy": "2.0"},
        "command": "python -m pipeline advise --run runs/animals",
    }  # fmt: skip
    return Advice.model_validate(content | changed)


def report(name: str, wrong: list[int], **changed: Any) -> Report:
    return Report.model_validate(fields(name, probabilities_with(wrong), CLASSES, **changed))


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
    ("command", "run"),
    [("python -m pipeline svm --run=runs/animals-96", "animals-96"), ("make svm RUN='my runs/a b'", "a b"),
     ("python -m pipeline svm --run runs/x --layer auto", "x"), ("make svm", ""), ("make svm RUN='open", ""),
     ("make svm --run", "")],
)  # fmt: skip
def test_the_run_of_an_advised_command(command: str, run: str) -> None:
    assert run_of(one(command=command)) == run


@pytest.mark.parametrize(
    ("changed", "run", "alike"),
    [({}, "animals", True), ({}, "animals-96", False), ({"layer": "block5_pool"}, "animals", False),
     ({"strategy": "svm"}, "animals", False), ({"hyperparameters": {"transform": "sqrt"}}, "animals", False)],
)  # fmt: skip
def test_a_report_is_the_advised_one_by_run_strategy_layer_and_transform(
    changed: dict[str, Any], run: str, alike: bool
) -> None:
    assert matches(one(), Made(report("logreg", [1], **{**LOGREG, **changed}), run)) is alike


def test_fine_tuning_is_the_advised_one_by_its_first_trained_layer() -> None:
    tuned = report("finetune", [1], strategy="finetune", layer="block5_conv1", hyperparameters={"transform": "sqrt"})
    advised = candidate("finetune", layer="block5_conv1")
    assert matches(Candidate.model_validate(advised), Made(tuned, "animals"))
    assert not matches(Candidate.model_validate(advised | {"layer": "block4_conv1"}), Made(tuned, "animals"))


def test_measured_inside_the_interval_and_the_distance_to_the_best() -> None:
    best, measured = report("svm", [1], strategy="svm"), report("logreg", [1, 2, 3], **LOGREG)
    judged = judge(one(), [Made(best, "animals"), Made(measured, "animals")], best)
    assert judged.report == measured
    assert judged.inside is True
    assert judged.behind == pytest.approx(2 / 60)
    assert sentence(judged, best) == (
        "Advice: logreg on block4_pool at 48 pixels, expected 97.0 % [94.0, 99.0]; measured 95.0 % (logreg), "
        "inside the expected interval; 3.3 points behind the best of this run, svm; 30.0 s expected, 15.8 s taken."
    )


def test_measured_outside_the_interval_and_the_best_itself() -> None:
    best = report("logreg", [], **LOGREG)
    judged = judge(one(), [Made(best, "animals")], best)
    assert judged.inside is False
    assert "outside the expected interval; the best of this run;" in sentence(judged, best)


def test_level_with_the_best_and_ahead_of_it() -> None:
    best = report("svm", [1], strategy="svm")
    level = judge(one(), [Made(report("logreg", [2], **LOGREG), "animals")], best)
    assert "; level with the best, svm; " in sentence(level, best)
    ahead = judge(one(), [Made(report("logreg", [], **LOGREG), "animals")], best)
    assert "; 1.7 points ahead of the best of this run, svm; " in sentence(ahead, best)


def test_of_two_alike_the_one_with_the_strategy_s_name_counts() -> None:
    named, plain = report("again", [], **LOGREG), report("logreg", [1], **LOGREG)
    judged = judge(one(), [Made(named, "animals"), Made(plain, "animals")], named)
    assert judged.report == plain


def test_advice_that_was_not_followed_says_what_to_type() -> None:
    best = report("svm", [1], strategy="svm")
    judged = judge(one(), [Made(best, "animals")], best)
    assert judged == (one(), None, None, None)
    assert sentence(judged, best).endswith(
        "; it has not run yet: python -m pipeline logreg --run=runs/animals --layer=block4_pool"
    )


def test_an_advised_run_beside_this_one_is_looked_into(tmp_path: Path) -> None:
    run, other = tmp_path / "animals", tmp_path / "animals-96"
    advised = candidate(run="somewhere/animals-96", image_size=96)
    given = advice(candidates=[advised], recommended=advised)
    run.mkdir()
    add(other, "logreg", [1, 2], **LOGREG)
    add(other, "old", [1, 2], **LOGREG, split_sha256="d" * 64)
    made = all_made(run, [report("svm", [1])], given)
    assert [(one.report.name, one.run) for one in made] == [("svm", "animals"), ("logreg", "animals-96")]
    assert judge(given.recommended, made, made[0].report).report == made[1].report
    (other / "logreg" / "report.json").write_text("{", encoding="utf-8")
    assert len(all_made(run, [report("svm", [1])], given)) == 1


def test_joined_layers_fit_a_terminal_of_80_columns() -> None:
    layers = "+".join(f"block{number}_pool" for number in range(1, 6))
    every = candidate("logreg", layer=layers, pooling="avg")
    two = candidate("logreg", layer="block4_pool+block5_pool", pooling="grid2+flat")
    written = io.StringIO()
    show(Console(width=80, file=written), advice(candidates=[every, two], recommended=two))
    lines = written.getvalue().splitlines()
    assert any(line.startswith("logreg    block1_pool avg +  ") for line in lines)
    assert any(line.startswith("logreg    block4_pool grid2 +  ") for line in lines)
    assert any(line.strip() == "block5_pool flat" for line in lines)
