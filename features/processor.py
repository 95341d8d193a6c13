"""The processor that a network runs on: its name, and the number of cores that this process may use."""

import hashlib
import os
import platform
import warnings
from pathlib import Path


def num_cores() -> int:
    """Return the number of physical cores that this process may use, by its affinity and its container's quota."""
    import joblib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns if it cannot tell two threads of a core apart, and counts both
        return int(joblib.cpu_count(only_physical_cores=True))


def num_processors() -> int:
    """Return the number of processors that this process may run on, by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return a name that differs if results may differ: the model and a digest of its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    model = fields.get("model name", fields.get("CPU part", "unknown"))
    return f"{platform.machine()} {model} {hashlib.sha256(flags.encode()).hexdigest()[:12]}"
