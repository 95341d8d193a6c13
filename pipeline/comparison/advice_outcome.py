"""How good the advice was: what `advise` expected of a strategy, and what was then measured on the test images."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from thaw.features.errors import InputError
from thaw.pipeline.formatting import duration, percent
from thaw.pipeline.run.advice_json import Advice, Candidate
from thaw.pipeline.run.report_json import NEURAL, Report, read_report


class Made(NamedTuple):
    """A report, and the folder name of its run; one run has one image size and one preprocessing."""

    report: Report
    run: str


class Judged(NamedTuple):
    """An advised `candidate` and what was measured; None if no strategy with these settings has run.

    `inside`: whether the measured accuracy lies in the expected interval. `behind`: the best strategy's accuracy minus
    the measured one, a fraction. It is below 0 if the advised strategy did better in a run beside this one.
    """

    candidate: Candidate
    report: Report | None
    inside: bool | None
    behind: float | None


def all_made(run: Path, reports: Sequence[Report], advice: Advice) -> list[Made]:
    """Return the reports of a run and of the runs beside it that the advice names.

    Args:
        run: The folder of the run.
        reports: The reports of this run.
        advice: The advice; reports on another split than the advice's are left out.
    """
    here = run.resolve()
    made = [Made(report, here.name) for report in reports]
    named = {run_of(candidate) for candidate in (advice.recommended, *advice.candidates)}
    for name in sorted(named - {"", here.name}):
        try:
            others = [read_report(path) for path in sorted((here.parent / name).glob("*/report.json"))]
        except InputError:
            continue  # the report of the other run names the problem
        made += [Made(report, name) for report in others if report.split_sha256 == advice.split_sha256]
    return made


def run_of(candidate: Candidate) -> str:
    """Return the folder name of the run in an advised command (`--run PATH`, `--run=PATH` or `RUN=PATH`), else ""."""
    try:
        words = shlex.split(candidate.command)
    except ValueError:  # an open quotation mark
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(("RUN=", "--run=")):
            return Path(word.partition("=")[2]).name
        if word == "--run":
            return Path(following).name
    return ""


def judge(candidate: Candidate, made: Sequence[Made], best: Report) -> Judged:
    """Compare an expected accuracy with the measured one.

    Args:
        candidate: The advised strategy with its expected accuracy.
        made: The reports to look for its settings in; a report named like its strategy comes first.
        best: The report of the best strategy of the run.
    """
    alike = [one.report for one in made if matches(candidate, one)]
    report = min(alike, key=lambda report: report.name != report.strategy, default=None)
    if report is None:
        return Judged(candidate, None, None, None)
    low, high = candidate.accuracy_interval
    return Judged(candidate, report, low <= report.accuracy <= high, best.accuracy - report.accuracy)


def matches(candidate: Candidate, made: Made) -> bool:
    """Return whether a result has the advised run, strategy, layer and, for a linear strategy, transform.

    The layer of a trained network is its first trained layer.
    """
    report, run = made.report, run_of(candidate)
    if (report.strategy, report.layer) != (candidate.strategy, candidate.layer) or run not in ("", made.run):
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
    direction = "behind" if behind > 0 else "ahead of"
    return f"{percent(abs(behind), best.num_test)} points {direction} the best of this run, {best.name}"
