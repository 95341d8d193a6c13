"""Which of Keras' backends computes: its name before Keras is imported, its threads, and whether it sees a GPU."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thaw.features.errors import InputError

# backend -> the libraries whose versions may change what it computes
LIBRARIES = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib"), "torch": ("torch",)}
# The variable by which a backend's library is told its number of threads, read when it is imported or first computes.
THREADS = {"tensorflow": "TF_NUM_INTRAOP_THREADS", "jax": "NPROC", "torch": "OMP_NUM_THREADS"}


def backend_name() -> str:
    """Return the backend that Keras has, or will have: KERAS_BACKEND, else that of its keras.json, else tensorflow."""
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "backend"):
        return str(sys.modules["keras"].backend.backend())
    named = os.environ.get("KERAS_BACKEND", "")
    if named:
        return named
    try:
        folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        return str(json.loads((folder / "keras.json").read_text(encoding="utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def check_backend() -> str:
    """Return the backend's name; raises InputError if it is none of the three, or is not installed."""
    name = backend_name()
    source = "KERAS_BACKEND" if os.environ.get("KERAS_BACKEND") else "keras.json"
    if name not in LIBRARIES:
        raise InputError(f"{source} names the backend {name!r}; expected {', '.join(LIBRARIES)}")
    if find_spec(name) is None:
        raise InputError(
            f"{source} names the backend {name}, which is not installed; type pip install {name}, or "
            "KERAS_BACKEND=tensorflow before the command"
        )
    return name


def pin_threads() -> None:
    """Give the backend a thread per processor that this process may use, unless its variable says otherwise.

    By themselves they do not follow a container's quota. PyTorch reads its variable when it is imported, the others
    when they first compute.
    """
    import joblib

    variable = THREADS.get(backend_name())
    if variable:
        os.environ.setdefault(variable, str(joblib.cpu_count()))


def computing_on(device: str) -> Any:
    """Return the scope, for `with`, in which Keras makes and reads tensors on the device `cpu` or `gpu`.

    PyTorch has one CPU: a weight that is moved to the first of them is a copy, which cannot be trained.
    """
    import keras

    return keras.device("cpu" if (device, backend_name()) == ("cpu", "torch") else f"{device}:0")


def sees_gpu() -> bool:
    """Return whether the backend can compute on a GPU."""
    import keras

    if keras.backend.backend() == "tensorflow":
        return bool(keras.distribution.list_devices("gpu"))
    try:
        with computing_on("gpu"):  # PyTorch's has no list of devices, and JAX's raises if there is none
            keras.ops.convert_to_numpy(keras.ops.zeros(1))
    except (RuntimeError, AssertionError):
        return False
    return True


DEVICES = ("auto", "cpu", "gpu")


GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")  # in /dev: NVIDIA's, AMD's, and a GPU under WSL


def resolve_device(requested: str) -> str:
    """Return `gpu` or `cpu`; `auto` takes a GPU if there is one. Raises InputError if a GPU is asked for in vain."""
    if requested == "cpu" or (requested == "auto" and not may_have_gpu()):
        return "cpu"
    pin_threads()
    has_gpu = sees_gpu()
    if requested == "gpu" and not has_gpu:
        more = "make setup EXTRA=gpu" if backend_name() == "tensorflow" else f"a build of {backend_name()} for GPUs"
        raise InputError(f"--device gpu: the backend sees no GPU; type --device cpu, or {more} on a machine with one")
    return "gpu" if has_gpu else "cpu"


def may_have_gpu() -> bool:
    """Return whether it is worth the seconds that it takes to ask the backend for a GPU."""
    return sys.platform != "linux" or any(next(Path("/dev").glob(name), None) for name in GPU_FILES)
