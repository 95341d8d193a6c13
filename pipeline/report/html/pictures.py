"""The page's pictures: the map of the features, and test images that are misclassified."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from thaw.features.errors import InputError
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html import embedding
from thaw.pipeline.report.html.explanations import Explanations, explain, explained_shots
from thaw.pipeline.report.html.gallery import MOST_SHOWN, Shot, confident_mistakes, fixed_and_broken
from thaw.pipeline.report.html.parts import Part, Run, attempt, chart
from thaw.pipeline.run.report_json import remedy
from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import Pictures, open_pictures

MOST_DOUBTED = 12


def context(run: Run) -> dict[str, Any]:
    """Return what the template pictures.html shows, and the pictures of probable label errors."""
    drawn, caption = _map(run)
    opened = attempt("Pictures of images", lambda: open_pictures(run.settings))
    galleries: Part[tuple[list[dict[str, Any]], list[str]]] = Part(missing=opened.missing)
    if opened.value is not None:
        pictures = opened.value
        galleries = attempt("Pictures of images", lambda: _galleries(run, pictures))
    return {
        "map_chart": drawn,
        "map_caption": caption,
        "galleries": Part(galleries.value[0] if galleries.value else None, galleries.missing),
        "unexplained": galleries.value[1] if galleries.value else [],
        "no_tuning": _no_tuning(run),
        "error_shots": attempt("Pictures of label errors", lambda: _doubted(run, opened.value)).value or [],
    }


def _best(run: Run, strategy: str) -> Entry | None:
    return next((entry for entry in run.entries if entry.report.strategy == strategy), None)


def _map(run: Run) -> tuple[Part[Markup], str]:
    """Return the map at the layer of the best linear strategy, and its caption."""
    linear = next((entry.report for entry in run.entries if entry.report.strategy in STRATEGIES), None)
    if linear is None:
        again = remedy(run.folder / "svm" / "report.json")
        return Part(missing=f"A map needs a linear strategy, whose layer it is of; type: {again}"), ""
    report = linear
    part = attempt("The map", lambda: embedding.of_run(run.folder, report, report.seed))
    if part.value is None:
        return Part(missing=part.missing), ""
    found = part.value
    num_classes = len(report.class_names)
    alt = f"Map of {len(found.places):,} test images by {found.layer}, coloured by class"
    height = 3.9 + 0.2 * -(-len(found.names) // 3)
    drawn = chart(run, "map", alt, height, charts.feature_map, found.places, found.groups, found.names)
    some = "" if len(found.names) == num_classes else f" The {len(found.names)} most frequent classes have a colour."
    return drawn, (
        f"{len(found.places):,} test images by their features of {found.layer}: principal components, then t-SNE. "
        f"Images that the network sees as alike lie together; distances between far groups mean nothing.{some}"
    )


def _galleries(run: Run, pictures: Pictures) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the galleries, and in a line each what cannot be shown in them."""
    best, new, old = run.entries[0], _best(run, "finetune"), _best(run, "svm")
    found = [_of_the_best(best), *(_against_svm(new, old) if new and old else [])]
    explained = explain(run.folder, run.settings or {}, pictures, [(one.entry, one.rows) for one in found])
    galleries = [
        {
            "title": one.title,
            "text": one.text + _explained(explained, one),
            "shots": explained_shots(pictures, explained, one.entry, one.rows),
        }
        for one in found
    ]
    return galleries, explained.missing


class _Gallery(NamedTuple):
    """Test images at `rows` of `entry`, whose labels are written under them."""

    title: str
    text: str
    entry: Entry
    rows: np.ndarray


def _of_the_best(best: Entry) -> _Gallery:
    wrong = int((~best.correct).sum())
    rows = confident_mistakes(best)
    shown = f"{wrong:,} of {len(best.ids):,} test images {'is' if wrong == 1 else 'are'} misclassified" + (
        f"; the {len(rows)} most confident are shown." if wrong > len(rows) else "."
    )
    return _Gallery(f"Most confident mistakes of {best.report.name}", shown, best, rows)


def _against_svm(new: Entry, old: Entry) -> list[_Gallery]:
    fixed, broken, num_fixed, num_broken = fixed_and_broken(new, old)
    texts = (
        _counted(num_fixed, f"that {old.report.name} misclassifies and {new.report.name} gets right"),
        _counted(num_broken, f"that {old.report.name} gets right and {new.report.name} misclassifies"),
    )
    # In both, what is written under a picture is what the one says that is wrong.
    said = (f" Below each is what {old.report.name} called it.", f" Below each is what {new.report.name} calls it.")
    titles = tuple(f"What {new.report.name} {does}, compared with {old.report.name}" for does in ("fixes", "breaks"))
    return [
        _Gallery(title, text + (more if len(rows) else ""), entry, rows)
        for title, text, more, entry, rows in zip(titles, texts, said, (old, new), (fixed, broken), strict=True)
    ]


def _explained(explained: Explanations, one: _Gallery) -> str:
    """Return sentences on what is shown beside the pictures of a gallery."""
    name, text = one.entry.report.name, ""
    if any((name, row) in explained.heat for row in one.rows.tolist()):
        text += (
            f" The second picture shows where {name} finds what it calls the image (Grad-CAM): yellow is most, grey "
            "nothing; where it is missing, nothing speaks for it."
        )
    if any((name, row) in explained.like for row in one.rows.tolist()):
        text += (
            " The small pictures are the three images of the training and validation splits that are most like it by "
            f"their features of {explained.layers[name]}: class and similarity, the cosine about the mean."
        )
    return text


def _counted(count: int, what: str) -> str:
    images = f"{count:,} test images" if count > 1 else "1 test image" if count else "No test image"
    return f"{images} {what}" + (f"; {MOST_SHOWN} are shown, the most confident first." if count > MOST_SHOWN else ".")


def _no_tuning(run: Run) -> str:
    lacking = [name for name in ("svm", "finetune") if _best(run, name) is None]
    if not lacking:
        return ""
    again = " and ".join(remedy(run.folder / name / "report.json") for name in lacking)
    return f"To see what fine-tuning fixes and breaks against the SVM, type: {again}"


def _doubted(run: Run, pictures: Pictures | None) -> Sequence[Shot]:
    """Return the images whose labels the audit doubts most."""
    if run.advice is None:
        raise InputError("there is no audit yet")
    if pictures is None:
        return []
    shots = []
    for error in run.advice.audit.label_errors[:MOST_DOUBTED]:
        source, pixelated = pictures.thumbnail(error.id, error.label)
        shots.append(Shot(source, error.id, error.label, error.suggested, error.probability, pixelated))
    return [shot for shot in shots if shot.source]
