"""A network as a graph of operations on maps: the shapes of its tensors, its sizes and its costs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

IMAGE = "image"  # the input of the first operation
KERAS_EPSILON = 1e-3  # of batch normalisation, if a network sets no other
ACTIVATIONS = ("relu", "relu6", "swish", "hard_swish", "hard_sigmoid", "sigmoid", "gelu")
POOLINGS = ("max", "average")

Tensors = Mapping[str, tuple[np.ndarray, ...]]  # the weights of each operation, in the order of `Operation.shapes`


@dataclass(frozen=True)
class Operation:
    """One operation on maps (N, H, W, C).

    `kind` is one of:

    - `conv`; `depthwise`, a convolution of each channel by itself. An `activation` is one of ACTIVATIONS that follows.
    - `norm`, batch normalisation, with a gamma if `scale` and a beta if `center`; `layer_norm`, of each position's
      channels; both add `epsilon` to the variance.
    - one of ACTIVATIONS, as `keras.activations` has them.
    - `max` or `average` pooling, in which padding is not counted; `mean`, the average of the whole map, (N, 1, 1, C).
    - `add`, `multiply` or `concat` of several inputs; the map of a `mean` counts for every position of another.
    - `rescale`: x * `factor` + `offset`, each one number or one for each channel.
    - `pad`: zeros around the map, `border` rows before and after it and as many columns; a negative number cuts off.

    `inputs` name operations, or IMAGE. `kernel` and `padding`, pixels on both sides, are (rows, columns). `same` stands
    in for `padding` or `border`: the map is padded as TensorFlow does for that kernel and stride, so that the output of
    a convolution has a row for every `stride` rows; an odd pixel of padding goes to the end.
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
    activation: str = ""
    scale: bool = True
    center: bool = True
    epsilon: float = KERAS_EPSILON
    factor: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    border: tuple[int, int] = (0, 0)

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, of all channels together or of each by itself."""
        return self.kind in ("conv", "depthwise")

    @property
    def joins(self) -> bool:
        """Whether it makes one map of several."""
        return self.kind in ("add", "multiply", "concat")

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its tensors as Keras orders them: kernel (h, w, in, out) and bias; gamma, beta, mean, variance.

        Empty if it has none; without `bias`, `scale` or `center` the bias, gamma or beta is left out. The kernel of a
        `depthwise` is (h, w, in, 1). A `layer_norm` has gamma and beta.
        """
        if self.convolves:
            outputs = self.channels if self.kind == "conv" else 1
            return ((*self.kernel, self.in_channels, outputs), *([(self.channels,)] if self.bias else []))
        vectors = {"norm": 2 + self.scale + self.center, "layer_norm": 2}.get(self.kind, 0)
        return ((self.channels,),) * vectors

    def border_of(self, size: int) -> tuple[int, int]:
        """Return the rows that a `pad` adds before and after a map of height `size`."""
        if not self.same:
            return self.border
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel[0] - size, 0)
        return total // 2, total - total // 2

    def output_size(self, size: int) -> int:
        """Return the height of the output for an input of height `size`; without `same` a partial window is cut."""
        if self.kind == "mean":
            return 1
        if self.kind == "pad":
            return size + sum(self.border_of(size))
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

    The last one is the network's output. Every adding method returns the name of its operation.
    """

    operations: dict[str, Operation] = field(default_factory=dict)

    def channels(self, name: str) -> int:
        """Return the channels of an operation's output, 3 of the image."""
        return 3 if name == IMAGE else self.operations[name].channels

    def sizes(self, image_size: int) -> dict[str, int]:
        """Return the height (and width) of every operation's output for square images of `image_size` pixels."""
        sizes = {IMAGE: image_size}
        for operation in self.operations.values():
            sizes[operation.name] = operation.output_size(max(sizes[below] for below in operation.inputs))
        return sizes

    def readers(self) -> dict[str, list[Operation]]:
        """Return the operations that take the output of each operation, and the image."""
        found: dict[str, list[Operation]] = {name: [] for name in (IMAGE, *self.operations)}
        for operation in self.operations.values():
            for below in dict.fromkeys(operation.inputs):
                found[below].append(operation)
        return found

    def up_to(self, names: Iterable[str]) -> list[Operation]:
        """Return the operations up to the last of these, in order."""
        order = list(self.operations)
        last = max(order.index(name) for name in names)
        return [self.operations[name] for name in order[: last + 1]]

    def convolve(
        self, name: str, below: str, channels: int, kernel: int | tuple[int, int] = 1, **options: int | bool | str
    ) -> str:
        """Add a convolution that keeps the map's size, unless `padding` (pixels a side) or `same` is given."""
        window = _window(kernel, options)
        return self.add(name, "conv", (below,), channels, **window, **options)

    def convolve_each(self, name: str, below: str, kernel: int, **options: int | bool | str) -> str:
        """Add a depthwise convolution: each channel has a kernel of its own. The options are those of `convolve`."""
        window = _window(kernel, options)
        return self.add(name, "depthwise", (below,), self.channels(below), **window, **options)

    def normalize(self, name: str, below: str) -> str:
        """Add a batch normalisation."""
        return self.add(name, "norm", (below,), self.channels(below))

    def rectify(self, name: str, below: str, kind: str = "relu") -> str:
        """Add a `relu`, or a `relu6`, which keeps values below 6 too."""
        return self.add(name, kind, (below,), self.channels(below))

    def pool(self, name: str, below: str, kernel: int, stride: int) -> str:
        """Add a max pooling."""
        return self.add(name, "max", (below,), self.channels(below), kernel=(kernel, kernel), stride=stride)

    def sum(self, name: str, below: Iterable[str]) -> str:
        """Add the sum of several maps of one shape."""
        inputs = tuple(below)
        return self.add(name, "add", inputs, self.channels(inputs[0]))

    def add(self, name: str, kind: str, inputs: tuple[str, ...], channels: int, **options: object) -> str:
        """Add an operation of any kind, with the options of `Operation`; raises ValueError if the name is taken."""
        if name in self.operations:
            raise ValueError(f"there is an operation {name!r} already")
        received = sum(self.channels(below) for below in inputs)
        self.operations[name] = Operation(name, kind, inputs, received, channels, **options)  # type: ignore[arg-type]
        return name


def _window(kernel: int | tuple[int, int], options: dict[str, int | bool | str]) -> dict[str, tuple[int, int]]:
    """Return a convolution's kernel and padding, both (rows, columns); `padding` is taken out of its options."""
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    usual = (0, 0) if options.get("same") else (rows // 2, columns // 2)
    padding = options.pop("padding", None)
    return {"kernel": (rows, columns), "padding": usual if padding is None else (int(padding), int(padding))}
