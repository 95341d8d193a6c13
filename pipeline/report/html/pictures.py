"""The images on the page: the map of the features, mistakes, and labels that the audit doubts."""

from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from thaw.models.strategies import STRATEGIES
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html import embedding
from thaw.pipeline.report.html.explanations import Explanations, explain, explained_shots
from thaw.pipeline.report.html.gallery import MOST_SHOWN, Shot, most_confident
from thaw.pipeline.report.html.parts import Part, attempt, chart
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.report_json import remedy
from thaw.pipeline.run.results import Entry

MOST_DOUBTED = 12


class Gallery(NamedTuple):
    """The test images at `rows` of `entry`, with the labels that it gives them."""

    title: str
    text: str
    entry: Entry
    rows: np.ndarray


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template pictures.html shows, and the images of probable label errors."""
    map_chart, caption = _map(inputs)
    return {
        "map_chart": map_chart,
        "map_caption": caption,
        "galleries": attempt("Pictures of images", lambda: _galleries(inputs)),
        "no_tuning": _no_tuning(inputs),
        "error_shots": attempt("Pictures of label errors", lambda: _doubted(inputs)).value or [],
    }


def _best(inputs: ReportInputs, *strategies: str) -> Entry | None:
    return next((entry for entry in inputs.entries if entry.report.strategy in strategies), None)


def _map(inputs: ReportInputs) -> tuple[Part[Markup], str]:
    """Return the map at the layer of the best linear strategy, and its caption."""
    linear = _best(inputs, *STRATEGIES)
    if linear is None:
        again = remedy(inputs.folder / "svm" / "report.json")
        return Part(missing=f"A map needs a linear strategy and its layer; type: {again}"), ""
    report = linear.report
    part = attempt("The map", lambda: embedding.of_run(inputs.folder, report, report.seed))
    if part.value is None:
        return Part(missing=part.missing), ""
    layer, positions, groups, names = part.value
    alt = f"Map of {len(positions):,} test images by {layer}, coloured by class"
    height = 3.9 + 0.2 * -(-len(names) // 3)
    drawn = chart(inputs.folder, "map", alt, height, charts.feature_map, positions, groups, names)
    all_coloured = len(names) == len(report.class_names)
    some = "" if all_coloured else f" The {len(names)} most frequent classes have a colour."
    return drawn, (
        f"{len(positions):,} test images by their features of {layer}: principal components, then t-SNE. "
        f"Images that the network sees as alike lie together; distances between far groups mean nothing.{some}"
    )


def _galleries(inputs: ReportInputs) -> dict[str, list[Any]]:
    """Return the galleries, and one line for each explanation that is missing."""
    pictures = inputs.pictures
    new, old = _best(inputs, "finetune"), _best(inputs, "svm")
    found = [_mistakes(inputs.entries[0]), *(_against_svm(new, old) if new and old else [])]
    explained = explain(inputs.folder, pictures, [(one.entry, one.rows) for one in found])
    shown = [
        {
            "title": one.title,
            "text": one.text + _explained(explained, one),
            "shots": explained_shots(pictures, explained, one.entry, one.rows),
        }
        for one in found
    ]
    return {"shown": shown, "missing": explained.missing}


def _mistakes(best: Entry) -> Gallery:
    wrong = int((~best.correct).sum())
    rows = most_confident(best, ~best.correct)
    verb = "is" if wrong == 1 else "are"
    more = f"; the {len(rows)} most confident are shown." if wrong > len(rows) else "."
    text = f"{wrong:,} of {len(best.ids):,} test images {verb} misclassified{more}"
    return Gallery(f"Most confident mistakes of {best.report.name}", text, best, rows)


def _against_svm(new: Entry, old: Entry) -> list[Gallery]:
    """Return the test images that only the fine-tuned network labels correctly, and those that only the SVM does."""
    new_name, old_name = new.report.name, old.report.name
    fixed, broken = new.correct & ~old.correct, old.correct & ~new.correct
    fixed_text = _counted(fixed, f"that {old_name} misclassifies and {new_name} labels correctly", old_name)
    broken_text = _counted(broken, f"that {old_name} labels correctly and {new_name} misclassifies", new_name)
    return [
        Gallery(f"What {new_name} fixes, compared with {old_name}", fixed_text, old, most_confident(new, fixed)),
        Gallery(f"What {new_name} breaks, compared with {old_name}", broken_text, new, most_confident(new, broken)),
    ]


def _explained(explained: Explanations, one: Gallery) -> str:
    """Return sentences on what is shown beside the images of a gallery."""
    name, text = one.entry.report.name, ""
    keys = [(name, row) for row in one.rows.tolist()]
    if any(key in explained.heat for key in keys):
        text += (
            f" The second picture shows where {name} finds the class that it predicts (Grad-CAM): yellow is most, grey "
            "nothing. It is missing if nothing speaks for that class."
        )
    if any(key in explained.similar for key in keys):
        text += (
            " The small pictures are the three most similar images of the training and validation splits, by their "
            f"features of {explained.layers[name]}: class and similarity, the cosine about the mean."
        )
    return text


def _counted(chosen: np.ndarray, what: str, shown: str) -> str:
    """Return how many test images are chosen, and under them the labels of which strategy are `shown`."""
    count = int(chosen.sum())
    images = f"{count:,} test images" if count > 1 else "1 test image" if count else "No test image"
    more = f"; {MOST_SHOWN} are shown, the most confident first." if count > MOST_SHOWN else "."
    return f"{images} {what}{more}" + (f" Below each is the label that {shown} gives it." if count else "")


def _no_tuning(inputs: ReportInputs) -> str:
    lacking = [name for name in ("svm", "finetune") if _best(inputs, name) is None]
    if not lacking:
        return ""
    again = " and ".join(remedy(inputs.folder / name / "report.json") for name in lacking)
    return f"To see what fine-tuning fixes and breaks against the SVM, type: {again}"


def _doubted(inputs: ReportInputs) -> list[Shot]:
    """Return the images whose labels the audit doubts most."""
    shots = []
    for error in inputs.advice.audit.label_errors[:MOST_DOUBTED] if inputs.advice else ():
        source, pixelated = inputs.pictures.thumbnail(error.id, error.label)
        shots.append(Shot(source, error.id, error.label, error.suggested, error.probability, pixelated))
    return [shot for shot in shots if shot.source]
