"""The features stage over a scheduler and workers that are processes of their own, small."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.engines.mnn_engine import mnn_version
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.cluster import client as cluster
from thaw.pipeline.cluster import scheduling

from tests.builders.features import features_of
from tests.cluster import hosts

pytestmark = pytest.mark.skipif(
    "THAW_CLUSTER" not in os.environ, reason="needs the hosts of a cluster: make cluster-test starts them"
)

SMALL = [
    "--weights",
    "random",
    "--image-size",
    "32",
    "--layers",
    "block1_pool",
    "--pooling",
    "avg",
    "--batch-size",
    "8",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    with hosts.cluster(tmp_path_factory.mktemp("hosts"), 2) as (_, address):
        yield address


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 16)  # parts of 16 images, the last of 8
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 120)


@pytest.fixture(scope="module")
def reference(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the features that a single process makes."""
    folder = tmp_path_factory.mktemp("single")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thaw.features.extraction.spec.PART_ROWS", 16)
        assert run(["features", "--dataset", f"folder:{image_folder}", "--run", str(folder), *keras()]) == 0
    return digest(folder)


def keras() -> list[str]:
    return [*SMALL, "--engine", "keras"]


def digest(folder: Path) -> str:
    with FeatureFile(features_of(folder)) as features:
        return str(features.attributes["values_sha256"])


def features(dataset: object, folder: Path, *options: str) -> int:
    return run(["features", "--dataset", f"folder:{dataset}", "--run", str(folder), *keras(), *options])


def test_the_values_are_those_of_a_single_process(
    image_folder: Path, tmp_path: Path, address: str, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features(image_folder, tmp_path / "r", "--cluster", address) == 0
    assert digest(tmp_path / "r") == reference
    assert capsys.readouterr().out.strip() == str(features_of(tmp_path / "r"))
    assert not list((tmp_path / "r").glob("features/*.parts"))


def test_parts_and_images_at_urls(image_folder: Path, tmp_path: Path, address: str, reference: str) -> None:
    where = ["--cluster", address, "--parts", f"local://{tmp_path}/shared"]
    assert features(f"local://{image_folder}", tmp_path / "r", *where) == 0
    assert digest(tmp_path / "r") == reference


@pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed")
def test_mnn_on_the_workers_gives_its_own_values(image_folder: Path, tmp_path: Path, address: str) -> None:
    values = []
    for name, options in (("here", []), ("there", ["--cluster", address])):
        command = ["features", "--dataset", f"folder:{image_folder}", "--run", str(tmp_path / name), *SMALL]
        assert run([*command, "--engine", "mnn", *options]) == 0
        with FeatureFile(features_of(tmp_path / name)) as made:
            assert made.attributes["engine"] == "mnn"
            values.append(made.read(list(made.layers), np.ones(len(made.ids), bool)))
    assert np.linalg.norm(values[0] - values[1]) <= 1e-3 * np.linalg.norm(values[0])


def killing(monkeypatch: pytest.MonkeyPatch, kill: Any) -> None:
    """Have `kill(client)` called once, when the first part is there."""
    some_done, killed = scheduling._some_done, []

    def then_kill(client: Any, futures: Any) -> Any:
        done = some_done(client, futures)
        if not killed:
            killed.append(True)
            kill(client)
        return done

    monkeypatch.setattr(scheduling, "_some_done", then_kill)


def test_a_worker_that_is_killed_costs_nothing_but_time(
    image_folder: Path, tmp_path: Path, address: str, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def kill(client: Any) -> None:
        pids.extend(client.run(os.getpid).values())
        os.kill(pids[0], signal.SIGKILL)

    killing(monkeypatch, kill)
    assert features(image_folder, tmp_path / "r", "--cluster", address) == 0
    assert len(pids) >= 1
    assert digest(tmp_path / "r") == reference


def test_a_lost_scheduler_is_said_and_a_second_call_goes_on(
    image_folder: Path, tmp_path: Path, address: str, reference: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with hosts.cluster(tmp_path / "hosts", 1) as (scheduler, own), monkeypatch.context() as patch:
        killing(patch, lambda client: scheduler.kill())
        assert features(image_folder, tmp_path / "r", "--cluster", own) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: the scheduler at {own} was lost")
    assert "what was finished is kept" in said
    assert list((tmp_path / "r").glob("features/*.h5.parts/part-*.h5"))
    assert features(image_folder, tmp_path / "r", "--cluster", address) == 0
    assert digest(tmp_path / "r") == reference


def broken(image_folder: Path, folder: Path) -> Path:
    for path in sorted(image_folder.glob("*/*.png"))[::3]:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    (folder / "grass" / "03.png").write_bytes(b"no image")
    return folder


def test_images_that_cannot_be_read(
    image_folder: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = broken(image_folder, tmp_path / "pictures")
    said = []
    for name, options in (("here", []), ("there", ["--cluster", address])):
        assert features(dataset, tmp_path / name, *options) == 1
        said.append(capsys.readouterr().err.strip().splitlines()[-1])
        assert features(dataset, tmp_path / name, "--skip-bad", *options) == 0
    assert said[0] == said[1]
    assert "grass/03.png" in said[0]
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
    skipped = [(tmp_path / name / "skipped.csv").read_bytes() for name in ("here", "there")]
    assert skipped[0] == skipped[1]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "Traceback" not in error
    for word in words:
        assert word in error


def test_a_data_set_that_a_worker_cannot_read_is_refused(
    image_folder: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(image_folder.parent)  # which the workers are not in
    assert features(f"/proc/self/cwd/{image_folder.name}", tmp_path / "r", "--cluster", address) == 1
    refused(capsys, "worker tcp://", "it cannot read", image_folder.name, "--dataset folder:URL")


def test_storage_that_is_not_shared_is_refused(
    image_folder: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert features(image_folder, Path("/proc/self/cwd/r"), "--cluster", address) == 1
    refused(capsys, "worker tcp://", "it cannot read and write /proc/self/cwd/r/features/", "--parts")
    assert features(image_folder, tmp_path / "r", "--cluster", address, "--parts", "memory://parts") == 1
    refused(capsys, "worker tcp://", "it cannot read and write memory://parts", "--parts")
    assert not list(tmp_path.rglob(".note-*"))


def test_versions_that_differ_are_refused(
    image_folder: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cluster, "installed_version", lambda name: "0.0.1")
    assert features(image_folder, tmp_path / "r", "--cluster", address) == 1
    refused(capsys, "worker tcp://", "numpy ", " on the worker and 0.0.1 here")
    assert not (tmp_path / "r").exists()


def test_a_scheduler_without_workers_is_refused(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 1)
    with hosts.cluster(tmp_path / "hosts", 0) as (_, address):
        assert features(image_folder, tmp_path / "r", "--cluster", address) == 1
    refused(capsys, "has 0 worker(s) after 1 s", "dask worker")


def test_workers_of_this_machine(
    image_folder: Path, tmp_path: Path, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert features(image_folder, tmp_path / "r", "--workers", "2") == 0
    assert digest(tmp_path / "r") == reference
    assert "cluster: 2 worker(s) at tcp://127.0.0.1:" in caplog.text
