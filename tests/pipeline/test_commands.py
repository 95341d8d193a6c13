"""The commands that are recommended: complete, and as the caller can type them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.pipeline.cli import STAGES, App, run
from thaw.pipeline.commands import CALLED_BY, TARGETS, as_typed, command, program
from thaw.pipeline.config import Shared


def test_a_command_says_its_run_and_only_what_it_adds(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path / "a b", image_size=64)
    words = shlex.split(command(settings, "svm", {"layer": "block4_pool", "transform": "sqrt", "skip_bad": True}))
    assert words == [
        *("thaw", "svm", "--run", str(tmp_path / "a b")),
        *("--layer", "block4_pool", "--transform", "sqrt", "--skip-bad"),
    ]


def test_a_recommended_command_line_is_understood() -> None:
    words = shlex.split(command(Shared(dataset="elpv", target="four", image_size=96), "svm", {"layer": "block4_pool"}))
    assert words[1] in App.model_fields


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `.venv/bin/thaw`, which is not on the PATH, and no make that calls."""
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "thaw").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv(CALLED_BY, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_is_bare_if_it_is_on_the_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout / ".venv" / "bin"))
    assert program() == "thaw"


def test_the_command_of_another_installation_on_the_path_is_not_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "other").mkdir()
    (checkout / "other" / "thaw").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(checkout / "other"))
    assert program() == ".venv/bin/thaw"


def test_the_command_has_its_folder_if_it_is_not_on_the_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program() == ".venv/bin/thaw"
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")
    assert program() == shlex.quote(str(checkout / ".venv" / "bin" / "thaw"))


def test_a_python_without_the_command_runs_the_package(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "thaw").unlink()
    assert program() == shlex.join([sys.executable, "-m", "thaw"])


MESSAGES = [
    (
        "there is no run in a b; fix the name, or begin it: make features DATASET=... RUN='a b'",
        "there is no run in a b; fix the name, or begin it: .venv/bin/thaw features --dataset ... --run 'a b'",
        "there is no run in a b; fix the name, or begin it: make features DATASET=... RUN='a b'",
    ),
    (
        "no model; type: rm -r runs/a/chance; make svm RUN=runs/a ARGS='--name old'",
        "no model; type: rm -r runs/a/chance; .venv/bin/thaw svm --run runs/a --name old",
        "no model; type: rm -r runs/a/chance; make svm RUN=runs/a ARGS='--name old'",
    ),
    (
        'no image; type make predict IMAGES="photo.jpg folder", or make predict IMAGES=- to read a list',
        "no image; type .venv/bin/thaw predict photo.jpg folder, or .venv/bin/thaw predict - to read a list",
        'no image; type make predict IMAGES="photo.jpg folder", or make predict IMAGES=- to read a list',
    ),
    (
        "a.jpg is damaged; replace it, or go on without it by --skip-bad",
        "a.jpg is damaged; replace it, or go on without it by --skip-bad",
        'a.jpg is damaged; replace it, or go on without it by ARGS="--skip-bad"',
    ),
    (
        "--image-size 20 is below the minimum; expected 32 or more, for example --image-size 48",
        "--image-size 20 is below the minimum; expected 32 or more, for example --image-size 48",
        '--image-size 20 is below the minimum; expected 32 or more, for example ARGS="--image-size 48"',
    ),
    (
        "out of memory; choose a smaller --batch-size, or --pooling avg, or start another run: --run 'a b'",
        "out of memory; choose a smaller --batch-size, or --pooling avg, or start another run: --run 'a b'",
        'out of memory; choose a smaller ARGS="--batch-size", or ARGS="--pooling avg", or start another run: '
        "RUN='a b'",
    ),
    (
        "thaw logreg --run runs/a --dataset 'folder:my flowers' --layers block4_pool,block5_pool",
        ".venv/bin/thaw logreg --run runs/a --dataset 'folder:my flowers' --layers block4_pool,block5_pool",
        "make logreg RUN=runs/a DATASET='folder:my flowers' ARGS=\"--layers block4_pool,block5_pool\"",
    ),
    (
        "thaw export runs/a --format bundle",
        ".venv/bin/thaw export runs/a --format bundle",
        ".venv/bin/thaw export runs/a --format bundle",
    ),
    ("type make setup EXTRA=elpv; make room", "type make setup EXTRA=elpv; make room", None),
    ("dask worker --nthreads 1 --memory-limit 5MB", "dask worker --nthreads 1 --memory-limit 5MB", None),
]


@pytest.mark.parametrize(("message", "in_a_shell", "by_make"), MESSAGES)
def test_a_message_names_a_command_as_the_caller_can_type_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, message: str, in_a_shell: str, by_make: str | None
) -> None:
    typed = ["svm", "--image-size", "20"]
    assert as_typed(message, typed) == in_a_shell
    monkeypatch.setenv(CALLED_BY, "make")
    assert as_typed(message, typed) == (by_make or message)


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("", ".venv/bin/thaw features --dataset ... --run flower"),
        ("make", "make features DATASET=... RUN=flower"),
    ],
)
def test_an_error_of_the_command_line_is_in_the_caller_s_form(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caller: str, expected: str
) -> None:
    monkeypatch.setenv(CALLED_BY, caller)
    assert run(["svm", "--run", "flower"]) == 1
    assert capsys.readouterr().err.endswith(f"or begin it: {expected}\n")


ROOT = Path(__file__).resolve().parents[2]


def test_the_makefile_says_that_it_calls() -> None:
    environment = {key: value for key, value in os.environ.items() if key != CALLED_BY}
    words = ["make", "-s", "-o", ".venv/.ready", f"VENV={Path(sys.executable).parents[1]}", "svm", "RUN=runs/none"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stderr.splitlines()[0].endswith("or begin it: make features DATASET=... RUN=runs/none")


def test_the_targets_are_the_stages_that_the_makefile_has() -> None:
    database = subprocess.run(["make", "-pn", "help"], capture_output=True, text=True, cwd=ROOT).stdout
    phony = re.search(r"^\.PHONY: (.*)$", database, re.MULTILINE)
    assert phony is not None
    assert set(TARGETS) == set(STAGES) & set(phony[1].split())
