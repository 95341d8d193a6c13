"""Many small stages in one process, which must leave nothing behind: `python tests/faults/leaks.py --rounds 20`.

Each round extracts features, trains, verifies, reports and refuses a few damaged files, in a run of its own. After the
first rounds, in which libraries fill their caches, open files and threads may not grow at all, and memory by little.
With --leak each round keeps a file, a thread and 8 MB by hand: the check has to find all three.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import small_run
from corpus_images import PIXELS, saved
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run as thaw

WARM_UP = 3
MOST_MB_A_ROUND = 2.0
FAST = ["--image-size", "32", "--weights", "random", "--layers", "block1_pool", "--pooling", "avg", "--engine", "keras"]
kept: list[Any] = []


class Held(NamedTuple):
    """What the process holds after a round: open files, threads, MB of memory."""

    files: int
    threads: int
    megabytes: float


def held() -> Held:
    """Return what this process holds, what Python and the C library could give back left out."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(fields["VmRSS"].split()[0]) * 1024 / 1e6
    return Held(len(os.listdir("/proc/self/fd")), int(fields["Threads"]), memory)  # noqa: PTH208


def judge(rounds: Sequence[Held]) -> list[str]:
    """Return what has grown since the warm-up, memory by the slope between the medians of the halves."""
    after = rounds[WARM_UP:]
    found = [
        f"{name} grew from {before} to {now}"
        for name, before, now in zip(("open files", "threads"), after[0], after[-1], strict=False)
        if now > before
    ]
    half = len(after) // 2
    first, second = (np.median([one.megabytes for one in part]) for part in (after[:half], after[-half:]))
    slope = float(second - first) / (len(after) - half)
    return found + ([f"memory grew by {slope:.1f} MB a round"] if slope > MOST_MB_A_ROUND else [])


def one_round(folder: Path, pictures: Path) -> None:
    """Run the stages once and remove what they made."""
    run = folder / "run"
    begin = ["features", "--run", str(run), "--dataset", f"folder:{pictures}", *FAST]
    for command in (begin, ["svm", "--values", "0.01"], ["knn", "--values", "3"], ["report"], ["verify", str(run)]):
        own = [] if command[0] in ("features", "verify") else ["--run", str(run)]
        if code := thaw([*command, *own]):
            raise SystemExit(f"{command} ended with {code}")
    [path] = run.glob("features/*.h5")
    path.write_bytes(path.read_bytes()[:3000])
    (folder / "broken.npz").write_bytes(b"PK\5\6" + bytes(18))
    (folder / "broken.zip").write_bytes(b"PK\1\2" + bytes(60))
    for read in (
        lambda: FeatureFile(path),
        lambda: load_dataset(f"npz:{folder / 'broken.npz'}"),
        lambda: load_dataset(f"folder:{folder / 'broken.zip'}"),
    ):
        try:
            read()
        except InputError:
            continue
        raise SystemExit("a damaged file was not refused")
    shutil.rmtree(run)


def leak() -> None:
    """Keep a file, a thread and 8 MB."""
    waiting = threading.Thread(target=threading.Event().wait, daemon=True)
    waiting.start()
    kept.append((open(os.devnull), waiting, np.ones(10**6)))  # noqa: SIM115, PTH123


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--leak", action="store_true", help="leak by hand, which has to be found")
    parser.add_argument("--out", type=Path, help="JSON with what was held after each round")
    options = parser.parse_args()
    small_run.import_everything()
    rounds: list[Held] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, shift in (("ant", 0), ("bee", 90)):
            (folder / "pictures" / name).mkdir(parents=True)
            for number in range(12):
                picture = Image.fromarray(np.roll(PIXELS, number, axis=0) // 2 + shift)
                (folder / "pictures" / name / f"{number}.png").write_bytes(saved(picture, "PNG"))
        for number in range(options.rounds):
            one_round(folder, folder / "pictures")
            if options.leak:
                leak()
            rounds.append(held())
            print(f"round {number + 1}: {rounds[-1]}", flush=True)
    found = judge(rounds)
    print(f"{options.rounds} rounds: {'; '.join(found) or 'nothing grew'}")
    if options.out:
        options.out.write_text(json.dumps({"rounds": rounds, "grew": found}) + "\n")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
