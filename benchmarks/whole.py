"""The whole path on all images: `features`, `svm` and `logreg`, each a process, start-up and all."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.article import timed
from benchmarks.results import Figures, Row, Target
from benchmarks.samples import write_subset
from benchmarks.settings import Settings

SECTION, MINUTES = "whole", 6.0
FITS = ("--layer", "block5_pool", "--values", "0.0001,0.001,0.01,0.1,1")  # what both linear stages are given


def main(settings: Settings) -> Iterator[Figures]:
    """Time the three stages."""
    with tempfile.TemporaryDirectory() as name:
        dataset = f"folder:{settings.images}"
        if settings.quick:
            write_subset(settings.images, Path(name) / "subset.npz", {"train": 300, "test": 100})
            dataset = f"npz:{Path(name) / 'subset.npz'}"
        run = ["--run", str(Path(name) / "run")]
        commands = {
            "features": ["features", "--dataset", dataset, *run],
            "svm": ["svm", *run, *FITS],
            "logreg": ["logreg", *run, *FITS],
        }
        seconds = {stage: timed(["-m", "pipeline", *command], "1")[0] for stage, command in commands.items()}
    seconds["all three"] = sum(seconds.values())
    task = "60,000 images, block5_pool" if not settings.quick else "400 images, block5_pool"
    rows = [
        Row(section=SECTION, task=task, contender=stage, value=took, unit="s", repeats=1)
        for stage, took in seconds.items()
    ]
    what, minutes = "features, svm and logreg on 60,000 images, minutes", seconds["all three"] / 60
    measured = None if settings.quick else minutes
    yield rows, [Target(section=SECTION, what=what, required=MINUTES, sense="at most", measured=measured)]
