"""The environment that `make test-backends` makes: its interpreter, and which backends are in it."""

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BACKENDS = ("tensorflow", "jax", "torch")


def interpreter() -> Path | None:
    """Return the interpreter of .venv-backends, None where `make test-backends` has not made it."""
    path = ROOT / ".venv-backends" / "bin" / "python"
    return path if path.exists() and (ROOT / ".venv-backends" / ".ready").exists() else None


@cache
def _has(name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([str(interpreter()), "-c", code]).returncode == 0


def environment_of(backend: str) -> dict[str, str] | None:
    """Return the environment variables of a process on that backend and on CPUs; None where it is not installed."""
    if not _has(backend):
        return None
    return {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
