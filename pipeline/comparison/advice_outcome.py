"""How good the advice was: what `advise` expected of a strategy, and what it then measured on the test images."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from thaw.features.errors import InputError
from thaw.pipeline.formatting import duration, percent, total_seconds
from thaw.pipeline.run.advice_json import Advice, Candidate
from thaw.pipeline.run.report_json import NEURAL, Report, read_report


class Made(NamedTuple):
    """A report, and the name of the folder of its run, which stands for the settings that all its strategies share."""

    report: Report
    run: str


class Judged(NamedTuple):
    """An advised `candidate` and what was measured: None where no strategy of these settings has run.

    `inside`: the measured accuracy lies in the expected interval. `behind`: the best strategy's accuracy minus the
    measured one, a fraction; below 0 where the advised strategy ran elsewhere and did better than all of this run.
    """

    candidate: Candidate
    report: Report | None
    inside: bool | None
    behind: float | None


def all_made(run: Path, reports: Sequence[Report], advice: Advice) -> list[Made]:
    """Return `reports`, and those of the runs beside `run` that advised commands name, if made on the same split."""
    here = run.resolve()
    made = [Made(report, here.name) for report in reports]
    named = {run_of(candidate) for candidate in (advice.recommended, *advice.candidates)}
    for name in sorted(named - {"", here.name}):
        try:
            others = [read_report(path) for path in sorted((here.parent / name).glob("*/report.json"))]
        except InputError:
            continue  # that run's own report says what is wrong with it
        made += [Made(report, name) for report in others if report.split_sha256 == advice.split_sha256]
    return made


def run_of(candidate: Candidate) -> str:
    """Return the name of the run's folder in an advised command (`--run PATH`, `--run=PATH` or `RUN=PATH`), or ""."""
    try:
        words = shlex.split(candidate.command)
    except ValueError:  # no command line: an open quotation mark
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(("RUN=", "--run=")):
            return Path(word.partition("=")[2]).name
        if word == "--run":
            return Path(following).name
    return ""


def judge(candidate: Candidate, made: Sequence[Made], best: Report) -> Judged:
    """Compare what was expected of `candidate` with the first of `made` that has its settings; `best` is the run's."""
    alike = [one.report for one in made if matches(candidate, one)]
    alike.sort(key=lambda report: report.name != report.strategy)
    if not alike:
        return Judged(candidate, None, None, None)
    low, high = candidate.accuracy_interval
    measured = alike[0].accuracy
    return Judged(candidate, alike[0], low <= measured <= high, best.accuracy - measured)


def matches(candidate: Candidate, made: Made) -> bool:
    """Say whether `made` is what `candidate` advises: the run, the strategy, its layer (the first trained one where a
    network is trained), and for a linear strategy the transform.
    """
    report, run = made.report, run_of(candidate)
    if (report.strategy, report.layer) != (candidate.strategy, candidate.layer) or run not in ("", made.run):
        return False
    return candidate.strategy in NEURAL or report.hyperparameters.get("transform", "none") == candidate.transform


def sentence(judged: Judged, best: Report) -> str:
    """Say in one line what was advised and how it turned out."""
    candidate, report = judged.candidate, judged.report
    low, high = (percent(value, best) for value in candidate.accuracy_interval)
    advised = f"Advice: {candidate.strategy} on {candidate.layer} at {candidate.image_size} pixels, "
    expected = f"expected {percent(candidate.accuracy, best)} % [{low}, {high}]"
    if report is None or judged.behind is None:
        return f"{advised}{expected}; it has not run yet: {candidate.command}"
    verdict = "inside" if judged.inside else "outside"
    measured = f"measured {percent(report.accuracy, best)} % ({report.name}), {verdict} the expected interval"
    took = f"{duration(60 * candidate.minutes)} expected, {duration(total_seconds(report))} taken"
    return f"{advised}{expected}; {measured}; {_distance(judged.behind, report, best)}; {took}."


def _distance(behind: float, report: Report, best: Report) -> str:
    if report.name == best.name and behind == 0:
        return "the best of this run"
    if behind == 0:
        return f"level with the best, {best.name}"
    side = "behind" if behind > 0 else "ahead of"
    return f"{percent(abs(behind), best)} points {side} the best of this run, {best.name}"
