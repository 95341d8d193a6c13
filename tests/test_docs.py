"""What the README tells a reader to type exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
COMMANDS = re.findall(r"^make .*$", README, re.MULTILINE)


def options_of(stage: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", stage, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_make_command_of_the_readme_is_a_target_with_known_options(command: str) -> None:
    target = command.split()[1]
    dry_run = subprocess.run(["make", "-n", target], capture_output=True, text=True, check=False, cwd=ROOT)
    assert dry_run.returncode == 0, dry_run.stderr
    arguments = re.search(r'ARGS="([^"]*)"', command)
    if arguments:
        known = options_of(target)
        assert all(option in known for option in re.findall(r"--[a-z-]+", arguments[1])), command


@pytest.mark.parametrize("misspelt", ["DATSET=folder:flowers", "dataset=folder:flowers", "RUNS=runs/flowers"])
def test_make_refuses_a_variable_that_it_does_not_know(misspelt: str) -> None:
    """Otherwise it would train on digits."""
    done = subprocess.run(["make", "-n", "svm", misspelt], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "pipeline svm" not in done.stdout
    assert f"make received {misspelt}; expected one of DATASET RUN ARGS" in done.stderr


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCS[name]):
        assert (folder / target).exists(), target


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
