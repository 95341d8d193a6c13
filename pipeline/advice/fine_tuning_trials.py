"""Short fine-tunings on a sample of the images: what fine-tuning would buy, and from which layer on."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import keras
import numpy as np

from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.engines.backend import computing_on, resolve_device
from thaw.features.store import FeatureFile
from thaw.models.neural.network import predict
from thaw.models.neural.training import Samples, Training
from thaw.models.selection.probing import linear_probe, transformed
from thaw.models.selection.search import Trial
from thaw.pipeline.advice.linear_probes import Frozen, read
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.training.outcome import Origin
from thaw.pipeline.training.plan import Cut, Plan, find_cut, make_plan
from thaw.pipeline.training.sources import Sources
from thaw.pipeline.training.warm_start import LOGREG, fitted_start, transforms_of

log = logging.getLogger("thaw")

HEAD = "head"
USUAL_EPOCHS, WHOLE_EPOCHS = 4, 1  # of a pilot; the whole network is slow
FEWEST_IMAGES, MOST_IMAGES = 120, 4000
# Images per second in training, over those of the frozen network's pass: from the last block, the last two, the first.
SPEEDS = (0.8, 0.28, 0.1)
EVALUATION = 3.0  # times the speed of training, of a pass that only labels
START_SECONDS = 20.0  # to load and compile the networks of four pilots
HEAD_EPOCHS = 20
HELD_OUT_SHARE, VALIDATION_SHARE = 0.25, 0.1
MOST_HELD_OUT, MOST_WATCHED = 1000, 100


@dataclass(frozen=True)
class Run:
    """A pilot that was run: which of the held-out images (n,) it labels rightly at its end, and what it cost.

    `start` is the same before training, None for the head, which begins at random.
    """

    cut: str
    num_images: int
    epochs: int
    start: np.ndarray | None
    right: np.ndarray
    images_per_second: float
    seconds: float


def cuts_of(backbone_name: str) -> tuple[str, ...]:
    """Return the layers that pilots train from: the head alone, the last stage, the last two, the whole network."""
    starts = get_backbone(backbone_name).stage_starts
    return (HEAD, starts[-1], starts[-2], starts[0])


def num_affordable(survey: Survey, seconds: float) -> int:
    """Return how many images all pilots together can be trained on in about `seconds`, within bounds."""
    speed = survey.images_per_second
    block5, block4, whole = (ratio * speed for ratio in SPEEDS)
    held_out = min(MOST_HELD_OUT, HELD_OUT_SHARE * len(survey.order))
    fixed = START_SECONDS + held_out * (1 / speed + 1 / whole / EVALUATION)
    per_image = 1 / speed + USUAL_EPOCHS * (1 / block5 + 1 / block4) + WHOLE_EPOCHS / whole
    return int(np.clip((seconds - fixed) / per_image, FEWEST_IMAGES, MOST_IMAGES))


def run_pilots(survey: Survey, best: Frozen, num_images: int, cuts: Sequence[str]) -> list[Run]:
    """Train each cut on the same `num_images` of the images that are not test, and judge it on others of them.

    Fine-tuning begins from a logistic regression with the layer and transform of `best`, or close to them, and with
    the C that suits so few images.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it thinks that one network is built again and again
    rows, sides = _sides(survey, num_images)
    layers = _input_layers(survey, cuts)
    path = survey.sample(f"pilots-{num_images}", rows, layers, sides, pooling="none")
    value = _value_for(survey, best, np.sort(rows[sides != 2]))
    with ExitStack() as closing:
        features = closing.enter_context(FeatureFile(path))
        device = resolve_device(survey.settings.device)
        closing.enter_context(computing_on(device))
        return [_run(survey, best, value, features, cut, device) for cut in cuts]


def _sides(survey: Survey, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a pilot and their sides: trained on, stopped by (validation), and held out (test)."""
    total = len(survey.order)
    num_held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * total))
    num_watched = max(1, min(MOST_WATCHED, int(VALIDATION_SHARE * total)))
    num_used = min(total, num_held_out + num_watched + num_images)
    sides = np.zeros(num_used, np.uint8)
    sides[:num_held_out], sides[num_held_out : num_held_out + num_watched] = 2, 1
    return survey.order[:num_used], sides


def _input_layers(survey: Survey, cuts: Sequence[str]) -> list[str]:
    backbone = get_backbone(survey.settings.backbone)
    below = {backbone.input_of(cut) for cut in cuts if cut != HEAD} - {None}
    wanted = below | {name for name in survey.settings.layer_names} | {backbone.layers[-1].name}
    return [layer.name for layer in backbone.layers if layer.name in wanted]


def _value_for(survey: Survey, best: Frozen, rows: np.ndarray) -> float:
    """Return the C with which a logistic regression does best on the images at `rows` (n,), by folds of them."""
    features = transformed(read(survey, best.layer, rows), best.transform)
    return linear_probe(LOGREG, features, survey.features.labels[rows], survey.folds(rows)).value


def _run(survey: Survey, best: Frozen, value: float, features: FeatureFile, cut: str, device: str) -> Run:
    began = time.perf_counter()
    settings = _settings(survey, cut)
    backbone = get_backbone(settings.backbone)
    strategy = HEAD if cut == HEAD else "finetune"
    found = find_cut(backbone, strategy, settings)
    plan = make_plan(settings, strategy, found, features, device)
    if isinstance(settings, Finetune):
        plan = plan.starting_from(fitted_start(settings, features, _probe_of(best, value, found, backbone), "advise"))
    keras.utils.set_random_seed(settings.seed)
    model = plan.build(settings.seed)
    sources = _sources(survey, features, settings, found.input_layer)
    held_out = features.split == 2
    start = _right(model, plan, sources, held_out) if plan.start and found.input_layer else None
    run = Training(model, plan.recipe, *_samples(plan, sources), settings.seed)
    state = run.run()
    right = _right(model, plan, sources, held_out)
    num_images = int(plan.training_rows.sum())
    epochs = [row.seconds for row in state.history[1:]]
    # The first epoch compiles; a network that has seen no second one is as fast as its kind.
    speed = num_images / min(epochs) if len(epochs) > 1 else SPEEDS[-1] * survey.images_per_second
    log.info(
        "pilot from %s: %d images, %d epoch(s), %.0f images/s: %.1f %%",
        *(cut, num_images, len(epochs), speed, 100 * right.mean()),
    )
    return Run(cut, num_images, len(epochs), start, right, speed, time.perf_counter() - began)


def _probe_of(best: Frozen, value: float, cut: Cut, backbone: Backbone) -> Trial:
    """Return the setting of the probe that fine-tuning from a cut begins from: that of `best` where it can be."""
    names = [layer.name for layer in backbone.layers]
    above = cut.input_layer is None or names.index(best.layer) >= names.index(cut.input_layer)
    layer = best.layer if above else backbone.layers[-1].name
    transform = best.transform if best.transform in transforms_of(layer, cut.input_layer) else "none"
    return Trial(layer, transform, value, best.probed.accuracy)


def _settings(survey: Survey, cut: str) -> Neural:
    shared = survey.settings.model_dump()
    own = {"batch_size": None, "run": survey.folder, "pooling": "none"}
    if cut == HEAD:
        return Neural.model_validate({**shared, **own, "epochs": HEAD_EPOCHS})
    whole = cut == get_backbone(survey.settings.backbone).trainable[0].name
    epochs = WHOLE_EPOCHS if whole else USUAL_EPOCHS
    return Finetune.model_validate({**shared, **own, "unfreeze_from": cut, "epochs": epochs, "patience": epochs})


def _sources(survey: Survey, features: FeatureFile, settings: Neural, layer: str | None) -> Sources:
    dataset = None if layer else survey.dataset
    return Sources(Origin(), "a pilot", features, settings, layer, [features] if layer else [], dataset)


def _samples(plan: Plan, sources: Sources) -> tuple[Samples, Samples]:
    features, num_classes = sources.features, len(sources.features.class_names)
    masks = (plan.training_rows, plan.watched_rows)
    fitted, watched = (Samples(sources.select(m, 1e6), features.labels[m], num_classes) for m in masks)
    return fitted, watched


def _right(model: keras.Model, plan: Plan, sources: Sources, mask: np.ndarray) -> np.ndarray:
    """Return which images of the mask (n,) the network labels rightly."""
    source = sources.select(mask, 1e6)
    predicted = predict(model, source.in_order(plan.recipe.batch_size)).argmax(axis=1)
    return predicted == sources.features.labels[mask]
