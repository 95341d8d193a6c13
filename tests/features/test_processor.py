from pathlib import Path

import joblib
import pytest

from thaw.features.processor import num_cores, processor_name


def test_cores_that_cannot_be_told_from_their_threads_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # nothing to ask
    monkeypatch.setattr("joblib.externals.loky.backend.context.physical_cores_cache", None)
    assert 1 <= num_cores() <= joblib.cpu_count()


CPUINFO = "processor\t: 0\nmodel name\t: Some Processor\nflags\t\t: avx2 fma\n\nprocessor\t: 1\nmodel name\t: Other\n"


def test_processors_differ_by_model_and_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for content in (CPUINFO, CPUINFO.replace("Some", "Another"), CPUINFO.replace("avx2", "avx512f"), "", None):

        def read(path: Path, encoding: str, content: str | None = content) -> str:
            if content is None:
                raise OSError
            return content

        monkeypatch.setattr(Path, "read_text", read)
        names.append(processor_name())
    assert len(set(names)) == len(names)
    assert "Some Processor" in names[0]
