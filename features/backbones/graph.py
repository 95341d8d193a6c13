"""A network as a graph of operations on maps: the shapes of its tensors, its sizes and its costs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

IMAGE = "image"  # the input of the first operation
KERAS_EPSILON = 1e-3  # of batch normalisation, if a network sets no other

Tensors = Mapping[str, tuple[np.ndarray, ...]]  # the weights of each operation, in the order of `Operation.shapes`


@dataclass(frozen=True)
class Operation:
    """One operation on maps (N, H, W, C).

    `kind` is `conv`, `depthwise` (a convolution of each channel by itself), `norm` (batch normalisation), `relu`,
    `relu6`, `max`, `average` (padding is not counted), `add` or `concat`. `inputs` name operations, or IMAGE. `kernel`
    and `padding`, pixels on both sides, are (rows, columns). `same` stands in for `padding`: the map is padded as
    TensorFlow does, so that the output has a row for every `stride` rows; an odd pixel of padding goes to the end. A
    `conv` with `relu` includes the activation; `scale` is whether a `norm` has a gamma.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    same: bool = False
    bias: bool = True
    relu: bool = False
    scale: bool = True
    epsilon: float = KERAS_EPSILON

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, of all channels together or of each by itself."""
        return self.kind in ("conv", "depthwise")

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its tensors as Keras orders them: kernel (h, w, in, out) and bias; gamma, beta, mean, variance.

        Empty if it has none; without `bias` or `scale` the bias or the gamma is left out. The kernel of a `depthwise`
        is (h, w, in, 1).
        """
        if self.convolves:
            outputs = self.channels if self.kind == "conv" else 1
            return ((*self.kernel, self.in_channels, outputs), *([(self.channels,)] if self.bias else []))
        return ((self.channels,),) * (3 + self.scale) if self.kind == "norm" else ()

    def output_size(self, size: int) -> int:
        """Return the height of the output for an input of height `size`; without `same` a partial window is cut."""
        if self.same:
            return -(-size // self.stride)
        return (size + 2 * self.padding[0] - self.kernel[0]) // self.stride + 1

    @property
    def num_parameters(self) -> int:
        """The numbers in its tensors."""
        return sum(math.prod(shape) for shape in self.shapes)

    def multiply_adds(self, output_size: int) -> int:
        """Return the multiply-adds of a convolution for a square output of height `output_size`, 0 for others."""
        return output_size**2 * math.prod(self.shapes[0]) if self.convolves else 0


@dataclass
class Graph:
    """Operations in an order in which each comes after its inputs.

    `cuts` are the operations whose output splits the network, in order: all that comes after depends on the output
    alone. The value is whether features are taken there by themselves. Every adding method returns the name of its
    operation.
    """

    operations: dict[str, Operation] = field(default_factory=dict)
    cuts: dict[str, bool] = field(default_factory=dict)

    def channels(self, name: str) -> int:
        """Return the channels of an operation's output, 3 of the image."""
        return 3 if name == IMAGE else self.operations[name].channels

    def sizes(self, image_size: int) -> dict[str, int]:
        """Return the height (and width) of every operation's output for square images of `image_size` pixels."""
        sizes = {IMAGE: image_size}
        for operation in self.operations.values():
            sizes[operation.name] = operation.output_size(sizes[operation.inputs[0]])
        return sizes

    def up_to(self, names: Iterable[str]) -> list[Operation]:
        """Return the operations up to the last of these cut points, in order."""
        order = list(self.operations)
        last = max(order.index(name) for name in names)
        return [self.operations[name] for name in order[: last + 1]]

    def convolve(
        self, name: str, below: str, channels: int, kernel: int | tuple[int, int] = 1, **options: int | bool
    ) -> str:
        """Add a convolution that keeps the map's size, unless `padding` (pixels a side) or `same` is given."""
        window = _window(kernel, options)
        return self._add(name, "conv", (below,), channels, **window, **options)

    def convolve_each(self, name: str, below: str, kernel: int, **options: int | bool) -> str:
        """Add a depthwise convolution: each channel has a kernel of its own. The options are those of `convolve`."""
        window = _window(kernel, options)
        return self._add(name, "depthwise", (below,), self.channels(below), **window, **options)

    def normalize(self, name: str, below: str, epsilon: float = KERAS_EPSILON, scale: bool = True) -> str:
        """Add a batch normalisation."""
        return self._add(name, "norm", (below,), self.channels(below), epsilon=epsilon, scale=scale)

    def rectify(self, name: str, below: str, kind: str = "relu") -> str:
        """Add a `relu`, or a `relu6`, which keeps values below 6 too."""
        return self._add(name, kind, (below,), self.channels(below))

    def pool(self, name: str, below: str, kernel: int, stride: int, padding: int = 0, kind: str = "max") -> str:
        """Add a `max` or `average` pooling."""
        options = {"kernel": (kernel, kernel), "stride": stride, "padding": (padding, padding)}
        return self._add(name, kind, (below,), self.channels(below), **options)

    def join(self, name: str, below: Iterable[str], kind: str = "concat") -> str:
        """Add a `concat` of channels, or an `add`."""
        inputs = tuple(below)
        widths = [self.channels(name) for name in inputs]
        return self._add(name, kind, inputs, sum(widths) if kind == "concat" else widths[0])

    def cut(self, name: str, probed: bool = False) -> str:
        """Make the operation a cut point and return its name."""
        self.cuts[name] = probed
        return name

    def _add(self, name: str, kind: str, inputs: tuple[str, ...], channels: int, **options: object) -> str:
        if name in self.operations:
            raise ValueError(f"there is an operation {name!r} already")
        received = sum(self.channels(below) for below in inputs)
        self.operations[name] = Operation(name, kind, inputs, received, channels, **options)  # type: ignore[arg-type]
        return name


def _window(kernel: int | tuple[int, int], options: dict[str, int | bool]) -> dict[str, tuple[int, int]]:
    """Return a convolution's kernel and padding, both (rows, columns); `padding` is taken out of its options."""
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    usual = (0, 0) if options.get("same") else (rows // 2, columns // 2)
    padding = options.pop("padding", None)
    return {"kernel": (rows, columns), "padding": usual if padding is None else (int(padding), int(padding))}
