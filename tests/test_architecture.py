"""Which file may import which: one direction, no circles, and a folder that a reader can take in."""

import ast
import os
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.builders.source import FOLDERS, ROOT, arrows, imported, module_of, sources, within

# Each room imports only rooms that stand before it; a room is a sub-package, or a file beside the sub-packages.
ROOMS = {
    "features": (
        *("errors", "processor", "files", "prefetch", "schema", "store", "images", "pooling", "joined", "datasets"),
        *("backbones", "onnx", "foreign", "engines", "extraction"),
    ),
    "models": (
        *(
            "metrics",
            "calibration",
            "ensemble",
            "artifacts",
            "solver",
            "linear",
            "strategies",
            "distributed",
            "selection",
        ),
        *("neural", "onnx", "audit"),
    ),
    "pipeline": (
        *(
            "config",
            "memory",
            "versions",
            "formatting",
            "progress",
            "terminal",
            "templating",
            "thumbnails",
            "run",
            "commands",
        ),
        *("plots", "cluster", "extraction", "card", "inference", "training", "export", "serving", "comparison"),
        *("report", "advice", "fit", "verify", "backbones", "cli"),
    ),
}
MOST_FILES = {"pipeline": 12}  # in a folder, `__init__.py` among them; 14 in the others
ALLOWED_OF_FEATURES = ("errors", "files", "store", "backbones")  # what `models` may import of them


def room_of(module: str) -> tuple[str, str] | None:
    """Return the folder and the room of a module: (features, files) of `thaw.features.files.locks`."""
    parts = module.split(".")
    return (parts[1], parts[2]) if len(parts) > 2 and parts[2] != "__main__" else None


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_has_its_place_in_the_order(folder: str) -> None:
    found = {room[1] for path in sources(folder) if (room := room_of(module_of(path)))}
    assert found == set(ROOMS[folder])


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_imports_only_rooms_before_it(folder: str) -> None:
    back = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if (here := room_of(module)) and (there := room_of(other)) and here[0] == there[0] == folder
        if ROOMS[folder].index(there[1]) > ROOMS[folder].index(here[1])
    ]
    assert not back, back


def test_no_two_files_import_each_other_not_even_by_way_of_others() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(reversed(circle.args[1])))


def test_circles_are_looked_for_among_the_benchmarks_too() -> None:
    assert {"benchmarks.checks", "benchmarks.runner"} <= arrows()["benchmarks.files"]


def test_a_circle_would_be_found() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).prepare()


@pytest.mark.parametrize("path", sources("features"), ids=lambda path: path.name)
def test_features_imports_neither_models_nor_pipeline_nor_estimators(path: Path) -> None:
    names = imported(path)
    assert not within(names, "thaw.models", "thaw.pipeline")
    assert within(names, "sklearn") <= {"sklearn.datasets", "sklearn.datasets.load_digits"}


@pytest.mark.parametrize("path", sources("models"), ids=lambda path: path.name)
def test_models_imports_of_features_only_files_store_and_backbones(path: Path) -> None:
    names = imported(path)
    assert not within(names, "thaw.pipeline")
    allowed = within(names, *(f"thaw.features.{name}" for name in ALLOWED_OF_FEATURES))
    assert within(names, "thaw.features") == allowed


@pytest.mark.parametrize("folder", [*FOLDERS, "benchmarks", "requirements", "tests"])
def test_no_import_is_spelt_without_thaw(folder: str) -> None:
    """Bare, they would be the user's own `models/` or `features.py`, if there are such."""
    for path in sources(folder):
        assert not within(imported(path), "features", "models", "pipeline"), path


def test_linear_models_import_no_neural_library() -> None:
    code = "import sys, thaw.models.selection.search, thaw.models.artifacts, thaw.models.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"tensorflow", "keras", "jax", "torch"} & set(loaded.split())


def test_help_imports_no_heavy_library() -> None:
    code = "import sys; from thaw.pipeline.cli import run; run(['svm', '--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stderr
    assert not {"tensorflow", "keras", "sklearn", "onnx", "skops", "h5py"} & set(loaded.split())


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_keras_in_neural_code(folder: str) -> None:
    for path in sources(folder):
        assert not within(imported(path), "tensorflow", "jax", "torch"), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_can_be_taken_in(folder: str) -> None:
    for place in {path.parent for path in sources(folder)}:
        name = place.relative_to(ROOT).as_posix()
        assert len(list(place.glob("*.py"))) <= MOST_FILES.get(name, 14), name


def test_packages_are_empty_so_that_help_stays_light() -> None:
    inits = [path for folder in ROOMS for path in sources(folder) if path.name == "__init__.py"]
    assert len(inits) > 20
    assert [path for path in inits if path.read_text(encoding="utf-8").strip()] == []


def test_every_folder_is_in_the_wheel() -> None:
    """A sub-package that `pyproject.toml` does not name is missing after an install, and only there."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {module_of(path.parent / "__init__.py") for folder in FOLDERS for path in sources(folder)}
    assert set(named) == there
    assert len(named) == len(set(named))


def test_every_file_that_is_no_code_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    named = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    there = {
        path
        for folder in ROOMS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert len(there) > 50
    assert named == there


def test_the_cluster_s_digest_is_of_every_source_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with another version of one file in a sub-package would be taken otherwise."""
    from thaw.pipeline.cluster.client import _source_digest

    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    _source_digest()
    graphs = set((ROOT / "features" / "backbones" / "applications" / "graphs").iterdir())
    assert len(graphs) > 40
    assert set(read) == {path for folder in ("features", "models", "pipeline") for path in sources(folder)} | graphs


def test_no_class_name_has_two_meanings() -> None:
    found: dict[str, list[str]] = {}
    for path in (path for folder in FOLDERS for path in sources(folder)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.lstrip("_"), []).append(module_of(path))
    assert len(found) > 100
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("module", ["features.engines.keras_engine", "models.neural.network", "pipeline.cli"])
def test_tensorflow_computes_with_onednn_whatever_is_imported_first(module: str) -> None:
    """Without it the network is slower, and its numbers are not those of the published figures."""
    printed = "os.environ['TF_ENABLE_ONEDNN_OPTS'], os.environ['TF_CPP_MIN_LOG_LEVEL']"
    code = f"import os, thaw.{module}; print({printed})"
    own = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=own)
    assert done.stdout.split() == ["1", "3"]
