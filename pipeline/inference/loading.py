"""A result's folder -> the classifier in it."""

from pathlib import Path

from thaw.features.errors import InputError
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.ensemble import EnsembleClassifier
from thaw.pipeline.inference.frozen_network import AS_TRAINED
from thaw.pipeline.run.report_json import ENSEMBLE, NEURAL, read_report, remedy

KINDS: dict[str, type[LinearClassifier] | type[NeuralClassifier] | type[EnsembleClassifier]] = {
    **dict.fromkeys(NEURAL, NeuralClassifier),
    ENSEMBLE: EnsembleClassifier,
}
"""The kind of each strategy that is not linear."""


def load_classifier(folder: Path, options: Trained | None = AS_TRAINED) -> Classifier:
    """Return the classifier of a result's folder, RUN/<name>; with `options` None only to use its model.

    Raises InputError if its model is missing, damaged or of another version of this program, or if the weights of the
    frozen network cannot be had.
    """
    report = read_report(folder / "report.json")
    kind = KINDS.get(report.strategy, LinearClassifier)
    path = folder / kind.FILE
    if not path.exists():
        raise InputError(f"there is no model {path}; type: {remedy(path, report.strategy)}")
    return kind.load(path, report, options)
