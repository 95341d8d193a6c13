"""The advise stage: measurements on a run's own images -> which strategy, layer and size to use, in advice.json."""

import logging
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from thaw.features.files.locks import held
from thaw.features.foreign.extractors import trainable_backbone
from thaw.features.store import FeatureFile
from thaw.pipeline.advice.audit import audit
from thaw.pipeline.advice.fine_tuning_trials import SPEEDS, cuts_of, num_affordable, run_trials
from thaw.pipeline.advice.forecast import (
    fine_tuned_candidate,
    forecast_fine_tuning,
    probe_candidate,
    refined_candidate,
)
from thaw.pipeline.advice.layer_profile import profile
from thaw.pipeline.advice.linear_probes import LinearProbe, best_probes, learning_curve
from thaw.pipeline.advice.refinement import Refinement, refine
from thaw.pipeline.advice.rule_of_thumb import data_size, recommend, rule_of_thumb, similarity
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import search
from thaw.pipeline.advice.tables import show
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.commands import running_command
from thaw.pipeline.config import Advise
from thaw.pipeline.extraction import extract
from thaw.pipeline.run.advice_json import (
    Advice,
    Candidate,
    Configuration,
    FineTuningForecast,
    LearningCurve,
    write_advice,
)
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training import outcome
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")

PROFILE_ROWS, FEWEST_ROWS, RANDOM_ROWS = 3000, 400, 800
MOST_MINUTES, FEWEST_MINUTES = 5.0, 0.5
SHARE_OF_ALL = 0.1  # of the time that all strategies take, for the measurements
PROFILE_SHARE, SEARCH_SHARE, REFINEMENT_SHARE, TRIAL_SHARE = 0.05, 0.35, 0.1, 0.4  # of the budget


def main(settings: Advise, given: frozenset[str] = frozenset(), console: Console | None = None) -> Path:
    """Measure, recommend, and write `advice.json`; the run's features are extracted if they are missing.

    Only the audit looks at the test split: it compares images, and no label of a test image chooses anything.

    Args:
        settings: The run, and how long to measure.
        given: The names of the options that the user typed, which are not searched over.
        console: What the advice is printed on, standard output if none is given.

    Returns:
        The path of `advice.json`.
    """
    began = time.perf_counter()
    trainable_backbone(settings.backbone, "the advice, which tries fine-tuning,")
    with (
        connected(settings),
        FeatureFile(extract.ready_features(settings)) as features,
        held(settings.run_folder / "advice.json"),
    ):
        outcome.write_chance(settings, features)
        survey = Survey(shared_settings(settings), features, given)
        budget = settings.budget or usual_budget(survey)
        log.info(
            "measuring image sizes and fine-tuning for about %.1f minutes (--budget), layers and the audit beside it",
            budget,
        )
        advice = _advise(survey, budget, began)
        path = write_advice(settings.run_folder, advice)
        survey.clear()
    show(console, advice)
    return path


def usual_budget(survey: Survey) -> float:
    """Return how many minutes to measure: a share of what all strategies together would take, within bounds."""
    speed, num_train = survey.images_per_second, int((survey.features.split == 0).sum())
    last_block, _, whole = SPEEDS
    images = 2 * len(survey.features.ids) + num_train * (8 / last_block + 9 / whole)
    return float(np.clip(SHARE_OF_ALL * images / speed / 60, FEWEST_MINUTES, MOST_MINUTES))


def _advise(survey: Survey, budget: float, began: float) -> Advice:
    settings, features = survey.settings, survey.features
    affordable = int(PROFILE_SHARE * 60 * budget * survey.images_per_second)
    rows = min(max(FEWEST_ROWS, min(PROFILE_ROWS, affordable)), len(survey.order))
    layers = profile(survey, rows, min(RANDOM_ROWS, rows))
    size, near = data_size(features), similarity(layers)
    curve, configurations, forecasts, candidates = _measure(survey, 60 * budget, near.best_layer)
    recommended = recommend(candidates, forecasts)
    return Advice(
        schema_version=1,
        **settings.model_dump(include={"dataset", "backbone", "image_size", "seed"}),
        split_sha256=str(features.attributes["split_sha256"]),
        features_sha256=str(features.attributes["values_sha256"]),
        size=size,
        similarity=near,
        layers=layers,
        learning_curve=curve,
        configurations=configurations,
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


def _measure(
    survey: Survey, seconds: float, averaged: str
) -> tuple[LearningCurve, list[Configuration], list[FineTuningForecast], list[Candidate]]:
    """Measure probes, sizes and fine-tuning for `seconds`; return what each found, and the candidates of all."""
    probes = best_probes(survey)
    best = probes[0]
    for probe in probes:
        log.info("%s on %s, transform %s: %.1f %% held out", probe.strategy, probe.layer, probe.transform,
                 100 * probe.probed.accuracy)  # fmt: skip
    curve, law = learning_curve(survey, best)
    log.info("learning curve: %s", ", ".join(f"{100 * p.accuracy:.1f} % at {p.num_images:,}" for p in curve.points))
    configurations, refined = _search(survey, best, seconds, averaged)
    forecasts = []
    if cuts := cuts_of(survey.settings.backbone):
        trials = run_trials(survey, best, num_affordable(survey, TRIAL_SHARE * seconds), cuts)
        reference = next(trial.start for trial in trials if trial.start is not None)  # the probe of the last block's
        forecasts = [forecast_fine_tuning(survey, trial, reference, best, law) for trial in trials]
    candidates = [probe_candidate(survey, probe, law) for probe in probes]
    candidates += [refined_candidate(survey, refined, best, law)] if refined else []
    candidates += [fine_tuned_candidate(survey.settings, forecast) for forecast in forecasts]
    return curve, configurations, forecasts, candidates


def _search(
    survey: Survey, best: LinearProbe, seconds: float, averaged: str
) -> tuple[list[Configuration], Refinement | None]:
    ends = time.perf_counter() + SEARCH_SHARE * seconds
    tried, sizes = search(survey, SEARCH_SHARE * seconds, averaged)
    left = max(0.0, ends - time.perf_counter()) + REFINEMENT_SHARE * seconds
    refined, more = refine(survey, sizes, best, left)
    return tried + more, refined
