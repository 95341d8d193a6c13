"""TensorFlow, JAX and PyTorch under Keras: the same features, first weights, trainings, maps and predictions.

Skipped unless `make test-backends` has made the environment in which all three are.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.engines.agreement import relative_error
from thaw.features.store import FeatureFile

from tests.backends.environment import BACKENDS, environment_of, interpreter

ROOT = Path(__file__).resolve().parent.parent
OTHERS = [name for name in BACKENDS if name != "tensorflow"]
pytestmark = pytest.mark.skipif(interpreter() is None, reason="JAX and PyTorch are not there: type make test-backends")


class Done:
    """What the scenario left behind under one backend."""

    def __init__(self, folder: Path):
        self.folder = folder
        with np.load(folder / "numbers.npz") as arrays:
            self.numbers = dict(arrays)
        self.words: dict[str, Any] = json.loads((folder / "words.json").read_text(encoding="utf-8"))

    def labels(self, run_of: str) -> dict[str, np.ndarray]:
        """The probabilities that this backend gives by the models of another's run."""
        with np.load(self.folder / f"of_{run_of}.npz") as arrays:
            return dict(arrays)


@pytest.fixture(scope="module")
def done(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """The scenario under each backend that is there, each labelling by the models of those before it."""
    base, found = tmp_path_factory.mktemp("backends"), {}
    for name in BACKENDS:
        environment = environment_of(name)
        if environment is None:
            continue
        folder = base / name
        folder.mkdir()
        command = [str(interpreter()), str(ROOT / "tests" / "backends" / "scenario.py"), folder, image_folder]
        others = [one.folder for one in found.values()]
        ended = subprocess.run([*command, *others], capture_output=True, text=True, cwd=ROOT, env=environment)
        assert ended.returncode == 0, f"{name}: {ended.stderr[-3000:]}"
        found[name] = Done(folder)
    return found


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, done: dict[str, Done]) -> Done:
    if request.param not in done:
        pytest.skip(f"{request.param} is not installed in the environment of make test-backends")
    return done[request.param]


@pytest.fixture
def tensorflow(done: dict[str, Done]) -> Done:
    return done["tensorflow"]


def relative(received: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(received - expected) / np.linalg.norm(expected))


def test_each_process_ran_on_the_backend_that_it_was_given(done: dict[str, Done]) -> None:
    assert {name: one.words["backend"] for name, one in done.items()} == {name: name for name in done}
    assert "tensorflow" in done


def test_features_agree(tensorflow: Done, other: Done) -> None:
    [path] = other.folder.glob("run/features/*.h5")
    with FeatureFile(path) as received, FeatureFile(tensorflow.folder / "run/features" / path.name) as expected:
        assert received.ids == expected.ids
        assert received.attributes["weights_sha256"] == expected.attributes["weights_sha256"]
        every = np.ones(len(expected.ids), bool)
        for layer in expected.layers:
            assert relative_error(received.read([layer], every), expected.read([layer], every)) < 1e-4


def test_the_head_begins_from_the_same_bytes(tensorflow: Done, other: Done) -> None:
    assert other.numbers["first_head"].tobytes() == tensorflow.numbers["first_head"].tobytes()


def test_the_same_batches_train_the_same_weights(tensorflow: Done, other: Done) -> None:
    """Without dropout, whose masks are each backend's own, three epochs of AdamW end at the same weights."""
    assert relative(other.numbers["trained_head"], tensorflow.numbers["trained_head"]) < 1e-3
    np.testing.assert_allclose(other.numbers["losses"], tensorflow.numbers["losses"], rtol=1e-3)
    first, last = other.numbers["losses"][[0, -1]]
    assert last < 0.9 * first
    assert relative(other.numbers["trained_head"], other.numbers["first_head"]) > 0.01


def test_the_loss_of_a_hopeless_image_is_not_cut_off(done: dict[str, Done]) -> None:
    """Keras computes it from probabilities cut off at 1e-7, other than on TensorFlow: 16 at most, without a slope."""
    for name, one in done.items():
        probability = one.numbers["hopeless_probability"]
        assert (probability < 1e-8).any(), name
        expected = -np.log(probability).mean()
        assert one.numbers["hopeless_loss"] == pytest.approx(expected, rel=1e-4), name


def test_a_broken_training_ends_as_an_unbroken_one(other: Done) -> None:
    assert other.numbers["epochs_kept"] == 1
    assert other.numbers["resumed_differs_by"] <= 1e-6


def test_maps_agree(tensorflow: Done, other: Done) -> None:
    expected = tensorflow.numbers["maps"]
    assert expected.shape == (4, 2, 2)
    assert expected.max() == 1
    np.testing.assert_allclose(other.numbers["maps"], expected, atol=1e-3)


def test_models_label_alike_under_another_backend(tensorflow: Done, other: Done) -> None:
    """Each backend labels by its own models, and by those that TensorFlow trained: also exported and read back."""
    received, expected = other.labels("tensorflow"), tensorflow.labels("tensorflow")
    assert set(received) == {"logreg", "head", "finetune", "scratch", "random"}
    for name, probabilities in expected.items():
        np.testing.assert_allclose(received[name], probabilities, atol=1e-3, err_msg=name)
    with np.load(other.folder / "exported.npz") as exported:
        np.testing.assert_allclose(exported["head"], other.labels(other.folder.name)["head"], atol=1e-3)


@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 3e-2), ("float16", 4e-3)])
def test_sixteen_bits_are_near(done: dict[str, Done], precision: str, bound: float) -> None:
    """An upper bound says that they are right, a lower one that it was not float32 that computed."""
    for name, one in done.items():
        assert bound / 100 < one.numbers[f"{precision}_error"] < bound, name
        losses = one.numbers[f"{precision}_losses"]
        assert np.isfinite(losses).all(), name
        np.testing.assert_allclose(losses, one.numbers["losses"], rtol=0.1, err_msg=name)


def test_the_report_names_backend_and_device(done: dict[str, Done]) -> None:
    for name, one in done.items():
        report = one.words["report"]
        assert set(BACKENDS) & set(report["versions"]) == {name}
        assert report["device"] == "cpu"


def test_what_is_tensorflows_own_is_refused_elsewhere(done: dict[str, Done]) -> None:
    assert done["tensorflow"].words["savedmodel"][0] == 0
    for name in set(done) - {"tensorflow"}:
        assert done[name].words["savedmodel"] == [
            1,
            f"error: --format savedmodel is TensorFlow's own, and Keras runs on {name} here; type "
            "KERAS_BACKEND=tensorflow before the command, or --format onnx or keras",
        ]


def test_a_gpu_that_is_not_there_is_one_line(done: dict[str, Done]) -> None:
    for name, one in done.items():
        code, said = one.words["gpu"]
        assert code == 1, name
        assert said.startswith("error: --device gpu: the backend sees no GPU; type --device cpu, or "), name
