"""Which engine runs the network: what was asked for, what is there, and whether its numbers are Keras' own."""

import logging
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from thaw.features.engines.agreement import LIMIT
from thaw.features.engines.backend import LIBRARIES, backend_name, resolve_device
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, mnn_version
from thaw.features.engines.network import Network
from thaw.features.engines.onnxruntime_engine import OnnxRuntimeEngine
from thaw.features.errors import InputError
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.foreign.extractors import OUR_ENGINES
from thaw.features.onnx.runtime import onnxruntime_version

log = logging.getLogger("thaw")

ENGINES = ("auto", *OUR_ENGINES)
ON_CPU = ("mnn", "onnxruntime")  # engines that run on a CPU alone, in float32
NUM_COMPARED = 4  # images of a dataset that two engines are compared on


def choose_engine(
    engine: str, device: str, precision: str = "float32", possible: tuple[str, ...] = OUR_ENGINES
) -> tuple[str, str]:
    """Return the engine and the device for the engine, device and precision that were asked for.

    `auto` takes a GPU if there is one, with `keras`; else `mnn` if it is installed; else `keras`, which alone
    computes in another precision than float32. A network from an ONNX file runs by `onnxruntime` alone.

    Args:
        engine: one of ENGINES.
        device: auto, cpu or gpu.
        precision: of the arithmetic.
        possible: the engines that can run the network.

    Raises:
        InputError: what was asked for is not there or does not go together.
    """
    if engine == "auto" and len(possible) == 1:
        (engine,) = possible
    if engine not in ("auto", *possible):
        raise InputError(
            f"--engine {engine} cannot run a network from an ONNX file; expected {' or '.join(possible)}; "
            "leave --engine out"
        )
    if engine in ON_CPU and precision != "float32":
        raise InputError(
            f"--engine {engine} computes in float32, not with --engine-precision {precision}; leave one out"
        )
    if engine in ON_CPU and device == "gpu":
        raise InputError(f"--engine {engine} runs on a CPU, not with --device gpu; leave one of them out")
    if engine in ON_CPU:
        name, there = ("MNN", mnn_version()) if engine == "mnn" else ("ONNX Runtime", onnxruntime_version())
        if there is None:
            raise InputError(
                f"--engine {engine}: {name} is not installed, or cannot be loaded; type make setup, which installs "
                "it if it has a wheel, or --engine keras"
            )
        return engine, "cpu"
    device = resolve_device(device)
    takes_mnn = engine == "auto" and (device, precision) == ("cpu", "float32")
    return ("mnn" if takes_mnn and mnn_version() else "keras"), device


def agreed_engine(
    requested: str, engine: str, network: Network, batch_size: int, images: Callable[[], np.ndarray]
) -> str:
    """Return the chosen engine, or `keras` if that is `mnn` and its output differs from Keras' own.

    Args:
        requested: What was asked for: with `auto` Keras takes over with a warning, with `mnn` InputError is raised.
        engine: What was chosen.
        network: The network that both run, once on a machine.
        batch_size: Images in one forward pass.
        images: Returns network input (n, S, S, 3); noise is compared too.
    """
    if engine != "mnn":
        return engine

    def images_with_message() -> np.ndarray:
        log.info("comparing mnn's output with Keras' own, once for this network and image size on this machine")
        return images()

    try:
        error = network.error_of_mnn(batch_size, images_with_message)
    except (InputError, OSError, RuntimeError) as failure:
        if requested == "mnn":
            raise
        log.warning("mnn cannot be used (%s); keras is", failure)
        return "keras"
    if error <= LIMIT:
        log.info("mnn gives what Keras gives, to a relative error of %.1e", error)
        return engine
    difference = f"mnn's output differs from Keras' by {error:.1e} (relative L2 norm of an image), more than {LIMIT:g}"
    if requested == "mnn":
        raise InputError(f"--engine mnn: {difference}; start another run with --engine keras")
    log.warning("%s; keras is used", difference)
    return "keras"


def compared_images(request: FeatureRequest) -> np.ndarray:
    """Return network input, float32 (n, S, S, 3), of a few images from all over the dataset."""
    dataset, preprocessing = request.dataset, request.preprocessing
    inputs = [np.empty((0, preprocessing.image_size, preprocessing.image_size, 3), np.float32)]
    for row in np.linspace(0, len(dataset.ids) - 1, NUM_COMPARED).astype(int):
        try:
            inputs.append(preprocessing.prepare(dataset.read(int(row)))[np.newaxis])
        except InputError:
            continue  # the extraction says what is wrong with it
    return np.concatenate(inputs)


def library_versions(engine: str) -> dict[str, str]:
    """Return the versions of the libraries that may change the value of a feature that the engine makes."""
    keras = (*LIBRARIES[backend_name()], *KerasEngine.libraries)
    others = {"mnn": MNNEngine.libraries, "onnxruntime": OnnxRuntimeEngine.libraries}
    return {name.lower(): version(name) for name in others.get(engine, keras)}
