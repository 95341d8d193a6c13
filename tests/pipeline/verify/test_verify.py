"""A run is checked as a whole: each artifact against its digests, and all of them against each other."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.pipeline.cli import run

FAST = ["--image-size", "32", "--weights", "random", "--layers", "block5_pool", "--engine", "keras"]
SET = "vgg16-32-block5_pool-keras-random"


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def whole(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    assert thaw("svm", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST) == 0
    assert thaw("head", "--run", folder, "--epochs", 1) == 0
    return folder


def test_a_whole_run_is_whole(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("verify", whole) == 0
    names = ("run.json", "split.csv", "images.csv", f"features/{SET}.h5", "chance", "head", "svm")
    assert capsys.readouterr().out.splitlines() == [f"{name}: whole" for name in names]


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("verify", tmp_path) == 1
    assert capsys.readouterr().err.strip() == (
        f"error: there is no run in {tmp_path}; expected a folder with a run.json: fix the name"
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def change_attribute(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["weights_source"] = "elsewhere"


def change_value(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["features/block5_pool"][0, 0] = np.float32(0.25)


def change_seed(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 1}))


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("svm/model.skops", flip, "svm: model.skops in"),
        ("head/model.weights.h5", flip, "head: model.weights.h5 in"),
        ("svm/predictions.csv", lambda path: path.write_text(path.read_text() + " "), "svm: "),
        ("svm/SHA256SUMS", lambda path: path.unlink(), "svm: "),
        (f"features/{SET}.h5", flip, f"features/{SET}.h5: "),
        (f"features/{SET}.h5", change_attribute, f"features/{SET}.h5: "),
        (f"features/{SET}.h5", change_value, f"features/{SET}.h5: "),
        ("split.csv", lambda path: path.write_text(path.read_text().replace("train", "test", 1)), "svm: "),
        ("run.json", change_seed, "svm: "),
    ],
)
def test_what_changed_is_found(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: Callable[[Path], object],
    finding: str,
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    change(tmp_path / "run" / name)
    assert thaw("verify", tmp_path / "run") == 1
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if not line.endswith(": whole")]
    assert any(line.startswith(finding) for line in found), lines
    assert all("type: " in line or "train" in line or "remove" in line for line in found)


def test_a_missing_feature_set_is_found_if_a_result_was_made_on_it(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (run_folder / "features" / f"{SET}.h5").unlink()
    assert thaw("verify", run_folder) == 1
    assert f"features/{SET}.h5: it is gone, and these were made on it: head, svm; type: " in capsys.readouterr().out
    for name in ("head", "svm"):
        shutil.rmtree(run_folder / name)
    assert thaw("verify", run_folder) == 0


def test_a_result_can_be_checked_by_anyones_tools(whole: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=whole / "svm", capture_output=True)
    assert done.returncode == 0, done.stderr
