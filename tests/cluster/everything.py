"""Stages over a scheduler and workers on hosts of their own, which are killed: `python tests/cluster/everything.py`.

Each trial runs a command with `--cluster` in a client of its own, kills a worker's machine (or the scheduler's) at a
random moment, and has to end with the values of a single process. Prints a table; `--out FILE` writes JSON.
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hosts
import numpy as np
from network import HOSTS, Network, network
from PIL import Image

from thaw.features.extraction.parts import peek_part
from thaw.features.store import FeatureFile

SETTINGS = [
    *("--weights", "random", "--image-size", "32", "--layers", "block2_pool", "--pooling", "avg"),
    *("--batch-size", "16", "--engine", "keras"),
]
OPTIONS = {"features": SETTINGS, "svm": [], "logreg": [], "advise": ["--budget", "0.5"]}
PART_ROWS = 32  # instead of 512, so that a few images are many tasks
CLIENT = (
    f"import sys, thaw.features.extraction.spec as e; e.PART_ROWS = {PART_ROWS}; "
    "from thaw.pipeline.cli import run; sys.exit(run(sys.argv[1:]))"
)
PORT = 8786
TOLERANCE = 1e-5  # of a model's probabilities
OF_ADVICE = ("size", "split_sha256", "features_sha256", "layers", "learning_curve", "audit")  # what time decides is not


def make_pictures(folder: Path, number: int) -> Path:
    """Write pictures in three classes, each in a colour of its own."""
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("grass", "sky", "sunset")):
        (folder / name).mkdir(parents=True)
        for i in range(number // 3):
            pixels = generator.integers(0, 140, (40, 50, 3))
            pixels[..., channel] += generator.integers(0, 115)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:04d}.png")
    return folder


def outcome(run_folder: Path, stage: str) -> Any:
    """Return what a stage is to end with."""
    if stage == "features":
        [path] = run_folder.glob("features/*.h5")
        with FeatureFile(path) as features:
            return str(features.attributes["values_sha256"])
    if stage == "advise":
        advice = json.loads((run_folder / "advice.json").read_text())
        return [advice[name] for name in OF_ADVICE]
    with (run_folder / stage / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    probabilities = [[float(v) for name, v in row.items() if name.startswith("p_")] for row in rows]
    return [row["predicted"] for row in rows], np.array(probabilities)


def agree(one: Any, two: Any) -> bool:
    """Return whether two outcomes are the same, probabilities to TOLERANCE."""
    if isinstance(one, tuple):
        return one[0] == two[0] and bool(np.abs(one[1] - two[1]).max() <= TOLERANCE)
    return bool(one == two)


class Cluster:
    """A scheduler and two workers that can be killed and started again."""

    def __init__(self, net: Network, folder: Path):
        self.net, self.folder = net, folder
        self.address = f"tcp://{net.addresses['scheduler']}:{PORT}"
        self.hosts: dict[str, hosts.Host] = {}

    def start(self, *names: str) -> None:
        """Start what has been killed, or all, and wait until the workers are registered."""
        logs = {name: self.folder / name / "log.txt" for name in names or HOSTS if name.startswith("worker")}
        sizes = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        for name in names or ("scheduler", "worker-0", "worker-1"):
            given = (self.folder / name, self.net.addresses[name])
            prefix = self.net.prefixes[name]
            if name == "scheduler":
                self.hosts[name], _ = hosts.scheduler(*given, port=PORT, prefix=prefix)
            else:
                self.hosts[name] = hosts.worker(self.address, *given, prefix=prefix)
        until = time.monotonic() + hosts.STARTS_WITHIN
        while not all("Registered to" in log.read_text()[sizes[name] :] for name, log in logs.items()):
            if time.monotonic() > until:
                raise SystemExit(f"a worker does not start: {[log.read_text()[-500:] for log in logs.values()]}")
            time.sleep(0.2)

    def kill(self, *names: str) -> None:
        """End hosts at once, all unless some are named."""
        for name in names or tuple(self.hosts):
            self.hosts.pop(name).kill()


class Trials:
    """All trials of one stage; `before` is the run without the stage's result."""

    def __init__(self, cluster: Cluster, stage: str, pictures: Path, before: Path):
        self.cluster, self.stage, self.pictures, self.before = cluster, stage, pictures, before
        self.generator = random.Random(f"{stage}")
        self.reference = self.seconds = None
        self.num_parts = sum(1 for _ in pictures.glob("*/*.png")) // PART_ROWS

    def command(self, run_folder: Path, *options: str) -> list[str]:
        """Return the command of the client on its host."""
        given = [self.stage, "--run", str(run_folder), "--dataset", f"folder:{self.pictures}", *options]
        prefix = self.cluster.net.prefixes["client"]
        return [*prefix, sys.executable, "-c", CLIENT, *given, *OPTIONS[self.stage]]

    def single(self, folder: Path) -> None:
        """Run the stage in a single process, for the values that all trials have to end with."""
        shutil.copytree(self.before, folder)
        done = subprocess.run(self.command(folder), cwd=hosts.ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.stage} ended with {done.returncode} in a single process: {done.stderr}")
        self.reference = outcome(folder, self.stage)

    def run(self, folder: Path, victim: str | None) -> str:
        """Run the stage over the cluster, kill `victim` on the way, and say in a word how it ended."""
        shutil.copytree(self.before, folder)
        command = self.command(folder, "--cluster", self.cluster.address)
        began = time.monotonic()
        client = subprocess.Popen(command, cwd=hosts.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        during = ""
        if victim is not None:
            during = self._kill(client, folder, victim)
        said = client.communicate()[1].strip().splitlines()
        if victim is None:
            self.seconds = time.monotonic() - began
        if victim == "scheduler":
            again = self._again(command, folder, client.returncode, said)
            return f"{again}{during}"
        if victim:
            self.cluster.start(victim)
        if client.returncode:
            return f"FAILED ({client.returncode}): {said[-1:]}"
        return f"same values{during}" if agree(outcome(folder, self.stage), self.reference) else "OTHER VALUES"

    def _kill(self, client: Any, folder: Path, victim: str) -> str:
        """Kill a host at a random moment of the stage, of which connecting is left out; return what it met."""
        if self.stage == "features":
            until, jitter = self.generator.randrange(self.num_parts), 1.0
        else:
            until, jitter = 0, 0.6 * (self.seconds or 1)
        while client.poll() is None and not (self.stage != "features" or self._begun(folder, until)):
            time.sleep(0.02)
        time.sleep(self.generator.uniform(0, jitter))
        ended = client.poll() is not None or (self.stage == "features" and any(folder.glob("features/*.h5")))
        done = sum(peek_part(path) is not None for path in folder.glob("features/*.parts/part-*.h5"))
        self.cluster.kill(victim)
        if ended or self.stage != "features":
            return ", killed after its end" if ended else ", killed before its end"
        return f", killed with {'no part' if done == 0 else 'some parts'} done"

    def _begun(self, folder: Path, number: int) -> bool:
        """Return whether so many parts are there, or the file is."""
        return len(list(folder.glob("features/*.parts/part-*.h5"))) >= max(1, number) or any(
            folder.glob("features/*.h5")
        )

    def _again(self, command: list[str], folder: Path, code: int, said: list[str]) -> str:
        """Start the scheduler and the workers again and type the command again."""
        self.cluster.kill()
        self.cluster.start()
        told = code == 0 or (code == 1 and said[-1].startswith("error: ") and "scheduler" in said[-1])
        if not told:
            return f"NOT SAID ({code}): {said}"
        again = subprocess.run(command, cwd=hosts.ROOT, capture_output=True, text=True, check=False)
        if again.returncode:
            return f"FAILED AGAIN ({again.returncode}): {again.stderr.splitlines()[-1:]}"
        said_so = "said, exit 1, second call" if code else "done before"
        same = agree(outcome(folder, self.stage), self.reference)
        return f"{said_so}: {'same values' if same else 'OTHER VALUES'}"


def trials(cluster: Cluster, stage: str, given: argparse.Namespace, folder: Path) -> dict[str, dict[str, int]]:
    """Return how often each outcome came, by what was killed."""
    run = Trials(cluster, stage, folder / "pictures", folder / "before")
    run.single(folder / f"{stage}-single")
    counts: dict[str, dict[str, int]] = {}
    plan = [None, *(f"worker-{i % 2}" for i in range(given.runs)), *["scheduler"] * given.scheduler_runs]
    for number, victim in enumerate(plan):
        where = folder / f"{stage}-{number}"
        ended = run.run(where / "run", victim)  # with no run beside it to take the rows from
        kind = (
            "nothing killed" if victim is None else "a worker killed" if victim != "scheduler" else "scheduler killed"
        )
        print(f"{time.strftime('%H:%M:%S')} {stage}, {kind}: {ended}", flush=True)
        counts.setdefault(kind, Counter())[ended] += 1  # type: ignore[arg-type]
        shutil.rmtree(where)
    return counts


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", default="features,svm,logreg")
    parser.add_argument("--runs", type=int, default=20, help="runs of each stage in which a worker is killed")
    parser.add_argument("--scheduler-runs", type=int, default=3, help="runs in which the scheduler is killed")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary, network() as net:
        folder = Path(temporary)
        make_pictures(folder / "pictures", given.images)
        (folder / "before").mkdir()
        cluster = Cluster(net, folder / "hosts")
        print(f"hosts: {net.kind}", flush=True)
        try:
            cluster.start()
            for stage in given.stages.split(","):
                found[stage] = trials(cluster, stage, given, folder)
                if stage == "features":
                    shutil.rmtree(folder / "before")
                    (folder / "features-single").rename(folder / "before")
        finally:
            cluster.kill()
    show(found)
    if given.out:
        given.out.write_text(json.dumps({"hosts": net.kind, "stages": found}, indent=2) + "\n")
    raise SystemExit(any(ended[:1].isupper() and ended[1:2].isupper() for ended in _all(found)))


def _all(found: dict[str, Any]) -> list[str]:
    return [ended for kinds in found.values() for counts in kinds.values() for ended in counts]


def show(found: dict[str, Any]) -> None:
    """Print the table of outcomes."""
    for stage, kinds in found.items():
        for kind, counts in kinds.items():
            for ended, count in sorted(counts.items()):
                print(f"{stage:<10} {kind:<18} {count:>4}  {ended}")


if __name__ == "__main__":
    main()
