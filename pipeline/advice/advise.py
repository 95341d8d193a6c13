"""The advise stage: measurements on a run's own images -> which strategy, layer and size to use, in advice.json."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from thaw.features.files.locks import held
from thaw.features.store import FeatureFile
from thaw.pipeline.advice.audit import audit
from thaw.pipeline.advice.fine_tuning_trials import SPEEDS, cuts_of, num_affordable, run_pilots
from thaw.pipeline.advice.forecast import frozen_candidate, pilot_of, searched_candidate, tuned_candidate
from thaw.pipeline.advice.layer_profile import profile
from thaw.pipeline.advice.linear_probes import best_frozen, learning_curve
from thaw.pipeline.advice.refinement import with_finalist
from thaw.pipeline.advice.rule_of_thumb import data_size, recommend, rule_of_thumb, similarity
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import Search, search
from thaw.pipeline.advice.tables import show
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import Advise
from thaw.pipeline.extraction import extract
from thaw.pipeline.run.advice_json import Advice, Candidate, LearningCurve, Pilot, write_advice
from thaw.pipeline.run.results import command
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training import outcome
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")

PROFILE_ROWS, FEWEST_ROWS, RANDOM_ROWS = 3000, 400, 800
MOST_MINUTES, FEWEST_MINUTES = 5.0, 0.5
SHARE_OF_ALL = 0.1  # of the time that all strategies take, for the measurements
PROFILE_SHARE, SEARCH_SHARE, FINAL_SHARE, PILOT_SHARE = 0.05, 0.35, 0.1, 0.4  # of the budget; the rest is for probes


@dataclass(frozen=True)
class Measured:
    """What was measured on the run's own features and on samples of its images."""

    curve: LearningCurve
    found: Search
    pilots: list[Pilot]
    candidates: list[Candidate]


def main(settings: Advise, given: frozenset[str] = frozenset(), console: Console | None = None) -> Path:
    """Measure, recommend, write `advice.json` and return its path; the run's features are extracted if missing.

    `given` names the options of the command line, which are not searched over. The test split is looked at by the
    audit alone, which compares images and reads no label to choose by.
    """
    began = time.perf_counter()
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
        advice = _advice(survey, budget, began)
        path = write_advice(settings.run_folder, advice)
        survey.clear()
    show(console, advice)
    return path


def usual_budget(survey: Survey) -> float:
    """Return the minutes of measuring that are worth it: a share of what all strategies together would take."""
    speed, num_train = survey.images_per_second, int((survey.features.split == 0).sum())
    last_block, _, whole = SPEEDS
    images = 2 * len(survey.features.ids) + num_train * (8 / last_block + 9 / whole)
    return float(np.clip(SHARE_OF_ALL * images / speed / 60, FEWEST_MINUTES, MOST_MINUTES))


def _advice(survey: Survey, budget: float, began: float) -> Advice:
    settings, features = survey.settings, survey.features
    size = data_size(features)
    affordable = int(PROFILE_SHARE * 60 * budget * survey.images_per_second)
    rows = min(max(FEWEST_ROWS, min(PROFILE_ROWS, affordable)), len(survey.order))
    layers = profile(survey, rows, min(RANDOM_ROWS, rows))
    near = similarity(layers)
    measured = _measure(survey, 60 * budget, near.best_layer)
    recommended = recommend(measured.candidates, measured.pilots)
    return Advice(
        schema_version=1,
        dataset=settings.dataset,
        backbone=settings.backbone,
        image_size=settings.image_size,
        seed=settings.seed,
        split_sha256=str(features.attributes["split_sha256"]),
        features_sha256=str(features.attributes["values_sha256"]),
        size=size,
        similarity=near,
        layers=layers,
        learning_curve=measured.curve,
        configurations=measured.found.tried,
        pilots=measured.pilots,
        candidates=measured.candidates,
        recommended=recommended,
        rule_of_thumb=rule_of_thumb(size, near, measured.candidates, recommended),
        audit=audit(settings, features),
        budget_minutes=budget,
        seconds=time.perf_counter() - began,
        versions=versions(),
        command=command(),
    )


def _measure(survey: Survey, seconds: float, averaged: str) -> Measured:
    frozen = best_frozen(survey)
    best = frozen[0]
    for one in frozen:
        log.info("%s on %s, transform %s: %.1f %% held out", one.strategy, one.layer, one.transform,
                 100 * one.probed.accuracy)  # fmt: skip
    curve, law = learning_curve(survey, best)
    log.info("learning curve: %s", ", ".join(f"{100 * p.accuracy:.1f} % at {p.num_images:,}" for p in curve.points))
    ends = time.perf_counter() + SEARCH_SHARE * seconds
    found = search(survey, SEARCH_SHARE * seconds, averaged)
    left = max(0.0, ends - time.perf_counter()) + FINAL_SHARE * seconds
    found, finalist = with_finalist(survey, found, best, left)
    cuts = cuts_of(survey.settings.backbone)
    runs = run_pilots(survey, best, num_affordable(survey, PILOT_SHARE * seconds), cuts)
    reference = next(run.start for run in runs if run.start is not None)  # the probe of the last block's fine-tuning
    pilots = [pilot_of(survey, run, reference, best, law) for run in runs]
    candidates = [frozen_candidate(survey, one, law) for one in frozen]
    candidates += [searched_candidate(survey, finalist, best, law)] if finalist else []
    candidates += [tuned_candidate(survey, pilot) for pilot in pilots]
    return Measured(curve, found, pilots, candidates)
