"""ONNX Runtime: whether it is there, a session of it, and its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thaw.features.errors import InputError, shown
from thaw.features.processor import num_cores

NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "bad allocation")  # in the texts of its errors
FATAL = 4  # of its levels of messages
MOST_SHOWN = 200  # characters of an error


def onnxruntime_version() -> str | None:
    """Return the version of ONNX Runtime, None if it is not installed or cannot be loaded."""
    try:
        import onnxruntime  # noqa: F401

        return version("onnxruntime")
    except (ImportError, PackageNotFoundError):
        return None


def start_session(model: bytes) -> Any:
    """Return a session of a serialised model on the CPU, which reads no other file, with a thread for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    options.log_severity_level = FATAL  # what fails is raised, and warnings are for whoever exported the network
    onnxruntime.set_default_logger_severity(FATAL)
    # Its second try after an error would print to standard output, which is for results.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


@contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Raise ONNX Runtime's own errors as InputError, or as MemoryError; `what` begins the message."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    invalid = (state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    errors = (*invalid, state.EPFail, state.Fail, state.RuntimeException, RuntimeError, UnicodeDecodeError)  # its text
    try:
        yield
    except errors as error:
        text = shown(error)
        if any(word in text for word in NO_MEMORY):
            raise MemoryError(text[:MOST_SHOWN]) from None
        raise InputError(f"{what} ({text[:MOST_SHOWN]})") from None
