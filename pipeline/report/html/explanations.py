"""What explains a label: the most similar training images, and where in the image a network finds the class."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import is_foreign
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.audit.similarity_search import Likeness, find_once
from thaw.models.solver.blocks import Blocks, SquareRoots, signed_roots
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.report.html.gallery import SMALL_SIDE, Shot, SimilarShot, hottest_position, on_image, overlay
from thaw.pipeline.report.html.parts import attempt
from thaw.pipeline.run.report_json import NEURAL, Report
from thaw.pipeline.run.results import Entry
from thaw.pipeline.run.run_json import features_command, features_path
from thaw.pipeline.thumbnails import Pictures

NUM_SIMILAR = 3

Key = tuple[str, int]  # the name of a strategy, and the row of one of its test images


class Space(NamedTuple):
    """The features that images are compared by: layers side by side, after a transform."""

    layers: tuple[str, ...]
    transform: str


class Explanations(NamedTuple):
    """What explains the labels of test images.

    Attributes:
        similar: The training images most similar to each test image.
        heat: The heat map (h, w) of each test image, from 0 to 1.
        layers: By the name of a strategy, the layers by which its images are compared.
        missing: One line for each explanation that is missing.
    """

    similar: dict[Key, list[Likeness]]
    heat: dict[Key, np.ndarray]
    layers: dict[str, str]
    missing: list[str]


def explain(folder: Path, pictures: Pictures, shown: Sequence[tuple[Entry, np.ndarray]]) -> Explanations:
    """Return what explains the labels of test images; what is missing costs a warning.

    Keras is imported only for networks.

    Args:
        folder: The folder of the run.
        pictures: The images of the dataset.
        shown: Results, each with the rows (N,) of its test images to explain.
    """
    rows: dict[str, set[int]] = defaultdict(set)
    for entry, shown_rows in shown:
        rows[entry.report.name] |= set(shown_rows.tolist())
    entries = {entry.report.name: entry for entry, _ in shown if rows[entry.report.name]}
    wanted = [(entry, sorted(rows[name])) for name, entry in entries.items()]
    if not wanted:
        return Explanations({}, {}, {}, [])
    similar = attempt("Training images like these", lambda: _similar(folder, wanted), warn=True)
    heat: dict[Key, np.ndarray] = {}
    missing = [similar.missing]
    for entry, some in wanted:
        if entry.report.strategy in NEURAL and _has_positions(entry.report):
            make = partial(_heat, folder, entry, some, pictures)
            maps = attempt(f"Heat maps of {entry.report.name}", make, warn=True)
            heat |= maps.value or {}
            missing.append(maps.missing)
    found, layers = similar.value or ({}, {})
    return Explanations(found, heat, layers, [line for line in missing if line])


def explained_shots(pictures: Pictures, explained: Explanations, entry: Entry, rows: np.ndarray) -> list[Shot]:
    """Return test images with their labels and what explains them.

    Args:
        pictures: The images of the dataset.
        explained: The explanations.
        entry: The result that labels them.
        rows: Their rows in the result, int (N,).
    """
    return [_shot(pictures, explained, entry, row) for row in rows.tolist()]


def _shot(pictures: Pictures, explained: Explanations, entry: Entry, row: int) -> Shot:
    name, label, key = entry.ids[row], entry.classes[row], (entry.report.name, row)
    source, pixelated = pictures.thumbnail(name, label)
    predicted = entry.report.class_names[entry.predicted[row]]
    shot = Shot(source, name, label, predicted, float(entry.confidence[row]), pixelated)
    heat = explained.heat.get(key)
    pixels = None if heat is None else pictures.pixels(name, label)
    if heat is not None and pixels is not None:
        shot = shot._replace(heat=overlay(pixels, heat), heat_position=hottest_position(heat))
    similar = []
    for one in explained.similar.get(key, []):
        source, pixelated = pictures.thumbnail(one.id, one.label, SMALL_SIDE)
        similar.append(SimilarShot(source, one.id, one.label, one.similarity, pixelated))
    return shot._replace(similar=similar)


# The training images most similar to a test image.


def _similar(
    folder: Path, wanted: Sequence[tuple[Entry, list[int]]]
) -> tuple[dict[Key, list[Likeness]], dict[str, str]]:
    """Return the most similar images of each test image, and the layers that each strategy's images are compared by."""
    similar: dict[Key, list[Likeness]] = {}
    layers: dict[str, str] = {}
    by_set: dict[str, list[tuple[Entry, list[int]]]] = defaultdict(list)
    for entry, rows in wanted:
        by_set[next(iter(entry.report.sets), "")].append((entry, rows))  # of several sets the first stands for all
    for name, some in by_set.items():
        path = features_path(folder, name) if name else next(folder.glob("features/*.h5"), folder)  # of `chance`
        if not path.is_file():
            raise InputError(f"they need {path}, which is gone; type: {features_command(folder, name or 'auto')}")
        with FeatureFile(path) as features:
            members: dict[Space, list[tuple[Entry, int]]] = defaultdict(list)
            for entry, rows in some:
                if features.attributes.get("split_sha256") != entry.report.split_sha256:
                    raise InputError(f"{path} is of another split than {entry.report.name}; remove one of the two")
                space = _space(features, entry.report)
                layers[entry.report.name] = "+".join(space.layers)
                members[space] += [(entry, row) for row in rows]
            for space, images in members.items():
                similar |= _similar_in(features, space, images)
    return similar, layers


def _space(features: FeatureFile, report: Report) -> Space:
    """Return the features of a linear strategy's training if the file has them, else the features of the last layer."""
    own = tuple((report.layer or "").split("+"))
    if report.strategy in STRATEGIES and report.features_sha256 == features.attributes.get("values_sha256"):
        return Space(own, str(report.hyperparameters.get("transform")))
    if is_foreign(name := str(features.attributes["backbone"])):
        return Space((list(features.layers)[-1],), "none")
    order = [layer.name for layer in get_backbone(name).layers]
    return Space((max(features.layers, key=order.index),), "none")


def _similar_in(features: FeatureFile, space: Space, images: Sequence[tuple[Entry, int]]) -> dict[Key, list[Likeness]]:
    """Return the most similar training and validation images of each test image in one space."""
    others = np.flatnonzero(features.split != 2)
    blocks: Blocks = FeatureRows(features, space.layers, features.split != 2)
    queries = np.vstack([_row(features, space, entry.ids[row]) for entry, row in images])
    if space.transform == "sqrt":
        blocks, queries = SquareRoots(blocks), signed_roots(queries)
    nearest, similarities = find_once(blocks, queries, NUM_SIMILAR)
    return {
        (entry.report.name, row): [
            Likeness(features.ids[index], features.class_names[features.labels[index]], float(similarity))
            for index, similarity in zip(others[nearest[number]].tolist(), similarities[number], strict=True)
        ]
        for number, (entry, row) in enumerate(images)
    }


def _row(features: FeatureFile, space: Space, name: str) -> np.ndarray:
    """Return the features (1, D) of an image."""
    if name not in features.row_of:
        raise InputError(f"{features.path} has no image {name!r}; remove it, then: make features")
    return features.read(space.layers, np.array([features.row_of[name]]))


# Where in an image a network finds the class.


def _has_positions(report: Report) -> bool:
    """Return whether a network can have a heat map, without loading it: a head on a single position cannot."""
    network, layer, image_size = report.backbone, report.layer, report.image_size
    if report.strategy != "head" or network is None or layer is None or is_foreign(network):
        return True
    if not isinstance(image_size, int):
        return True
    height, width, _ = get_backbone(network).output_shape(layer, image_size)
    return height * width > 1


def _heat(folder: Path, entry: Entry, rows: list[int], pictures: Pictures) -> dict[Key, np.ndarray]:
    """Return the heat maps of the test images at `rows`; one without any heat is left out."""
    from thaw.models.neural.gradcam import heat_maps
    from thaw.pipeline.inference.classifier import NeuralClassifier
    from thaw.pipeline.inference.loading import load_classifier

    classifier = load_classifier(folder / entry.report.name)
    if not isinstance(classifier, NeuralClassifier):
        raise TypeError(f"{entry.report.name} is not a network")
    preprocessing = classifier.preprocessing
    found = {row: pictures.pixels(entry.ids[row], entry.classes[row], preprocessing.least_side) for row in rows}
    images = {row: image for row, image in found.items() if image is not None}
    if not images:
        return {}
    inputs, size = [preprocessing.prepare(image) for image in images.values()], classifier.batch_size
    batches = [np.stack(inputs[start : start + size]) for start in range(0, len(inputs), size)]
    activations = np.concatenate([classifier.activations(batch) for batch in batches])
    maps = heat_maps(classifier.model, activations, entry.predicted[list(images)])
    if maps is None:
        return {}
    return {
        (entry.report.name, row): on_image(image, heat, preprocessing.aspect)
        for (row, image), heat in zip(images.items(), maps, strict=True)
        if heat.any()
    }
