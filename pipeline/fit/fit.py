"""The fit stage: from a folder of images to the best classifier that so many minutes allow, and its comparison."""

import logging
from pathlib import Path

import numpy as np
from rich.console import Console

from thaw.pipeline.advice import advise
from thaw.pipeline.advice.arms import arms_of
from thaw.pipeline.advice.sample import Sampled
from thaw.pipeline.config import Advise, FitSettings
from thaw.pipeline.fit.clock import Clock
from thaw.pipeline.fit.ending import end
from thaw.pipeline.fit.steps import FitSteps
from thaw.pipeline.formatting import duration
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.advice_json import Advice, read_advice
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.run_json import shared_settings

log = logging.getLogger("thaw")

MEASURING_SHARE, SHORT_SHARE, MOST_MEASURING = 0.25, 0.12, 5.0  # of the minutes; the last in minutes
AFFORDABLE_SHARE = 0.6  # of the minutes: if all networks and sizes take less, the search decides less, and is short
EXTRACTION_SHARE = 0.4  # of the minutes, that the first feature set may take


def main(settings: FitSettings, given: frozenset[str] = frozenset(), console: Console | None = None) -> Path | None:
    """Advise, extract and train what is worth its minutes, and compare; what is there already is kept.

    The test split chooses nothing: feature sets are chosen by cross-validation on the other images, the ensemble by
    out-of-fold predictions, fine-tuning by its pilot.

    Args:
        settings: The run, and how long it may take.
        given: The names of the options that the user typed, which are not searched over.
        console: What is printed on, standard output if none is given.

    Returns:
        The path of `report.md`; None if the plan alone was asked for.
    """
    clock = Clock(settings.minutes)
    num_images, budget = _measuring(settings, given)
    if settings.dry_run:
        advise.show_dry_plan(settings, given, budget, console)
        return None
    advice = _advice(settings, given, budget, clock, console)
    steps = FitSteps(settings, given, clock, num_images, advice)
    steps.train_on_first_set()
    steps.fine_tune()
    steps.train_on_further_sets()
    path = end(settings.run_folder, advice, console)
    more = [f"{step.name} (about {duration(step.seconds)})" for step in steps.left_out]
    if more or advice.untried:
        log.info("more minutes (--minutes) would have tried: %s", "; ".join([*more, *advice.untried]))
    log.info("fit: done, %s", clock)
    return path


def _measuring(settings: FitSettings, given: frozenset[str]) -> tuple[int, float]:
    """Return the number of images, and the minutes of measuring."""
    dataset = dataset_of(settings)
    images = Sampled(shared_settings(settings), dataset, np.zeros(len(dataset.ids), np.uint8), given)
    all_seconds = len(dataset.ids) * sum(arm.expected_seconds for arm in arms_of(images))
    share = SHORT_SHARE if all_seconds < AFFORDABLE_SHARE * 60 * settings.minutes else MEASURING_SHARE
    return len(dataset.ids), min(MOST_MEASURING, share * settings.minutes)


def _advice(
    settings: FitSettings, given: frozenset[str], budget: float, clock: Clock, console: Console | None
) -> Advice:
    """Return the advice, which is made unless the run has it by an earlier call."""
    known = read_advice(settings.run_folder)
    if known and _still_holds(settings, given, known):
        log.info("fit: the advice of an earlier call is taken (%s)", clock)
        return known
    log.info("fit: measuring for about %s (%s)", duration(60 * budget), clock)
    values = {name: getattr(settings, name) for name in Advise.model_fields if name in FitSettings.model_fields}
    asked = Advise.model_validate({**values, "budget": budget, "run": settings.run_folder})
    most = EXTRACTION_SHARE * 60 * clock.minutes
    return advise.measure(asked, given - {"minutes"}, console, most_seconds=most)


def _still_holds(settings: FitSettings, given: frozenset[str], known: Advice) -> bool:
    """Return whether advice that the run has is of its split, and of the network and size that the user gave."""
    if not (settings.run_folder / "split.csv").exists():
        return False
    same_split = known.split_sha256 == split_csv.digest(settings.run_folder)
    names = given & {"backbone", "image_size"}
    return same_split and all(getattr(one, name) == getattr(settings, name) for one in known.networks for name in names)
