"""What explains a label: the training images most like the image, and where in it a network finds the class."""

import logging
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import InputError
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.audit.similarity_search import Likeness, find_once
from thaw.models.solver.blocks import Blocks, SquareRoots, signed_roots
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.report.html.gallery import SMALL_SIDE, LikeShot, Shot, overlay, place_of, shots_of
from thaw.pipeline.report.html.parts import Part, attempt
from thaw.pipeline.run.report_json import NEURAL, Report
from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import Pictures

log = logging.getLogger("thaw")

T = TypeVar("T")
NUM_LIKE = 3

Shown = tuple[str, int]  # a strategy's name and the row of one of its test images


class Space(NamedTuple):
    """The features that images are compared by: layers side by side, and the transform before that."""

    layers: tuple[str, ...]
    transform: str


class Explanations(NamedTuple):
    """For test images of some strategies: those like them, the most alike first, and maps (h, w) of 0 to 1.

    `layers` says by which layers a strategy's images are compared, `missing` in a line each why something is not there.
    """

    like: dict[Shown, list[Likeness]]
    heat: dict[Shown, np.ndarray]
    layers: dict[str, str]
    missing: list[str]


def explain(
    folder: Path, settings: dict[str, Any], pictures: Pictures, shown: Sequence[tuple[Entry, np.ndarray]]
) -> Explanations:
    """Return what explains the labels of the test images at the rows that go with each entry, of the run in `folder`.

    `settings` are run.json's. What cannot be had costs a warning, nothing else. Keras is imported only for networks.
    """
    entries = {entry.report.name: entry for entry, _ in shown}
    rows = {
        name: np.unique(np.concatenate([some for entry, some in shown if entry.report.name == name]))
        for name in entries
    }
    wanted = [(entry, rows[name].astype(int).tolist()) for name, entry in entries.items() if len(rows[name])]
    if not wanted:
        return Explanations({}, {}, {}, [])
    near = _attempt("Training images like these", lambda: _like(folder, wanted))
    heat: dict[Shown, np.ndarray] = {}
    missing = [near.missing] if near.missing else []
    for entry, some in wanted:
        if entry.report.strategy in NEURAL and _has_positions(entry.report, settings):
            found = _attempt(f"Heat maps of {entry.report.name}", partial(_heat, folder, entry, some, pictures))
            heat |= found.value or {}
            missing += [found.missing] if found.missing else []
    like, layers = near.value or ({}, {})
    return Explanations(like, heat, layers, missing)


def explained_shots(pictures: Pictures, explained: Explanations, entry: Entry, rows: np.ndarray) -> list[Shot]:
    """Return the test images of `entry` at `rows`, what it calls them, and what explains that."""
    shots = []
    for row, shot in zip(rows.tolist(), shots_of(pictures, entry, rows), strict=True):
        shown = (entry.report.name, row)
        heat = explained.heat.get(shown)
        pixels = None if heat is None else pictures.pixels(shot.id, shot.given)
        if heat is not None and pixels is not None:
            shot = shot._replace(heat=overlay(pixels, heat), heat_place=place_of(heat))
        like = []
        for one in explained.like.get(shown, []):
            source, pixelated = pictures.thumbnail(one.id, one.label, SMALL_SIDE)
            like.append(LikeShot(source, one.id, one.label, one.similarity, pixelated))
        shots.append(shot._replace(like=like))
    return shots


def _attempt(what: str, make: Callable[[], T]) -> Part[T]:
    """Return what `make` returns, or why it could not, with one warning."""

    def warned() -> T:
        try:
            return make()
        except InputError as error:
            log.warning("%s: %s", what, error)
            raise

    return attempt(what, warned)


# Training images that are like a test image.


def _like(
    folder: Path, wanted: Sequence[tuple[Entry, list[int]]]
) -> tuple[dict[Shown, list[Likeness]], dict[str, str]]:
    path = folder / "features.h5"
    if not path.exists():
        raise InputError(f"they need {path}, which is gone; type: make features RUN={shlex.quote(str(folder))}")
    found: dict[Shown, list[Likeness]] = {}
    layers: dict[str, str] = {}
    spaces: dict[Space, list[tuple[Entry, int]]] = {}
    with FeatureFile(path) as features:
        for entry, rows in wanted:
            if features.attributes.get("split_sha256") != entry.report.split_sha256:
                raise InputError(f"{path} is of another split than {entry.report.name}; remove one of the two")
            space = _space(features, entry.report)
            layers[entry.report.name] = "+".join(space.layers)
            spaces.setdefault(space, []).extend((entry, row) for row in rows)
        for space, members in spaces.items():
            found |= _like_in(features, space, members)
    return found, layers


def _space(features: FeatureFile, report: Report) -> Space:
    """Return a linear strategy's own features where the file still has them, else its last layer's."""
    own = tuple((report.layer or "").split("+"))
    if report.strategy in STRATEGIES and report.features_sha256 == features.attributes.get("values_sha256"):
        return Space(own, str(report.hyperparameters.get("transform")))
    order = [layer.name for layer in get_backbone(str(features.attributes["backbone"])).layers]
    return Space((max(features.layers, key=order.index),), "none")


def _like_in(features: FeatureFile, space: Space, members: Sequence[tuple[Entry, int]]) -> dict[Shown, list[Likeness]]:
    others = np.flatnonzero(features.split != 2)
    rows: Blocks = FeatureRows(features, space.layers, features.split != 2)
    queries = np.vstack([_row(features, space, entry.ids[row]) for entry, row in members])
    if space.transform == "sqrt":
        rows, queries = SquareRoots(rows), signed_roots(queries)
    near, similarities = find_once(rows, queries, NUM_LIKE)
    return {
        (entry.report.name, row): [
            Likeness(features.ids[place], features.class_names[features.labels[place]], float(similarity))
            for place, similarity in zip(others[near[number]].tolist(), similarities[number], strict=True)
        ]
        for number, (entry, row) in enumerate(members)
    }


def _row(features: FeatureFile, space: Space, name: str) -> np.ndarray:
    if name not in features.row_of:
        raise InputError(f"{features.path} has no image {name!r}; remove it, then: make features")
    return features.read(space.layers, np.array([features.row_of[name]]))


# Where a network finds a class.


def _has_positions(report: Report, settings: dict[str, Any]) -> bool:
    """Say whether a network can have a map at all: a head on one position cannot, and need not be loaded to say so."""
    if report.strategy != "head" or report.backbone is None or report.layer is None:
        return True
    height, width, _ = get_backbone(report.backbone).output_shape(report.layer, settings["image_size"])
    return height * width > 1


def _heat(folder: Path, entry: Entry, rows: list[int], pictures: Pictures) -> dict[Shown, np.ndarray]:
    from thaw.models.neural.gradcam import heat_maps
    from thaw.pipeline.inference.classifier import NeuralClassifier, load_classifier

    classifier = load_classifier(folder / entry.report.name)
    if not isinstance(classifier, NeuralClassifier):
        raise TypeError(f"{entry.report.name} is not a network")
    preprocessing = classifier.preprocessing
    images = [pictures.pixels(entry.ids[row], entry.classes[row], preprocessing.least_side) for row in rows]
    kept = [(row, preprocessing.prepare(image)) for row, image in zip(rows, images, strict=True) if image is not None]
    if not kept:
        return {}
    size = classifier.batch_size
    batches = [np.stack([image for _, image in kept[start : start + size]]) for start in range(0, len(kept), size)]
    activations = np.concatenate([classifier.activations(batch) for batch in batches])
    maps = heat_maps(classifier.model, activations, entry.predicted[[row for row, _ in kept]])
    if maps is None:
        return {}
    return {(entry.report.name, row): heat for (row, _), heat in zip(kept, maps, strict=True) if heat.any()}
