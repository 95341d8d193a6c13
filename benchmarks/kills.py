"""Kill extraction with SIGKILL at random moments, let it go on each time, and compare with an unbroken run.

`python -m benchmarks.kills --kills 20` prints how many parts each killed process had finished, and whether the ids,
their order and every feature value came out the same.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from thaw.features.store import FeatureFile


def start(dataset: str, run: Path) -> "subprocess.Popen[bytes]":
    """Start the features stage as a process of its own."""
    command = [sys.executable, "-m", "pipeline", "features", "--dataset", dataset, "--run", str(run)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished_parts(run: Path) -> int:
    """Return how many parts lie beside the feature file that is not there yet."""
    return len(list(run.glob("features/*.h5.parts/part-*.h5")))


def killed_run(dataset: str, run: Path, kills: int, longest: float, seed: int) -> list[int]:
    """Kill the stage `kills` times after up to `longest` seconds, then let it end; return the parts after each kill."""
    moments, parts = random.Random(seed), []
    while len(parts) < kills:
        process = start(dataset, run)
        try:
            process.wait(moments.uniform(0, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            parts.append(finished_parts(run))
            continue
        for path in run.glob("features/*.h5"):
            path.unlink()  # it was done before its time: begin again, the kills are still owed
    if start(dataset, run).wait() != 0:
        raise SystemExit("the last call did not end well")
    return parts


def differences(one: Path, two: Path) -> dict[str, bool]:
    """Return what the two feature files have in common."""
    [path, other] = (path for run in (one, two) for path in run.glob("features/*.h5"))
    with FeatureFile(path) as first, FeatureFile(other) as second:
        rows = np.ones(len(first.ids), bool)
        return {
            "same_ids_in_order": first.ids == second.ids,
            "no_image_twice": len(set(second.ids)) == len(second.ids),
            "same_values": all(
                np.array_equal(first.read([name], rows), second.read([name], rows)) for name in first.layers
            ),
        }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=15.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unbroken, killed = (Path(folder) / name / "run" for name in ("unbroken", "killed"))
        if start(options.dataset, unbroken).wait() != 0:
            raise SystemExit("the unbroken run did not end well")
        parts = killed_run(options.dataset, killed, options.kills, options.longest, options.seed)
        print(json.dumps({"kills": len(parts), "parts_after_each": parts, **differences(unbroken, killed)}))


if __name__ == "__main__":
    main()
