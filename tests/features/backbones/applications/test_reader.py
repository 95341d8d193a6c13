"""Keras' own networks, read as the files of the package were written."""

import keras
import pytest

from benchmarks.keras_graphs import as_published, read
from thaw.features.backbones.applications.graph_files import FOLDER, read_graph_file, read_list
from thaw.features.backbones.applications.reader import application, read_graph, tensors_by_operation
from thaw.features.backbones.graph import Graph

BUILDERS = (
    *("VGG16", "ResNet50", "ResNet50V2", "InceptionV3", "Xception", "DenseNet121", "MobileNet", "MobileNetV2"),
    *("MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny", "NASNetMobile"),
)


def kinds(graph: Graph) -> list[str]:
    return [operation.kind for operation in graph.operations.values()]


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_files_are_what_keras_has_whatever_the_process_built_before(builder: str) -> None:
    row, content = read(builder)
    assert row in read_list()
    assert content == (FOLDER / f"{row['name']}.json").read_text(encoding="utf-8")


def test_efficientnet_rescales_once_more_with_its_published_weights() -> None:
    """A network with random weights has no such layer, so that nothing would be missed if it were not read."""
    published, random = (
        read_graph([build("EfficientNetB0", size) for size in (64, 65)])
        for build in (lambda *given: as_published(*given)[0], application)
    )
    assert kinds(published)[:3] == ["rescale", "norm", "rescale"]
    assert kinds(random)[:3] == ["rescale", "norm", "conv"]
    first, _, second = list(published.operations.values())[:3]
    assert first.factor == (1 / 255,)
    assert second.factor == pytest.approx([1 / deviation**0.5 for deviation in (0.229, 0.224, 0.225)])


def test_convnext_and_efficientnetv2_prepare_their_input_by_numbers_of_their_own() -> None:
    for name, mean in (("convnexttiny", 255 * 0.485), ("efficientnetv2b0", 0.485)):
        rescaling = [o for o in read_graph_file(name).operations.values() if o.kind == "rescale"][-1]
        deviation = mean / 0.485 * 0.229
        assert (rescaling.factor[0], rescaling.offset[0]) == pytest.approx((1 / deviation, -mean / deviation))


def test_paddings_follow_the_size_of_the_map_or_do_not() -> None:
    halved = read_graph_file("mobilenetv2").operations["block_1_depthwise"]
    assert (halved.same, halved.stride, halved.kernel) == (True, 2, (3, 3))
    padded = read_graph_file("mobilenet").operations["conv_pad_2"]
    assert (padded.kind, padded.border, padded.same) == ("pad", (0, 1), False)
    assert [padded.output_size(size) for size in (16, 17)] == [17, 18]
    both = read_graph_file("nasnetmobile").operations["reduction_pad_1_stem_1"]
    assert [both.border_of(size) for size in (16, 17)] == [(0, 1), (1, 1)]
    shifted = read_graph_file("nasnetmobile").operations["cropping2d"]
    assert (shifted.kind, shifted.border) == ("pad", (-1, 0))


def test_zeros_around_a_map_with_negative_values_stay_an_operation() -> None:
    """A max pooling of its own sees nothing beyond the edge; ResNet50's map is rectified, ResNet50V2's is not."""
    assert read_graph_file("resnet50").operations["pool1_pool"].padding == (1, 1)
    assert read_graph_file("resnet50v2").operations["pool1_pad"].border == (1, 1)


def test_a_padding_seen_at_even_sizes_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="was seen at even sizes alone; read it at more sizes"):
        read_graph([application("MobileNetV2", size) for size in (64, 128)])


def of_layers(*layers: keras.layers.Layer) -> keras.Model:
    value = image = keras.Input((32, 32, 3))
    for layer in layers:
        value = layer(value)
    return keras.Model(image, value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            keras.layers.Conv2DTranspose(4, 3, name="up"),
            "Keras' layer up is a Conv2DTranspose; expected one of Conv2D, ",
        ),
        (keras.layers.Activation("tanh"), "Keras' activation tanh is not known here; expected one of relu, relu6, "),
        (keras.layers.Conv2D(4, 3, dilation_rate=2, name="wide"), "Keras' layer wide is dilated, or has 1 groups of 3"),
        (keras.layers.ReLU(max_value=5, name="low"), "Keras' layer low is a ReLU of another kind: "),
        (keras.layers.ZeroPadding2D(((0, 1), (0, 0)), name="low"), r"low has borders \(0, 1\) and \(0, 0\); expected "),
        (keras.layers.MaxPooling2D(2, (2, 1), name="uneven"), r"uneven has strides \(2, 1\); expected equal ones"),
    ],
)
def test_what_our_graphs_lack_is_refused(layer: keras.layers.Layer, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_graph([of_layers(layer)] * 2)


def test_weights_of_separable_grouped_and_dense_layers_have_the_shapes_of_our_operations() -> None:
    model = of_layers(
        keras.layers.SeparableConv2D(6, 3, name="separable"),
        keras.layers.Conv2D(6, 3, groups=6, name="grouped"),
        keras.layers.Dense(4, name="dense"),
        keras.layers.Normalization(name="adapted"),
    )
    tensors, graph = tensors_by_operation(model), read_graph([model])
    assert {name: tuple(t.shape for t in given) for name, given in tensors.items()} == {
        name: operation.shapes for name, operation in graph.operations.items()
    }
    assert list(graph.operations) == ["separable_depthwise", "separable", "grouped", "dense", "adapted"]
    kernel = model.get_layer("grouped").get_weights()[0]
    assert (tensors["grouped"][0][..., 0] == kernel[:, :, 0, :]).all()
