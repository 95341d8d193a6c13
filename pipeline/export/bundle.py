"""The bundle: the ONNX model with what someone needs who has nothing but the zip."""

import json
import zipfile
from importlib.resources import files
from pathlib import Path

from thaw.features.files.atomic import whole_path
from thaw.pipeline.card.licences import licence_lines
from thaw.pipeline.inference.trained import Trained
from thaw.pipeline.versions import installed_version

DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
PACKAGES = ("numpy", "onnxruntime", "pillow")


def example() -> str:
    """Return predict.py: how to label images by the ONNX file, without this project."""
    return (files("thaw.pipeline") / "templates" / "predict.py.txt").read_text(encoding="utf-8")


def write_bundle(path: Path, trained: Trained, model: bytes) -> None:
    """Write the zip: the model, its classes, the model card with its chart, an example, requirements and licences.

    The model card is taken from the result's folder.
    """
    licences = "\n".join(f"- {line}" for line in licence_lines(trained.report, trained.record))
    texts = {
        "README.md": (trained.folder / "model_card.md").read_text(encoding="utf-8"),
        "class_names.json": json.dumps(trained.record["class_names"], ensure_ascii=False, indent=2) + "\n",
        "predict.py": example(),
        "requirements.txt": "".join(f"{_requirement(package)}\n" for package in PACKAGES),
        "LICENCES.md": f"# Licences\n\n{licences}\n",
    }
    with whole_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, text in texts.items():
            archive.writestr(_entry(name), text, zipfile.ZIP_DEFLATED)
        archive.writestr(_entry("reliability.png"), (trained.folder / "reliability.png").read_bytes())
        archive.writestr(_entry("model.onnx"), model)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DATE)
    entry.external_attr = 0o644 << 16
    return entry


def _requirement(package: str) -> str:
    """Return the package, at least in the version that is here."""
    found = installed_version(package)
    return f"{package}>={found}" if found else package
