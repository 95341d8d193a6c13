"""Build an ONNX graph: nodes one after the other, and the tensors that they hold."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.onnx.network import IR_VERSION, OPSET

MOST_BYTES = 2**31 - 2**20  # what one file of protobuf holds, less some room for the nodes


class GraphBuilder:
    """Nodes and tensors of a graph; every method that adds a value returns the value's name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        from onnx import helper

        output = f"{operator}:{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def top(self, values: str, count: str, axis: int, largest: bool) -> tuple[str, str]:
        """Add a node that keeps the first `count` of the sorted `values`; return their name and their indices' name."""
        from onnx import helper

        outputs = [f"TopK:{len(self._nodes)}:{what}" for what in ("values", "indices")]
        node = helper.make_node("TopK", [values, count], outputs, axis=axis, largest=int(largest), sorted=1)
        self._nodes.append(node)
        return outputs[0], outputs[1]

    def hold(self, array: np.ndarray | Sequence[Any] | float, dtype: Any = None) -> str:
        """Hold an array, of its own type or of `dtype`, and return its name."""
        from onnx import numpy_helper

        name = f"held:{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.asarray(array, dtype, order="C"), name))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """Add a conversion to a NumPy dtype."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def extend(self, nodes: Sequence[Any], tensors: Sequence[Any]) -> None:
        """Add nodes and tensors that were made elsewhere."""
        self._nodes += nodes
        self._tensors += tensors

    def serialize(
        self, inputs: Sequence[Any], output: tuple[str, str, Sequence[Any]], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return the model as bytes.

        Args:
            inputs: descriptions of the inputs.
            output: the value's name, its name as an output, and its shape; it is float32.
            metadata: texts by name; other values are written as JSON.

        Raises:
            InputError: the file would be larger than ONNX allows.
        """
        from onnx import TensorProto, helper

        value, name, shape = output
        size = sum(tensor.ByteSize() for tensor in self._tensors)
        if size > MOST_BYTES:
            raise InputError(
                f"the model holds {size / 1e6:,.0f} MB and an ONNX file at most {MOST_BYTES / 1e6:,.0f} MB; "
                "export another strategy of the run"
            )
        nodes = [*self._nodes, helper.make_node("Identity", [value], [name])]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))]
        graph = helper.make_graph(nodes, "thaw", list(inputs), outputs, self._tensors)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="thaw"
        )
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
        helper.set_model_props(model, texts)
        return bytes(model.SerializeToString())
