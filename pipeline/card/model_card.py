"""`model_card.md`: what a trained strategy is for, how good it is and where not, for who has only the model."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

from thaw.features.files.atomic import write_whole
from thaw.features.store import SPLITS
from thaw.models.metrics import reliability, wilson_interval
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.card.licences import data_licence, licence_lines
from thaw.pipeline.formatting import accuracy, duration, percent, plain, size, too_few, width
from thaw.pipeline.run.predictions_csv import Predictions, read_predictions
from thaw.pipeline.run.report_json import Report, read_report
from thaw.pipeline.run.run_json import read_run_settings

FILE = "model_card.md"
NUM_BINS = 10
NUM_WEAKEST, NUM_CONFUSIONS = 3, 10
FEW_IMAGES = 30  # test images of a class, below which its recall is hardly known
CHART_HEIGHT = 4.2  # inches
HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_NETWORKS = {
    "head": "a dense head on the frozen network",
    "finetune": "a dense head and the network's upper layers, fine-tuned",
    "scratch": "the whole network, trained from random weights",
    "random": "logistic regression on the features of a random network, a baseline",
}


def write(folder: Path) -> Path:
    """Write the model card of the result in `folder`, RUN/<name>, with its chart reliability.png, and return its path.

    All of it is taken from the run's files. Raises InputError where report.json or predictions.csv are missing or
    damaged.
    """
    report = read_report(folder / "report.json")
    predictions = read_predictions(folder / "predictions.csv", report.class_names)
    bins = reliability(predictions.labels, predictions.probabilities, NUM_BINS)
    _draw(folder, bins)
    text = _render(
        {
            **_front(report),
            **_data(folder, report),
            **_quality(report, bins),
            "limits": _limits(report, predictions),
            **_use(folder, report),
        }
    )
    path = folder / FILE
    with write_whole(path) as file:
        file.write(text)
    return path


def _render(context: dict[str, Any]) -> str:
    """Return the card; what is not ours goes through `md` in the text and `quoted` in the metadata."""
    import jinja2

    from thaw.pipeline.report.markdown import escape

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("thaw.pipeline"),
        autoescape=False,  # noqa: S701 (Markdown: see the filters)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": _inline(escape), "quoted": _quoted, "thousands": lambda number: f"{number:,}"}
    return environment.get_template("model_card.md").render(context)


def _inline(escape: Any) -> Any:
    """Return the filter that writes a text inside a line: spaces within it are one, as Markdown shows them anyway."""
    return lambda text: escape(" ".join(plain(str(text)).split()) or "(no name)")


def _quoted(text: object) -> str:
    """Return a text as YAML's double-quoted scalar, which JSON's string is once nothing unprintable is in it."""
    return json.dumps(plain(str(text)), ensure_ascii=False)


def _draw(folder: Path, bins: list[dict[str, Any]]) -> None:
    from thaw.pipeline.plots import charts
    from thaw.pipeline.plots.svg import draw

    said = "; ".join(f"{one['count']} images of {100 * one['confidence']:.0f} %" for one in bins if one["count"])
    draw(folder, "reliability", f"Reliability: {said}", CHART_HEIGHT, lambda figure: charts.reliability(figure, bins))


def _word(dataset: str) -> str:
    """Return a data set's word without the folders before a file's or folder's own name."""
    kind, separator, path = dataset.partition(":")
    return f"{kind}:{Path(path).name}" if separator else dataset


def _front(report: Report) -> dict[str, Any]:
    values = (
        ("accuracy", "Accuracy", report.accuracy),
        ("balanced_accuracy", "Balanced accuracy", report.balanced_accuracy),
        ("f1", "Macro F1", report.macro_f1),
        ("log_loss", "Log loss", report.log_loss),
        ("ece", "Expected calibration error", report.ece),
        ("roc_auc", "ROC AUC", report.roc_auc),
    )
    what = STRATEGIES[report.strategy].summary if report.strategy in STRATEGIES else _NETWORKS[report.strategy]
    article = report.hyperparameters.get("recipe") == "article"
    return {
        "report": report,
        "license": data_licence(report.dataset).identifier,
        "tags": ["image-classification", "transfer-learning", "onnx", report.strategy, report.backbone or "vgg16"],
        "dataset": HUB_DATASETS.get(report.dataset, _word(report.dataset)),
        "metrics": [(kind, name, f"{value:.6f}") for kind, name, value in values if value is not None],
        "what": what,
        "accuracy": f"{accuracy(report)} %",
        "article_remark": ", though its learning curve was drawn on the test images, as in the article" * article,
    }


def _data(folder: Path, report: Report) -> dict[str, Any]:
    return {
        "images": report.num_train + report.num_validation + report.num_test,
        "counts": _counts(folder.parent / "split.csv", report),
    }


def _counts(path: Path, report: Report) -> list[tuple[str, list[int]]]:
    """Return each class with its images of the three sides, [] where split.csv is not there or is of other classes."""
    counts = {name: [0, 0, 0] for name in report.class_names}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                counts[row["label"]][SPLITS.index(row["split"])] += 1
    except (OSError, KeyError, ValueError, csv.Error):
        return []
    return list(counts.items())


def _quality(report: Report, bins: list[dict[str, Any]]) -> dict[str, Any]:
    from thaw.pipeline.report.html.classes import top_confusions

    figures = [
        ("Accuracy %", accuracy(report)),
        ("Balanced accuracy % (mean recall)", percent(report.balanced_accuracy, report)),
        ("Macro F1", f"{report.macro_f1:.3f}"),
        ("Log loss", f"{report.log_loss:.3f}"),
        ("Expected calibration error", f"{report.ece:.3f}"),
    ]
    if report.roc_auc is not None:
        figures.append(("ROC AUC", f"{report.roc_auc:.3f}"))
    return {
        "figures": figures,
        "classes": [_class_row(report, number) for number in range(len(report.class_names))],
        "confusions": top_confusions(report, NUM_CONFUSIONS),
        "bins": [_bin_row(one) for one in bins],
        "ece": f"{report.ece:.4f}",
    }


def _class_row(report: Report, number: int) -> list[Any]:
    row = report.per_class[number]
    figures = [percent(row.precision, report), f"{row.f1:.3f}", row.support]
    return [row.class_name, _recall(report, number), *figures]


def _recall(report: Report, number: int) -> str:
    support, right = report.per_class[number].support, report.confusion_matrix[number][number]
    if not support:
        return "-"
    low, high = (f"{100 * value:.1f}" for value in wilson_interval(right, support))
    return f"{100 * right / support:.1f} [{low}, {high}]"


def _bin_row(one: dict[str, Any]) -> list[Any]:
    edges = f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %"
    if not one["count"]:
        return [edges, 0, "-", "-"]
    return [edges, one["count"], f"{100 * one['confidence']:.1f}", f"{100 * one['accuracy']:.1f}"]


def _limits(report: Report, predictions: Predictions) -> list[str]:
    """Return sentences on where the model is weak or its figures are."""
    from thaw.pipeline.report.html.classes import worst_classes

    places = {name: number for number, name in enumerate(report.class_names)}
    weakest = [row.class_name for row in worst_classes(report, NUM_WEAKEST) if row.recall < 1]
    lines = [f"Weakest class: {name}, recall {_recall(report, places[name])} %." for name in weakest]
    few = [row.class_name for row in report.per_class if 0 < row.support < FEW_IMAGES]
    if few:
        names = ", ".join(few[:NUM_CONFUSIONS]) + (" and others" if len(few) > NUM_CONFUSIONS else "")
        lines.append(f"Fewer than {FEW_IMAGES} test images, so that the recall is hardly known: {names}.")
    if absent := [row.class_name for row in report.per_class if not row.support]:
        lines.append(f"No test image, so that nothing is known: {', '.join(absent[:NUM_CONFUSIONS])}.")
    if too_few(report):
        lines.append(f"The accuracy is known to {width(report):.0f} points only: there are too few test images.")
    sure = predictions.probabilities.max(axis=1) >= 0.9
    wrong = int((sure & (predictions.probabilities.argmax(axis=1) != predictions.labels)).sum())
    lines.append(f"Of the {int(sure.sum()):,} test images with a probability of 90 % or more, {wrong:,} are wrong.")
    lines.append("Figures are of images like the training images; on others it may do worse without being less sure.")
    return lines


def _use(folder: Path, report: Report) -> dict[str, Any]:
    run = read_run_settings(folder.parent) or {}
    place, name = shlex.quote(str(folder.parent)), shlex.quote(report.name)
    given = ("backbone", "layer", "device", "weights_sha256", "features_sha256")
    made = [(key, str(value)) for key in given if (value := getattr(report, key)) is not None]
    made += [(key, str(run[key])) for key in ("image_size", "resize", "normalize", "engine") if key in run]
    made += [("fit took", duration(report.seconds.fit)), ("model's size", size(report.model_bytes))]
    return {
        "predict_command": f"make predict RUN={place} STRATEGY={name} IMAGES=PATH",
        "export_command": f"thaw export {place} --name {name} --format bundle",
        "licences": licence_lines(report, run),
        "made": [*made, *((f"version of {plain(library)}", text) for library, text in report.versions.items())],
    }
