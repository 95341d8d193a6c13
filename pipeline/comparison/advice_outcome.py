"""How good the advice was: what `advise` expected of a strategy, and what was then measured on the test images."""

from collections.abc import Sequence
from typing import NamedTuple

from thaw.pipeline.formatting import duration, percent
from thaw.pipeline.run.advice_json import Candidate
from thaw.pipeline.run.report_json import NEURAL, Report


class Judged(NamedTuple):
    """An advised `candidate` and what was measured; None if no strategy with these settings has run.

    `inside`: whether the measured accuracy lies in the expected interval. `behind`: the best strategy's accuracy minus
    the measured one, a fraction.
    """

    candidate: Candidate
    report: Report | None
    inside: bool | None
    behind: float | None


def judge(candidate: Candidate, reports: Sequence[Report]) -> Judged:
    """Compare an expected accuracy with the measured one.

    Args:
        candidate: The advised strategy with its expected accuracy.
        reports: The reports of the run, best first; of those with its settings one named like its strategy counts.
    """
    alike = [report for report in reports if matches(candidate, report)]
    report = min(alike, key=lambda report: report.name != report.strategy, default=None)
    if report is None:
        return Judged(candidate, None, None, None)
    low, high = candidate.accuracy_interval
    return Judged(candidate, report, low <= report.accuracy <= high, reports[0].accuracy - report.accuracy)


def matches(candidate: Candidate, report: Report) -> bool:
    """Return whether a result has the advised strategy, feature set, layer and, if it is linear, transform.

    The layer of a trained network is its first trained layer.
    """
    names = ("strategy", "features", "layer")
    if any(getattr(report, name) != getattr(candidate, name) for name in names):
        return False
    return candidate.strategy in NEURAL or report.hyperparameters.get("transform", "none") == candidate.transform


def sentence(judged: Judged, best: Report) -> str:
    """Return one line: what was advised and how it turned out."""
    candidate, report, num_images = judged.candidate, judged.report, best.num_test
    advised = f"Advice: {candidate.strategy} on {candidate.layer} at {candidate.image_size} pixels"
    low, high = (percent(value, num_images) for value in candidate.accuracy_interval)
    expected = f"expected {percent(candidate.accuracy, num_images)} % [{low}, {high}]"
    if report is None or judged.behind is None:
        return f"{advised}, {expected}; it has not run yet: {candidate.command}"
    verdict = "inside" if judged.inside else "outside"
    measured = f"measured {percent(report.accuracy, num_images)} % ({report.name}), {verdict} the expected interval"
    took = f"{duration(60 * candidate.minutes)} expected, {duration(report.total_seconds)} taken"
    return f"{advised}, {expected}; {measured}; {_distance(judged.behind, report, best)}; {took}."


def _distance(behind: float, report: Report, best: Report) -> str:
    if behind == 0:
        return "the best of this run" if report.name == best.name else f"level with the best, {best.name}"
    return f"{percent(behind, best.num_test)} points behind the best of this run, {best.name}"
