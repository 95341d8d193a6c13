"""Stage `verify`: check that every file of a run is whole, and that all files belong together."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.pipeline.config import FORMER
from thaw.pipeline.inference.ensemble import EnsembleClassifier, check_members, read_record
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.advice_json import read_advice
from thaw.pipeline.run.data.images_csv import is_of_run, read_images
from thaw.pipeline.run.report_json import ENSEMBLE, read_report, remedy
from thaw.pipeline.run.results import load_entry
from thaw.pipeline.run.run_json import RunRecord, features_command, features_path, read_run
from thaw.pipeline.run.sha256sums import NAME as SUMS
from thaw.pipeline.run.sha256sums import changed_files

log = logging.getLogger("thaw")


def main(run: Path) -> int:
    """Check every artifact of a run, print a line for each and return how many are not whole.

    Raises InputError if there is no run.
    """
    num_problems = 0
    for name, problem in findings(run):
        print(f"{name}: {problem or 'whole'}")
        num_problems += problem is not None
    if num_problems:
        log.warning("%d of the files above are damaged or do not belong to this run", num_problems)
    return num_problems


def findings(run: Path) -> Iterator[tuple[str, str | None]]:
    """Yield run.json, split.csv, images.csv, all feature files, results and the advice: its name, and its error if any.

    A name is the path within the run. Raises InputError if run.json is missing or damaged, since all other files have
    to agree with it.
    """
    record = read_run(run)
    if record is None:
        raise InputError(f"there is no run in {run}; expected a folder with a run.json: fix the name")
    yield "run.json", None
    for name, check in _checks(run, record):
        try:
            check()
        except (InputError, OSError) as error:
            yield name, " ".join(str(error).split())
        else:
            yield name, None


def _checks(run: Path, record: RunRecord) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "split.csv", partial(split_csv.read_table, run / "split.csv")
    if (run / "images.csv").exists():
        yield "images.csv", partial(read_images, run / "images.csv")
    for path in sorted(run.glob("features/*.h5")):
        yield str(path.relative_to(run)), partial(_check_features, run, record, path.stem, path)
    for name in record.feature_sets:
        if not features_path(run, name).exists() and (results := _made_on(run, name)):
            yield f"features/{name}.h5", partial(_refuse_missing, run, name, results)
    for path in sorted(run.glob("activations/*/*.h5")):
        yield str(path.relative_to(run)), partial(_check_features, run, record, path.parent.name, path)
    for path in sorted(run.glob("*/report.json")):
        yield path.parent.name, partial(_check_result, run, record, path.parent)
    if (run / "advice.json").exists():
        yield "advice.json", partial(_check_advice, run)


def _check_features(run: Path, record: RunRecord, name: str, path: Path) -> None:
    """Raise InputError if a file changed, or if it is not of this run's split and of the feature set `name`."""
    with FeatureFile(path) as features:
        features.check_digests()
        given = {**FORMER, **features.attributes}
    if given["split_sha256"] != split_csv.digest(run):
        again = features_command(run, name)
        raise InputError(f"{path} is of another split than split.csv; remove it and type: {again}")
    if name not in record.feature_sets:
        raise InputError(f"{path} is of a feature set that run.json does not know; remove it, or put run.json back")
    settings = {**record.settings, **record.feature_sets[name]}
    own = ("pooling", "views", "dtype") if path == features_path(run, name) else ()  # activations have others
    for option in ("dataset", "backbone", "image_size", "resize", "aspect", "normalize", *own):
        moved = option == "dataset" and is_of_run(run, given["dataset_sha256"])
        if given[option] != settings[option] and not moved:
            raise InputError(
                f"{path} was made with {option} {given[option]}, and run.json says {settings[option]}; remove the one "
                f"that is wrong and type: {features_command(run, name)}"
            )


def _made_on(run: Path, name: str) -> list[str]:
    """Return the results of the run that were made on a feature set; a report that cannot be read is left out."""
    found = []
    for path in sorted(run.glob("*/report.json")):
        with suppress(InputError):
            found += [path.parent.name] if name in read_report(path).sets else []
    return found


def _refuse_missing(run: Path, name: str, results: list[str]) -> None:
    raise InputError(
        f"it is gone, and these were made on it: {', '.join(results)}; type: {features_command(run, name)}"
    )


def _check_result(run: Path, record: RunRecord, folder: Path) -> None:
    """Raise InputError if a result's files changed, or its report does not agree with its predictions and the split."""
    report = read_report(folder / "report.json")
    load_entry(folder / "report.json", report)
    again = remedy(folder / "report.json", report.strategy)
    if report.split_sha256 != split_csv.digest(run):
        raise InputError(f"{folder} is of another split than split.csv; type: {again}")
    if report.seed != record.settings["seed"]:
        raise InputError(f"{folder} was made with the seed {report.seed}, which is not run.json's; type: {again}")
    if not (folder / SUMS).exists():
        raise InputError(f"{folder} has no {SUMS}, so that its files cannot be checked; type: {again}")
    if changed := changed_files(folder):
        raise InputError(f"{', '.join(changed)} in {folder} changed since the training; type: {again}")
    if report.strategy == ENSEMBLE:
        path = folder / EnsembleClassifier.FILE
        check_members(path, report, read_record(path, report))


def _check_advice(run: Path) -> None:
    advice = read_advice(run)
    if advice and advice.split_sha256 != split_csv.digest(run):
        raise InputError(f"advice.json is of another split than split.csv; type: make advise RUN={run}")
