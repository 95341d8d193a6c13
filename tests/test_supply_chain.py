"""Every package is pinned by a hash, and nothing installs one without."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
SCRIPTS = [ROOT / "Makefile", *(ROOT / ".ci").iterdir(), *sorted((ROOT / "tests").rglob("*.sh"))]
CODE = [path for folder in ("features", "models", "pipeline", "benchmarks") for path in (ROOT / folder).glob("*.py")]


def entries(lock: Path) -> list[str]:
    """The logical lines of a lock file, without comments and options."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith(("#", "--"))]


INSTALLERS = re.compile(
    r"(?:\bpip|\$\(PIP\)|\buv|\bpipx|\bconda)((?: --?[\w-]+| :all:)* (?:install|download|add|sync|run)\b[^|;&\n]*)"
    r"|\b(np[mx] (?:ci|i|install|add|exec)\b[^|;&\n>]*|npx [^|;&\n]*)"
)


def commands(text: str) -> list[str]:
    """The commands of a Makefile or shell script that install or fetch packages; of pip's, what follows its name."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    return ["".join(found) for found in INSTALLERS.findall("\n".join(lines))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_pins_one_version_and_its_hashes(lock: Path) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.fullmatch(
            r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.+!]+( ; [^#]*?)?( +--hash=sha256:[0-9a-f]{64})+\s*", entry
        ), entry


def test_the_locks_agree_on_every_version() -> None:
    versions: dict[tuple[str, str], set[str]] = {}
    for lock in LOCKS:
        for entry in entries(lock):
            name, version, marker = re.match(r"(\S+)==(\S+)(?: ; (.*?))? +--hash", entry).groups("")  # type: ignore[union-attr]
            versions.setdefault((name, marker), set()).add(version)
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


def test_the_project_s_extras_all_have_a_lock_that_make_lock_makes() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    section = makefile.split("\nlock:")[1].split("\n\n")[0]
    made = {f"{name}.lock" for name in re.findall(r"for extra in ([a-z ]+);", section)[0].split()}
    made |= set(re.findall(r"-o requirements/([a-z-]+\.lock)", section))
    by_hand = {"bench-torch.lock"}
    assert {lock.name for lock in LOCKS} == made | by_hand
    assert "bench-torch.lock" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_nothing_is_installed_without_hashes(path: Path) -> None:
    for command in commands(path.read_text(encoding="utf-8")):
        hashed = all(word in command for word in ("--require-hashes", "--only-binary :all:", ".lock"))
        itself = command.split() == ["install", "-q", "--no-deps", "--no-build-isolation", "--editable", "."]
        locked = command.startswith("npm ci --ignore-scripts")
        assert hashed or itself or locked, command


def test_the_check_on_commands_finds_what_it_looks_for() -> None:
    found = commands((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert sum("--require-hashes" in command for command in found) == 6
    assert len(commands((ROOT / "tests/browser/setup.sh").read_text(encoding="utf-8"))) == 1
    pips = "x && python -m pip -q install foo; $(PIP) install -r \\\n a.txt"
    script = f"{pips}\nnpm install b\n# pip install c\nuv pip install d"
    assert [command.split() for command in commands(script)] == [
        ["-q", "install", "foo"],
        ["install", "-r", "a.txt"],
        ["npm", "install", "b"],
        ["install", "d"],
    ]


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_no_code_installs_a_package(path: Path) -> None:
    """Messages name what to type; no program of ours calls pip."""
    assert not re.search(r"""["']pip["']|ensurepip|pip\.main|import pip\b""", path.read_text(encoding="utf-8"))


def test_what_the_browser_s_tests_install_is_pinned_by_integrity() -> None:
    packages = json.loads((ROOT / "tests/browser/package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = json.loads((ROOT / "tests/browser/package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert set(packages) == {"", *(f"node_modules/{name}" for name in wanted)}
    for path, package in packages.items():
        if path:
            assert package["version"] == wanted[path.removeprefix("node_modules/")]
            assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])


def test_commit_hooks_run_what_is_installed_and_fetch_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert set(re.findall(r"language: (.*)", hooks)) == {"system"}
