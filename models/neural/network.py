"""The network that is trained: a backbone from some layer on, the article's head, and a linear probe beside it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from thaw.features.backbones.keras_model import build_frozen, dtype_policy
from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.models.neural.initializers import GlorotUniform
from thaw.models.neural.layers import DropBranch, Probabilities, Standardize, pool
from thaw.models.neural.probe import Probe, ProbeShape

if TYPE_CHECKING:
    from thaw.features.backbones.weights import Weights


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network, apart from its weights.

    Attributes:
        backbone: the name of the pretrained network.
        image_size: the side of the square input images, in pixels.
        num_classes: K.
        input_layer: the layer whose activations are the inputs, None for images.
        unfreeze_from: the first layer that is trained, None to train only the head.
        probe: the layer of the linear probe, None to build none.
        units: the width of the hidden layer.
        dropout: the share of the hidden layer that is set to 0 in training.
        probe_dropout: the share of the images that are trained without the probe.
        precision: a Keras dtype policy.
        power: the calibrated power of `Probabilities`.
        input_sides: the (H, W, C) of one input, of a head on a network that is not built here; None otherwise.
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
    input_sides: tuple[int, int, int] | None = None

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """The (H, W, C) of the head's input."""
        if self.input_sides:
            return self.input_sides
        backbone = get_backbone(self.backbone)
        return backbone.output_shape(backbone.layers[-1].name, self.image_size)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The (H, W, C) of one input."""
        if self.input_sides:
            return self.input_sides
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
    """Build the uncompiled network, (N, H, W, C) inputs -> (N, K) class probabilities.

    With a probe the head's last layer begins at zero, so that the network begins with the probe's own probabilities.
    Normalisation is frozen everywhere and keeps its statistics, in training too, unless `from_scratch`.

    Args:
        architecture: what to build.
        weights: the weights of the backbone, None for random ones that a file replaces.
        seed: the seed of the head's first weights and of dropout.
        probe: the numbers of the probe, None for random ones that a file replaces.
        from_scratch: whether normalisation is trained too.
    """
    if architecture.input_sides:
        return _head_alone(architecture, seed)
    backbone = get_backbone(architecture.backbone)
    with dtype_policy(architecture.precision):
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


def _head_alone(architecture: Architecture, seed: int) -> keras.Model:
    """Build the head on the features of a network that is not built here."""
    with dtype_policy(architecture.precision):
        inputs = keras.Input(architecture.input_shape)
        logits = _head(architecture, inputs, None, seed)
        probabilities = Probabilities(architecture.power, dtype="float32", name="probabilities")(logits)
        return keras.Model(inputs, probabilities, name="head")


def _freeze(base: keras.Model, backbone: Backbone, unfreeze_from: str | None, from_scratch: bool) -> None:
    """Let the layers above the input of the cut be trained, normalisation only from scratch.

    A cut point splits the network. So in Keras' order, by depth, all layers below it come before it.
    """
    last_frozen = backbone.input_of(unfreeze_from) if unfreeze_from else backbone.layers[-1].name
    trained = last_frozen is None
    for layer in base.layers:
        layer.trainable = trained and _is_trained(layer, from_scratch)
        trained = trained or layer.name == last_frozen


def _is_trained(layer: Any, from_scratch: bool) -> bool:
    """Return whether training changes a layer; one that only has statistics prepares the image, and keeps them."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return from_scratch and (layer.scale or layer.center)
    return from_scratch or not isinstance(layer, keras.layers.LayerNormalization)


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


def depths(model: keras.Model, architecture: Architecture) -> dict[str, int]:
    """Return for each layer of the backbone in a built network the number of stages above the layer's own."""
    if architecture.input_sides:
        return {}
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


def describe(model: keras.Model) -> list[str]:
    """Return the network's layers, one a line: name, output shape, and whether the layer is trained or frozen.

    Of the backbone, the lines are the cut points; a line counts all layers from the cut point below on.
    """
    backbone = None if model.name == "head" else get_backbone(model.name)
    names = {layer.name for layer in backbone.layers} if backbone else set()
    width = max(16, backbone.name_width if backbone else 0)
    lines = [f"  {'input':<{width}} {_sides(model.input_shape):>12}"]
    inside: list[Any] = []
    for layer in model.layers[1:]:
        if backbone and _is_inside(backbone, layer.name):
            inside.append(layer)
            continue
        members = [layer]
        if layer.name in names:
            members, inside = [*inside, layer], []
        state = "frozen" if any(member.weights for member in members) else ""
        if any(member.trainable_weights for member in members):
            state = "trained"
        lines.append(f"  {layer.name:<{width}} {_sides(layer.output.shape):>12}  {state}".rstrip())
    return [*lines, f"  {model.count_params():,} parameters, {_num_values(model.trainable_weights):,} of them trained"]


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape[1:])


def _num_values(weights: list[Any]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def _is_inside(backbone: Backbone, name: str) -> bool:
    """Return whether a layer of the backbone lies between cut points, or pads a layer that does."""
    is_layer = any(layer.name == name for layer in backbone.layers)
    return not is_layer and (name in backbone.graph.operations or "pad" in name)
