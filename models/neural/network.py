"""The network that is trained: a backbone from some layer on, the article's head, and a linear probe beside it."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from thaw.features.backbones.keras_model import build_frozen
from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.errors import CONTAINER_FAULTS, InputError
from thaw.features.files.atomic import check_space, whole_path, write_whole
from thaw.features.files.hdf5_guard import check_heaps
from thaw.models.calibration import fit_margins
from thaw.models.neural.initializers import GlorotUniform
from thaw.models.neural.layers import DropBranch, Probabilities, Standardize
from thaw.models.neural.probe import Probe, ProbeShape

if TYPE_CHECKING:
    from thaw.features.backbones.weights import Weights


# What reading a file that somebody made up may raise; Keras only warns where a part of the weights is missing.
FAULTS = (*CONTAINER_FAULTS, UserWarning)
MOST_UNITS = 10**6  # of a layer in a file that is to be loaded
MOST_LOG_TEMPERATURE = 3.0  # beyond, float32 would tell the classes of an untrained network no longer apart


@dataclass(frozen=True)
class Architecture:
    """All that building a network takes, apart from its weights.

    `input_layer` is the layer whose activations come in, None for images; layers from `unfreeze_from` on are trained,
    with None only the head. `precision` is a Keras dtype policy.
    """

    backbone: str
    image_size: int
    num_classes: int
    input_layer: str | None
    unfreeze_from: str | None
    probe: ProbeShape | None = None
    units: int = 1000
    dropout: float = 0.3
    probe_dropout: float = 0.5
    precision: str = "float32"
    power: float = 1.0

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """The (H, W, C) that the head is given."""
        backbone = get_backbone(self.backbone)
        return backbone.output_shape(backbone.layers[-1].name, self.image_size)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The (H, W, C) of one input."""
        if self.input_layer is None:
            return (self.image_size, self.image_size, 3)
        return get_backbone(self.backbone).output_shape(self.input_layer, self.image_size)


def build(
    architecture: Architecture,
    weights: "Weights | None",
    seed: int,
    probe: Probe | None = None,
    from_scratch: bool = False,
) -> keras.Model:
    """Return the uncompiled network, (N, H, W, C) inputs -> (N, K) class probabilities.

    The convolutions have `weights`, the head is random by `seed`. With a probe the head's last layer begins at zero, so
    that the network begins with the probe's own probabilities. Batch normalisation is frozen everywhere and keeps its
    statistics, in training too, unless the network is trained from scratch.
    """
    backbone = get_backbone(architecture.backbone)
    with _dtype_policy(architecture.precision):
        base = build_frozen(backbone, architecture.image_size, weights.tensors if weights else None)
        base.trainable = True
        _freeze(base, backbone, architecture.unfreeze_from, from_scratch)
        outputs_of = {layer.name: layer.output for layer in base.layers}
        inputs = outputs_of[architecture.input_layer] if architecture.input_layer else base.input
        probed = outputs_of[architecture.probe.layer] if architecture.probe else None
        logits = _head(architecture, base.output, probed, seed)
        probabilities = Probabilities(architecture.power, dtype="float32", name="probabilities")(logits)
        model = keras.Model(inputs, probabilities, name=architecture.backbone)
    if probe:
        model.get_layer("probe_scale").set_weights([probe.mean, probe.scale])
        model.get_layer("probe").set_weights([probe.kernel, probe.bias])
    return model


def _freeze(base: keras.Model, backbone: Backbone, unfreeze_from: str | None, from_scratch: bool) -> None:
    """Let the layers above the input of the cut be trained, batch normalisation only from scratch.

    A cut point splits the network, so that in Keras' order, by depth, all below it comes before it.
    """
    last_frozen = backbone.input_of(unfreeze_from) if unfreeze_from else backbone.layers[-1].name
    trained = last_frozen is None
    for layer in base.layers:
        layer.trainable = trained and (from_scratch or not isinstance(layer, keras.layers.BatchNormalization))
        trained = trained or layer.name == last_frozen


def depths(model: keras.Model, architecture: Architecture) -> dict[str, int]:
    """Return the number of stages above its own for each layer of the backbone in a network that `build` made."""
    backbone = get_backbone(architecture.backbone)
    above = [layer.name for layer in backbone.layers]
    above = above[above.index(architecture.input_layer) + 1 :] if architecture.input_layer else above
    found: dict[str, int] = {}
    for layer in model.layers:
        if not above:
            break
        found[layer.name] = backbone.stages_above(above[0])
        if layer.name == above[0]:
            del above[0]
    return found


def _head(architecture: Architecture, outputs: Any, probed: Any | None, seed: int) -> Any:
    """Return the head's logits: Flatten, Dense(1000, relu), Dropout(0.3), Dense(K), as the article has it.

    With a probe its standardised features enter the hidden layer too, and its logits are added.
    """
    layers, glorot = keras.layers, GlorotUniform
    hidden = layers.Flatten(name="flatten")(outputs)
    if architecture.probe:
        features = _probe_features(architecture.probe, probed)
        hidden = layers.Concatenate(name="head_input")([hidden, features])
    hidden = layers.Dense(architecture.units, activation="relu", kernel_initializer=glorot(seed=seed), name="fc1")(
        hidden
    )
    hidden = layers.Dropout(architecture.dropout, seed=seed, name="dropout")(hidden)
    last = "zeros" if architecture.probe else glorot(seed=seed + 1)
    logits = layers.Dense(architecture.num_classes, kernel_initializer=last, name="predictions")(hidden)
    if not architecture.probe:
        return logits
    probe_logits = layers.Dense(architecture.num_classes, name="probe")(features)
    dropped = DropBranch(architecture.probe_dropout, seed=seed + 2, name="probe_dropout")(probe_logits)
    return layers.Add(name="logits")([logits, dropped])


def _probe_features(shape: ProbeShape, activations: Any) -> Any:
    pooled = pool(activations, shape.pooling)
    if shape.transform == "sqrt":
        pooled = ops.sign(pooled) * ops.sqrt(ops.abs(pooled))
    return Standardize(name="probe_scale")(pooled)


def pool(activations: Any, pooling: str) -> Any:
    """Return (N, D) from (N, H, W, C) as the linear strategies' features are made: `flat`, `max` or `gridN`.

    gridN is adaptive averaging: cell i covers rows floor(i H / N) to ceil((i + 1) H / N), likewise columns.
    """
    if pooling == "max":
        return ops.max(activations, axis=(1, 2))
    if pooling != "flat":
        cells = int(pooling.removeprefix("grid"))
        rows, columns = (ops.convert_to_tensor(_averages(side, cells)) for side in activations.shape[1:3])
        activations = ops.einsum("nhwc,gh,kw->ngkc", activations, rows, columns)
    return ops.reshape(activations, (-1, int(np.prod(activations.shape[1:]))))


def _averages(length: int, num_cells: int) -> np.ndarray:
    """Return (num_cells, length) float32, each row the mean over one cell."""
    matrix = np.zeros((num_cells, length), np.float32)
    for cell in range(num_cells):
        covered = slice(cell * length // num_cells, -(-(cell + 1) * length // num_cells))
        matrix[cell, covered] = 1 / (covered.stop - covered.start)
    return matrix


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def describe(model: keras.Model) -> list[str]:
    """Return the network's layers, one a line: name, output shape, and whether each is trained or frozen.

    Of the backbone they are the cut points, each for all that lies between it and the one below.
    """
    shape = "x".join(str(side) for side in model.input_shape[1:])
    backbone = get_backbone(model.name)
    width = max(16, backbone.name_width)
    lines = [f"  {'input':<{width}} {shape:>12}"]
    weights: list[Any] = []
    trained: list[Any] = []
    for layer in model.layers[1:]:
        shape = "x".join(str(side) for side in layer.output.shape[1:])
        if _is_inside(backbone, layer.name):
            weights, trained = weights + layer.weights, trained + layer.trainable_weights
            continue
        own, own_trained = list(layer.weights), list(layer.trainable_weights)
        if layer.name in backbone.graph.cuts:
            own, own_trained, weights, trained = weights + own, trained + own_trained, [], []
        state = ("trained" if own_trained else "frozen") if own else ""
        lines.append(f"  {layer.name:<{width}} {shape:>12}  {state}".rstrip())
    total, fitted = (sum(int(np.prod(w.shape)) for w in group) for group in (model.weights, model.trainable_weights))
    return [*lines, f"  {total:,} parameters, {fitted:,} of them trained"]


def _is_inside(backbone: Backbone, name: str) -> bool:
    """Return whether a layer is one of the backbone's that lie between cut points, or pads such a one."""
    return name not in backbone.graph.cuts and (name in backbone.graph.operations or "pad" in name)


def predict(model: keras.Model, batches: Iterator[np.ndarray]) -> np.ndarray:
    """Return (N, K) float64 class probabilities, each row with the sum 1."""
    parts = [np.asarray(model.predict_on_batch(inputs), np.float64) for inputs in batches]
    probabilities = np.concatenate(parts)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def calibrate(model: keras.Model, probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Make the network's probabilities mean what they say; return the temperature and the power of its margins.

    `probabilities` (n, K) float64 are the network's own of images that it was not trained on, `labels` (n,) their
    classes. The logits are sums of what linear layers give: their weights are divided by the temperature. No label
    changes.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    smoothing = 1 / (len(labels) + 2)  # Laplace's rule of succession
    temperature, power = fit_margins(logits, labels, smoothing, MOST_LOG_TEMPERATURE)
    for name in ("predictions", "probe"):
        if name in [layer.name for layer in model.layers]:
            layer = model.get_layer(name)
            layer.set_weights([weights / temperature for weights in layer.get_weights()])
    model.get_layer("probabilities").power = power
    model.make_predict_function(force=True)  # the one that was compiled has the former power in it
    return temperature, power


def save(path: Path, model: keras.Model, architecture: Architecture, record: dict[str, Any]) -> None:
    """Write `path`, the architecture and the `record` as JSON, and its weights beside it as `.weights.h5`."""
    weights_path = path.with_suffix(".weights.h5")
    # HDF5 crashes the process where the disk fills up under it.
    check_space(weights_path, 4 * sum(int(np.prod(weight.shape)) for weight in model.weights))
    with whole_path(weights_path, ".weights.h5") as temporary:
        model.save_weights(temporary)
    with write_whole(path) as file:
        file.write(json.dumps({"architecture": asdict(architecture), "record": record}, indent=2) + "\n")


def _check_size(architecture: Architecture, weights_path: Path) -> None:
    """Raise ValueError where the head would be larger than the file of its weights, before anything is allocated."""
    sizes = (architecture.units, architecture.num_classes, architecture.image_size)
    if any(not isinstance(size, int) or not 0 < size < MOST_UNITS for size in sizes):
        raise ValueError(f"units, classes and image size are {sizes}")
    get_backbone(architecture.backbone).check_image_size(architecture.image_size)
    height, width, channels = architecture.output_shape
    needed = 4 * architecture.units * (height * width * channels + architecture.num_classes)
    held = weights_path.stat().st_size
    if needed > held:
        raise ValueError(f"its head takes {needed} bytes and its weights have {held}")


def load(path: Path) -> tuple[keras.Model, Architecture, dict[str, Any]]:
    """Return (model, architecture, record): the network is built by this module, then filled with the file's numbers.

    Raises InputError where a file is missing, damaged or does not fit.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fields = content["architecture"]
        probe = fields.pop("probe")
        architecture = Architecture(**fields, probe=ProbeShape(**probe) if probe else None)
        _check_size(architecture, path.with_suffix(".weights.h5"))
        check_heaps(path.with_suffix(".weights.h5"))
        model = build(architecture, None, seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns where a part of the weights is missing
            model.load_weights(path.with_suffix(".weights.h5"))
        return model, architecture, dict(content["record"])
    except PermissionError as error:
        error.filename = error.filename or str(path.with_suffix(".weights.h5"))  # HDF5 says it in the text alone
        raise
    except FAULTS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a network that can be read ({reason}); train the model again") from None
