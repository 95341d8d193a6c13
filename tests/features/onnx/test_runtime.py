"""ONNX Runtime's errors become ours, and it prints nothing."""

import sys

import pytest

from thaw.features.errors import InputError
from thaw.features.onnx import runtime
from thaw.features.onnx.runtime import onnxruntime_version, runtime_errors, start_session


def test_an_error_is_one_line_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^it cannot \(.*protobuf.*\)$"), runtime_errors("it cannot"):
        start_session(b"no model")
    assert capfd.readouterr() == ("", "")


def test_too_little_memory_is_a_memory_error() -> None:
    with pytest.raises(MemoryError), runtime_errors("it cannot"):
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")


def test_an_error_of_ours_goes_through() -> None:
    with pytest.raises(KeyError), runtime_errors("it cannot"):
        raise KeyError("ours")


def test_a_runtime_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(onnxruntime_version()).startswith("1.30")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert runtime.onnxruntime_version() is None
