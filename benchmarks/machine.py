"""The machine: what it is, how fast it multiplies matrices and writes to its disk, and what a network costs on it."""

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import Backbone
from thaw.pipeline.versions import installed_version

PACKAGES = ("tensorflow", "keras", "MNN", "numpy", "scipy", "scikit-learn", "h5py", "pillow")


def describe() -> dict[str, Any]:
    """Return the processor, its cores and memory, the system and the versions that took part."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed_version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if flag in named.get("flags", "").split()]
    return f"{named.get('model name', platform.machine())} ({' '.join(wide)})"


def sgemm_rate(size: int = 3072, repeats: int = 5) -> float:
    """Return the float32 operations a second of NumPy's matrix product, multiplications and additions both counted."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    np.dot(a, a)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        np.dot(a, a)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(seconds)


def disk_rate(folder: Path, size: int = 2**29) -> float:
    """Return the bytes a second that a new file in `folder` takes, until they are on the disk."""
    block = np.random.default_rng(0).bytes(2**24)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return size / (time.perf_counter() - began)


def network_operations(backbone: Backbone, image_size: int, last: str) -> int:
    """Return the multiplications and additions of one image up to the layer `last`, done the direct way."""
    return 2 * backbone.cost(last, image_size)[1]
