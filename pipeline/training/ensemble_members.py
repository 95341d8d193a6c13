"""The results of a run that an ensemble can average, with what each says of the images it was not fitted to."""

import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.features.errors import InputError
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.predictions_csv import OUT_OF_FOLD, Predictions, read_predictions
from thaw.pipeline.run.report_json import Report, layers_by_set, read_report, remedy
from thaw.pipeline.run.results import load_entry
from thaw.pipeline.run.run_json import RunRecord, existing_run

log = logging.getLogger("thaw")

MEMBER_MODEL = "model.skops"


@dataclass(frozen=True)
class CandidateResult:
    """A result of the run that an ensemble may average.

    Attributes:
        report: its report.
        folder: its folder.
        known: what it says of the images that are not test, each by the fold that left it out.
        test: what it says of the test images.
    """

    report: Report
    folder: Path
    known: Predictions
    test: Predictions

    @property
    def images(self) -> tuple[str, ...]:
        """The ids of all its images, in the order of the run."""
        return (*self.known.ids, *self.test.ids)

    @property
    def layers(self) -> list[tuple[str, str]]:
        """Its layers, each with the feature set."""
        return layers_by_set(str(self.report.features), str(self.report.layer))


def candidates_of(run: Path, names: Sequence[str] | None) -> dict[str, CandidateResult]:
    """Return the results that can be averaged, by name; the log names those that are left out."""
    stored = existing_run(run)
    reports = {path.parent.name: read_report(path) for path in sorted(run.glob("*/report.json"))}
    for name in names or ():
        if name not in reports:
            raise InputError(f"--members {name}: {run} has no result of that name; it has {', '.join(reports)}")
    found, refused = {}, []
    for name in names or reports:
        report, folder = reports[name], run / name
        reason = _reason(run, stored, report, folder, named=names is not None)
        if reason is None:
            found[name] = _read(folder, report)
        elif report.strategy in STRATEGIES or names:
            refused.append(f"{name} {reason}")
    usual = Counter(one.images for one in found.values()).most_common(1)
    for name in [name for name, one in found.items() if one.images != usual[0][0]]:
        refused.append(f"{name} labels other images than the others, since some were skipped; train it again")
        del found[name]
    return _enough(run, found, refused, names)


def _enough(
    run: Path, found: dict[str, CandidateResult], refused: Sequence[str], names: Sequence[str] | None
) -> dict[str, CandidateResult]:
    """Return `found` if that is enough for an ensemble; raises InputError otherwise, with a reason for each other."""
    if names and refused:
        raise InputError(f"--members {','.join(names)}: {'; '.join(refused)}")
    for line in refused:
        log.info("left out: %s", line)
    if len(found) >= 2:
        return found
    linear, here = ", ".join(STRATEGIES), shlex.quote(str(run))
    raise InputError(
        f"{run} has {len(found)} result(s) that an ensemble can average"
        f"{''.join(f' ({name})' for name in found)}; expected two or more of {linear}: train another, for example "
        f"make logreg RUN={here}" + "".join(f"; {line}" for line in refused)
    )


def _reason(run: Path, stored: RunRecord, report: Report, folder: Path, named: bool) -> str | None:
    """Return why a result cannot be averaged, None if it can."""
    again = remedy(folder / "report.json", report.strategy)
    if report.strategy not in STRATEGIES:
        return f"is no linear classifier; expected results of {', '.join(STRATEGIES)}"
    if not (folder / MEMBER_MODEL).is_file():
        return f"has no {MEMBER_MODEL}; type: {again}"
    if report.split_sha256 != split_csv.digest(run):
        return f"is of another split than split.csv; type: {again}"
    if not (folder / OUT_OF_FOLD).is_file():
        return f"has no {OUT_OF_FOLD}, which a former version did not write; type: {again}"
    if not named and not set(report.sets) <= set(stored.usable):
        return "is on features of random weights; name it by --members to take it"
    return None


def _read(folder: Path, report: Report) -> CandidateResult:
    """Return a result with its predictions; raises InputError if a file is damaged."""
    known = read_predictions(folder / OUT_OF_FOLD, report.class_names)
    load_entry(folder / "report.json", report)  # raises if the predictions are not the report's
    return CandidateResult(report, folder, known, read_predictions(folder / "predictions.csv", report.class_names))
