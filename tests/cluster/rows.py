"""Fits of features larger than each worker's memory: `python tests/cluster/rows.py`.

Four workers with a memory limit each, as processes of their own, fit both linear classifiers to a feature file that is
larger than one worker's limit; then fits of a smaller one, in each of which a worker is killed at a random moment. The
models are compared with those of one process. Prints one JSON object; fails where a model differs by more than 1e-5
or a worker's memory grew by as much as the limit.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.linear import LinearSVM, SoftmaxRegression
from thaw.models.selection.path import LinearPath
from thaw.models.selection.search import make_folds

KINDS = {"svm": LinearSVM, "logreg": SoftmaxRegression}
WIDTH, NUM_CLASSES, NUM_WORKERS, VALUE = 1024, 4, 4, 1e-4
ALLOWED = 1e-5


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=800, help="of the features")
    parser.add_argument("--limit", type=int, default=500, help="MB of memory for each worker")
    parser.add_argument("--kills", type=int, default=20, help="runs in each of which a worker is killed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"large": large(Path(folder), given.megabytes, given.limit)}
        print(found, file=sys.stderr, flush=True)
        found["kills"] = kills(Path(folder), given.kills)
    print(json.dumps(found, indent=1))
    worst = max(fit["largest_difference"] for fit in [*found["large"]["fits"].values(), *found["kills"]])
    grown = max(found["large"]["worker_growth_mb"])
    if worst > ALLOWED or grown >= given.limit:
        sys.exit(f"models differ by {worst:.1e}, a worker grew by {grown:.0f} MB of {given.limit}")


def write(path: Path, megabytes: float) -> None:
    """Write a feature file of random features that tell the classes apart a little, block by block."""
    num_rows, generator = int(megabytes * 1e6 / 4 / WIDTH), np.random.default_rng(0)
    labels = generator.integers(0, NUM_CLASSES, num_rows)
    columns = {
        "labels": labels,
        "ids": [str(i) for i in range(num_rows)],
        "split": np.zeros(num_rows, np.uint8),
        "class_names": [str(i) for i in range(NUM_CLASSES)],
    }
    attributes = {"values_sha256": str(megabytes)}
    with create_feature_file(path, {"layer": (num_rows, WIDTH)}, "float32", columns, attributes) as file:
        for start in range(0, num_rows, 4096):
            some = labels[start : start + 4096]
            values = generator.standard_normal((len(some), WIDTH), np.float32)
            values += np.float32(0.1) * (some[:, None] == np.arange(WIDTH) % NUM_CLASSES)
            file["features/layer"][start : start + 4096] = values


def fitted(kind: str, features: FeatureFile, client: Client | None) -> tuple[np.ndarray, float]:
    """Return coefficients and intercepts side by side, and the seconds of the fit with its held-out scores."""
    rows = FeatureRows(features, ["layer"], features.split != 2)
    began = time.perf_counter()
    with open_pool(rows if client is None else ClusterBlocks(rows, client)) as pool:
        path = LinearPath(KINDS[kind], pool, features.labels, make_folds(features.labels, None, 2, 0), None)
        model = path.fit(VALUE, held_out=True).steps["classify"]
    return np.column_stack([model.coef_, model.intercept_]), time.perf_counter() - began


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference of a coefficient, over the largest coefficient."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def memory() -> tuple[int, int]:
    """Return the bytes of memory that the worker takes now, and the most that it has taken."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024


def local(num_workers: int, limit: int | None) -> LocalCluster:
    """Return workers on loopback, one thread each, with a limit in MB."""
    allowed: Any = f"{limit}MB" if limit else "auto"
    one = {"n_workers": num_workers, "threads_per_worker": 1, "memory_limit": allowed}
    return LocalCluster(**one, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50)


def large(folder: Path, megabytes: int, limit: int) -> dict[str, Any]:
    """Fit both kinds out of core."""
    path = folder / "large.h5"
    write(path, megabytes)
    fits: dict[str, Any] = {}
    with FeatureFile(path) as features:
        alone = {kind: fitted(kind, features, None) for kind in KINDS}
        with local(NUM_WORKERS, limit) as cluster, Client(cluster, set_as_default=False) as client:
            before = client.run(memory)
            for kind, (model, seconds) in alone.items():
                found, spread = fitted(kind, features, client)
                said = {"seconds_one_process": round(seconds, 1), "seconds_cluster": round(spread, 1)}
                fits[kind] = {**said, "largest_difference": difference(found, model)}
            after = client.run(memory)
    peaks = {worker: round(peak / 1e6) for worker, (_, peak) in after.items()}
    growth = [round((after[worker][1] - before[worker][0]) / 1e6) for worker in after if worker in before]
    size = {"features_mb": megabytes, "worker_limit_mb": limit, "workers_lost": len(set(before) - set(after))}
    return {**size, "worker_peak_mb": list(peaks.values()), "worker_growth_mb": growth, "fits": fits}


def kills(folder: Path, number: int) -> list[dict[str, Any]]:
    """Fit both kinds in turn, each time on workers of its own, one of which is killed at a random moment of the fit."""
    path, found, moments = folder / "small.h5", [], random.Random(0)
    write(path, 60)
    with FeatureFile(path) as features:
        alone = {kind: fitted(kind, features, None)[0] for kind in KINDS}
        usual = {kind: killed(kind, features, moments, None)[1] for kind in KINDS}
        while len(found) < number:
            kind = list(KINDS)[len(found) % len(KINDS)]
            after = moments.uniform(0, 0.9) * usual[kind]
            model, seconds = killed(kind, features, moments, after)
            if seconds > after:  # else the fit was over before
                said = {"kind": kind, "killed_after": round(after, 2), "seconds": round(seconds, 1)}
                found.append({**said, "largest_difference": difference(model, alone[kind])})
                print(found[-1], file=sys.stderr, flush=True)
    return found


def killed(kind: str, features: FeatureFile, moments: random.Random, after: float | None) -> tuple[np.ndarray, float]:
    """Return what `fitted` does where one of its workers is killed `after` seconds, None for never."""
    with local(NUM_WORKERS, None) as cluster, Client(cluster, set_as_default=False) as client:
        victim = moments.choice(sorted(client.run(os.getpid).values()))
        killing = threading.Timer(after or 0.0, os.kill, (victim, signal.SIGKILL if after else 0))
        killing.start()
        result = fitted(kind, features, client)
        killing.join()
    return result


if __name__ == "__main__":
    main()
