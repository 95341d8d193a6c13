"""Short fine-tuning trials on a sample of the images: what fine-tuning would gain, and from which layer on."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.engines.backend import computing_on, resolve_device
from thaw.features.store import FeatureFile
from thaw.models.neural.prediction import predict
from thaw.models.neural.training import Training
from thaw.models.selection.probing import transformed
from thaw.models.selection.search import Trial
from thaw.pipeline.advice.linear_probes import LinearProbe, probe_rows, read
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.training.plan import Plan, make_plan
from thaw.pipeline.training.sources import Sources
from thaw.pipeline.training.warm_start import fitted_start, transforms_of

log = logging.getLogger("thaw")

HEAD = "head"
USUAL_EPOCHS, WHOLE_EPOCHS = 4, 1  # of a trial; the whole network is slow
FEWEST_IMAGES, MOST_IMAGES = 120, 4000
# Images per second in training, over those of the frozen network's pass: from the last block, the last two, the first.
# Networks with separable convolutions are much slower in training: one epoch of EfficientNet-Lite2's last stages over
# 2,021 photographs took eight minutes.
SPEEDS, SPEEDS_OF_AVERAGED = (0.8, 0.28, 0.1), (0.06, 0.04, 0.02)
EVALUATION = 3.0  # times the speed of training, of a pass that only labels
START_SECONDS = 20.0  # to load and compile the networks of four trials
HEAD_EPOCHS = 20
MOST_OVERRUN = 1.5  # times the seconds for trials; if the smallest takes longer, none is run
HELD_OUT_SHARE, VALIDATION_SHARE = 0.25, 0.1
MOST_HELD_OUT, MOST_WATCHED = 1000, 100
EVERYTHING_MB = 1e6  # a trial's sample is small: all of its activations are held


@dataclass(frozen=True)
class FineTuningTrial:
    """A short training from one layer on: which held-out images (n,) it labels correctly at its end, and its cost.

    `start` has the same before training. It is None for the head, whose weights are random at the start.
    """

    cut: str
    num_images: int
    epochs: int
    start: np.ndarray | None
    correct: np.ndarray
    images_per_second: float
    seconds: float


def cuts_of(backbone_name: str) -> tuple[str, ...]:
    """Return the layers that trials train from: the head alone, the last stage, the last two, the whole network.

    There are none for a network that is not fine-tuned.
    """
    backbone = get_backbone(backbone_name)
    starts = backbone.stage_starts
    return (HEAD, starts[-1], starts[-2], starts[0]) if backbone.is_fine_tuned else ()


def speeds_of(backbone_name: str) -> tuple[float, float, float]:
    """Return the speeds of training over that of the frozen network: from the last block, the last two, the first."""
    return SPEEDS_OF_AVERAGED if get_backbone(backbone_name).averaged else SPEEDS


def num_affordable(survey: Survey, seconds: float) -> int:
    """Return how many images all trials together can be trained on in about `seconds`, at most 4,000.

    It is 0, with a line that says so, if even the fewest images that say something take much longer.
    """
    speed = survey.images_per_second
    last, last_two, whole = (ratio * speed for ratio in speeds_of(survey.settings.backbone))
    held_out = min(MOST_HELD_OUT, HELD_OUT_SHARE * len(survey.order))
    fixed = START_SECONDS + held_out * (1 / speed + 1 / whole / EVALUATION)
    per_image = 1 / speed + USUAL_EPOCHS * (1 / last + 1 / last_two) + WHOLE_EPOCHS / whole
    if (least := fixed + FEWEST_IMAGES * per_image) > MOST_OVERRUN * seconds:
        log.info(
            "fine-tuning was not tried: on this network a trial takes about %.1f minutes here",
            least / 60,
        )
        return 0
    return int(np.clip((seconds - fixed) / per_image, FEWEST_IMAGES, MOST_IMAGES))


def run_trials(survey: Survey, best: LinearProbe, num_images: int, cuts: Sequence[str]) -> list[FineTuningTrial]:
    """Train each cut on one sample of the images that are not test, and judge it on others of them.

    Fine-tuning begins from a logistic regression with the layer and transform of `best`, or close to them, and with
    the best C for so few images.

    Args:
        survey: The run.
        best: The best classifier on the run's own features.
        num_images: How many images are trained on.
        cuts: Layers, or `head`.

    Returns:
        A trial for each cut.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it thinks that one network is built again and again
    rows, split = draw_trial(survey, num_images)
    path = survey.sample(f"trials-{num_images}", rows, _input_layers(survey, cuts), split, pooling="none", views="one")
    fitted = np.sort(rows[split != 2])
    value = probe_rows(survey, "logreg", transformed(read(survey, best.layer, fitted), best.transform), fitted).value
    device = resolve_device(survey.settings.device)
    with FeatureFile(path) as features, computing_on(device):
        return [_run_trial(survey, best, value, features, cut, device) for cut in cuts]


def draw_trial(survey: Survey, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a trial and their split: trained on, stopped by (validation), and held out (test)."""
    total = len(survey.order)
    num_held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * total))
    num_watched = max(1, min(MOST_WATCHED, int(VALIDATION_SHARE * total)))
    order = survey.order if survey.groups is None else _by_group(survey.order, survey.groups)
    held_out, watched, rest = np.split(order, [num_held_out, num_held_out + num_watched])
    if survey.groups is not None:  # no group is in two of them
        watched = watched[~np.isin(survey.groups[watched], survey.groups[held_out])]
        rest = rest[~np.isin(survey.groups[rest], survey.groups[[*held_out, *watched]])]
    parts = (held_out, watched, rest[:num_images])
    return np.concatenate(parts), np.repeat(np.array([2, 1, 0], np.uint8), [len(part) for part in parts])


def _by_group(order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the rows `order` (n,) with each group together, where its first row is."""
    first = {group: place for place, group in reversed(list(enumerate(groups[order].tolist())))}
    places = np.array([first[group] for group in groups[order].tolist()])
    return order[np.argsort(places, kind="stable")]


def _input_layers(survey: Survey, cuts: Sequence[str]) -> list[str]:
    backbone = get_backbone(survey.settings.backbone)
    below = {backbone.input_of(cut) for cut in cuts if cut != HEAD}
    wanted = {*below, *survey.settings.layer_names, backbone.layers[-1].name}
    return [layer.name for layer in backbone.layers if layer.name in wanted]


def _run_trial(
    survey: Survey, best: LinearProbe, value: float, features: FeatureFile, cut: str, device: str
) -> FineTuningTrial:
    began = time.perf_counter()
    settings = _settings(survey, cut)
    backbone = get_backbone(settings.backbone)
    strategy = HEAD if cut == HEAD else "finetune"
    plan = make_plan(settings, strategy, features, device)
    layer = plan.architecture.input_layer
    if isinstance(settings, Finetune):
        probe = _probe_above(best, value, layer, backbone)
        plan = plan.starting_from(fitted_start(settings, features, probe, "advise"))
    keras.utils.set_random_seed(settings.seed)
    model = plan.build()
    sources = Sources(plan, files=[features]) if layer else Sources(plan, dataset=survey.dataset)
    start = _label(model, plan, sources) if plan.start and layer else None
    training, watched = (sources.samples(mask, EVERYTHING_MB) for mask in (plan.training_rows, plan.watched_rows))
    history = Training(model, plan.recipe, training, watched, settings.seed).run().history
    correct = _label(model, plan, sources)
    num_images = int(plan.training_rows.sum())
    epochs = [row.seconds for row in history[1:]]
    # The first epoch compiles; a network that has seen no second one is as fast as its kind.
    speed = num_images / min(epochs) if len(epochs) > 1 else speeds_of(settings.backbone)[-1] * survey.images_per_second
    log.info(
        "trial from %s: %d images, %d epoch(s), %.0f images/s: %.1f %%",
        *(cut, num_images, len(epochs), speed, 100 * correct.mean()),
    )
    return FineTuningTrial(cut, num_images, len(epochs), start, correct, speed, time.perf_counter() - began)


def _settings(survey: Survey, cut: str) -> Neural:
    given = {
        **survey.settings.model_dump(),
        "batch_size": None,
        "run": survey.folder,
        "pooling": "none",
        "views": "one",
    }
    if cut == HEAD:
        return Neural.model_validate({**given, "epochs": HEAD_EPOCHS})
    whole = cut == get_backbone(survey.settings.backbone).trainable[0].name
    epochs = WHOLE_EPOCHS if whole else USUAL_EPOCHS
    return Finetune.model_validate({**given, "unfreeze_from": cut, "epochs": epochs, "patience": epochs})


def _probe_above(best: LinearProbe, value: float, input_layer: str | None, backbone: Backbone) -> Trial:
    """Return the probe that fine-tuning from a cut begins from: `best`, or the closest to it above the cut."""
    names = [layer.name for layer in backbone.layers]
    topmost = max(best.layer.split("+"), key=names.index)  # of joined layers
    above = input_layer is None or names.index(topmost) >= names.index(input_layer)
    layer = topmost if above else names[-1]
    transform = best.transform if best.transform in transforms_of(layer, input_layer) else "none"
    return Trial(layer, transform, value, best.probed.accuracy)


def _label(model: keras.Model, plan: Plan, sources: Sources) -> np.ndarray:
    """Return which of the held-out images (n,) the network labels correctly."""
    held_out = plan.features.split == 2
    batches = sources.select(held_out, EVERYTHING_MB).in_order(plan.recipe.batch_size)
    return predict(model, batches).argmax(axis=1) == plan.features.labels[held_out]
