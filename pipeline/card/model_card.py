"""`model_card.md`: the purpose, the accuracy and the limits of a trained strategy, for a reader of the model alone."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.features.store import SPLITS
from thaw.models.metrics import reliability, top_confusions, wilson_interval, worst_classes
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.card.licences import data_licence, licence_lines
from thaw.pipeline.formatting import duration, escape_markdown, percent, plain, size, with_interval
from thaw.pipeline.plots import charts
from thaw.pipeline.plots.svg import draw
from thaw.pipeline.run.predictions_csv import Predictions
from thaw.pipeline.run.report_json import ClassFigures, Report
from thaw.pipeline.run.split_csv import read_table
from thaw.pipeline.templating import environment

FILE = "model_card.md"
NUM_BINS = 10
NUM_WEAKEST, NUM_CONFUSIONS = 3, 10
FEW_IMAGES = 30  # test images of a class; its recall is hardly known with fewer
CHART_HEIGHT = 4.2  # inches
HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_NETWORKS = {
    "head": "a dense head on the frozen network",
    "finetune": "a dense head and the network's upper layers, fine-tuned",
    "scratch": "the whole network, trained from random weights",
    "ensemble": "the mean of the probabilities of several classifiers",
    "random": "logistic regression on the features of a random network, a baseline",
}


def write(folder: Path, report: Report, predictions: Predictions, record: dict[str, Any]) -> Path:
    """Write the model card of a result, with its chart reliability.png.

    Args:
        folder: The folder of the result, RUN/<name>; split.csv beside it gives the images of each class.
        report: The report of the result.
        predictions: Its predictions for the test images.
        record: The record of its model, as `thaw.pipeline.run.model_record` has it.

    Returns:
        The path of the model card.
    """
    bins = reliability(predictions.labels, predictions.probabilities, NUM_BINS)
    alt = "; ".join(f"{one['count']} images of {100 * one['confidence']:.0f} %" for one in bins if one["count"])
    draw(folder, "reliability", f"Reliability: {alt}", CHART_HEIGHT, lambda figure: charts.reliability(figure, bins))
    context = {
        **_front(report),
        **_figures(report),
        **_use(folder, report, record),
        "counts": _counts(folder.parent / "split.csv", report.class_names),
        "bins": [_bin_row(one) for one in bins],
        "limits": _limits(report, predictions),
    }
    path = folder / FILE
    with write_whole(path) as file:
        file.write(_render(context))
    return path


def _render(context: dict[str, Any]) -> str:
    """Return the card; names go through the filter `md` in its text and through `quoted` in its metadata."""
    markdown = environment(autoescape=False)
    markdown.filters |= {"md": _inline, "quoted": _quoted, "thousands": lambda number: f"{number:,}"}
    return f"{markdown.get_template('model_card.md').render(context)}\n"


def _inline(text: object) -> str:
    """Return a text for the inside of a line of Markdown; spaces in a row become one, as Markdown shows them."""
    return escape_markdown(" ".join(plain(str(text)).split()) or "(no name)")


def _quoted(text: object) -> str:
    """Return a text as a double-quoted scalar of YAML; a JSON string is one if every character is printable."""
    return json.dumps(plain(str(text)), ensure_ascii=False)


def _front(report: Report) -> dict[str, Any]:
    """Return what the metadata and the first paragraphs show."""
    values = (
        ("accuracy", "Accuracy", report.accuracy),
        ("balanced_accuracy", "Balanced accuracy", report.balanced_accuracy),
        ("f1", "Macro F1", report.macro_f1),
        ("log_loss", "Log loss", report.log_loss),
        ("ece", "Expected calibration error", report.ece),
        ("roc_auc", "ROC AUC", report.roc_auc),
    )
    kind, separator, path = report.dataset.partition(":")
    dataset = f"{kind}:{Path(path).name}" if separator else report.dataset  # without the user's folders
    article = report.hyperparameters.get("recipe") == "article"
    return {
        "report": report,
        "license": data_licence(report.dataset).identifier,
        "tags": ["image-classification", "transfer-learning", "onnx", report.strategy, report.backbone or "vgg16"],
        "dataset": HUB_DATASETS.get(report.dataset, dataset),
        "metrics": [(kind, name, f"{value:.6f}") for kind, name, value in values if value is not None],
        "what": STRATEGIES[report.strategy].summary if report.strategy in STRATEGIES else _NETWORKS[report.strategy],
        "article_remark": ", though its learning curve was drawn on the test images, as in the article" * article,
        "images": report.num_train + report.num_validation + report.num_test,
    }


def _counts(path: Path, class_names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the images of each class in the three splits, [] if split.csv cannot be read."""
    try:
        counts = Counter((label, split) for _, label, split in read_table(path))
    except (OSError, InputError):
        return []
    return [(name, [counts[name, split] for split in SPLITS]) for name in class_names]


def _figures(report: Report) -> dict[str, Any]:
    """Return the accuracies of all classes and of each, and the confusions."""
    return {
        "accuracy": with_interval(report.accuracy, report.accuracy_ci95, report.num_test),
        "balanced_accuracy": percent(report.balanced_accuracy, report.num_test),
        "classes": [
            [row.class_name, _recall(row), percent(row.precision, report.num_test), f"{row.f1:.3f}", row.support]
            for row in report.per_class
        ],
        "confusions": top_confusions(np.array(report.confusion_matrix), report.class_names, NUM_CONFUSIONS),
    }


def _recall(row: ClassFigures) -> str:
    """Return the recall of a class and its interval in percent."""
    if not row.support:
        return "-"
    return with_interval(row.recall, wilson_interval(round(row.recall * row.support), row.support))


def _bin_row(one: dict[str, Any]) -> list[Any]:
    edges = f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %"
    if not one["count"]:
        return [edges, 0, "-", "-"]
    return [edges, one["count"], percent(one["confidence"]), percent(one["accuracy"])]


def _limits(report: Report, predictions: Predictions) -> list[str]:
    """Return sentences on the classes that the model labels badly, and on figures that are uncertain."""
    weakest = [report.per_class[k] for k in worst_classes(np.array(report.confusion_matrix), NUM_WEAKEST)]
    lines = [f"Weakest class: {row.class_name}, recall {_recall(row)} %." for row in weakest if row.recall < 1]
    few = [row.class_name for row in report.per_class if 0 < row.support < FEW_IMAGES]
    if few:
        names = ", ".join(few[:NUM_CONFUSIONS]) + (" and others" if len(few) > NUM_CONFUSIONS else "")
        lines.append(f"Fewer than {FEW_IMAGES} test images, so that the recall is hardly known: {names}.")
    if absent := [row.class_name for row in report.per_class if not row.support]:
        lines.append(f"No test image, so that nothing is known: {', '.join(absent[:NUM_CONFUSIONS])}.")
    if report.has_too_few_images:
        lines.append(
            f"The accuracy is known to {report.interval_width:.0f} points only: there are too few test images."
        )
    sure = predictions.probabilities.max(axis=1) >= 0.9
    wrong = int((sure & (predictions.probabilities.argmax(axis=1) != predictions.labels)).sum())
    lines.append(f"Of the {int(sure.sum()):,} test images with a probability of 90 % or more, {wrong:,} are wrong.")
    lines.append("Figures are of images like the training images; on others it may do worse without being less sure.")
    return lines


def _use(folder: Path, report: Report, record: dict[str, Any]) -> dict[str, Any]:
    """Return the commands that use the model, its licences, and how it was made."""
    run, name = shlex.quote(str(folder.parent)), shlex.quote(report.name)
    reported = ("backbone", "layer", "device", "weights_sha256", "features_sha256")
    made = [(key, str(value)) for key in reported if (value := getattr(report, key)) is not None]
    recorded = ("image_size", "resize", "aspect", "normalize", "feature_views", "engine")
    made += [(key, str(record[key])) for key in recorded if key in record]
    made += [
        ("member", f"{one['name']} on {one['layer']}, sha256 {one['sha256']}") for one in record.get("members", ())
    ]
    made += [("fit took", duration(report.seconds.fit)), ("model's size", size(report.model_bytes))]
    return {
        "predict_command": f"make predict RUN={run} STRATEGY={name} IMAGES=PATH",
        "export_command": f"thaw export {run} --name {name} --format bundle",
        "licences": licence_lines(report, record),
        "made": [*made, *((f"version of {plain(library)}", text) for library, text in report.versions.items())],
    }
