"""A small data set and the stages of a run on it: quick, and still with several parts, epochs and kinds of files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.cli import run

PICTURES_A_CLASS = 160
SETTINGS = ["--image-size", "32", "--weights", "random", "--layers", "block4_pool,block5_pool", "--batch-size", "32"]
STAGES: dict[str, list[str]] = {
    "features": [],
    "svm": [],
    "head": ["--epochs", "4"],
    "finetune": ["--epochs", "3"],
    "report": [],
}
# Parts of 64 images in place of 512, so that a small extraction has many.
SMALL_PARTS = 64


def make_pictures(folder: Path) -> Path:
    """Write three classes of small pictures to `folder` and return it."""
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("bark", "leaf", "petal")):
        (folder / name).mkdir(parents=True)
        for number in range(PICTURES_A_CLASS):
            pixels = generator.integers(0, 180, (32, 36, 3))
            pixels[..., channel] += generator.integers(0, 75)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


def arguments(stage: str, pictures: Path, run_folder: Path) -> list[str]:
    """Return the command line of a stage."""
    begin = ["--dataset", f"folder:{pictures}", *SETTINGS] if stage == "features" else []
    return [stage, "--run", str(run_folder), *begin, *STAGES[stage]]


def in_a_child(command: list[str], before: Callable[[], None] = lambda: None) -> int:
    """Run a command line in a forked process, its output dropped, and return its process id.

    The parent has imported all that is slow to import, but has computed nothing, so that a fork is safe.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        before()
        code = run(command)
    finally:
        os._exit(code)


def import_everything() -> None:
    """Import what the stages import, so that a forked child begins at once."""
    import keras  # noqa: F401

    import features.extraction
    from pipeline import extract, report, train_linear, train_network  # noqa: F401

    features.extraction.PART_ROWS = SMALL_PARTS
