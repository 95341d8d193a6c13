"""The stages on frozen features: what they choose among, and features that do not fit the memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.linear import SoftmaxRegression
from thaw.pipeline.cli import run
from thaw.pipeline.run.report_json import read_report

from tests.builders.features import features_of

FAST = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool,block3_pool", "--pooling", "avg"]


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def started(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST) == 0
    return folder


def test_only_the_given_values_are_tried(started: Path) -> None:
    assert thaw("logreg", "--run", started, "--values", "1,0.01,0.1", "--layer", "block3_pool", "--name", "given") == 0
    tried = read_report(started / "given/report.json").hyperparameters["tried"]
    assert isinstance(tried, list)
    assert {trial["C"] for trial in tried} == {0.01, 0.1, 1.0}
    assert [trial["C"] for trial in tried[:3]] == [0.01, 0.1, 1.0]
    assert thaw("knn", "--run", started, "--values", "3,7", "--name", "neighbours") == 0
    assert read_report(started / "neighbours/report.json").hyperparameters["n_neighbors"] in (3, 7)


@pytest.mark.parametrize(
    ("stage", "values", "code", "text"),
    [
        ("svm", "0.1,-1", 2, "expected positive numbers joined by commas, for example 0.001,0.01,0.1"),
        ("svm", "0.1,x", 2, "expected positive numbers joined by commas"),
        ("knn", "1.5", 1, "error: --values 1.5: n_neighbors is a whole number; expected for example 1,5,20"),
        ("knn", "900", 1, "error: --values 900: there are only 45 images to fit; give a smaller value"),
    ],
)
def test_values_that_cannot_be(
    capsys: pytest.CaptureFixture[str], started: Path, stage: str, values: str, code: int, text: str
) -> None:
    assert thaw(stage, "--run", started, "--values", values, "--name", "refused") == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["svm", "logreg"])
@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_features_that_do_not_fit_are_read_from_the_file(
    caplog: pytest.LogCaptureFixture, started: Path, monkeypatch: pytest.MonkeyPatch, stage: str, transform: str
) -> None:
    options = ["--run", started, "--layer", "block2_pool+block3_pool", "--transform", transform, "--values", "0.01,0.1"]
    assert thaw(stage, *options, "--name", "in-memory") == 0
    assert "read from the file" not in caplog.text
    monkeypatch.setattr("thaw.pipeline.training.linear_choice.MEMORY_SHARE", 1e5)
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 10)
    assert thaw(stage, *options, "--name", "in-blocks", "--memory", "100") == 0
    assert "training on block2_pool+block3_pool takes about" in caplog.text
    reports = [read_report(started / name / "report.json") for name in ("in-memory", "in-blocks")]
    assert reports[0].hyperparameters["C"] == reports[1].hyperparameters["C"]
    assert reports[0].log_loss == pytest.approx(reports[1].log_loss, rel=1e-3)


def test_an_estimator_fits_to_rows_of_the_file(started: Path) -> None:
    with FeatureFile(features_of(started)) as features:
        mask = features.split != 2
        rows = FeatureRows(features, ["block3_pool", "block2_pool"], mask)
        block = features.read(["block3_pool", "block2_pool"], mask)
        np.testing.assert_array_equal(rows.read(slice(5, 20)), block[5:20])
        assert rows.shape == block.shape
        from_file = SoftmaxRegression(0.01).fit(rows, features.labels[mask])
        in_memory = SoftmaxRegression(0.01).fit(block, features.labels[mask])
    np.testing.assert_allclose(from_file.coef_, in_memory.coef_, atol=1e-5)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers."""
    distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")
    # Without a limit: the workers are threads of this process, and would pause because of what other tests hold.
    given = {"n_workers": 2, "threads_per_worker": 1, "protocol": "tcp://", "host": "127.0.0.1", "memory_limit": 0}
    with distributed.LocalCluster(
        **given, processes=False, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("stage", ["svm", "logreg", "ridge", "knn"])
def test_a_cluster_gives_what_one_process_gives(
    started: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 10)
    options = ["--run", started, "--layer", "block2_pool+block3_pool", "--transform", "sqrt", "--folds", "3"]
    options += ["--values", {"knn": "5,3", "ridge": "100,10"}.get(stage, "0.001,0.01")]
    assert thaw(stage, *options, "--name", f"{stage}-alone") == 0
    assert thaw(stage, *options, "--name", f"{stage}-cluster", "--cluster", scheduler) == 0
    alone, cluster = (read_report(started / f"{stage}-{name}" / "report.json") for name in ("alone", "cluster"))
    assert alone.hyperparameters["tried"] == cluster.hyperparameters["tried"]
    assert alone.log_loss == pytest.approx(cluster.log_loss, rel=1e-5)
    tables = [
        np.loadtxt(started / f"{stage}-{name}/predictions.csv", delimiter=",", skiprows=1, dtype=str)
        for name in ("alone", "cluster")
    ]
    np.testing.assert_array_equal(tables[0][:, :3], tables[1][:, :3])
    np.testing.assert_allclose(tables[0][:, 3:].astype(float), tables[1][:, 3:].astype(float), atol=1e-5)
