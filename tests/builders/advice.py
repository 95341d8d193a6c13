"""Made-up advice, and the report that it is compared with."""

from typing import Any

import numpy as np

from thaw.pipeline.run.advice_json import Advice
from thaw.pipeline.run.report_json import Report

from tests.builders.results import CLASSES, IDS, fields, probabilities_with


def layer(depth: int) -> dict[str, Any]:
    accuracy = float(np.sin(depth / 2.5))
    return {
        "layer": LAYERS[depth - 1], "depth": depth, "num_rows": 200, "average_accuracy": 0.9 * accuracy,
        "auto_accuracy": 0.95 * accuracy, "auto_pooling": "flat", "random_accuracy": 0.4, "gain": 0.9 * accuracy - 0.4,
        "log_me": 0.2 * depth,
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
        "networks": [network(64, 0.85, True), network(48, 0.8, False)],
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
        "command": "thaw advise --run runs/animals",
    }  # fmt: skip
    return Advice.model_validate(content | changed)


def report(name: str, wrong: list[int], **changed: Any) -> Report:
    return Report.model_validate(fields(name, probabilities_with(wrong), CLASSES, **changed))


LAYERS = [f"block{depth}_pool" for depth in range(1, 6)]


def candidate(strategy: str = "logreg", run: str = "runs/animals", **changed: Any) -> dict[str, Any]:
    content = {
        "strategy": strategy, "features": "vgg16-48", "backbone": "vgg16", "image_size": 48,
        "layer": "block4_pool", "pooling": "flat", "transform": "none",
        "command": f"thaw {strategy} --run={run} --layer=block4_pool", "accuracy": 0.97,
        "accuracy_interval": [0.94, 0.99], "minutes": 0.5,
    }  # fmt: skip
    return content | changed


def configuration(image_size: int, accuracy: float, kept: bool) -> dict[str, Any]:
    return {
        "backbone": "vgg16", "image_size": image_size, "layer": "block4_pool", "pooling": "grid2", "transform": "sqrt",
        "strategy": "logreg", "round": 1, "num_images": 100, "accuracy": accuracy, "seconds": 2.5,
        "images_per_second": 80.0, "kept": kept,
    }  # fmt: skip


def network(image_size: int, accuracy: float, kept: bool) -> dict[str, Any]:
    return {
        "backbone": "vgg16", "image_size": image_size, "features": f"vgg16-{image_size}", "layer": "block4_pool",
        "pooling": "auto", "num_images": 100, "accuracy": accuracy, "seconds_per_image": 0.01, "minutes": 0.05,
        "kept": kept,
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
