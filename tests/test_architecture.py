"""The three packages and the direction of their imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("features", "models", "pipeline")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at any depth in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(names: set[str], *packages: str) -> set[str]:
    return {name for name in names if any(name == p or name.startswith(f"{p}.") for p in packages)}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


@pytest.mark.parametrize("path", sources("features"), ids=lambda path: path.name)
def test_features_imports_neither_models_nor_pipeline_nor_estimators(path: Path) -> None:
    names = imported(path)
    assert not within(names, "models", "pipeline")
    assert within(names, "sklearn") <= {"sklearn.datasets", "sklearn.datasets.load_digits"}


@pytest.mark.parametrize("path", sources("models"), ids=lambda path: path.name)
def test_models_imports_of_features_only_the_store_and_the_backbones(path: Path) -> None:
    names = imported(path)
    assert not within(names, "pipeline")
    assert within(names, "features") == within(names, "thaw.features.store", "thaw.features.backbones.registry")


def test_linear_models_import_no_neural_library() -> None:
    code = "import sys, thaw.models.selection.search, thaw.models.artifacts, thaw.models.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"tensorflow", "keras", "jax", "torch"} & set(loaded.split())


def test_help_imports_no_heavy_library() -> None:
    code = "import sys; from thaw.pipeline.cli import run; run(['svm', '--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stderr
    assert not {"tensorflow", "keras", "sklearn", "onnx", "skops", "h5py"} & set(loaded.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_only_keras_in_neural_code(package: str) -> None:
    for path in sources(package):
        assert not within(imported(path), "tensorflow", "jax", "torch"), path
