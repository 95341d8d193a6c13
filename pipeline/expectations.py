"""What test accuracy is to be expected of each way, with its interval, and what each costs."""

from dataclasses import dataclass

import numpy as np

from features.backbones import get_backbone
from features.preprocessing import pooled_shape, resolve_pooling
from models.learning_curve import PowerLaw
from models.probing import Z, paired_error, standard_error
from models.recipes import find_recipe
from pipeline.advice import Candidate, Pilot
from pipeline.commands import beside, command
from pipeline.config import Shared
from pipeline.frozen import Frozen
from pipeline.pilots import HEAD, Run, cuts_of
from pipeline.size_search import Search
from pipeline.survey import Survey

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


def searched_candidate(survey: Survey, found: Search, best: Frozen, law: PowerLaw) -> Candidate | None:
    """Return the candidate of the best size, layer and pooling that the run's features do not have, None without one.

    Its errors on all images stand to those of the run's best as they do on the sample, the lead there drawn towards 0
    by how unsure it is.
    """
    own = _own_on_sample(survey, found)
    others = [(size, *item) for size, at in found.sizes.items() for item in at.probed.items()]
    others = [other for other in others if not survey.has(other[0], other[1].layer, other[1].pooling)]
    if not others or own is None:
        return None
    image_size, setting, probed = max(others, key=lambda other: other[2].accuracy)
    here = of_frozen(survey, best, law)
    scale = (1 - here.accuracy) / max(1e-3, 1 - float(own.mean()))
    lead, error = _shrunk(probed.accuracy - float(own.mean()), paired_error(probed.right, own), LIKELY_LEAD)
    expected = Expected(min(1.0, here.accuracy + scale * lead), float(np.hypot(here.error, scale * error)))
    changed = {"layers": setting.layer, "pooling": setting.pooling}
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

    Leads are taken to be normal around 0 with the deviation `likely`, and so is the error.
    """
    weight = likely**2 / (likely**2 + error**2)
    return weight * lead, float(np.sqrt(weight)) * error


def _own_on_sample(survey: Survey, found: Search) -> np.ndarray | None:
    """Return which of the sample's images (n,) the best of the run's own settings labels rightly."""
    at = found.sizes.get(survey.settings.image_size)
    best = at.best_in(survey) if at else None
    return at.probed[best].right if at and best else None


def _pooling(settings: Shared, layer: str) -> str:
    """Return how a layer is pooled, `auto` resolved."""
    return resolve_pooling(settings.pooling, get_backbone(settings.backbone).output_shape(layer, settings.image_size))


def _width(settings: Shared, layer: str) -> int:
    shape = get_backbone(settings.backbone).output_shape(layer, settings.image_size)
    return int(np.prod(pooled_shape(settings.pooling, shape)))


def pilot_of(survey: Survey, run: Run, reference: np.ndarray, best: Frozen, law: PowerLaw) -> Pilot:
    """Return what a pilot says of fine-tuning on all training images.

    The gain over the linear probe of the same images, drawn towards 0 by how unsure it is (the mean of a normal
    posterior), is taken to hold for more images too, less surely with each doubling. Fine-tuning is fitted to the
    training images alone, a linear classifier to those of validation too.
    """
    gain, error = _shrunk(float(run.right.mean() - reference.mean()), paired_error(run.right, reference), LIKELY_GAIN)
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
        start_accuracy=float(reference.mean()),
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
