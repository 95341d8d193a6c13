"""What `fit` does one after the other: classifiers on the first feature set, fine-tuning, further feature sets."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from thaw.pipeline.advice.forecast import START_MINUTES
from thaw.pipeline.config import SET_FIELDS, Finetune, FitSettings, Linear
from thaw.pipeline.fit.clock import Clock
from thaw.pipeline.formatting import duration
from thaw.pipeline.run.advice_json import Advice, Candidate, NetworkTried
from thaw.pipeline.run.feature_sets import with_feature_set
from thaw.pipeline.run.report_json import Report, read_report
from thaw.pipeline.run.run_json import features_path, read_run
from thaw.pipeline.training import train_linear, train_network

log = logging.getLogger("thaw")

LAST_SECONDS, LAST_SHARE = 15.0, 0.06  # kept for the ensemble and the comparison; the share is of all minutes
NUM_CHOICES = 6  # of layers and transforms: about so many times what the path of one takes
CHOOSING_SHARE = 0.35  # of the time that is left, for one strategy
START_SECONDS = 12.0  # before the extraction of another network or size: loading it, and comparing its engine
LINEAR = ("logreg", "svm")
FINE_TUNING_SHARE = 0.8  # of the time that is left
MACHINE = ("memory", "workers", "cluster", "device")  # options that say how a stage runs, not what it makes


class FitStep(NamedTuple):
    """One thing that `fit` can do: what it is called, and about how many seconds it takes."""

    name: str
    seconds: float


@dataclass
class FitSteps:
    """The steps of one call of `fit`.

    Attributes:
        settings: of the run.
        given: the names of the options that the user typed.
        clock: the time that is left.
        num_images: the number of images.
        advice: what was measured.
        reports: of the linear classifiers so far, those on the first feature set first.
        left_out: the steps for which the time was too short.
    """

    settings: FitSettings
    given: frozenset[str]
    clock: Clock
    num_images: int
    advice: Advice
    reports: list[Report] = field(default_factory=list)
    left_out: list[FitStep] = field(default_factory=list)

    def train_on_first_set(self) -> None:
        """Train the linear classifiers on the feature set that the advice extracted; one of them in any case."""
        tried = self.advice.first
        for strategy in LINEAR:
            narrowed, seconds = self._narrowed(strategy)
            if not self.reports or self._enough_time(FitStep(f"{strategy} on {tried.features}", seconds)):
                self.reports.append(self._train({**self._options_of(tried), **narrowed}, strategy))

    def _narrowed(self, strategy: str) -> tuple[dict[str, Any], float]:
        """Return options that leave less to choose if the time is short, and about how many seconds the rest takes.

        What the advice found is taken then: layers and transform if all of them take more than a share of the time
        that is left, and C too if all its values do.
        """
        found = next((one for one in self.advice.candidates if one.strategy == strategy), self.advice.candidates[0])
        path, left = 60 * max(0.0, found.minutes - START_MINUTES), max(0.0, self.clock.seconds_left)
        if path * NUM_CHOICES < CHOOSING_SHARE * left:
            return {}, path * NUM_CHOICES
        options = {"layer": found.layer, "transform": found.transform}
        if path < CHOOSING_SHARE * left or found.value is None:
            return options, path
        return {**options, "values": f"{found.value:g}"}, path / 2

    def train_on_further_sets(self) -> None:
        """Extract the other networks and sizes that there is time for, and train the better classifier on each."""
        strategy = max(self.reports, key=held_out_accuracy).strategy
        for tried in in_order([one for one in self.advice.networks if one != self.advice.first]):
            there = features_path(self.settings.run_folder, tried.features).exists()
            extraction = 0.0 if there else START_SECONDS + self.num_images * tried.seconds_per_image
            step = FitStep(f"{tried.backbone} at {tried.image_size} pixels", extraction + self._usual_fit())
            if self._enough_time(step):
                self.reports.append(self._train(self._options_of(tried), strategy))

    def fine_tune(self) -> None:
        """Fine-tune as the pilots promise the most, if they promise more than their error and there is time."""
        candidate = promising(self.advice)
        if candidate is None or not self._enough_time(
            FitStep(f"fine-tuning from {candidate.layer}", 60 * candidate.minutes)
        ):
            return
        name = f"finetune-{candidate.layer}"
        if (self.settings.run_folder / name / "report.json").exists():
            log.info("%s is there already", name)
            return
        minutes = max(0.1, FINE_TUNING_SHARE * self.clock.seconds_left / 60)
        options: dict[str, Any] = {"unfreeze_from": candidate.layer, "name": name, "views": "one"}
        options |= {"backbone": candidate.backbone, "image_size": candidate.image_size}
        given = Finetune(run=self.settings.run_folder, max_minutes=minutes, **self._machine(), **options)
        train_network.main(with_feature_set(given), "finetune")

    def _enough_time(self, step: FitStep) -> bool:
        """Return whether there is time for a step; if not, more minutes would have tried it."""
        reserve = max(LAST_SECONDS, LAST_SHARE * 60 * self.clock.minutes)
        fits = step.seconds <= self.clock.seconds_left - reserve
        if fits:
            log.info("fit: %s, about %s (%s)", step.name, duration(step.seconds), self.clock)
        else:
            self.left_out.append(step)
        return fits

    def _usual_fit(self) -> float:
        return max((report.seconds.fit or 0.0 for report in self.reports), default=0.0)

    def _machine(self) -> dict[str, Any]:
        return {name: getattr(self.settings, name) for name in MACHINE if name in self.given}

    def _options_of(self, tried: NetworkTried) -> dict[str, Any]:
        """Return the options that name the feature set of a network at a size, or that make it."""
        stored = read_run(self.settings.run_folder)
        if stored and tried.features in stored.feature_sets:
            return {"features": tried.features}
        options: dict[str, Any] = {name: getattr(self.settings, name) for name in self.given & set(SET_FIELDS)}
        options |= {"backbone": tried.backbone, "image_size": tried.image_size}
        if with_feature_set(Linear(run=self.settings.run_folder, **options)).feature_set != tried.features:
            options |= {"layers": tried.layer.replace("+", ","), "pooling": tried.pooling}
        return options

    def _train(self, options: dict[str, Any], strategy: str) -> Report:
        """Train a linear strategy on a feature set, which is extracted if missing, unless its result is there."""
        complete = with_feature_set(Linear(run=self.settings.run_folder, **self._machine(), **options))
        for path in sorted(self.settings.run_folder.glob("*/report.json")):
            report = read_report(path)
            if (report.strategy, report.features) == (strategy, complete.feature_set) and report.model_bytes:
                log.info("%s is there already", path.parent)
                return report
        return read_report(train_linear.main(complete, strategy) / "report.json")


def in_order(networks: Sequence[NetworkTried]) -> list[NetworkTried]:
    """Return networks and sizes in the order in which they are worth their time.

    The best size of each network comes before a second size of any, since what helps an ensemble most is another
    network.
    """
    places: dict[str, int] = {}
    ordered = []
    for tried in sorted(networks, key=lambda tried: (not tried.kept, -tried.accuracy)):
        places[tried.backbone] = places.get(tried.backbone, 0) + 1
        ordered.append((places[tried.backbone], tried))
    return [tried for _, tried in sorted(ordered, key=lambda pair: pair[0])]


def held_out_accuracy(report: Report) -> float:
    """Return the accuracy that chose a result's settings, on images that are not test; -1 without one."""
    accuracy = report.hyperparameters.get("selection_accuracy")
    return float(accuracy) if isinstance(accuracy, int | float) else -1.0


def promising(advice: Advice) -> Candidate | None:
    """Return the fine-tuning that is expected to be the best, and better than any linear classifier, by its pilot.

    None if there is none whose gain in the pilot is more than its standard error.
    """
    sure = {pilot.unfreeze_from for pilot in advice.pilots if pilot.gain > pilot.gain_error}
    linear = max(candidate.accuracy for candidate in advice.candidates if candidate.strategy in LINEAR)
    found = [
        candidate
        for candidate in advice.candidates
        if candidate.strategy == "finetune" and candidate.layer in sure and candidate.accuracy > linear
    ]
    return max(found, key=lambda candidate: candidate.accuracy, default=None)
