"""What the pages tell a reader exists, and the commands of the README and docs/use.md run as they are written."""

import contextlib
import doctest
import importlib
import io
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.pipeline import cli
from thaw.pipeline.cli import STAGES
from thaw.pipeline.commands import CALLED_BY
from thaw.pipeline.config import Shared
from thaw.pipeline.run.run_json import write_run

from tests.builders.onnx_networks import convolutional, state
from tests.builders.source import FOLDERS, ROOT, module_of, sources
from tests.test_architecture import ROOMS

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
}
README = PAGES["README.md"]
MOST_LINES = 200
# Options that the test adds to a stage, so that it ends in seconds; all else is as the page has it.
QUICK = {"head": ["--epochs", "1"], "finetune": ["--epochs", "1"]}
NOT_STAGES = ("setup", "demo", "cifar10", "test", "bench", "format", "cluster-test")  # targets that call many programs


def shell_lines(page: str) -> list[str]:
    """The commands of a page's `sh` blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line]


def thaw_words(line: str) -> list[str] | None:
    """The words after `thaw` of a command line; None if it is no call of a stage."""
    command = line.rpartition("|")[2].partition(">")[0].strip()
    words = shlex.split(command)
    if words[0] == "make":
        call = ["make", "-n", "-s", "-o", ".venv/.ready", "-o", ".venv/.ready-dev"]
        targets = [word for word in words[1:] if word != "-s"]
        done = subprocess.run([*call, *targets], capture_output=True, text=True, check=True, cwd=ROOT)
        words = [""] if targets[0] in NOT_STAGES else shlex.split(done.stdout)
    return words[1:] if words[0] in ("thaw", ".venv/bin/thaw") else None


COMMANDS = [(page, line) for page in PAGES for line in shell_lines(page)]
STAGE_COMMANDS = [(page, line) for page, line in COMMANDS if re.search(r"\b(make|thaw) (?!-n)", f"{line} ")]
RUN = [line for page, line in COMMANDS if page in ("README.md", "docs/use.md")]


@pytest.fixture
def beside_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ONNX file of docs/networks.md, whose defaults are read when a command line is."""
    state(convolutional(tmp_path / "dinov2.onnx"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("beside_a_network")
@pytest.mark.parametrize(("page", "line"), STAGE_COMMANDS)
def test_every_command_of_the_pages_is_understood(page: str, line: str) -> None:
    words = thaw_words(line)
    if words is not None:
        name, _ = cli._parse(words)
        assert name == words[0]


@pytest.mark.parametrize("misspelt", ["DATSET=folder:flowers", "dataset=folder:flowers", "RUNS=runs/flowers"])
def test_make_refuses_a_variable_that_it_does_not_know(misspelt: str) -> None:
    """Otherwise it would train on digits."""
    done = subprocess.run(["make", "-n", "svm", misspelt], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "thaw svm" not in done.stdout
    assert f"make received {misspelt}; expected one of DATASET RUN ARGS" in done.stderr


def test_the_readme_has_commands_and_is_short() -> None:
    assert len(shell_lines("README.md")) >= 14
    assert len(README.splitlines()) <= MOST_LINES


@pytest.fixture(scope="module")
def beside_flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's placeholders name: `flowers`, new images, and a run that begins quickly.

    The run's first feature set is there before the first command: small images and few features.
    """
    folder = tmp_path_factory.mktemp("reader")
    generator = np.random.default_rng(0)
    for number in range(36):
        name = ("rose", "tulip", "daisy")[number % 3]
        pixels = generator.integers(0, 140, (240, 250, 3))
        pixels[..., number % 3] += 100
        (folder / "flowers" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "flowers" / name / f"{number:03d}.jpg")
    (folder / "new-photos").mkdir()
    for path in ("holiday.jpg", "new-photos/1.jpg", "new-photos/2.jpg"):
        Image.fromarray(generator.integers(0, 255, (60, 40, 3)).astype(np.uint8)).save(folder / path)
    run = folder / "runs" / "flowers"
    run.mkdir(parents=True)
    small = {"image_size": 32, "layers": "block2_pool", "pooling": "avg", "engine": "keras"}
    write_run(Shared.model_validate({"run": run, "dataset": f"folder:{folder / 'flowers'}", **small}))
    return folder


def interrupt_when_served(port: int) -> None:
    """Type Ctrl-C once the local page answers."""
    for _ in range(600):
        time.sleep(0.05)
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
            break
    signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_the_commands_run_one_after_the_other(
    beside_flowers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    words = thaw_words(line)
    if words is None:
        pytest.skip("it calls many programs: parsed, not run")
    if words[0] in ("advise", "fit"):
        pytest.skip("it takes minutes: tests/pipeline/advice/test_advise.py and tests/pipeline/fit/test_fit.py run it")
    monkeypatch.chdir(beside_flowers)
    monkeypatch.setenv(CALLED_BY, "make")
    first, pipe, _ = line.rpartition("|")
    if pipe:
        listed = subprocess.run(first, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        monkeypatch.setattr(sys, "stdin", io.StringIO(listed.stdout))
    if words[0] == "serve":
        threading.Thread(target=interrupt_when_served, args=(8000,), daemon=True).start()
    code = cli.run([*words[:1], *QUICK.get(words[0], []), *words[1:]])
    written = capsys.readouterr()
    assert code == 0, written.out + written.err


def test_the_example_of_an_exported_bundle_labels_an_image(
    beside_flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/export.md shows the example that the bundle holds."""
    run, folder = beside_flowers / "runs" / "flowers", beside_flowers / "bundle"
    if not list(run.glob("*/model.*")):
        pytest.skip("no strategy was trained before this test")
    bundle = beside_flowers / "bundle.zip"
    assert cli.run(["export", str(run), "--name", "svm", "--format", "bundle", "--out", str(bundle)]) == 0
    zipfile.ZipFile(bundle).extractall(folder)
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGES["docs/export.md"], re.MULTILINE | re.DOTALL)
    (script,) = folder.rglob("predict.py")
    assert script.read_text(encoding="utf-8") == example
    words = [sys.executable, str(script), str(beside_flowers / "holiday.jpg")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.search(r"holiday\.jpg: (rose|tulip|daisy), probability [01]\.\d{4}$", done.stdout.strip())


SOURCES = [path for folder in (*FOLDERS, "benchmarks") for path in sources(folder)]
EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_in_docstrings_give_what_they_show(path: Path) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module_of(path)))
    assert tried > 0
    assert failed == 0


def test_docstrings_have_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"(?<![\w/.-])((?:tests|features|models|pipeline|benchmarks|thaw)/[\w/]*\w\.\w+)", PAGES[page])
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_names_is_there(page: str) -> None:
    for module in set(re.findall(r"python -m ((?:benchmarks|requirements|thaw|tests)[\w.]*)", PAGES[page])):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_tree_of_the_readme_is_that_of_the_checkout() -> None:
    tree = README.partition("## Where the code is")[2].partition("```\n")[2].partition("```")[0]
    top, named = "", set()
    for line in tree.splitlines():
        if not line.startswith(" "):
            top = line.split("/")[0]
        else:
            named |= {f"{top}/{name}" for name in re.findall(r"([a-z_]+)/", line[: line.find("   ", 3)])}
    folders = {f"{name}/{path.name}" for name in FOLDERS for path in (ROOT / name).iterdir() if path.is_dir()}
    assert named == {name for name in folders if "__pycache__" not in name and "templates" not in name}


@pytest.mark.parametrize("folder", ROOMS)
def test_the_page_of_the_architecture_has_the_rooms_in_their_order(folder: str) -> None:
    assert f"| `{folder}/` | {', '.join(ROOMS[folder])} |" in PAGES["docs/architecture.md"]


def test_the_table_of_targets_names_the_modules_that_the_command_calls() -> None:
    rows = re.findall(r"^\| `(?:make|thaw) (.*?) \| \[(pipeline/\S+\.py)\]", README, re.MULTILINE)
    for targets, path in rows:
        for stage in re.findall(r"[a-z]+", targets):
            assert STAGES[stage].function == f"{path.removeprefix('pipeline/')[:-3].replace('/', '.')}:main"
    assert len(rows) >= 8


def test_every_contract_target_is_phony() -> None:
    """`features`, `models` and `pipeline` are folders, so a target of that name must not be taken for a file."""
    database = subprocess.run(["make", "-pn", "help"], capture_output=True, text=True, check=False, cwd=ROOT).stdout
    phony = re.search(r"^\.PHONY: (.*)$", database, re.MULTILINE)
    assert phony is not None
    targets = (
        "setup demo test features svm logreg knn ridge head finetune scratch random advise report predict cifar10 "
        "bench faults fuzz serve help test-browser test-backends cluster-test"
    )
    assert set(targets.split()) <= set(phony[1].split())
