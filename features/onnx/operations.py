"""An operation of a network as nodes of an ONNX graph, on maps (N, C, H, W)."""

from typing import Any

import numpy as np

from thaw.features.backbones.graph import ACTIVATIONS, Operation

SIMPLE = {"add": "Add", "multiply": "Mul", "mean": "GlobalAveragePool", "relu": "Relu", "sigmoid": "Sigmoid"}


class OperationNodes:
    """The nodes and tensors of one operation; the last node's output has the operation's name.

    `size` is the height and width of the operation's input, `under_max` whether a max pooling reads its output.
    """

    def __init__(self, name: str, size: int, under_max: bool = False):
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._name, self._size, self._under_max = name, size, under_max

    def compute(self, operation: Operation, below: list[str], tensors: tuple[np.ndarray, ...]) -> None:
        """Add what the operation computes.

        Args:
            operation: the operation.
            below: the names of its inputs.
            tensors: its weights.
        """
        match operation.kind:
            case "conv" | "depthwise":
                output = self._convolve(operation, below[0], tensors)
                if operation.activation:
                    self._activate(operation.activation, output)
            case "norm":
                self._normalize(operation, below[0], tensors)
            case "layer_norm":
                self._normalize_positions(operation, below[0], tensors)
            case "max" | "average":  # an average counts no padding unless told to
                kind = "MaxPool" if operation.kind == "max" else "AveragePool"
                self._add(kind, below[0], **_window(operation))
            case "rescale":
                scaled = self._add("Mul", below[0], self._hold("factor", _planes(operation.factor)))
                self._add("Add", scaled, self._hold("offset", _planes(operation.offset)))
            case "pad":
                self._pad(operation, below[0])
            case "concat":
                self._add("Concat", *below, axis=1)
            case kind if kind in ACTIVATIONS:
                self._activate(kind, below[0])
            case kind:
                self._add(SIMPLE[kind], *below)
        self.nodes[-1].output[0] = self._name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{self._name}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _hold(self, part: str, array: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"{self._name}/{part}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def _scalar(self, part: str, value: float) -> str:
        from onnx import numpy_helper

        name = f"{self._name}/{part}"
        self.tensors.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def _convolve(self, operation: Operation, below: str, tensors: tuple[np.ndarray, ...]) -> str:
        """Add a convolution; kernels of ONNX are (out, in, h, w)."""
        outputs_first = (2, 3, 0, 1) if operation.kind == "depthwise" else (3, 2, 0, 1)
        held = [self._hold("kernel", tensors[0].transpose(outputs_first))]
        held += [self._hold("bias", tensors[1])] if operation.bias else []
        groups = {"group": operation.channels} if operation.kind == "depthwise" else {}
        return self._add("Conv", below, *held, **_window(operation), **groups)

    def _normalize(self, operation: Operation, below: str, tensors: tuple[np.ndarray, ...]) -> None:
        given = list(tensors)
        gamma = given.pop(0) if operation.scale else np.ones(operation.channels)
        beta = given.pop(0) if operation.center else np.zeros(operation.channels)
        parts = zip(("gamma", "beta", "mean", "variance"), (gamma, beta, *given), strict=True)
        held = [self._hold(part, tensor) for part, tensor in parts]
        self._add("BatchNormalization", below, *held, epsilon=operation.epsilon)

    def _normalize_positions(self, operation: Operation, below: str, tensors: tuple[np.ndarray, ...]) -> None:
        """Add a normalisation of the channels of each position, for which the opset has no node of its own."""
        centred = self._add("Sub", below, self._add("ReduceMean", below, axes=[1]))
        variance = self._add("ReduceMean", self._add("Mul", centred, centred), axes=[1])
        raised = self._add("Add", variance, self._scalar("epsilon", operation.epsilon))
        normal = self._add("Div", centred, self._add("Sqrt", raised))
        scaled = self._add("Mul", normal, self._hold("gamma", _planes(tensors[0])))
        self._add("Add", scaled, self._hold("beta", _planes(tensors[1])))

    def _activate(self, kind: str, below: str) -> None:
        match kind:
            case "relu" | "sigmoid":
                self._add(SIMPLE[kind], below)
            case "relu6":
                self._add("Clip", below, self._scalar("least", 0), self._scalar("most", 6))
            case "hard_sigmoid":
                self._hard_sigmoid(below)
            case "swish":
                self._add("Mul", below, self._add("Sigmoid", below))
            case "hard_swish":
                self._add("Mul", below, self._hard_sigmoid(below))
            case "gelu":
                error = self._add("Erf", self._add("Mul", below, self._scalar("narrowed", 0.5**0.5)))
                raised = self._add("Add", error, self._scalar("one", 1))
                self._add("Mul", self._add("Mul", below, raised), self._scalar("half", 0.5))

    def _hard_sigmoid(self, below: str) -> str:
        return self._add("HardSigmoid", below, alpha=1 / 6, beta=0.5)

    def _pad(self, operation: Operation, below: str) -> None:
        before, after = operation.border_of(self._size)
        if self._under_max and min(before, after) >= 0:
            # Not a Pad: optimizers, ONNX Runtime's too, make it the padding of the pooling, which is no zeros there.
            ones = self._hold("ones", np.ones((operation.channels, 1, 1, 1)))
            border = {"pads": [before, before, after, after], "group": operation.channels, "kernel_shape": [1, 1]}
            self._add("Conv", below, ones, **border)
            return
        if min(before, after) >= 0:
            pads = self._hold("pads", [0, 0, before, before, 0, 0, after, after], np.int64)
            self._add("Pad", below, pads)
            return
        corners = {"starts": [-before] * 2, "ends": [self._size + after] * 2, "axes": [2, 3]}
        self._add("Slice", below, *(self._hold(part, numbers, np.int64) for part, numbers in corners.items()))


def _planes(numbers: Any) -> np.ndarray:
    """Return numbers (C,) or (1,) in a shape that fits maps (N, C, H, W)."""
    return np.reshape(numbers, (1, -1, 1, 1))


def _window(operation: Operation) -> dict[str, Any]:
    """Return the attributes of a convolution or a pooling that differ from ONNX' defaults."""
    window: dict[str, Any] = {"kernel_shape": list(operation.kernel)}
    if any(operation.padding):
        window["pads"] = [*operation.padding, *operation.padding]
    if operation.same:
        window["auto_pad"] = "SAME_UPPER"
    if operation.stride > 1 or not operation.convolves:  # MNN's converter crashes on a pooling without
        window["strides"] = [operation.stride, operation.stride]
    return window
