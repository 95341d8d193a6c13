"""Every pooling layer by a quick probe, beside the same layer of a random network: how near to ImageNet we are."""

import logging

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import linear_probe, probe_folds
from thaw.models.selection.transferability import log_me
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import LayerProfile

log = logging.getLogger("thaw")

HELD_OUT = 300  # images that a layer is judged by: layers differ by much


def profile(survey: Survey, num_rows: int, num_random: int) -> list[LayerProfile]:
    """Profile all pooling layers; averaged and under the `auto` rule they come from one pass over the images.

    Args:
        survey: The run.
        num_rows: How many images go through the network.
        num_random: How many of them, the first, go through the random network too.

    Returns:
        A profile for each layer, from the image upwards.
    """
    rows = survey.order[:num_rows]
    averaged = [f"{name}:avg" for name in survey.pools]
    auto = get_backbone(survey.settings.backbone).pooling("auto")
    path = survey.sample(f"profile-{num_rows}", rows, [*survey.pools, *averaged], pooling=auto, views="one")
    random_path = survey.sample(f"random-{num_random}", rows[:num_random], averaged, weights="random", views="one")
    with FeatureFile(path) as features, FeatureFile(random_path) as random:
        return [_profile_layer(survey, features, random, i, name) for i, name in enumerate(survey.pools, start=1)]


def _profile_layer(survey: Survey, features: FeatureFile, random: FeatureFile, depth: int, name: str) -> LayerProfile:
    averaged, everyone = f"{name}:avg", np.ones(len(features.ids), bool)
    shared = np.isin(features.ids, random.ids)  # these went through both networks
    accuracy = _probe(survey, features, averaged, everyone)
    shared_accuracy = accuracy if shared.all() else _probe(survey, features, averaged, shared)
    random_accuracy = _probe(survey, random, averaged, np.ones(len(random.ids), bool))
    backbone = get_backbone(survey.settings.backbone)
    shape = backbone.output_shape(name, survey.settings.image_size)
    values = features.read([averaged], everyone)
    result = LayerProfile(
        layer=name,
        depth=depth,
        num_rows=len(values),
        average_accuracy=accuracy,
        auto_accuracy=_probe(survey, features, name, everyone),
        auto_pooling=resolve_pooling(backbone.pooling("auto"), shape),
        random_accuracy=random_accuracy,
        gain=shared_accuracy - random_accuracy,
        log_me=log_me(values, features.labels),
    )
    log.info(
        "%s: %.1f %% averaged, %.1f %% as %s, %.1f %% of a random network (LogME %.3f)",
        *(name, 100 * result.average_accuracy, 100 * result.auto_accuracy, result.auto_pooling),
        *(100 * random_accuracy, result.log_me),
    )
    return result


def _probe(survey: Survey, features: FeatureFile, name: str, mask: np.ndarray) -> float:
    """Return the accuracy of a probe of a layer of a sample's file, of the rows that a mask (N,) holds."""
    labels, groups = features.labels[mask], features.groups_of(mask)
    folds = probe_folds(labels, groups, survey.settings.seed, HELD_OUT)
    return linear_probe(STRATEGIES["logreg"], features.read([name], mask), labels, folds).accuracy
