"""Build an ONNX graph: nodes one after the other, and the tensors that they hold."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.onnx.network import IR_VERSION, OPSET

AXES_ARE_INPUTS = 18  # the version from which the axes of every reduction are no attribute any more
MOST_BYTES = 2**31 - 2**20  # what one file of protobuf holds, less some room for the nodes


class GraphBuilder:
    """Nodes and tensors of a graph; every method that adds a value returns the value's name.

    The graph is of the version `opset` of the standard's operators, which is OPSET or later.
    """

    def __init__(self, opset: int = OPSET, ir_version: int = IR_VERSION) -> None:
        self._opset, self._ir_version = opset, max(ir_version, IR_VERSION)
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self._sparse: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name; the attributes are those of OPSET."""
        from onnx import helper

        if self._opset >= AXES_ARE_INPUTS and operator in ("ReduceMax", "ReduceMean") and "axes" in attributes:
            inputs = (*inputs, self.hold(attributes.pop("axes"), np.int64))
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

    def name(self, value: str, name: str) -> str:
        """Give a value a name of one's own, and return that."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def extend(self, nodes: Sequence[Any], tensors: Sequence[Any], sparse: Sequence[Any] = ()) -> None:
        """Add nodes, tensors and sparse tensors that were made elsewhere."""
        self._nodes += nodes
        self._tensors += tensors
        self._sparse += sparse

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
        self.name(value, name)
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))]
        return self.model_of(inputs, outputs, metadata)

    def model_of(
        self, inputs: Sequence[Any], outputs: Sequence[Any], metadata: Mapping[str, Any] | None = None
    ) -> bytes:
        """Return the model as bytes; the descriptions of the outputs name values. The rest is as in `serialize`."""
        from onnx import helper

        size = sum(tensor.ByteSize() for tensor in [*self._tensors, *self._sparse])
        if size > MOST_BYTES:
            raise InputError(
                f"the model holds {size / 1e6:,.0f} MB and an ONNX file at most {MOST_BYTES / 1e6:,.0f} MB; "
                "export another strategy of the run"
            )
        graph = helper.make_graph(
            self._nodes, "thaw", list(inputs), list(outputs), self._tensors, sparse_initializer=self._sparse
        )
        opsets = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self._ir_version, producer_name="thaw")
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
        helper.set_model_props(model, texts)
        return bytes(model.SerializeToString())
