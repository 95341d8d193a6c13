"""Every pooling layer by a quick probe, beside the same layer of a random network: how near to ImageNet we are."""

import logging

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import linear_probe, probe_folds
from thaw.models.selection.transferability import h_score, log_me
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import LayerProfile

log = logging.getLogger("thaw")

LOGREG = STRATEGIES["logreg"]
HELD_OUT = 300  # images that a layer is judged by: layers differ by much


def profile(survey: Survey, num_rows: int, num_random: int) -> list[LayerProfile]:
    """Return the profile of all pooling layers on `num_rows` images, and on the first `num_random` of a random network.

    All layers, averaged and under the `auto` rule, come from one pass of the network over the images.
    """
    rows = survey.order[:num_rows]
    averaged = [f"{name}:avg" for name in survey.pools]
    path = survey.sample(f"profile-{num_rows}", rows, [*survey.pools, *averaged], pooling="auto")
    random = survey.sample(f"random-{num_random}", rows[:num_random], averaged, weights="random")
    with FeatureFile(path) as ours, FeatureFile(random) as theirs:
        return [_layer(survey, ours, theirs, depth, name) for depth, name in enumerate(survey.pools, start=1)]


def _layer(survey: Survey, ours: FeatureFile, theirs: FeatureFile, depth: int, name: str) -> LayerProfile:
    averaged = f"{name}:avg"
    features = _read(ours, averaged)
    same = np.isin(ours.ids, theirs.ids)
    accuracy = _probe(survey, features, ours)
    accuracy_there = accuracy if same.all() else _probe(survey, features[same], ours, same)
    random_accuracy = _probe(survey, _read(theirs, averaged), theirs)
    shape = get_backbone(survey.settings.backbone).output_shape(name, survey.settings.image_size)
    result = LayerProfile(
        layer=name,
        depth=depth,
        num_rows=len(features),
        average_accuracy=accuracy,
        auto_accuracy=_probe(survey, _read(ours, name), ours),
        auto_pooling=resolve_pooling("auto", shape),
        random_accuracy=random_accuracy,
        gain=accuracy_there - random_accuracy,
        log_me=log_me(features, ours.labels),
        h_score=h_score(features, ours.labels),
    )
    log.info(
        "%s: %.1f %% averaged, %.1f %% as %s, %.1f %% of a random network (LogME %.3f)",
        *(name, 100 * result.average_accuracy, 100 * result.auto_accuracy, result.auto_pooling),
        *(100 * random_accuracy, result.log_me),
    )
    return result


def _read(features: FeatureFile, name: str) -> np.ndarray:
    return features.read([name], np.ones(len(features.ids), bool))


def _probe(survey: Survey, values: np.ndarray, features: FeatureFile, mask: np.ndarray | None = None) -> float:
    """Return the accuracy of a probe of `values` (n, D), of the rows of a sample's file where `mask` holds."""
    mask = np.ones(len(features.ids), bool) if mask is None else mask
    folds = probe_folds(features.labels[mask], features.groups_of(mask), survey.settings.seed, HELD_OUT)
    return linear_probe(LOGREG, values, features.labels[mask], folds).accuracy
