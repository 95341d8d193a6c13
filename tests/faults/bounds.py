"""Stages whose data grows with the images, under a hard limit of memory: `python tests/faults/bounds.py`.

Each runs in a process of its own that may hold so many MB beyond what it holds after its imports: the kernel refuses
more (RLIMIT_DATA, which counts what is allocated and not what is mapped to be read). The limit is `--memory` and an
allowance for blocks and solvers, far below what the features take. As a control, the same stage told that it may use a
million MB has to run into it.
"""

import argparse
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import small_run
from corpus_images import PIXELS, saved
from PIL import Image

from thaw.features import schema
from thaw.features.datasets.dataset import load_dataset
from thaw.features.extraction.extraction import _seal
from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile
from thaw.models.solver import blocks
from thaw.pipeline.advice import linear_probes
from thaw.pipeline.advice.audit import audit
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.cli import run as thaw
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.feature_files import FeatureSet
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.run_json import features_path, write_run
from thaw.pipeline.training import train_linear  # noqa: F401

LAYER, WIDTH = "block4_pool", 1024
SETTINGS: dict[str, Any] = {"layers": LAYER, "pooling": "grid2", "dtype": "float16", "weights": "random"}
WRITTEN_ROWS = 5000
QUICK = ("--layer", LAYER, "--transform", "none", "--select", "validation", "--values", "0.001", "--folds", "2")
ALL_CONTROL = 1_000_000  # MB, more than any machine has


class Bound(NamedTuple):
    """What came of a stage: the MB it may hold beyond its imports, those it held at most, the exit code, seconds."""

    stage: str
    rows: int
    features_mb: float
    limit_mb: float
    held_mb: float
    code: int
    seconds: float


def status(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def limited(work: Callable[[int], int], limit_mb: float, memory_mb: float) -> tuple[int, float]:
    """Run `work` in a child that may allocate `limit_mb` more, and tell it its `--memory`; return code and MB held."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code, before = 70, status("VmRSS")
        try:
            threading.stack_size(2**20)
            most = int((status("VmData") + limit_mb) * 1e6)
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
            code = work(int(before + memory_mb))
        except MemoryError:
            code = 1
        finally:
            os.write(writer, str(status("VmHWM") - before).encode())
            os._exit(code)
    os.close(writer)
    code, _ = small_run.wait(child)
    with os.fdopen(reader) as answer:
        return code, float(answer.read() or "nan")


def make_run(
    folder: Path, rows: int, given: dict[str, Any] = SETTINGS, width: int = WIDTH, weights: str = "c" * 64
) -> Path:
    """Write a run on `rows` tiny images with a feature file of `width` made-up values a row, and return it.

    `given` are the run's settings, of which `layers` names one layer; `weights` is the digest of the network's weights.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(rows) % 4
    np.savez(folder / "images.npz", x=generator.integers(0, 256, (rows, 4, 4), np.uint8), y=labels)
    run = folder / "run"
    run.mkdir()
    settings = Shared(run=run, dataset=f"npz:{folder / 'images.npz'}", **given)
    write_run(settings)
    dataset = load_dataset(settings.dataset)
    sides = split_csv.main(run, dataset, 0)
    made_of = FeatureSet(settings).record() | {
        "engine": "keras", "device": "cpu", "weights_sha256": weights, "dataset_sha256": dataset.digest(),
        "split_sha256": split_csv.digest(run), "seconds": 1.0,
    }  # fmt: skip
    columns = {"labels": labels, "ids": dataset.ids, "split": sides, "class_names": dataset.class_names}
    path, layer = features_path(run, settings.feature_set), settings.layers
    path.parent.mkdir()
    with create_feature_file(path, {layer: (rows, width)}, settings.dtype, columns, made_of) as file:
        for start in range(0, rows, WRITTEN_ROWS):
            some = labels[start : start + WRITTEN_ROWS]
            values = generator.random((len(some), width), np.float32)
            values[np.arange(len(some)), some] += 0.3
            file[f"features/{layer}"][start : start + len(some)] = values
    _seal(path, (layer,))
    return run


def linear(name: str, run: Path) -> Callable[[int], int]:
    """Return what trains a linear strategy."""
    return lambda memory: thaw([name, "--run", str(run), "--memory", str(memory), *QUICK])


def advising(run: Path) -> Callable[[int], int]:
    """Return what does the passes of `advise` over all rows: the best classifier, its learning curve, the audit."""

    def work(memory: int) -> int:
        settings = Shared(run=run, dataset=f"npz:{run.parent / 'images.npz'}", memory=memory, **SETTINGS)
        with FeatureFile(features_path(run, settings.feature_set)) as features:
            survey = Survey(settings, features)
            linear_probes.TRANSFORMS, linear_probes.SVM_VALUES, linear_probes.SCREENING = ("none",), (1e-3,), (1e-3,)  # type: ignore[misc]
            linear_probes.CHOOSING_ROWS = 500
            linear_probes.learning_curve(survey, linear_probes.best_probes(survey)[0])
            audit(settings, features, survey.dataset)
        return 0

    return work


def folder_of_files(folder: Path, count: int) -> Callable[[int], int]:
    """Return what lists and splits a folder of `count` image files and reads some, as a run begins."""
    picture = saved(Image.fromarray(PIXELS[:2, :2]), "PNG")
    for name in ("ant", "bee"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(count // 2):
            (folder / "pictures" / name / f"{number:06d}.png").write_bytes(picture)

    def work(memory: int) -> int:
        dataset = load_dataset(f"folder:{folder / 'pictures'}")
        dataset.digest()
        (folder / "begun").mkdir()
        split_csv.main(folder / "begun", dataset, 0)
        for row in range(0, count, 100):
            dataset.read(row)
        return 0 if len(dataset.ids) == count else 1

    return work


def measure(options: argparse.Namespace, folder: Path) -> list[Bound]:
    """Return what came of each stage, and of the control, which has to fail."""
    run, rows = make_run(folder, options.rows), options.rows
    features_mb = 4e-6 * rows * WIDTH
    works = {name: linear(name, run) for name in ("svm", "logreg")}
    works |= {"report": lambda memory: thaw(["report", "--run", str(run)]), "advise": advising(run)}
    works |= {"folder": folder_of_files(folder, options.files)} if options.files else {}
    limits = {name: (options.memory + options.allowance, options.memory) for name in works}
    works["svm told that it may use all"] = works["svm"]
    limits["svm told that it may use all"] = (options.memory + options.allowance, ALL_CONTROL)
    done = []
    for name, work in works.items():
        began = time.perf_counter()
        code, held = limited(work, *limits[name])
        count = options.files if name == "folder" else rows
        bound = Bound(name, count, features_mb, limits[name][0], held, code, time.perf_counter() - began)
        print(f"{name:<30} {count:>7,} rows, features {features_mb:,.0f} MB, may hold {bound.limit_mb:,.0f} MB, "
              f"held {held:,.0f} MB, code {code}, {bound.seconds:.0f} s", flush=True)  # fmt: skip
        done.append(bound)
    return done


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--memory", type=int, default=50, help="MB beyond the imports, as --memory tells the stages")
    parser.add_argument("--allowance", type=int, default=150, help="MB for blocks, solvers and ids")
    parser.add_argument("--small-blocks", action="store_true", help="blocks of 1 MiB, so that few rows suffice")
    parser.add_argument("--out", type=Path, help="JSON with the figures")
    options = parser.parse_args()
    if options.small_blocks:
        schema.BLOCK_BYTES = blocks.BLOCK_BYTES = 2**20
    folder = Path(tempfile.mkdtemp())
    try:
        done = measure(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.out:
        options.out.write_text(json.dumps([bound._asdict() for bound in done], indent=1) + "\n")
    raise SystemExit(0 if [bound.code != 0 for bound in done] == [False] * (len(done) - 1) + [True] else 1)


if __name__ == "__main__":
    main()
