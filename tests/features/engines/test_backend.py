import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from thaw.features.engines import backend
from thaw.features.engines.backend import backend_name, check_backend, pin_threads
from thaw.features.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def _before_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported Keras, with no folder of Keras."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_HOME", "/nonexistent")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.mark.usefixtures("_before_keras")
def test_the_variable_names_the_backend_before_the_file_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert backend_name() == "tensorflow"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}), encoding="utf-8")
    assert backend_name() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend_name() == "jax"


@pytest.mark.usefixtures("_before_keras")
@pytest.mark.parametrize("content", ["[]", "{", '{"floatx": "float32"}'])
def test_a_file_that_names_no_backend_leaves_tensorflow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(content, encoding="utf-8")
    assert backend_name() == "tensorflow"


@pytest.mark.usefixtures("_before_keras")
def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(InputError, match="^KERAS_BACKEND names the backend 'theano'; expected tensorflow, jax, torch$"):
        check_backend()


def test_a_backend_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command: it says what to type, shows no traceback and exits 1."""
    code = (
        "import sys; from thaw.features.engines import backend; backend.find_spec = lambda name: None; "
        "from thaw.pipeline.cli import run; sys.exit(run(['head', '--run', '/nonexistent']))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: KERAS_BACKEND names the backend jax, which is not installed; type pip install jax, or "
        "KERAS_BACKEND=tensorflow before the command"
    ]


@pytest.mark.parametrize(
    ("name", "variable"), [("tensorflow", "TF_NUM_INTRAOP_THREADS"), ("jax", "NPROC"), ("torch", "OMP_NUM_THREADS")]
)
@pytest.mark.parametrize(("given", "expected"), [(None, "3"), ("1", "1")])
def test_a_backend_gets_a_thread_per_processor_unless_told(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, given: str | None, expected: str
) -> None:
    monkeypatch.setenv(variable, given or "")
    if given is None:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(backend, "backend_name", lambda: name)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    pin_threads()
    assert os.environ[variable] == expected
