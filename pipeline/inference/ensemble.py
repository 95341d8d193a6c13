"""An ensemble as one classifier: the mean of its members' probabilities, each network run once."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.atomic import file_digest
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier
from thaw.pipeline.inference.networks import FrozenNetworks
from thaw.pipeline.inference.trained import check_record
from thaw.pipeline.run.model_record import EnsembleRecord
from thaw.pipeline.run.report_json import Report, read_report, remedy


@dataclass(frozen=True)
class EnsembleClassifier(Classifier):
    """The mean of linear classifiers of the run, which stay in the folders of their own."""

    FILE: ClassVar[str] = "model.json"
    members: tuple[LinearClassifier, ...]

    @classmethod
    def load(cls, path: Path, report: Report, options: Trained | None) -> Self:
        """Return the classifier; the models of the members are read while the engines start."""
        record = read_record(path, report)
        check_members(path, report, record)
        members = tuple(_member(path.parent.parent / one["name"]) for one in record["members"])
        networks = FrozenNetworks.of([one for member in members for one in member.sets])
        with ThreadPoolExecutor(1) as starting:
            engines = starting.submit(networks.start, path.parent, options) if options else None
            return cls(path.parent, report, record, engines.result() if engines else networks, members)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the members take, each once; two networks may have layers of one name."""
        return tuple(dict.fromkeys(layer for member in self.members for layer in member.layers))

    @property
    def head_inputs(self) -> list[tuple[str, str]]:
        """The layers of all members, each with its pooling, member by member."""
        return [pair for member in self.members for pair in member.head_inputs]

    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return the features (n, D) float32 of all members side by side."""
        outputs = self.networks(inputs)
        return np.hstack([member.features(outputs) for member in self.members])

    def label(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64: the mean over the members, each on its own columns."""
        ends = np.cumsum([member.num_features for member in self.members])
        parts = np.split(activations, ends[:-1], axis=1)
        return np.mean([one.label(part) for one, part in zip(self.members, parts, strict=True)], axis=0)


def _member(folder: Path) -> LinearClassifier:
    return LinearClassifier.load(folder / LinearClassifier.FILE, read_report(folder / "report.json"), None)


def read_record(path: Path, report: Report) -> dict[str, Any]:
    """Return the checked content of an ensemble's model.json; raises InputError if it is damaged or another result's.

    Args:
        path: of model.json.
        report: of the result.
    """
    try:
        record = dict(json.loads(path.read_bytes()))
    except PermissionError:  # the command line says what to do
        raise
    except FILE_ERRORS as error:
        message = " ".join(str(error).split())[:300]
        raise InputError(f"{path} cannot be read ({message}); type: {remedy(path, report.strategy)}") from None
    check_record(path, report, record, EnsembleRecord)
    return record


def check_members(path: Path, report: Report, record: dict[str, Any]) -> None:
    """Raise InputError if a member of an ensemble is gone, or is another model than the one that was chosen.

    Args:
        path: of the ensemble's model.json.
        report: of the ensemble.
        record: the content of model.json.
    """
    for member in record["members"]:
        model = path.parent.parent / member["name"] / member["model"]
        if not model.is_file() or not model.with_name("report.json").is_file():
            what = f"{member['name']} is gone ({model})"
        elif file_digest(model) != member["sha256"]:
            what = f"{member['name']} was trained again since, or its {member['model']} changed"
        else:
            continue
        raise InputError(
            f"{path.parent} is an ensemble, and its member {what}; put it back, or make the ensemble of what is there: "
            f"{remedy(path, report.strategy)}"
        )
