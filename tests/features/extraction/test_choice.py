"""Which engine makes a feature file, what is said about it, and that engines are not mixed."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import load_dataset
from thaw.features.engines.backend import resolve_device
from thaw.features.engines.mnn_engine import MNNEngine, mnn_version
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.extraction.choice import agreed_engine, choose_engine, compared_images
from thaw.features.foreign.extractors import FOREIGN_ENGINES
from thaw.pipeline.cli import run
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction import extract
from thaw.pipeline.run.run_json import read_run

from tests.builders.extraction import request
from tests.builders.features import features_of

VGG16 = BACKBONES["vgg16"]
ROOT = Path(__file__).resolve().parents[3]
SET = "vgg16-32-block1_pool-avg"  # and what else differs
FAST = ("--image-size", "32", "--layers", "block1_pool", "--pooling", "avg", "--weights", "random")

needs_mnn = pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed: make setup, if it has a wheel")


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def engine_of(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["engine"])


def agreed(requested: str, monkeypatch: pytest.MonkeyPatch, error: float) -> str:
    monkeypatch.setattr(Network, "error_of_mnn", lambda self, batch_size, images: error)
    network = Network(VGG16, load_weights("random", VGG16), ("block1_pool",), 32)
    return agreed_engine(requested, "mnn", network, 8, lambda: np.zeros((0, 32, 32, 3), np.float32))


@pytest.mark.parametrize("requested", ["auto", "mnn"])
def test_an_engine_that_agrees_is_used(monkeypatch: pytest.MonkeyPatch, requested: str) -> None:
    assert agreed(requested, monkeypatch, 1e-3) == "mnn"


@needs_mnn
def test_auto_goes_on_with_keras_where_mnn_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> float:
        raise InputError("the converter is broken")

    monkeypatch.setattr(Network, "error_of_mnn", fail)
    network = Network(VGG16, load_weights("random", VGG16), ("block1_pool",), 32)
    given = (network, 8, lambda: np.zeros((0, 32, 32, 3), np.float32))
    with caplog.at_level(logging.WARNING, "thaw"):
        assert agreed_engine("auto", "mnn", *given) == "keras"
    assert "mnn cannot be used (the converter is broken); keras is" in caplog.text
    with pytest.raises(InputError, match="the converter is broken"):
        agreed_engine("mnn", "mnn", *given)


@pytest.mark.parametrize("error", [1.1e-3, float("inf"), float("nan")])
def test_auto_falls_back_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: float
) -> None:
    with caplog.at_level(logging.WARNING, "thaw"):
        assert agreed("auto", monkeypatch, error) == "keras"
    assert [record.getMessage() for record in caplog.records] == [
        f"mnn's output differs from Keras' by {error:.1e} (relative L2 norm of an image), more than 0.001; "
        "keras is used"
    ]


def test_mnn_by_name_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as error:
        agreed("mnn", monkeypatch, 0.25)
    assert str(error.value) == (
        "--engine mnn: mnn's output differs from Keras' by 2.5e-01 (relative L2 norm of an image), more than 0.001; "
        "start another run with --engine keras"
    )


@pytest.mark.parametrize("num_bad", [0, 1, 24])
def test_images_of_the_run_without_the_unreadable(tmp_path: Path, image_folder: Path, num_bad: int) -> None:
    dataset = load_dataset(f"folder:{image_folder}")
    wanted = request(tmp_path / "features.h5", dataset)
    whole = compared_images(wanted)
    assert (whole.shape, whole.dtype) == ((4, 32, 32, 3), np.float32)
    read = dataset.read

    class Damaged:
        ids = dataset.ids

        def read(self, row: int) -> np.ndarray:
            if row < 3 * num_bad:
                raise InputError("damaged")
            return read(row)

    remaining = compared_images(replace(wanted, dataset=Damaged()))  # type: ignore[arg-type]
    assert len(remaining) == {0: 4, 1: 3, 24: 0}[num_bad]
    assert np.array_equal(remaining, whole[4 - len(remaining) :])


@needs_mnn
def test_what_was_used_is_said_and_recorded(
    image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *FAST, "--device", "cpu")
    with caplog.at_level(logging.INFO, "thaw"):
        assert thaw("features", *options) == 0
    assert "engine: mnn on cpu; network vgg16:" in caplog.text
    with h5py.File(features_of(tmp_path / "r")) as file:
        assert (file.attrs["engine"], file.attrs["device"]) == ("mnn", "cpu")
        assert file.attrs["version_mnn"] == mnn_version()


@needs_mnn
def test_features_by_either_engine_agree(image_folder: Path, tmp_path: Path) -> None:
    values = {}
    for engine in ("keras", "mnn"):
        run_folder = tmp_path / engine
        options = ("--dataset", f"folder:{image_folder}", "--run", run_folder, *FAST, "--engine", engine)
        assert thaw("features", *options) == 0
        assert engine_of(features_of(run_folder)) == engine
        with h5py.File(features_of(run_folder)) as file:
            values[engine] = file["features/block1_pool"][...]
    error = np.linalg.norm(values["mnn"] - values["keras"], axis=1) / np.linalg.norm(values["keras"], axis=1)
    assert 0 < error.max() < 1e-3


@needs_mnn
def test_parts_of_another_engine_are_not_mixed(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A call with mnn is killed after some parts; MNN is then taken away, and `auto` takes keras."""
    options = ("--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *FAST)
    passes = []

    def killed(engine: MNNEngine, images: np.ndarray) -> dict[str, np.ndarray]:
        passes.append(len(images))
        if len(passes) == 3:
            raise KeyboardInterrupt
        return {"block1_pool": np.zeros((len(images), 16, 16, 64), np.float32)}

    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 8)
    with monkeypatch.context() as patch:
        patch.setattr(Network, "error_of_mnn", lambda self, batch_size, pictures: 0.0)
        patch.setattr(MNNEngine, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            extract.extract(Shared(run=tmp_path / "r", dataset=f"folder:{image_folder}", batch_size=8, **settings()))
    assert list((tmp_path / "r/features" / f"{SET}-random.h5.parts").glob("part-*.h5"))
    monkeypatch.setattr("thaw.features.extraction.choice.mnn_version", lambda: None)
    with caplog.at_level(logging.INFO, "thaw"):
        assert thaw("features", *options) == 0
    assert "engine: keras on cpu" in caplog.text
    assert "going on" not in caplog.text
    assert engine_of(features_of(tmp_path / "r")) == "keras"
    with h5py.File(features_of(tmp_path / "r")) as file:
        assert (file["features/block1_pool"][...].std(axis=1) > 0).all()


def settings() -> dict[str, object]:
    names = [name.removeprefix("--").replace("-", "_") for name in FAST[::2]]
    return dict(zip(names, FAST[1::2], strict=True))


def test_a_file_by_another_engine_is_refused(image_folder: Path, tmp_path: Path) -> None:
    shared = Shared(run=tmp_path / "r", dataset=f"folder:{image_folder}", engine="keras", **settings())
    path = extract.extract(shared)
    with h5py.File(path, "r+") as file:
        file.attrs["engine"] = "mnn"
    with pytest.raises(InputError, match=r"was made with another engine \(mnn; now keras\)"):
        extract.ready_features(shared)


@needs_mnn
def test_the_articles_recipe_trains_on_activations_by_keras(image_folder: Path, tmp_path: Path) -> None:
    """Where the feature set is mnn's, the article's recipe makes its own; the tuned one takes what is there."""
    run_folder = tmp_path / "r"
    options = ("--image-size", "32", "--layers", "block5_pool", "--weights", "random", "--device", "cpu")
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", run_folder, *options) == 0
    assert thaw("head", "--run", run_folder, "--epochs", 1) == 0
    assert not (run_folder / "activations").exists()
    assert thaw("head", "--run", run_folder, "--epochs", 1, "--recipe", "article", "--name", "article") == 0
    assert engine_of(features_of(run_folder)) == "mnn"
    assert engine_of(run_folder / "activations/vgg16-32-block5_pool-random/block5_pool-keras.h5") == "keras"
    record = read_run(run_folder)
    assert record is not None
    assert record.shared(record.first).engine == "auto"


def test_the_articles_recipe_takes_features_that_keras_made(image_folder: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "r"
    options = ("--image-size", "32", "--layers", "block5_pool", "--weights", "random", "--engine", "keras")
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", run_folder, *options) == 0
    assert thaw("head", "--run", run_folder, "--epochs", 1, "--recipe", "article") == 0
    assert not (run_folder / "activations").exists()


def test_the_precision_is_recorded_and_not_mixed(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *FAST, "--device", "cpu")
    assert thaw("features", *options, "--engine-precision", "bfloat16") == 0
    with h5py.File(features_of(tmp_path / "r")) as file:
        assert (file.attrs["engine"], file.attrs["engine_precision"]) == ("keras", "bfloat16")
    assert thaw("features", *options, "--engine-precision", "float32", "--features", f"{SET}-in-bfloat16-random") == 1
    assert "--engine-precision was bfloat16 and is now float32" in capsys.readouterr().err


@needs_mnn
def test_with_a_kept_verdict_tensorflow_is_not_loaded(image_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from thaw.pipeline.cli import run; status = run(sys.argv[1:]); "
        "print(status, *sorted({'keras', 'tensorflow', 'MNN'} & set(sys.modules)))"
    )
    for number, loaded in enumerate(("0 MNN keras tensorflow", "0 MNN")):
        folder = tmp_path / f"{number}" / "r"  # with no run beside it to take the rows from
        options = ("--dataset", f"folder:{image_folder}", "--run", folder, *FAST, "--device", "cpu")
        command = [sys.executable, "-c", code, "features", *map(str, options), "--batch-size", "7"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.splitlines() == [str(features_of(folder)), loaded]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0"])
    monkeypatch.setattr("thaw.features.engines.backend.may_have_gpu", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("may_have_gpu", [False, True])
def test_a_gpu_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch, may_have_gpu: bool) -> None:
    monkeypatch.setattr("thaw.features.engines.backend.may_have_gpu", lambda: may_have_gpu)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="--device gpu: the backend sees no GPU; type --device cpu"):
        resolve_device("gpu")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_taken_where_there_is_one() -> None:
    assert (resolve_device("auto"), resolve_device("cpu"), resolve_device("gpu")) == ("gpu", "cpu", "gpu")


@pytest.mark.usefixtures("gpu")
def test_auto_takes_keras_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.extraction.choice.mnn_version", lambda: "3.6.1")
    assert choose_engine("auto", "auto") == ("keras", "gpu")
    assert choose_engine("auto", "cpu") == ("mnn", "cpu")
    assert choose_engine("keras", "cpu") == ("keras", "cpu")
    assert choose_engine("mnn", "auto") == ("mnn", "cpu")
    assert choose_engine("onnxruntime", "auto") == ("onnxruntime", "cpu")
    assert choose_engine("auto", "auto", possible=FOREIGN_ENGINES) == ("onnxruntime", "cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("version", "expected"), [("3.6.1", "mnn"), (None, "keras")])
def test_auto_takes_mnn_on_a_cpu_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, version: str | None, expected: str
) -> None:
    monkeypatch.setattr("thaw.features.extraction.choice.mnn_version", lambda: version)
    assert choose_engine("auto", "auto") == (expected, "cpu")


def test_mnn_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.extraction.choice.mnn_version", lambda: None)
    with pytest.raises(InputError) as error:
        choose_engine("mnn", "auto")
    assert str(error.value) == (
        "--engine mnn: MNN is not installed, or cannot be loaded; type make setup, which installs it if it has a "
        "wheel, or --engine keras"
    )


@pytest.mark.usefixtures("no_gpu")
def test_only_keras_computes_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.extraction.choice.mnn_version", lambda: "3.6.1")
    assert choose_engine("auto", "auto", "bfloat16") == ("keras", "cpu")
    with pytest.raises(
        InputError, match="--engine mnn computes in float32, not with --engine-precision float16; leave"
    ):
        choose_engine("mnn", "auto", "float16")


def test_mnn_runs_on_no_gpu() -> None:
    with pytest.raises(InputError, match="--engine mnn runs on a CPU, not with --device gpu; leave one of them out"):
        choose_engine("mnn", "gpu")


def test_onnx_runtime_computes_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--engine onnxruntime runs on a CPU, not with --device gpu; leave one"):
        choose_engine("onnxruntime", "gpu")
    with pytest.raises(InputError, match="--engine onnxruntime computes in float32, not with --engine-precision b"):
        choose_engine("onnxruntime", "cpu", "bfloat16")
    monkeypatch.setattr("thaw.features.extraction.choice.onnxruntime_version", lambda: None)
    with pytest.raises(InputError, match="--engine onnxruntime: ONNX Runtime is not installed, or cannot be loaded; "):
        choose_engine("onnxruntime", "auto")


@pytest.mark.parametrize("engine", ["keras", "mnn"])
def test_a_network_from_a_file_runs_by_onnx_runtime_alone(engine: str) -> None:
    with pytest.raises(InputError) as error:
        choose_engine(engine, "auto", possible=FOREIGN_ENGINES)
    assert str(error.value) == (
        f"--engine {engine} cannot run a network from an ONNX file; expected onnxruntime; leave --engine out"
    )


def test_onnx_runtime_makes_a_feature_file_of_our_own_network(image_folder: Path, tmp_path: Path) -> None:
    for engine in ("keras", "onnxruntime"):
        options = ["--dataset", f"folder:{image_folder}", "--run", tmp_path / engine, "--engine", engine, *FAST]
        assert thaw("features", *options) == 0
        assert engine_of(features_of(tmp_path / engine)) == engine
    with (
        h5py.File(features_of(tmp_path / "keras")) as expected,
        h5py.File(features_of(tmp_path / "onnxruntime")) as received,
    ):
        assert "version_onnxruntime" in received.attrs
        layer = "features/block1_pool"
        np.testing.assert_allclose(received[layer][...], expected[layer][...], rtol=1e-4, atol=1e-3)
