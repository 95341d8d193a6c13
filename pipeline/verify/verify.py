"""The verify stage: is everything in a run directory whole, and does it belong together?"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.advice_json import read_advice
from thaw.pipeline.run.report_json import read_report, remedy
from thaw.pipeline.run.results import load_entry
from thaw.pipeline.run.run_json import read_run_settings
from thaw.pipeline.run.sha256sums import NAME as SUMS
from thaw.pipeline.run.sha256sums import changed_files

log = logging.getLogger("thaw")


class Finding(NamedTuple):
    """One artifact: its path below the run, and what is wrong with it, None where it is whole."""

    name: str
    problem: str | None


def main(run: Path) -> int:
    """Check every artifact of a run, print a line for each and return how many are not whole.

    Raises InputError where there is no run.
    """
    num_problems = 0
    for name, problem in findings(run):
        print(f"{name}: {problem or 'whole'}")
        num_problems += problem is not None
    if num_problems:
        log.warning("%d of the files above are damaged or do not belong to this run", num_problems)
    return num_problems


def findings(run: Path) -> Iterator[Finding]:
    """Yield what is found of run.json, split.csv, every feature file, every result, and the advice.

    Raises InputError where run.json is missing or damaged, since all else is held against it.
    """
    settings = read_run_settings(run)
    if settings is None:
        raise InputError(f"there is no run in {run}; expected a folder with a run.json: mend the name")
    yield Finding("run.json", None)
    yield _checked("split.csv", partial(split_csv.read_table, run / "split.csv"))
    for path in sorted((*run.glob("*.h5"), *run.glob("*/*.h5"))):
        if not path.name.endswith(".weights.h5") and path.parent.suffix != ".parts":
            yield _checked(str(path.relative_to(run)), partial(_check_features, run, settings, path))
    for path in sorted(run.glob("*/report.json")):
        yield _checked(str(path.parent.relative_to(run)), partial(_check_result, run, settings, path.parent))
    if (run / "advice.json").exists():
        yield _checked("advice.json", partial(_check_advice, run))


def _checked(name: str, check: Callable[[], object]) -> Finding:
    try:
        check()
    except (InputError, OSError) as error:
        return Finding(name, " ".join(str(error).split()))
    return Finding(name, None)


def _check_features(run: Path, settings: dict[str, Any], path: Path) -> None:
    """Check a feature file's values against its digests, and that it is of this run's split and settings."""
    with FeatureFile(path) as features:
        features.check_digests()
        given = features.attributes
    if given["split_sha256"] != split_csv.digest(run):
        raise InputError(f"{path} is of another split than split.csv; remove it and type: make features RUN={run}")
    own = ("pooling", "dtype") if path.parent == run else ()  # activations have others
    for name in ("dataset", "backbone", "image_size", "resize", "normalize", *own):
        if given[name] != settings[name]:
            raise InputError(
                f"{path} was made with {name} {given[name]}, and run.json says {settings[name]}; remove the one that "
                f"is wrong and type: make features RUN={run}"
            )


def _check_result(run: Path, settings: dict[str, Any], folder: Path) -> None:
    """Check a result's files against SHA256SUMS, its report against its predictions, and both against the split."""
    report = read_report(folder / "report.json")
    load_entry(folder / "report.json", report)
    again = remedy(folder / "report.json", report.strategy)
    if report.split_sha256 != split_csv.digest(run):
        raise InputError(f"{folder} is of another split than split.csv; type: {again}")
    if report.seed != settings["seed"]:
        raise InputError(f"{folder} was made with the seed {report.seed}, which is not run.json's; type: {again}")
    if not (folder / SUMS).exists():
        raise InputError(f"{folder} has no {SUMS}, so that its files cannot be checked; type: {again}")
    if changed := changed_files(folder):
        raise InputError(f"{', '.join(changed)} in {folder} changed since the training; type: {again}")


def _check_advice(run: Path) -> None:
    advice = read_advice(run)
    if advice and advice.split_sha256 != split_csv.digest(run):
        raise InputError(f"advice.json is of another split than split.csv; type: make advise RUN={run}")
