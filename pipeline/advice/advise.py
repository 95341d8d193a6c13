"""The advise stage: measurements on a run's own images -> which network, size, layer and strategy, in advice.json."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console

from thaw.features.files.locks import held
from thaw.features.foreign.extractors import trainable_backbone
from thaw.features.store import FeatureFile
from thaw.pipeline.advice.arms import Arm, arms_of, not_at_hand, set_of
from thaw.pipeline.advice.audit import audit
from thaw.pipeline.advice.copies import groups_with_copies
from thaw.pipeline.advice.fine_tuning_trials import cuts_of, num_affordable, run_trials
from thaw.pipeline.advice.forecast import (
    fine_tuned_candidate,
    forecast_fine_tuning,
    other_candidate,
    probe_candidate,
)
from thaw.pipeline.advice.layer_profile import profile
from thaw.pipeline.advice.linear_probes import best_probes, learning_curve
from thaw.pipeline.advice.network_search import Found, arm_optimism, chosen_arm, mirrors_help, search
from thaw.pipeline.advice.rule_of_thumb import data_size, recommend, rule_of_thumb, similarity
from thaw.pipeline.advice.sample import Sampled, Survey
from thaw.pipeline.advice.tables import plan_of, show, show_plan
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.commands import running_command
from thaw.pipeline.config import Advise, Shared
from thaw.pipeline.extraction import extract
from thaw.pipeline.formatting import duration
from thaw.pipeline.run.advice_json import (
    Advice,
    Candidate,
    FineTuningForecast,
    LearningCurve,
    NetworkTried,
    write_advice,
)
from thaw.pipeline.run.data.dataset import dataset_of, readable_dataset
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training import outcome
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")

PROFILE_ROWS, FEWEST_ROWS, RANDOM_ROWS = 2000, 300, 800
PROFILE_SHARE, SEARCH_SHARE, TRIAL_SHARE = 0.1, 0.55, 0.3  # of the budget
VIEWS_SHARE = 0.2  # of the budget, that mirrors may take at most
NO_LIMIT = float("inf")


def main(settings: Advise, given: frozenset[str] = frozenset(), console: Console | None = None) -> Path | None:
    """Measure, recommend, and write `advice.json`; the arguments are those of `measure`.

    Returns the path of `advice.json`, None if the plan alone was asked for.
    """
    if settings.dry_run:
        show_dry_plan(settings, given, settings.budget, console)
        return None
    measure(settings, given, console)
    return settings.run_folder / "advice.json"


def show_dry_plan(settings: Shared, given: frozenset[str], budget: float, console: Console | None) -> None:
    """Print what would be done within a `budget` of minutes; nothing is written."""
    dataset = dataset_of(settings)
    images = Sampled(shared_settings(settings), dataset, np.zeros(len(dataset.ids), np.uint8), given)
    show_plan(console, plan_of(arms_of(images), len(dataset.ids), budget), not_at_hand(images))


def measure(
    settings: Advise,
    given: frozenset[str] = frozenset(),
    console: Console | None = None,
    most_seconds: float = NO_LIMIT,
) -> Advice:
    """Measure, recommend, and write `advice.json`; the chosen network's features are extracted if they are missing.

    Only the audit looks at the test split: it compares images, and no label of a test image chooses anything.

    Args:
        settings: The run, and how long to measure.
        given: The names of the options that the user typed, which are not searched over.
        console: What the advice is printed on, standard output if none is given.
        most_seconds: Networks and sizes that take longer to extract are left out, unless all do.
    """
    began = time.perf_counter()
    trainable_backbone(settings.backbone, "the advice, which tries fine-tuning,")
    dataset = readable_dataset(settings)
    split = extract.begin_run(shared_settings(settings), dataset, with_set=False)
    images = Sampled(shared_settings(settings), dataset, split, given, groups_with_copies(dataset, split))
    with ExitStack() as closing:
        closing.enter_context(connected(settings))
        closing.enter_context(held(settings.run_folder / "advice.json"))
        found, missing = _search(images, settings.budget, most_seconds, console)
        chosen = chosen_arm(found)
        own = _with_views(images, chosen, settings.budget, most_seconds)
        log.info("chosen on the samples: %s at %d pixels", own.backbone, own.image_size)
        features = closing.enter_context(FeatureFile(extract.ready_features(_named(own))))
        outcome.write_chance(_named(own), features)
        survey = Survey.of(images, _named(own), features)
        advice = _advise(survey, found, chosen, settings.budget, began)
        advice = advice.model_copy(update={"not_at_hand": missing})
        write_advice(settings.run_folder, advice)
        survey.clear()
    show(console, advice)
    return advice


def _with_views(images: Sampled, arm: Arm, budget: float, most_seconds: float) -> Shared:
    """Return the feature set of the chosen arm: with the mirrors if they help, and there is time for twice the work."""
    own = set_of(arm)
    twice = 2 * arm.seconds_per_image
    if "views" in images.given or twice * len(arm.rows) > VIEWS_SHARE * 60 * budget:
        return own
    if twice * len(images.dataset.ids) > most_seconds or not mirrors_help(images, arm):
        return own
    return own.model_copy(update={"views": "flip"})


def _named(own: Shared) -> Shared:
    return own.model_copy(update={"features": own.feature_set})


def _search(images: Sampled, budget: float, most_seconds: float, console: Console | None) -> tuple[Found, list[str]]:
    """Return what the search found, and the networks whose weights are not at hand."""
    arms, missing, num_images = arms_of(images), not_at_hand(images), len(images.dataset.ids)
    show_plan(console, plan_of(arms, num_images, budget), missing)
    usable = [arm for arm in arms if num_images * arm.expected_seconds <= most_seconds]
    usable = usable or [min(arms, key=lambda arm: arm.expected_seconds)]
    too_long = [
        f"{arm.shared.backbone} at {arm.shared.image_size} pixels: the features of all images take about "
        f"{duration(num_images * arm.expected_seconds)}, more than a share of the time"
        for arm in arms
        if arm not in usable
    ]
    found = search(images, usable, SEARCH_SHARE * 60 * budget)
    found.untried.extend(too_long)
    for line in found.untried:
        log.info("not tried: %s", line)
    return found, missing


def _advise(survey: Survey, found: Found, chosen: Arm, budget: float, began: float) -> Advice:
    settings, features = survey.settings, survey.features
    affordable = int(PROFILE_SHARE * 60 * budget * survey.images_per_second)
    rows = min(max(FEWEST_ROWS, min(PROFILE_ROWS, affordable)), len(survey.order))
    layers = profile(survey, rows, min(RANDOM_ROWS, rows))
    size, near = data_size(features), similarity(layers)
    curve, forecasts, candidates = _measure(survey, found, chosen, 60 * budget)
    recommended = recommend(candidates, forecasts)
    return Advice(
        schema_version=1,
        **settings.model_dump(include={"dataset", "backbone", "image_size", "seed"}),
        split_sha256=str(features.attributes["split_sha256"]),
        features_sha256=str(features.attributes["values_sha256"]),
        size=size,
        similarity=near,
        networks=_networks(survey, found, chosen),
        layers=layers,
        learning_curve=curve,
        configurations=found.tried,
        untried=found.untried,
        pilots=forecasts,
        candidates=candidates,
        recommended=recommended,
        rule_of_thumb=rule_of_thumb(size, near, candidates, recommended),
        audit=audit(settings, features, survey.dataset),
        budget_minutes=budget,
        seconds=time.perf_counter() - began,
        versions=versions(),
        command=running_command(),
    )


def _networks(survey: Survey, found: Found, chosen: Arm) -> list[NetworkTried]:
    """Return what each network and size was measured to give, the best of the last round first."""
    rest = [arm for arm in found.arms if arm not in found.best]
    rest.sort(key=lambda arm: (-arm.round, -arm.accuracy))
    num_images = len(survey.features.ids)
    return [
        NetworkTried(
            **arm.shared.model_dump(include={"backbone", "image_size"}),
            features=survey.settings.feature_set if arm is chosen else set_of(arm).feature_set,
            layer=arm.best.layer,
            pooling=arm.best.pooling,
            num_images=len(arm.rows),
            accuracy=arm.accuracy,
            seconds_per_image=arm.seconds_per_image,
            minutes=num_images * arm.seconds_per_image / 60,
            kept=arm in found.best,
        )
        for arm in (*found.best, *rest)
    ]


def _measure(
    survey: Survey, found: Found, chosen: Arm, seconds: float
) -> tuple[LearningCurve, list[FineTuningForecast], list[Candidate]]:
    """Measure linear classifiers and fine-tuning on the chosen network; return the candidates of all networks."""
    probes = best_probes(survey, arm_optimism(survey, found))
    best = probes[0]
    for probe in probes:
        log.info("%s on %s, transform %s: %.1f %% held out", probe.strategy, probe.layer, probe.transform,
                 100 * probe.probed.accuracy)  # fmt: skip
    curve, law = learning_curve(survey, best)
    log.info("learning curve: %s", ", ".join(f"{100 * p.accuracy:.1f} % at {p.num_images:,}" for p in curve.points))
    forecasts: list[FineTuningForecast] = []
    cuts = cuts_of(survey.settings.backbone)
    if cuts and (num_images := num_affordable(survey, TRIAL_SHARE * seconds)):
        trials = run_trials(survey, best, num_images, cuts)
        reference = next(trial.start for trial in trials if trial.start is not None)  # the probe of the last block's
        forecasts = [forecast_fine_tuning(survey, trial, reference, best, law) for trial in trials]
    candidates = [probe_candidate(survey, probe, law) for probe in probes]
    others = [arm for arm in found.best if arm is not chosen]
    candidates += [other_candidate(survey, arm, chosen, best, law) for arm in others]
    candidates += [fine_tuned_candidate(survey.settings, forecast) for forecast in forecasts]
    return curve, forecasts, candidates
