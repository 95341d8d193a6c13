"""The test accuracy to expect of each strategy, with its interval, and what each costs."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import log_ndtr, softmax

from thaw.features.backbones.registry import get_backbone
from thaw.features.pooling import pooled_shape, resolve_pooling
from thaw.models.neural.recipes import find_recipe
from thaw.models.selection.learning_curve import PowerLaw
from thaw.models.selection.probing import Z, paired_error, standard_error
from thaw.pipeline.advice.arms import Arm, set_of
from thaw.pipeline.advice.fine_tuning_trials import HEAD, FineTuningTrial, cuts_of
from thaw.pipeline.advice.linear_probes import LinearProbe
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.commands import command
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Candidate, FineTuningForecast
from thaw.pipeline.run.run_json import read_run

START_MINUTES = 0.2  # that a stage takes before and after its work
LIKELY_GAIN = 0.02  # the standard deviation of gains over many datasets
LIKELY_LEAD = 0.03  # the standard deviation of what another network, size or layer gains
# What a gain grows by with each doubling of the images beyond a trial's, by the depth of the cut, and its error: from
# trials on 1,000 images of CIFAR-10 and whole trainings on 45,000, on images held out of training (docs/results.md).
# Nothing was measured for the head and for the whole network.
GROWTH, GROWTH_ERROR = (0.0, 0.001, 0.003, 0.0), 0.002


def interval(survey: Survey, accuracy: float, error: float) -> list[float]:
    """Return the interval that holds the measured test accuracy with a probability of about 95 %.

    It includes the chance of the test images, whose accuracy differs from the expected one even if that is true.

    Args:
        survey: The run.
        accuracy: The expected accuracy, from 0 to 1.
        error: Its standard error, without the chance of the test images.
    """
    num_test = int((survey.features.split == 2).sum())
    half = Z * float(np.hypot(standard_error(accuracy, num_test), error))
    return [max(0.0, accuracy - half), min(1.0, accuracy + half)]


def expect_of_probe(survey: Survey, probe: LinearProbe, law: PowerLaw) -> tuple[float, float]:
    """Return the accuracy, with its standard error, of a linear classifier that is fitted to all rows but test rows.

    Args:
        survey: The run.
        probe: The classifier, measured on fewer rows.
        law: The learning curve.
    """
    more = law(len(survey.order)) - law(probe.num_fitted)
    return min(1.0, probe.probed.accuracy - probe.optimism + more), probe.probed.standard_error


def probe_candidate(survey: Survey, probe: LinearProbe, law: PowerLaw) -> Candidate:
    """Return the candidate that trains on the run's own features; the arguments are those of expect_of_probe."""
    accuracy, error = expect_of_probe(survey, probe, law)
    bounds = interval(survey, accuracy, error)
    return _linear_candidate(survey.settings, probe, accuracy, bounds, START_MINUTES + probe.minutes)


def other_candidate(survey: Survey, arm: Arm, chosen: Arm, best: LinearProbe, law: PowerLaw) -> Candidate:
    """Return the candidate of another network or image size than the chosen one.

    On all images the ratio of its errors to those of the chosen one is taken to be the ratio on the images that both
    were judged by, with the lead there drawn towards 0 by its error.

    Args:
        survey: The run.
        arm: The other network and size, judged on the images of the search's last round.
        chosen: The chosen one, judged on the same images.
        best: The best classifier on the chosen one's features of all images.
        law: Its learning curve.
    """
    own_accuracy, own_error = expect_of_probe(survey, best, law)
    scale = (1 - own_accuracy) / max(1e-3, 1 - chosen.accuracy)
    error = paired_error(arm.correct, chosen.correct)
    lead, lead_error = lead_posterior(arm.accuracy - chosen.accuracy, error, LIKELY_LEAD)
    accuracy = float(np.clip(own_accuracy + scale * lead, 0, 1))
    bounds = interval(survey, accuracy, float(np.hypot(own_error, scale * lead_error)))
    settings = set_of(arm)
    layer, _, transform = arm.best
    extraction = len(survey.features.ids) * arm.seconds_per_image / 60
    wider = _width(settings, layer) / _width(survey.settings, best.layer)
    minutes = START_MINUTES + extraction + best.minutes * wider
    probe = replace(best, layer=layer, transform=transform, probed=arm.probed[arm.best])
    return _linear_candidate(settings, probe, accuracy, bounds, minutes)


def _linear_candidate(
    settings: Shared, probe: LinearProbe, accuracy: float, bounds: list[float], minutes: float
) -> Candidate:
    options: dict[str, Any] = {"layer": probe.layer, "transform": probe.transform}
    return Candidate(
        strategy=probe.strategy,  # type: ignore[arg-type]
        **_set_of(settings),
        **options,
        pooling=_pooling(settings, probe.layer),
        command=command(settings, probe.strategy, {**_set_options(settings), **options}),
        accuracy=accuracy,
        accuracy_interval=bounds,
        minutes=minutes,
        value=probe.probed.value,
    )


def _set_of(settings: Shared) -> dict[str, Any]:
    return {"features": settings.feature_set, **settings.model_dump(include={"backbone", "image_size"})}


def _set_options(settings: Shared) -> dict[str, Any]:
    """Return the options that name the feature set of the settings, or that make it if the run does not have it."""
    stored = read_run(settings.run_folder)
    if stored and settings.feature_set in stored.feature_sets:
        return {"features": settings.feature_set}
    return {"backbone": settings.backbone, "image_size": settings.image_size, **settings.differing}


def lead_posterior(lead: float, error: float, likely: float) -> tuple[float, float]:
    """Return the mean and the deviation of the posterior of a lead that was measured with an error.

    Most leads are small and some are large: they are taken to have a Laplace distribution around 0, and the error a
    normal one. The posterior is made of a truncated normal on each side of 0.

    Args:
        lead: The measured difference of two accuracies.
        error: Its standard error.
        likely: The standard deviation of such leads.
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
    """Return how a layer is pooled, `auto` resolved; joined layers are named one by one if they differ."""
    found = [resolve_pooling(settings.pooling, shape) for shape in _shapes(settings, layer)]
    return found[0] if len(set(found)) == 1 else "+".join(found)


def _width(settings: Shared, layer: str) -> int:
    return sum(int(np.prod(pooled_shape(settings.pooling, shape))) for shape in _shapes(settings, layer))


def _shapes(settings: Shared, layer: str) -> list[tuple[int, int, int]]:
    """Return the shape of a layer, or of each that `+` joins."""
    backbone = get_backbone(settings.backbone)
    return [backbone.output_shape(name, settings.image_size) for name in layer.split("+")]


def forecast_fine_tuning(
    survey: Survey, trial: FineTuningTrial, reference: np.ndarray, best: LinearProbe, law: PowerLaw
) -> FineTuningForecast:
    """Return what a trial says of fine-tuning on all training images.

    The gain is over the linear probe of the same images, or over the learning curve at their number if that is more.
    It is drawn towards 0 by its error and taken to hold for more images too, less surely with each doubling.
    Fine-tuning is fitted to the training images alone, a linear classifier to the validation images too.

    Args:
        survey: The run.
        trial: The short fine-tuning.
        reference: Which of the held-out images (n,) the probe of the trials labels correctly.
        best: The best classifier on the run's own features.
        law: Its learning curve.
    """
    start, accuracy = max(float(reference.mean()), law(trial.num_images)), float(trial.correct.mean())
    gain, error = lead_posterior(accuracy - start, paired_error(trial.correct, reference), LIKELY_GAIN)
    num_train = int((survey.features.split == 0).sum())
    doublings = max(0.0, float(np.log2(num_train / max(1, trial.num_images))))
    own_accuracy, own_error = expect_of_probe(survey, best, law)
    base = own_accuracy - (law(len(survey.order)) - law(num_train))
    growth = GROWTH[cuts_of(survey.settings.backbone).index(trial.cut)] * doublings
    expected = float(np.clip(base + gain + growth, 0, 1))
    expected_error = float(np.linalg.norm([own_error, error, GROWTH_ERROR * doublings]))
    return FineTuningForecast(
        unfreeze_from=trial.cut,
        num_images=trial.num_images,
        num_held_out=len(reference),
        epochs=trial.epochs,
        start_accuracy=start,
        accuracy=accuracy,
        gain=gain,
        gain_interval=[max(-1.0, gain - Z * error), min(1.0, gain + Z * error)],
        expected_accuracy=expected,
        expected_interval=interval(survey, expected, expected_error),
        minutes=_minutes(survey, trial, num_train),
        seconds=trial.seconds,
    )


def _minutes(survey: Survey, trial: FineTuningTrial, num_train: int) -> float:
    """Return the minutes of a whole training and of the extraction before it; the last epochs may be left out."""
    recipe = find_recipe("tuned", HEAD if trial.cut == HEAD else "finetune", num_train)
    extraction = len(survey.features.ids) / survey.images_per_second
    return START_MINUTES + (recipe.epochs * num_train / trial.images_per_second + extraction) / 60


def fine_tuned_candidate(settings: Shared, forecast: FineTuningForecast) -> Candidate:
    """Return the candidate that trains a network as a trial did, on images as they are."""
    cut, backbone = forecast.unfreeze_from, get_backbone(settings.backbone)
    as_they_are: dict[str, Any] = {}
    if settings.views != "one":
        settings = settings.model_copy(update={"views": "one", "features": "auto"})
        as_they_are = {"views": "one"}
    strategy, layer, options = "finetune", cut, {"unfreeze_from": cut}
    if cut == HEAD:
        strategy, layer, options = HEAD, backbone.layers[-1].name, {}
    elif cut != backbone.default_cut:
        options["name"] = f"finetune-{cut}"
    return Candidate(
        strategy=strategy,  # type: ignore[arg-type]
        **_set_of(settings),
        layer=layer,
        pooling="none",
        transform="none",
        command=command(settings, strategy, {**_set_options(settings), **as_they_are, **options}),
        accuracy=forecast.expected_accuracy,
        accuracy_interval=forecast.expected_interval,
        minutes=forecast.minutes,
    )
