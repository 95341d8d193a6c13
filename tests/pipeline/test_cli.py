"""Errors of libraries at the command line."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from thaw.pipeline.cli import STAGES, run

ROOT = Path(__file__).resolve().parents[2]


def out_of_memory(library: str) -> Exception:
    """Return what a library raises where it gets no memory."""
    if library == "tensorflow":
        from tensorflow.errors import ResourceExhaustedError

        return ResourceExhaustedError(None, None, "OOM when allocating tensor with\nshape[64,512] " + "x" * 500)
    return {
        "python": MemoryError("Unable to allocate 4 GiB"),
        "jax": RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes"),
        "torch": type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    }[library]


@pytest.mark.parametrize("library", ["python", "tensorflow", "jax", "torch"])
def test_no_memory_left_is_one_line_whoever_says_it(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise out_of_memory(library)

    monkeypatch.setattr("thaw.pipeline.verify.verify.main", fail)
    assert run(["verify", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory (")
    assert line.endswith("; choose a smaller --batch-size, a smaller layer, or --pooling avg")
    assert len(line) < 300


def test_an_error_that_nobody_expects_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("thaw.pipeline.verify.verify.main", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run(["verify", str(tmp_path)])


@pytest.mark.parametrize("module", ["thaw", "pipeline"])
def test_a_python_without_the_packages_is_one_line_that_names_the_right_one(module: str) -> None:
    """Which is what typing a report's command outside of the environment gives; -S leaves the packages out."""
    arguments = [sys.executable, "-S", "-m", module, "svm", "--run", "my run"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: this Python ({sys.executable}) has no ")
    assert "type .venv/bin/thaw svm --run 'my run' (make setup makes it)" in done.stderr


def test_without_a_stage_the_stages_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    usage, empty, *lines = capsys.readouterr().out.splitlines()
    assert (usage.split()[1:3], empty) == (["STAGE", "[--option"], "")
    assert [line.split()[0] for line in lines] == [
        *("weights", "backbones", "fit", "advise", "features", "svm", "logreg", "knn", "ridge", "random", "head"),
        *("finetune", "scratch", "ensemble", "report", "predict", "serve", "export", "verify"),
    ]
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("name", STAGES)
def test_the_function_of_every_stage_is_there(name: str) -> None:
    module, function = STAGES[name].function.split(":")
    assert callable(getattr(import_module(f"thaw.pipeline.{module}"), function))


@pytest.mark.parametrize("caller", [["-m", "thaw"], ["-m", "pipeline"], None])
def test_the_command_has_three_spellings(caller: list[str] | None) -> None:
    command = [sys.executable, *caller] if caller else [str(Path(sys.executable).with_name("thaw"))]
    done = subprocess.run([*command, "verify", "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("usage: thaw verify ")
