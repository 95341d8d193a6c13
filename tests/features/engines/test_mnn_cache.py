import os
from pathlib import Path

import pytest

from thaw.features.engines.mnn_cache import MOST_KEPT, keep_model, kept_model


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def model(tmp_path: Path, content: bytes = b"a network") -> Path:
    path = tmp_path / "network.mnn"
    path.write_bytes(content)
    return path


def test_what_is_kept_is_found_for_the_same_and_for_nothing_else(tmp_path: Path) -> None:
    keep_model({"layers": ["a"], "size": 48}, model(tmp_path))
    kept = kept_model({"size": 48, "layers": ["a"]})
    assert kept is not None
    assert kept.read_bytes() == b"a network"
    assert kept_model({"layers": ["a"], "size": 49}) is None


def test_a_damaged_one_is_removed(tmp_path: Path) -> None:
    keep_model({"size": 48}, model(tmp_path))
    kept = kept_model({"size": 48})
    assert kept is not None
    kept.write_bytes(b"another!!")
    assert kept_model({"size": 48}) is None
    assert not kept.exists()


def test_those_that_were_used_longest_ago_go_first(tmp_path: Path) -> None:
    for number in range(MOST_KEPT):
        keep_model({"number": number}, model(tmp_path, bytes([number])))
        kept = kept_model({"number": number})
        assert kept is not None
        os.utime(kept, (number, number))
    assert kept_model({"number": 0}) is not None  # used again
    keep_model({"number": MOST_KEPT}, model(tmp_path, b"new"))
    found = [number for number in range(MOST_KEPT + 1) if kept_model({"number": number})]
    assert found == [0, *range(2, MOST_KEPT + 1)]


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    keep_model({"size": 48}, model(tmp_path))
    assert kept_model({"size": 48}) is None
