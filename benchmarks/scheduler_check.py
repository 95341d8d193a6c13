"""`python -m benchmarks.scheduler_check`: the simulated scheduler beside Dask's own on 1, 2 and 4 local workers.

The parts sleep for seconds that are known, so that it is the scheduling that is compared, whatever else the machine
does. In a second round one worker is killed; the simulation is told when, and when it was back. In a third, with
`--images DATA` (an image folder or a .zip), the parts are those of `features`, and the simulation is told what each
took on its worker, which shares the cores with the others.
"""

import argparse
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cluster as cluster_benchmark
from benchmarks.cost_measurements import CONSTANTS
from benchmarks.cost_model import DOCUMENT, put, read_constants
from benchmarks.scheduler import Cluster, simulate

CHECKED = CONSTANTS.with_name("scheduler_check.json")
WORKERS = (1, 2, 4)
NUM_PARTS, KILLED_AFTER = 48, 3.0
NUM_IMAGES = 6144  # twelve parts


def parts() -> np.ndarray:
    """Return the seconds of each part: half a second to one and a half, one in ten three times as long."""
    generator = np.random.default_rng(0)
    return generator.uniform(0.5, 1.5, NUM_PARTS) * np.where(generator.random(NUM_PARTS) < 0.1, 3.0, 1.0)


def timed(workers: int, kill: bool = False) -> dict[str, Any]:
    """Return the seconds of one run on Dask's own scheduler, and of the same parts in the simulation."""
    from distributed import Client, LocalCluster, as_completed

    settings = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(n_workers=workers, **settings) as local,
        Client(local) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        client.wait_for_workers(workers)
        client.gather(client.map(time.sleep, [0.0] * workers, pure=False))
        pids = client.run(os.getpid)
        began = time.perf_counter()
        waiting = as_completed(client.map(time.sleep, parts().tolist(), pure=False))
        killing = beside.submit(_kill_one, client, pids, began) if kill else None
        for future in waiting:
            future.release()  # else its result is made again when the worker that holds it is lost
        seconds = time.perf_counter() - began
        losses, restart = killing.result() if killing else ((), 0.0)
    cluster = Cluster(workers, read_constants()["dispatch"], restart=restart, losses=losses)
    task = "parts that sleep, a worker killed" if kill else "parts that sleep"
    found = {"task": task, "workers": workers, "seconds": seconds, "restart": restart}
    return {**found, "simulated": simulate(cluster, parts()).seconds}


def extracted(data: Path, workers: int) -> dict[str, Any]:
    """Return the seconds of one extraction over workers, and of the same parts in the simulation."""
    images = cluster_benchmark.some_images(data, NUM_IMAGES)
    found = cluster_benchmark.measure(images, image_size=48, engine="keras", repeats=1, num_workers=workers)
    simulated = simulate(Cluster(workers, read_constants()["dispatch"]), np.array(found["parts"][0])).seconds
    task = f"`features`, {NUM_IMAGES:,} images"
    seconds = found["cluster"]["seconds"][0]
    return {"task": task, "workers": workers, "seconds": seconds, "restart": 0.0, "simulated": simulated}


def _kill_one(client: Any, pids: dict[str, int], began: float) -> tuple[tuple[tuple[float, int], ...], float]:
    """Kill a worker's process; return when and which, and the seconds until as many workers were there again."""
    time.sleep(max(0.0, began + KILLED_AFTER - time.perf_counter()))
    address, pid = next(iter(pids.items()))
    os.kill(pid, signal.SIGKILL)
    killed = time.perf_counter()
    while len(there := client.scheduler_info(n_workers=-1)["workers"]) < len(pids) or address in there:
        time.sleep(0.5)
    return ((killed - began, 0),), time.perf_counter() - killed


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| run | workers | back after s | seconds | simulated | difference |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in found:
        figures = (row["restart"], row["seconds"], row["simulated"])
        difference = 100 * (row["simulated"] / row["seconds"] - 1)
        shown = " | ".join(f"{figure:.1f}" for figure in figures)
        yield f"| {row['task']} | {row['workers']} | {shown} | {difference:+.1f} % |"


def main() -> None:
    """Time the runs, keep them, and put the table into the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="an image folder or a .zip, for runs of features")
    given = parser.parse_args()
    found = [timed(workers) for workers in WORKERS] + [timed(workers, kill=True) for workers in WORKERS[1:]]
    found += [extracted(given.images, workers) for workers in WORKERS] if given.images else []
    CHECKED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(put(DOCUMENT.read_text(encoding="utf-8"), "check", table(found)), encoding="utf-8")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
