"""A small data set and the stages of a run on it: quick, and still with several parts, epochs and kinds of files."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# One thread a library: on two busy cores more of them wait for each other. To be said before they are imported.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from thaw.pipeline.cli import run

PICTURES_A_CLASS = 64
FEATURES = "features/vgg16-32-random.h5"  # the feature set of SETTINGS
SETTINGS = ["--image-size", "32", "--weights", "random", "--layers", "block4_pool,block5_pool", "--batch-size", "32"]
STAGES: dict[str, list[str]] = {
    "features": [],
    "svm": ["--folds", "3", "--values", "0.0001,0.001,0.01"],
    "head": ["--epochs", "3"],
    "finetune": ["--epochs", "2", "--unfreeze-from", "block5_conv3"],
    "report": [],
}
MORE_STAGES: dict[str, list[str]] = {"export": ["--name", "svm"], "advise": ["--budget", "0.05"]}
# Parts of 32 images in place of 512, so that a small extraction has many.
SMALL_PARTS = 32
MEMORY_DISK = Path("/dev/shm")  # noqa: S108


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed in the end: in memory where there is such a disk.

    A killed process leaves the same there as on a disk, since what it wrote is the system's already.
    """
    where = MEMORY_DISK if MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def make_pictures(folder: Path, a_class: int) -> Path:
    """Write three classes of small pictures to `folder` and return it."""
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("bark", "leaf", "petal")):
        (folder / name).mkdir(parents=True)
        for number in range(a_class):
            pixels = generator.integers(0, 180, (32, 36, 3))
            pixels[..., channel] += generator.integers(0, 75)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


def arguments(stage: str, pictures: Path, run_folder: Path) -> list[str]:
    """Return the command line of a stage."""
    begin = ["--dataset", f"folder:{pictures}", *SETTINGS] if stage == "features" else []
    where = [str(run_folder)] if stage == "export" else ["--run", str(run_folder)]
    return [stage, *where, *begin, *{**STAGES, **MORE_STAGES}[stage]]


def in_a_child(command: list[str], before: Callable[[], None] = lambda: None, said: Path = Path(os.devnull)) -> int:
    """Run a command line in a forked process, its output written to the file `said`, and return its process id.

    The parent has imported all that is slow to import, but has computed nothing, so that a fork is safe.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        before()
        code = run(command)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> tuple[int, float]:
    """Return how a child ended, its exit code or minus the signal, and the seconds of processor time that it took."""
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def is_running(child: int) -> bool:
    """Return whether a child has not ended; it is still to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def processor_seconds(child: int) -> float:
    """Return the seconds of processor time that a child, and what it waited for, took so far (Linux' /proc)."""
    fields = Path(f"/proc/{child}/stat").read_text("utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def import_everything() -> None:
    """Import what the stages import, so that a forked child begins at once."""
    import keras  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401
    import skops.io  # noqa: F401

    from thaw.features.extraction import spec
    from thaw.pipeline.training import (
        train_network,  # noqa: F401
    )

    spec.PART_ROWS = SMALL_PARTS
