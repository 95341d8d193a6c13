"""What is left of a graph is what its outputs need, in its order."""

from pathlib import Path

import onnx

from thaw.features.foreign.pruning import pruned

from tests.builders.onnx_networks import convolutional


def test_only_what_an_output_needs_is_left(tmp_path: Path) -> None:
    model = onnx.load(convolutional(tmp_path / "net.onnx"))
    first = pruned(model, ("/Relu_1",)).graph
    assert [node.op_type for node in first.node] == ["Conv", "Relu"]
    assert [tensor.name for tensor in first.initializer] == ["held_0", "held_1"]
    assert [value.name for value in first.input] == ["pixels"]
    assert [value.name for value in first.output] == ["/Relu_1"]
    whole = pruned(model, ("features", "maps"))
    assert [node.op_type for node in whole.graph.node] == [node.op_type for node in model.graph.node]
    assert [value.name for value in whole.graph.output] == ["features", "maps"]
    assert whole.opset_import == model.opset_import
    onnx.checker.check_model(whole)


def test_the_model_itself_is_left_as_it_is(tmp_path: Path) -> None:
    model = onnx.load(convolutional(tmp_path / "net.onnx"))
    before = model.SerializeToString()
    pruned(model, ("maps",)).graph.node[0].name = "changed"
    assert model.SerializeToString() == before
