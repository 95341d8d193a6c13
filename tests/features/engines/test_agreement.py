"""A verdict on an engine is measured once and kept; one that is damaged or another's is measured again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.engines import agreement
from thaw.features.engines.agreement import compare, kept_or_measured, relative_error, verdicts_folder
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import mnn_version
from thaw.features.engines.network import Network

VGG16 = BACKBONES["vgg16"]
MADE_FOR = {"engine": "mnn", "weights_sha256": "ab", "layers": ["block5_pool"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


class Measure:
    """Counts how often it was asked."""

    def __init__(self, error: float = 1e-4):
        self.error, self.calls = error, 0

    def __call__(self) -> float:
        self.calls += 1
        return self.error


def kept_file(cache: Path) -> Path:
    (path,) = (cache / "thaw" / "engines").iterdir()
    return path


def test_a_verdict_is_measured_once(cache: Path) -> None:
    measure = Measure()
    assert [kept_or_measured(MADE_FOR, measure) for _ in range(3)] == [1e-4] * 3
    assert measure.calls == 1
    assert json.loads(kept_file(cache).read_text()) == {"made_for": MADE_FOR, "relative_error": 1e-4}


@pytest.mark.parametrize("name", list(MADE_FOR))
def test_anything_else_is_measured_anew(name: str) -> None:
    kept_or_measured(MADE_FOR, Measure())
    measure = Measure(2e-4)
    assert kept_or_measured({**MADE_FOR, name: "other"}, measure) == 2e-4
    assert measure.calls == 1


def other_key(content: str) -> str:
    return content.replace('"ab"', '"cd"')


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: "",
        lambda content: "[]",
        lambda content: "{}",
        lambda content: "\x00\xff",
        lambda content: content.replace("0.0001", "NaN"),
        lambda content: content.replace("0.0001", "-1.0"),
        lambda content: content.replace("0.0001", '"0.0001"'),
        lambda content: content.replace("0.0001", "true"),
        other_key,
    ],
)
def test_a_damaged_or_tampered_verdict_is_measured_again(cache: Path, damage: Callable[[str], str]) -> None:
    kept_or_measured(MADE_FOR, Measure())
    path = kept_file(cache)
    content = path.read_text()
    path.write_text(damage(content), encoding="latin-1")
    measure = Measure()
    assert kept_or_measured(MADE_FOR, measure) == 1e-4
    assert measure.calls == 1
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_costs_only_time(cache: Path) -> None:
    (cache / "thaw").write_text("a file in the way")
    measure = Measure()
    assert [kept_or_measured(MADE_FOR, measure) for _ in range(2)] == [1e-4] * 2
    assert measure.calls == 2


def test_a_failing_verdict_is_kept_too_and_no_number_is_not() -> None:
    failing, broken = Measure(0.5), Measure(float("nan"))
    assert [kept_or_measured(MADE_FOR, failing) for _ in range(2)] == [0.5] * 2
    other = {**MADE_FOR, "weights_sha256": "cd"}
    assert np.isnan([kept_or_measured(other, broken) for _ in range(2)]).all()
    assert (failing.calls, broken.calls) == (1, 2)


@pytest.mark.parametrize("given", ["", "relative/folder"])
def test_without_a_cache_folder_it_is_the_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verdicts_folder() == tmp_path / ".cache" / "thaw" / "engines"


def test_the_error_is_the_worst_images() -> None:
    expected = np.ones((3, 2, 2, 1), np.float32)
    received = expected.copy()
    received[1] *= np.float32(1.5)
    assert relative_error(received, expected) == pytest.approx(0.5)
    expected[2] = 0
    assert relative_error(received, expected) == np.inf
    received[2] = 0
    assert relative_error(received, expected) == pytest.approx(0.5)
    received[0, 0, 0, 0] = np.nan
    assert np.isnan(relative_error(received, expected))


def test_the_error_is_the_worst_layers_over_all_batches() -> None:
    images = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1)

    def wrong_at_the_end(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"a": batch, "b": np.where(batch == 5, 10, batch)}

    def right(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"a": batch, "b": batch}

    assert compare(wrong_at_the_end, right, images, batch_size=2) == pytest.approx(1.0)
    assert compare(right, right, images, batch_size=2) == 0


@pytest.fixture
def network() -> Network:
    return Network(VGG16, load_weights("random", VGG16), ("block1_pool", "block2_pool"), 32)


def no_pictures() -> np.ndarray:
    return np.empty((0, 32, 32, 3), np.float32)


@pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed: make setup, where it has a wheel")
def test_mnn_passes_and_is_not_asked_twice(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    error = network.error_of_mnn(3, no_pictures)
    assert 0 < error < agreement.LIMIT
    monkeypatch.setattr("thaw.features.engines.network.KerasEngine", None)  # what a second measurement would need
    assert network.error_of_mnn(3, no_pictures) == error


@pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed: make setup, where it has a wheel")
def test_an_engine_that_computes_something_else_is_found_out(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(KerasEngine):
        def __init__(self, *given: Any, keep: bool = False):
            super().__init__(*given)

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: values * np.float32(1.002) for name, values in super().__call__(images).items()}

    monkeypatch.setattr("thaw.features.engines.network.MNNEngine", Wrong)
    assert network.error_of_mnn(3, no_pictures) == pytest.approx(2e-3, rel=0.01)
