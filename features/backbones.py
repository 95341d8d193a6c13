"""A network by name: its layers and their shapes, its minimum image size, and the frozen Keras model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import InputError

if TYPE_CHECKING:
    import keras

    from features.weights import Weights


@dataclass(frozen=True)
class Layer:
    """One layer: its name, kind (`conv` or `pool`), channels going in and out, and pixels of the image per step."""

    name: str
    kind: str
    in_channels: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Backbone:
    """A convolutional network without its classifier.

    `builder` is its name in `keras.applications`; `min_image_size` is the smallest image side, in pixels, it takes.
    """

    name: str
    builder: str
    min_image_size: int
    layers: tuple[Layer, ...]

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The layers that have weights, in order."""
        return tuple(layer for layer in self.layers if layer.kind == "conv")

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; raises InputError that lists the names."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise InputError(f"{self.name} has no layer {name!r}; expected one of {names}")

    def input_of(self, name: str) -> str | None:
        """Return the layer just below the layer `name`, None where that is the image."""
        names = [layer.name for layer in self.layers]
        position = names.index(self.layer(name).name)
        return names[position - 1] if position else None

    def output_shape(self, name: str, image_size: int) -> tuple[int, int, int]:
        """Return the (H, W, C) of a layer's output for square images of `image_size` pixels."""
        layer = self.layer(name)
        return (image_size // layer.stride, image_size // layer.stride, layer.channels)

    def check_image_size(self, image_size: int) -> None:
        """Raise InputError where `image_size` is below the network's minimum."""
        if image_size < self.min_image_size:
            raise InputError(
                f"--image-size {image_size} is below the minimum of {self.name}; "
                f"expected {self.min_image_size} or more, for example --image-size 48"
            )


def _vgg(name: str, builder: str, convolutions: tuple[int, ...]) -> Backbone:
    """Return a VGG network: five blocks of 3x3 convolutions, each ended by a 2x2 max pooling (Simonyan 2015)."""
    layers, channels, stride = [], 3, 1
    for block, (count, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
        for number in range(1, count + 1):
            layers.append(Layer(f"block{block}_conv{number}", "conv", channels, width, stride))
            channels = width
        stride *= 2
        layers.append(Layer(f"block{block}_pool", "pool", channels, width, stride))
    return Backbone(name, builder, 32, tuple(layers))


BACKBONES = {"vgg16": _vgg("vgg16", "VGG16", (2, 2, 3, 3, 3))}


def get_backbone(name: str) -> Backbone:
    """Return the backbone of that name; raises InputError that lists the names."""
    if name not in BACKBONES:
        raise InputError(f"no such backbone: {name!r}; expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def build_frozen(backbone: Backbone, image_size: int, weights: "Weights | None") -> "keras.Model":
    """Return the Keras model for (N, image_size, image_size, 3) float32 input, every layer frozen.

    Without `weights` it has Keras' own random ones, for weights to be loaded into.
    """
    import keras

    backbone.check_image_size(image_size)
    shape = (image_size, image_size, 3)
    model = getattr(keras.applications, backbone.builder)(weights=None, include_top=False, input_shape=shape)
    if weights:
        for layer in backbone.convolutions:
            model.get_layer(layer.name).set_weights(list(weights.tensors[layer.name]))
    model.trainable = False
    return model


def truncate(model: "keras.Model", layers: tuple[str, ...]) -> "keras.Model":
    """Return a model with the same input that gives the outputs of `layers`, in their order, and runs no further."""
    import keras

    return keras.Model(model.input, [model.get_layer(name).output for name in layers])
