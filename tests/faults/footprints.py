"""Stages that hold a network, under a hard limit of memory: `python tests/faults/footprints.py`.

TensorFlow and the network take more than a block of data does, so that each stage is measured against itself: it runs
on few images, and then on many, in a process that may allocate what it did with few and an allowance, far below what
the many take (RLIMIT_DATA, as in bounds.py). As a control it runs on the few with half of what it took: it has to fail.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import small_run
from bounds import make_run, status

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights

LOOKS_EVERY = 0.01  # seconds
REPEATS = 3  # of the stage on few images: what TensorFlow allocates differs by a hundred MB from run to run
FEATURES = ["--weights", "random", "--image-size", "32", "--layers", "block1_pool", "--batch-size", "32"]
VALUES = {"whole": 16 * 16 * 64, "averaged": 64, "input": 32 * 32 * 3, "head": 2 * 2 * 512, "finetune": 2 * 2 * 512}
ONE_EPOCH = ["--recipe", "article", "--epochs", "1"]
HEAD: dict[str, Any] = {"layers": "block5_pool", "image_size": 64, "weights": "random", "engine": "keras"}
FINETUNE: dict[str, Any] = {"layers": "block4_pool", "image_size": 32, "weights": "random", "engine": "keras"}


class Stage(NamedTuple):
    """A stage's commands on few images and on many, the MB that the many take, what it makes, what it reads by line."""

    name: str
    few: list[str]
    many: list[str]
    data_mb: float
    made: Path | None = None
    lines: tuple[Iterable[Path], Iterable[Path]] = ((), ())


class Footprint(NamedTuple):
    """What a stage allocated on few images and on many, what these take, all in MB; exit codes, of the control too."""

    stage: str
    few_mb: float
    many_mb: float
    data_mb: float
    codes: tuple[int, int, int]


def child(command: list[str], limit_mb: float, out: Path) -> int:
    """Run a command in this process with at most `limit_mb` allocated; write what it allocated at most, in MB."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(LOOKS_EVERY):
            most[0] = max(most[0], status("VmData"))

    if limit_mb:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_mb * 1e6),) * 2)
    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    code = small_run.run(command)
    over.set()
    watch.join()
    out.write_text(json.dumps(most[0]))
    return code


def started(command: list[str], lines: Iterable[Path], limit_mb: float, folder: Path) -> tuple[int, float]:
    """Run a command in a process of its own; return its exit code and the MB that it allocated at most."""
    out = folder / "most.json"
    out.unlink(missing_ok=True)
    own = [sys.executable, __file__, "--limit", str(limit_mb), "--out", str(out), "--child", *command]
    said = "".join(f"{line}\n" for line in lines).encode()
    with (folder / "said.txt").open("wb") as log:
        code = subprocess.run(own, input=said, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode
    return code, json.loads(out.read_text()) if out.exists() else float("nan")


def stages(folder: Path, few: int, many: int) -> Iterable[Stage]:
    """Yield the stages, each after what it needs was made."""
    sides = {"few": few, "many": many}
    pictures = {side: small_run.make_pictures(folder / side / "pictures", count // 3) for side, count in sides.items()}
    begun = {
        side: ["features", "--dataset", f"folder:{where}", "--run", str(folder / side / "run"), *FEATURES]
        for side, where in pictures.items()
    }
    whole = {side: [*command, "--pooling", "none"] for side, command in begun.items()}
    yield Stage("features", whole["few"], whole["many"], 4e-6 * many * VALUES["whole"], folder / "few" / "run")
    at = ["--run", str(folder / "labelled")]
    begin = ["features", *at, "--dataset", f"folder:{pictures['few']}", *FEATURES, "--pooling", "avg"]
    for command in (begin, ["svm", *at, "--values", "0.01"]):
        if code := small_run.run(command):
            raise SystemExit(f"{command} ended with {code}")
    label = ["predict", *at, "--strategy", "svm", "-"]
    names = {side: sorted(where.rglob("*.png")) for side, where in pictures.items()}
    inputs_mb = 4e-6 * many * (VALUES["input"] + VALUES["averaged"])
    yield Stage("predict", label, label, inputs_mb, lines=(names["few"], names["many"]))
    weights = load_weights("random", BACKBONES["vgg16"]).sha256
    for name, given in (("head", HEAD), ("finetune", FINETUNE)):
        runs = {}
        for side, count in sides.items():
            (folder / name / side).mkdir(parents=True)
            runs[side] = make_run(folder / name / side, 4 * count, given, VALUES[name], weights)
        room = ["--memory", str(needed([name, "--run", str(runs["few"]), *ONE_EPOCH], folder))]
        trained = {side: [name, "--run", str(run), *ONE_EPOCH, *room] for side, run in runs.items()}
        yield Stage(name, trained["few"], trained["many"], 4e-6 * 4 * many * VALUES[name], runs["few"] / name)


def needed(command: list[str], folder: Path) -> int:
    """Return the --memory that a stage asks for where it has none."""
    started([*command, "--memory", "1"], (), 0, folder)
    return int((folder / "said.txt").read_text().rstrip().rpartition("--memory ")[2])


def _on_few(stage: Stage, folder: Path) -> tuple[int, float]:
    """Run a stage on few images and remove what it made; return its exit code and the MB that it allocated."""
    found = started(stage.few, stage.lines[0], 0, folder)
    if stage.made:
        shutil.rmtree(stage.made, ignore_errors=True)
    return found


def measure(few: int, many: int, allowance: float, only: str) -> list[Footprint]:
    """Return what each stage allocated."""
    done = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for stage in stages(folder, few, many):
            if stage.name not in only.split(","):
                continue
            if stage.data_mb < 2 * allowance:
                raise SystemExit(f"{stage.name}: {many} images take {stage.data_mb:.0f} MB, too few for the allowance")
            measured = [_on_few(stage, folder) for _ in range(REPEATS)]
            code, few_mb = (max(one) for one in zip(*measured, strict=True))
            large, many_mb = started(stage.many, stage.lines[1], few_mb + allowance, folder)
            if large:
                print((folder / "said.txt").read_text()[-2000:])
            control, _ = started(stage.few, stage.lines[0], few_mb / 2, folder)
            done.append(Footprint(stage.name, few_mb, many_mb, stage.data_mb, (code, large, control)))
            print(f"{stage.name:<10} few {few_mb:,.0f} MB, many {many_mb:,.0f} of {few_mb + allowance:,.0f} allowed, "
                  f"whose data take {stage.data_mb:,.0f} MB; exit codes {done[-1].codes}", flush=True)  # fmt: skip
    return done


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=600, help="images; four times as many where a network is trained")
    parser.add_argument("--many", type=int, default=15_000)
    parser.add_argument("--allowance", type=float, default=60, help="MB that many images may take more than few")
    parser.add_argument("--only", default="features,predict,head,finetune", help="stages")
    parser.add_argument("--out", type=Path, help="JSON with the figures")
    parser.add_argument("--limit", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        raise SystemExit(child(options.child, options.limit, options.out))
    done = measure(options.few, options.many, options.allowance, options.only)
    if options.out:
        options.out.write_text(json.dumps([one._asdict() for one in done], indent=1) + "\n")
    raise SystemExit(0 if all(one.codes[:2] == (0, 0) and one.codes[2] for one in done) else 1)


if __name__ == "__main__":
    main()
