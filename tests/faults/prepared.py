"""A whole run, made unbroken once, and as it was before each stage: what the harnesses break and compare with."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import small_run

from thaw.features.store import FeatureFile
from thaw.pipeline.run.report_json import read_report

TIMED = ("seconds", "minutes")  # in the names of figures that differ from run to run


def outcome(run_folder: Path, stage: str) -> Any:
    """Return what a stage is to end with, without what differs from run to run: times, memory, command lines."""
    return _OUTCOMES.get(stage, _result)(run_folder, stage)


def _features(run_folder: Path, _: str) -> Any:
    with FeatureFile(run_folder / small_run.FEATURES) as features:
        return features.attributes["values_sha256"]


def _result(run_folder: Path, stage: str) -> Any:
    folder = run_folder / stage
    report = read_report(folder / "report.json")
    return [hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest(), report.confusion_matrix]


def _report(run_folder: Path, _: str) -> Any:
    reports = [read_report(path) for path in sorted(run_folder.glob("*/report.json"))]
    page = (run_folder / "report.html").read_text("utf-8")
    return [page.rstrip().endswith("</html>"), [(report.name, report.accuracy) for report in reports]]


def _export(run_folder: Path, _: str) -> Any:
    return hashlib.sha256((run_folder / "svm" / "model.onnx").read_bytes()).hexdigest()


def _advice(run_folder: Path, _: str) -> Any:
    content = json.loads((run_folder / "advice.json").read_bytes())
    return {name: content[name] for name in ("size", "split_sha256", "features_sha256", "learning_curve")}


_OUTCOMES = {"features": _features, "report": _report, "export": _export, "advise": _advice}


class Prepared(NamedTuple):
    """A whole run on pictures of our own, and by stage: the run as it was before, what came out, processor seconds."""

    run_folder: Path
    pictures: Path
    ready: dict[str, Path]
    outcomes: dict[str, Any]
    seconds: dict[str, float]

    def command(self, stage: str, run_folder: Path) -> list[str]:
        """Return the command line of a stage in a copy of the run."""
        return small_run.arguments(stage, self.pictures, run_folder)


@contextmanager
def prepared(
    stages: Iterable[str] = small_run.STAGES, pictures_a_class: int = small_run.PICTURES_A_CLASS
) -> Iterator[Prepared]:
    """Run the stages unbroken in a temporary folder and yield what they leave."""
    small_run.import_everything()
    with small_run.scratch() as folder:
        pictures = small_run.make_pictures(folder / "pictures", pictures_a_class)
        made = Prepared(folder / "reference", pictures, {}, {}, {})
        made.run_folder.mkdir()
        for stage in stages:
            made.ready[stage] = folder / f"before-{stage}"
            shutil.copytree(made.run_folder, made.ready[stage])
            said = folder / f"{stage}.txt"
            child = small_run.in_a_child(made.command(stage, made.run_folder), said=said)
            code, made.seconds[stage] = small_run.wait(child)
            if code:
                raise SystemExit(f"{stage} ended with {code} without being broken: {said.read_text('utf-8')}")
            made.outcomes[stage] = outcome(made.run_folder, stage)
        yield made
