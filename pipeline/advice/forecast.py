"""What test accuracy is to be expected of each way, with its interval, and what each costs."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, softmax

from thaw.features.backbones.registry import get_backbone
from thaw.features.pooling import pooled_shape, resolve_pooling
from thaw.models.neural.recipes import find_recipe
from thaw.models.selection.learning_curve import PowerLaw
from thaw.models.selection.probing import Z, paired_error, standard_error
from thaw.pipeline.advice.fine_tuning_trials import HEAD, Run, cuts_of
from thaw.pipeline.advice.linear_probes import Frozen
from thaw.pipeline.advice.refinement import Finalist
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.commands import beside, command
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Candidate, Pilot

WIDEST, WIDEST_OF_FEW, FEW = 0.03, 0.05, 500  # half an interval, at most; the second with fewer than FEW test images
START_UP = 0.2  # minutes that a stage takes before and after its work
LIKELY_GAIN = 0.02  # the standard deviation of gains over many data sets
# What a gain grows by with each doubling of the images beyond a pilot's, by the depth of the cut, and its error: from
# pilots on 1,000 images of CIFAR-10 and whole trainings on 45,000, on images held out of training (docs/results.md).
# Nothing was measured for the head and for the whole network.
GROWTH, GROWTH_ERROR = (0.0, 0.001, 0.003, 0.0), 0.002
LIKELY_LEAD = 0.03  # the standard deviation of what another size or layer gains


@dataclass(frozen=True)
class Expected:
    """An accuracy, from 0 to 1, and its standard error, the test images' own chance left out."""

    accuracy: float
    error: float


def interval(survey: Survey, expected: Expected) -> list[float]:
    """Return the interval that the measured test accuracy will lie in with a probability of about 95 %.

    It holds the chance of the test images too, and is cut to 3 points to each side (5 below 500 test images).
    """
    num_test = int((survey.features.split == 2).sum())
    half = Z * float(np.hypot(standard_error(expected.accuracy, num_test), expected.error))
    half = min(half, WIDEST if num_test >= FEW else WIDEST_OF_FEW)
    return [max(0.0, expected.accuracy - half), min(1.0, expected.accuracy + half)]


def of_frozen(survey: Survey, frozen: Frozen, law: PowerLaw) -> Expected:
    """Return what a linear classifier reaches when it is fitted to all rows that are not test."""
    more = law(len(survey.order)) - law(frozen.num_fitted)
    return Expected(min(1.0, frozen.probed.accuracy - frozen.optimism + more), frozen.probed.standard_error)


def frozen_candidate(survey: Survey, frozen: Frozen, law: PowerLaw) -> Candidate:
    """Return the candidate that trains on the run's own features."""
    expected = of_frozen(survey, frozen, law)
    options = {"layer": frozen.layer, "transform": frozen.transform}
    return Candidate(
        strategy=frozen.strategy,  # type: ignore[arg-type]
        image_size=survey.settings.image_size,
        layer=frozen.layer,
        pooling=_pooling(survey.settings, frozen.layer),
        transform=frozen.transform,
        command=command(survey.settings, frozen.strategy, options),
        accuracy=expected.accuracy,
        accuracy_interval=interval(survey, expected),
        minutes=START_UP + frozen.minutes,
    )


def searched_candidate(survey: Survey, finalist: Finalist, best: Frozen, law: PowerLaw) -> Candidate:
    """Return the candidate of the best size, layer and pooling that the run's features do not have.

    Its errors on all images stand to those of the run's best as they do on the images that both were judged by, the
    lead there drawn towards 0 by how unsure it is.
    """
    image_size, setting = finalist.image_size, finalist.setting
    here = of_frozen(survey, best, law)
    scale = (1 - here.accuracy) / max(1e-3, 1 - float(finalist.own.mean()))
    lead, error = _shrunk(finalist.lead, finalist.lead_error, LIKELY_LEAD)
    expected = Expected(min(1.0, here.accuracy + scale * lead), float(np.hypot(here.error, scale * error)))
    changed = {"layers": setting.layer.replace("+", ","), "pooling": setting.pooling}
    settings = beside(survey.settings, image_size=image_size, **changed)
    options = {"layer": setting.layer, "transform": setting.transform}
    extraction = len(survey.features.ids) / survey.speed_at(image_size) / 60
    wider = _width(settings, setting.layer) / _width(survey.settings, best.layer)
    return Candidate(
        strategy=best.strategy,  # type: ignore[arg-type]
        image_size=image_size,
        layer=setting.layer,
        pooling=_pooling(settings, setting.layer),
        transform=setting.transform,
        command=command(settings, best.strategy, options),
        accuracy=expected.accuracy,
        accuracy_interval=interval(survey, expected),
        minutes=START_UP + extraction + best.minutes * wider,
    )


def _shrunk(lead: float, error: float, likely: float) -> tuple[float, float]:
    """Return the mean and the deviation of the posterior of a lead that was measured with an error.

    Most leads are small and some are large: they are taken to have a Laplace distribution around 0 with the deviation
    `likely`, and the error a normal one. The posterior is made of a truncated normal to each side of 0.
    """
    scale = likely / np.sqrt(2)
    centres = np.array([1, -1]) * lead - error**2 / scale  # of both sides, seen from 0 outwards
    inside = log_ndtr(centres / error)
    weights = softmax(np.array([-1, 1]) * lead / scale + inside)
    means = centres + error * np.exp(-((centres / error) ** 2) / 2 - np.log(2 * np.pi) / 2 - inside)
    mean = float(weights @ (means * [1, -1]))
    square = float(weights @ (error**2 + centres * means))
    return mean, float(np.sqrt(max(0.0, square - mean**2)))


def _pooling(settings: Shared, layer: str) -> str:
    """Return how a layer is pooled, `auto` resolved; joined layers that are pooled otherwise are named one by one."""
    found = [resolve_pooling(settings.pooling, shape) for shape in _shapes(settings, layer)]
    return found[0] if len(set(found)) == 1 else "+".join(found)


def _width(settings: Shared, layer: str) -> int:
    return sum(int(np.prod(pooled_shape(settings.pooling, shape))) for shape in _shapes(settings, layer))


def _shapes(settings: Shared, layer: str) -> list[tuple[int, int, int]]:
    """Return the shape of a layer, or of each that `+` joins."""
    backbone = get_backbone(settings.backbone)
    return [backbone.output_shape(name, settings.image_size) for name in layer.split("+")]


def pilot_of(survey: Survey, run: Run, reference: np.ndarray, best: Frozen, law: PowerLaw) -> Pilot:
    """Return what a pilot says of fine-tuning on all training images.

    The gain over the linear probe of the same images, or over what the learning curve says of so many if that is more,
    is drawn towards 0 by how unsure it is and taken to hold for more images too, less surely with each doubling.
    Fine-tuning is fitted to the training images alone, a linear classifier to those of validation too.
    """
    start = max(float(reference.mean()), law(run.num_images))
    gain, error = _shrunk(float(run.right.mean()) - start, paired_error(run.right, reference), LIKELY_GAIN)
    num_train = int((survey.features.split == 0).sum())
    doublings = max(0.0, float(np.log2(num_train / max(1, run.num_images))))
    here = of_frozen(survey, best, law)
    base = here.accuracy - (law(len(survey.order)) - law(num_train))
    slope = GROWTH[cuts_of(survey.settings.backbone).index(run.cut)] * doublings
    total_error = float(np.linalg.norm([here.error, error, GROWTH_ERROR * doublings]))
    expected = Expected(float(np.clip(base + gain + slope, 0, 1)), total_error)
    return Pilot(
        unfreeze_from=run.cut,
        num_images=run.num_images,
        num_held_out=len(reference),
        epochs=run.epochs,
        start_accuracy=start,
        accuracy=float(run.right.mean()),
        gain=gain,
        gain_interval=[max(-1.0, gain - Z * error), min(1.0, gain + Z * error)],
        expected_accuracy=expected.accuracy,
        expected_interval=interval(survey, expected),
        minutes=_minutes(survey, run, num_train),
        seconds=run.seconds,
    )


def _minutes(survey: Survey, run: Run, num_train: int) -> float:
    """Return the minutes of a whole training with what has yet to be extracted; the last epochs may be left out."""
    recipe = find_recipe("tuned", HEAD if run.cut == HEAD else "finetune", num_train)
    extraction = len(survey.features.ids) / survey.images_per_second
    return START_UP + (recipe.epochs * num_train / run.images_per_second + extraction) / 60


def tuned_candidate(survey: Survey, pilot: Pilot) -> Candidate:
    """Return the candidate that trains a network as a pilot did."""
    settings = survey.settings
    head = pilot.unfreeze_from == HEAD
    default = get_backbone(settings.backbone).default_cut
    usual = {"unfreeze_from": pilot.unfreeze_from} | (
        {} if pilot.unfreeze_from == default else {"name": f"finetune-{pilot.unfreeze_from}"}
    )
    return Candidate(
        strategy="head" if head else "finetune",
        image_size=settings.image_size,
        layer=get_backbone(settings.backbone).layers[-1].name if head else pilot.unfreeze_from,
        pooling="none",
        transform="none",
        command=command(settings, HEAD, {}) if head else command(settings, "finetune", usual),
        accuracy=pilot.expected_accuracy,
        accuracy_interval=pilot.expected_interval,
        minutes=pilot.minutes,
    )
