"""Rows worked on by the workers of a Dask cluster: the same models as by the threads of one process."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.distributed import pool as cluster_pool
from thaw.models.distributed import worker
from thaw.models.distributed.pool import ClusterBlocks, ClusterPool, open_pool
from thaw.models.distributed.worker import FileSource, RowShare
from thaw.models.selection.final_fit import final_fit
from thaw.models.selection.search import FitOptions, Trial, make_folds, try_candidate
from thaw.models.solver import blocks as blocks_module
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, Known, SquareRoots, block_rows
from thaw.models.strategies import STRATEGIES, Strategy, find_strategy

distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")

NUM_ROWS, WIDTHS = 2400, {"one": 40, "two": 25}
OPTIONS = FitOptions(seed=0, class_weight=None, jobs=1)
FEW = {"C": (1e-3,), "n_neighbors": (5, 3), "alpha": (1e3, 1e2)}


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", 420)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def write(path: Path, num_classes: int = 3) -> Path:
    random = np.random.default_rng(num_classes)
    labels = random.integers(0, num_classes, NUM_ROWS)
    columns = {
        "labels": labels,
        "ids": [f"row-{i}" for i in range(NUM_ROWS)],
        "split": random.integers(0, 3, NUM_ROWS).astype(np.uint8),
        "class_names": [f"class-{i}" for i in range(num_classes)],
    }
    shapes = {name: (NUM_ROWS, width) for name, width in WIDTHS.items()}
    with create_feature_file(path, shapes, "float32", columns, {"values_sha256": f"of {num_classes}"}) as file:
        for name, width in WIDTHS.items():
            near = 0.6 * (labels[:, None] == np.arange(width) % num_classes)
            file[f"features/{name}"][...] = random.standard_normal((NUM_ROWS, width)) + near
    return path


@dataclass(frozen=True)
class Data:
    """The rows of a file that are not test: in memory, in the file, and their labels."""

    memory: np.ndarray
    rows: FeatureRows
    labels: np.ndarray


def opened(path: Path, layers: str) -> Data:
    file = FeatureFile(path)
    mask, names = file.split != 2, layers.split("+")
    return Data(file.read(names, mask), FeatureRows(file, names, mask), file.labels[mask])


def both(strategy: Strategy, here: Blocks, there: Blocks, labels: np.ndarray, **changed: Any) -> list[Any]:
    """What is chosen among and fitted, in one process and on the cluster: accuracies, then the arrays of the model."""
    options, folds = replace(OPTIONS, **changed), make_folds(labels, None, 2, 0)
    strategy = replace(strategy, values=FEW[strategy.parameter])
    results = []
    for blocks in (here, there):
        accuracies = [one.accuracy for one in try_candidate(strategy, blocks, labels, folds, options)]
        fit = final_fit(strategy, Trial("one", "none", strategy.values[-1], 0.0), blocks, labels, folds, options)
        probabilities = fit.model.predict_proba(here.read(slice(0, 100)))
        inner = getattr(fit.model, "estimator", fit.model)
        arrays = [inner[-1].coef_, inner[-1].intercept_, inner[0].mean_] if strategy.batched else []
        results.append([np.array(accuracies), *arrays, probabilities])
    return results


@pytest.mark.parametrize("name", ["svm", "logreg"])
@pytest.mark.parametrize(
    ("num_classes", "layers", "roots", "class_weight"),
    [(2, "one", False, None), (3, "one+two", True, None), (7, "two", False, "balanced")],
)
def test_the_models_are_those_of_one_process(
    client: Any, tmp_path: Path, name: str, num_classes: int, layers: str, roots: bool, class_weight: str | None
) -> None:
    data = opened(write(tmp_path / "features.h5", num_classes), layers)
    here: Blocks = SquareRoots(ArrayBlocks(data.memory)) if roots else ArrayBlocks(data.memory)
    there = ClusterBlocks(SquareRoots(data.rows) if roots else data.rows, client)
    assert isinstance(open_pool(there), ClusterPool)
    own, theirs = both(STRATEGIES[name], here, there, data.labels, class_weight=class_weight)
    for ours, other in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize(("name", "kernel"), [("knn", "linear"), ("ridge", "linear"), ("svm", "rbf")])
def test_the_folds_of_other_strategies_run_on_the_workers(client: Any, tmp_path: Path, name: str, kernel: str) -> None:
    data = opened(write(tmp_path / "features.h5"), "one+two")
    own, theirs = both(
        find_strategy(name, kernel, NUM_ROWS), ArrayBlocks(data.memory), ClusterBlocks(data.rows, client), data.labels
    )
    for ours, other in zip(own, theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)


KILLED_AT = 16  # tasks: in the middle of the second pass


def kill_one(client: Any) -> None:
    os.kill(client.run(os.getpid, workers=sorted(client.nthreads())[:1]).popitem()[1], signal.SIGKILL)


def test_a_worker_that_is_killed_changes_nothing(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, submitted, submit = opened(write(tmp_path / "features.h5"), "one"), [], ClusterPool._submit

    def submit_and_kill(self: ClusterPool, *arguments: Any, **options: Any) -> Any:
        future = submit(self, *arguments, **options)
        submitted.append(future.key)
        if len(submitted) == KILLED_AT:
            kill_one(client)
        return future

    monkeypatch.setattr(ClusterPool, "_submit", submit_and_kill)
    own, theirs = both(STRATEGIES["logreg"], ArrayBlocks(data.memory), ClusterBlocks(data.rows, client), data.labels)
    assert len(submitted) > KILLED_AT
    for ours, other in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(ours, other)


def held(dask_worker: Any) -> list[bool]:
    return [
        isinstance(share._blocks, ArrayBlocks) for share in dask_worker.data.values() if isinstance(share, RowShare)
    ]


def held_by(client: Any) -> list[bool]:
    return [each for part in client.run(held).values() for each in part]


def hold_up_to(share_of_limit: float) -> float:
    before, worker.MEMORY_SHARE = worker.MEMORY_SHARE, share_of_limit
    return before


@dataclass(frozen=True)
class Sum:
    """The sum of the rows, twice: block by block, and by shares."""

    def __call__(self, block: np.ndarray, known: Known) -> tuple[np.ndarray, np.ndarray]:
        return known.codes.sum(keepdims=True), block.sum(axis=0)


@pytest.mark.parametrize("limited", [False, True])
def test_a_worker_holds_its_share_if_its_memory_limit_allows(client: Any, tmp_path: Path, limited: bool) -> None:
    data = opened(write(tmp_path / "features.h5"), "one+two")
    known = Known(np.ones(len(data.labels), int))
    before = client.run(hold_up_to, 0.0 if limited else worker.MEMORY_SHARE)
    try:
        with ClusterPool(ClusterBlocks(data.rows, client)) as pool, BlockPool(ArrayBlocks(data.memory)) as own:
            for _ in range(2):
                here, there = ([np.zeros(1, int), np.zeros(sum(WIDTHS.values()))] for _ in range(2))
                own.add(Sum(), known, here)
                pool.add(Sum(), known, there)
                assert here[0] == there[0] == len(data.labels)
                np.testing.assert_array_equal(here[1], there[1])
            patience = time.monotonic() + 30  # workers drop the shares of an earlier pool a moment after its end
            while len(found := held_by(client)) > len(pool._shares) and time.monotonic() < patience:
                time.sleep(0.1)
            assert len(found) == len(pool._shares)
            assert set(found) == {not limited}
    finally:
        client.run(hold_up_to, max(before.values()))


def test_nothing_of_a_share_is_sent_but_what_opens_it_again(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "features.h5"), "one")
    share = RowShare(*FileSource.of(data.rows), block_rows(data.rows), Known(data.labels))
    small = share.__sizeof__()
    share.open(float("inf"))
    assert share.__sizeof__() - small == data.memory.nbytes
    assert share.__getstate__()["_blocks"] is None
    share.open(data.memory.nbytes - 1)
    assert share.__sizeof__() == small


@pytest.mark.parametrize(("there", "text"), [(False, "sees no "), (True, "by its values_sha256")])
def test_storage_that_is_not_shared_is_refused(client: Any, tmp_path: Path, there: bool, text: str) -> None:
    path = write(tmp_path / "features.h5")
    data = opened(path, "one")
    path.rename(tmp_path / "elsewhere.h5")
    if there:
        write(path, num_classes=2)
    with ClusterPool(ClusterBlocks(data.rows, client)) as pool, pytest.raises(InputError, match=text) as refused:
        list(pool.each(Sum(), Known(data.labels)))
    assert str(refused.value).startswith("worker tcp://127.0.0.1:")
    assert "put the run on storage that the client and all workers see under the same path" in str(refused.value)


def test_a_cluster_that_has_lost_all_workers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_pool, "PATIENCE", 0.5)
    monkeypatch.setattr(cluster_pool, "WATCH", 0.2)
    data = opened(write(tmp_path / "features.h5"), "one")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        ClusterPool(ClusterBlocks(data.rows, client)) as pool,
        pytest.raises(InputError, match=r"has had no worker that works for .*; start some, with more memory, and type"),
    ):
        list(pool.each(Sum(), Known(data.labels)))


def test_rows_of_one_block_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", NUM_ROWS)
    data = opened(write(tmp_path / "features.h5"), "one")
    pool = open_pool(ClusterBlocks(data.rows, client=None))  # type: ignore[arg-type]
    assert isinstance(pool, BlockPool)
    np.testing.assert_array_equal(pool.blocks.read(slice(None)), data.memory)
