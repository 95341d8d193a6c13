"""The bundle: a zip of the ONNX model and all that is needed to use it without this project."""

import json
import zipfile
from pathlib import Path

from thaw.features.files.atomic import whole_path
from thaw.pipeline.card import model_card
from thaw.pipeline.card.licences import licence_lines
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.templating import source
from thaw.pipeline.versions import installed_version

PACKAGES = ("numpy", "onnxruntime", "pillow")


def example() -> str:
    """Return predict.py, which labels images by the ONNX file without this project."""
    return source("predict.py.txt")


def write_bundle(path: Path, classifier: Classifier, model: bytes) -> None:
    """Write the zip: the model, its classes, the model card with its chart, an example, requirements and licences.

    The model card is written into the result's folder first.
    """
    folder, report = classifier.folder, classifier.report
    predictions = read_predictions(folder / "predictions.csv", report.class_names)
    model_card.write(folder, report, predictions, classifier.record)
    licences = "\n".join(f"- {line}" for line in licence_lines(report, classifier.record))
    texts = {
        "README.md": (folder / "model_card.md").read_text(encoding="utf-8"),
        "class_names.json": json.dumps(classifier.class_names, ensure_ascii=False, indent=2) + "\n",
        "predict.py": example(),
        "requirements.txt": "".join(f"{_requirement(package)}\n" for package in PACKAGES),
        "LICENCES.md": f"# Licences\n\n{licences}\n",
    }
    with whole_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, text in texts.items():
            archive.writestr(_entry(name), text, zipfile.ZIP_DEFLATED)
        archive.writestr(_entry("reliability.png"), (folder / "reliability.png").read_bytes())
        archive.writestr(_entry("model.onnx"), model)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # of 1980, so that the same content gives the same bytes
    entry.external_attr = 0o644 << 16
    return entry


def _requirement(package: str) -> str:
    """Return the package with its installed version as the least one."""
    found = installed_version(package)
    return f"{package}>={found}" if found else package
