"""The ensemble stage: results of a run -> the mean of the best of them, chosen by their out-of-fold predictions."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.files.atomic import file_digest, write_whole
from thaw.features.store import SPLITS
from thaw.models.artifacts import MODEL_VERSION
from thaw.models.ensemble import Selection, judge_members, select_members
from thaw.pipeline.config import Ensemble
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.report_json import ENSEMBLE, Seconds, joined_layers
from thaw.pipeline.run.results import making
from thaw.pipeline.run.run_json import RunRecord, existing_run
from thaw.pipeline.training.ensemble_members import MEMBER_MODEL, CandidateResult, candidates_of
from thaw.pipeline.training.outcome import Origin, Outcome, write_outcome

log = logging.getLogger("thaw")

MODEL = "model.json"
OF_A_SET = ("backbone", "image_size", "weights_sha256", "features_sha256")


@dataclass(frozen=True)
class Chosen:
    """An ensemble that is not written yet: its members, why they were chosen, and the seconds that it took.

    `selection.gain.favoured` says whether the out-of-fold predictions favour it over its best member.
    """

    run: Path
    members: list[CandidateResult]
    selection: Selection
    seconds: float


@dataclass
class RunImages:
    """The images that all members labelled, as `thaw.pipeline.training.outcome.LabelledImages` has them."""

    ids: list[str]
    labels: np.ndarray
    split: np.ndarray
    class_names: tuple[str, ...]
    attributes: dict[str, Any]


def main(settings: Ensemble) -> Path:
    """Choose the members, or take those that are named, and write the ensemble; return its folder.

    Raises InputError if the run has fewer than two results to average, or has not those that are named.
    """
    chosen = choose_ensemble(settings.run_folder, settings.members.split(",") if settings.members else None)
    log.info("%s", judgement(chosen.selection))
    return write_ensemble(chosen)


def choose_ensemble(run: Path, names: Sequence[str] | None = None) -> Chosen:
    """Return the best ensemble of a run's linear results, by their out-of-fold predictions; nothing is written.

    Args:
        run: the folder of the run.
        names: the members, if they are not to be chosen.

    Raises:
        InputError: there are fewer than two results to average, or a named one is not there or cannot be averaged.
    """
    began = time.perf_counter()
    candidates = candidates_of(run, names)
    given = {name: one.known.probabilities for name, one in candidates.items()}
    labels = next(iter(candidates.values())).known.labels
    selection = judge_members(list(candidates), given, labels) if names else select_members(given, labels)
    members = [candidates[name] for name in selection.members]
    return Chosen(run, members, selection, time.perf_counter() - began)


def judgement(selection: Selection) -> str:
    """Return a line on the members, and on whether the out-of-fold predictions favour them."""
    gain = selection.gain
    verdict = "favour it" if gain.favoured else "do not favour it"
    return (
        f"an ensemble of {', '.join(selection.members)}; out-of-fold predictions {verdict} over its best member: "
        f"accuracy {100 * gain.accuracy:+.2f} points (standard error {100 * gain.accuracy_error:.2f}), "
        f"log loss {-gain.log_loss:+.4f} (standard error {gain.log_loss_error:.4f})"
    )


def write_ensemble(chosen: Chosen) -> Path:
    """Write the result RUN/ensemble and return its folder."""
    run, members, stored = chosen.run, chosen.members, existing_run(chosen.run)
    began, images = time.perf_counter(), _images(run, members)
    selection, sets = chosen.selection, _sets(members)
    mean = np.mean([one.test.probabilities for one in members], axis=0)
    outcome = Outcome(
        ENSEMBLE,
        _origin(members, sets),
        _seconds(members, chosen.seconds + time.perf_counter() - began),
        mean,
        _hyperparameters(selection),
        save=_save,
        model_file=MODEL,
        out_of_fold=np.mean([one.known.probabilities for one in members], axis=0),
        record=_record(stored, members, sets, images),
        bytes_elsewhere=sum((one.folder / MEMBER_MODEL).stat().st_size for one in members),
    )
    folder = run / ENSEMBLE
    with making(folder):
        return write_outcome(stored.shared(stored.first), folder, images, outcome)


def _images(run: Path, members: Sequence[CandidateResult]) -> RunImages:
    """Return the images that the members labelled, with their splits."""
    first, rows = members[0], split_csv.read_table(run / "split.csv")
    split_of = {name: SPLITS.index(split) for name, _, split in rows}
    ids = list(first.images)
    return RunImages(
        ids,
        np.concatenate([first.known.labels, first.test.labels]),
        np.array([split_of[name] for name in ids], np.uint8),
        tuple(first.report.class_names),
        {"split_sha256": first.report.split_sha256},
    )


def _sets(members: Sequence[CandidateResult]) -> dict[str, dict[str, str]]:
    """Return what the reports say of each feature set, by its name: the fields OF_A_SET, as text."""
    found: dict[str, dict[str, str]] = {}
    for one in members:
        columns = [str(getattr(one.report, field)).split("+") for field in OF_A_SET]
        for name, values in zip(one.report.sets, zip(*columns, strict=True), strict=True):
            found.setdefault(name, dict(zip(OF_A_SET, values, strict=True)))
    return found


def _origin(members: Sequence[CandidateResult], sets: dict[str, dict[str, str]]) -> Origin:
    joined = {field: "+".join(given[field] for given in sets.values()) for field in OF_A_SET}
    size = joined["image_size"]
    return Origin(
        backbone=joined["backbone"],
        features_sha256=joined["features_sha256"],
        weights_sha256=joined["weights_sha256"],
        layer=joined_layers([pair for one in members for pair in one.layers]),
        device="+".join(dict.fromkeys(str(one.report.device) for one in members)),
        features="+".join(sets),
        image_size=int(size) if len(sets) == 1 else size,
    )


def _seconds(members: Sequence[CandidateResult], own: float) -> Seconds:
    """Return what the ensemble took: its members, each feature set once, and the choice, `own` seconds."""
    features = {one.report.features: one.report.seconds.features or 0.0 for one in members}
    return Seconds(
        features=sum(features.values()),
        fit=own + sum(one.report.seconds.fit or 0.0 for one in members),
        predict=sum(one.report.seconds.predict or 0.0 for one in members),
    )


def _hyperparameters(selection: Selection) -> dict[str, Any]:
    gain = selection.gain
    return {
        "members": list(selection.members),
        "select": "cv",
        "selection_accuracy": selection.accuracy,
        "selection_log_loss": selection.log_loss,
        "gain": {
            "accuracy": gain.accuracy,
            "accuracy_error": gain.accuracy_error,
            "log_loss": gain.log_loss,
            "log_loss_error": gain.log_loss_error,
        },
        "favoured": gain.favoured,
        "tried": selection.tried,
    }


def _record(
    stored: RunRecord, members: Sequence[CandidateResult], sets: dict[str, dict[str, str]], images: RunImages
) -> dict[str, Any]:
    """Return the content of model.json, as `thaw.pipeline.run.model_record.EnsembleRecord` checks it."""
    return {
        "model_version": MODEL_VERSION,
        "strategy": ENSEMBLE,
        "class_names": list(images.class_names),
        "dataset": stored.settings["dataset"],
        "seed": stored.settings["seed"],
        "split_sha256": images.attributes["split_sha256"],
        "members": [
            {
                "name": one.folder.name,
                "features": one.report.features,
                "layer": one.report.layer,
                "model": MEMBER_MODEL,
                "sha256": file_digest(one.folder / MEMBER_MODEL),
            }
            for one in members
        ],
        "networks": list(_networks(stored, sets)),
    }


def _networks(stored: RunRecord, sets: dict[str, dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the network of each feature set."""
    for name, given in sets.items():
        yield {
            "backbone": given["backbone"],
            "image_size": int(given["image_size"]),
            "weights": stored.feature_sets[name]["weights"],
            "weights_sha256": given["weights_sha256"],
        }


def _save(path: Path, record: dict[str, Any]) -> None:
    with write_whole(path) as file:
        file.write(json.dumps(record, indent=2) + "\n")
