"""State dicts in PyTorch's old format: what is read, and what a file that asks for more is told."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thaw.features.backbones.pytorch_file import read_state

from tests.builders.pytorch import file_of, saved, state_pickle, storage, tensor
from tests.builders.pytorch_hostile import HOSTILE, WHOLE, in_state


def test_tensors_come_back_as_they_were_saved() -> None:
    state = {"kernel": np.random.default_rng(0).normal(size=(3, 2, 1)).astype(np.float32), "steps": np.array(7)}
    received = read_state(saved(state))
    assert list(received) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(received[name], array)
        assert received[name].dtype == array.dtype


def test_a_tensor_may_be_any_view_of_a_storage_that_others_share() -> None:
    held = storage("0", 12)
    views = {
        "transposed": tensor(held, (4, 3), (1, 4)),
        "end": tensor(held, (2,), (1,), 10),
        "none": tensor(held, (0,), (1,)),
    }
    received = read_state(file_of(state_pickle(views), {"0": np.arange(12, dtype=np.float32)}))
    np.testing.assert_array_equal(received["transposed"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(received["end"], [10, 11])
    assert received["none"].shape == (0,)
    assert not received["transposed"].flags.writeable


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_asks_for_more_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, reason = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=reason):
        read_state(content)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_imported_or_opened_while_a_file_is_read() -> None:
    happened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("import", "open", "exec", "compile", "pickle.find_class", "subprocess.Popen"):
            happened.append(event)

    read_state(WHOLE)
    sys.addaudithook(watch)
    read_state(WHOLE)
    for content, _ in HOSTILE.values():
        with pytest.raises(ValueError, match="."):
            read_state(content)
    watching = False
    assert not happened


@pytest.mark.parametrize("make", [lambda n: b"(" * n, lambda n: b")" * n, lambda n: b"]" + b"2" * n])
def test_a_pickle_of_a_million_values_ends(make: Callable[[int], bytes]) -> None:
    with pytest.raises(ValueError, match="."):
        read_state(in_state(make(2**20)))
