"""What a report is made from: the results of a run, their comparison, and the files beside them."""

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from thaw.features.errors import InputError
from thaw.pipeline.comparison.advice_outcome import Judged, judge, sentence
from thaw.pipeline.comparison.comparison import Comparison, compare_all, load_run
from thaw.pipeline.run.advice_json import Advice, read_advice
from thaw.pipeline.run.export_json import export_rows
from thaw.pipeline.run.report_json import Report
from thaw.pipeline.run.results import Entry
from thaw.pipeline.run.run_json import RunRecord, read_run
from thaw.pipeline.run.split_csv import unseen_classes
from thaw.pipeline.thumbnails import Pictures, open_pictures

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class ReportInputs:
    """The folder of a run, its results best first, their pairs, and its advice or why there is none."""

    folder: Path
    entries: Sequence[Entry]
    comparisons: Sequence[Comparison]
    advice: Advice | None
    advice_missing: str

    @property
    def reports(self) -> list[Report]:
        """The reports of the results."""
        return [entry.report for entry in self.entries]

    @cached_property
    def judged(self) -> list[Judged]:
        """The advised strategies and what was measured, the recommended one first; empty without advice."""
        if self.advice is None:
            return []
        recommended = self.advice.recommended
        others = [candidate for candidate in self.advice.candidates if candidate != recommended]
        return [judge(candidate, self.reports) for candidate in (recommended, *others)]

    @property
    def hindsight(self) -> str | None:
        """One line on how good the advice was, None without advice."""
        return sentence(self.judged[0], self.reports[0]) if self.judged else None

    @cached_property
    def unseen(self) -> str | None:
        """One line on test images of classes without training images; None if there are none or split.csv is gone."""
        try:
            return unseen_classes(self.folder / "split.csv")
        except InputError as error:
            log.warning("%s", error)
            return None

    @cached_property
    def record(self) -> RunRecord | None:
        """The content of run.json; None if it is missing or damaged, since the tables need none."""
        try:
            return read_run(self.folder)
        except InputError as error:
            log.warning("%s", error)
            return None

    @cached_property
    def pictures(self) -> Pictures:
        """The images of the dataset; raises InputError if they are gone."""
        return open_pictures(self.record.settings if self.record else None)

    @cached_property
    def exports(self) -> list[list[str]]:
        """A row for each exported file, under the headings of `thaw.pipeline.run.export_json`."""
        return export_rows(self.folder, [report.name for report in self.reports])


def read_inputs(run: Path) -> ReportInputs:
    """Read a run; raises InputError if it has no report, or if its results are damaged or cannot be compared."""
    entries = load_run(run)
    return ReportInputs(run, entries, compare_all(entries), *_advice(run, entries[0].report))


def _advice(run: Path, best: Report) -> tuple[Advice | None, str]:
    """Return the advice of the run, or None and the reason: it is missing, damaged, or of another split."""
    again = f"make advise RUN={shlex.quote(str(run))}"
    try:
        advice = read_advice(run)
    except InputError as error:
        log.warning("%s", error)
        return None, f"{error}."
    if advice is None:
        return None, f"Not measured yet; type: {again}"
    if advice.split_sha256 != best.split_sha256:
        return None, f"advice.json was made on another split than the strategies; type: {again}"
    return advice, ""
