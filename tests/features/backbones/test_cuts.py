"""Layers follow from a network's graph: what splits it, what is finished there, and where a stage ends."""

import hashlib

import pytest

from thaw.features.backbones.cuts import cut_points, layers_of
from thaw.features.backbones.graph import IMAGE, Graph
from thaw.features.backbones.registry import BACKBONES

# Of the five networks that were once written down by hand: a digest of their layers (name, channels, whether features
# are taken there, whether training can begin there) and of the shapes of their tensors, and parameters and
# multiply-adds at 96 pixels. Runs and models of that time hold these names, in this order.
BEFORE = {
    "vgg16": ("52a001bc00a59472", 14_714_688, 2_818_768_896),
    "vgg19": ("e157f1d6731dfad3", 20_024_384, 3_583_180_800),
    "resnet50": ("85458130c6f1b54f", 23_587_712, 708_231_168),
    "inceptionv3": ("52a682ccb6061dc7", 21_802_784, 338_849_120),
    "densenet121": ("4dfc6b00b5ebdbc2", 7_037_504, 520_372_224),
}
DEFAULTS = {
    "resnet50v2": ("conv4_block5_out,post_relu", "conv4_block6_out"),
    "inceptionresnetv2": ("block17_20_ac,conv_7b_ac", "mixed_7a"),
    "xception": ("add_10,block14_sepconv2_act", "add_11"),
    "densenet201": ("pool4_pool,relu", "conv5_block1_concat"),
    "mobilenet": ("conv_pw_11_relu,conv_pw_13_relu", "conv_pw_12_relu"),
    "mobilenetv2": ("block_12_add,out_relu", "block_13_project_BN"),
    "mobilenetv3small": ("expanded_conv_7_add,activation_17", "expanded_conv_8_project_bn"),
    "efficientnetb0": ("block5c_add,top_activation", "block6a_project_bn"),
    "efficientnetb7": ("block5j_add,top_activation", "block6a_project_bn"),
    "efficientnetv2s": ("block5i_add,top_activation", "block6a_project_bn"),
    "convnexttiny": ("add_14,layer_normalization", "convnext_tiny_downsampling_conv_2"),
    "nasnetmobile": ("normal_concat_8,activation_187", "none"),
    "efficientnet_lite0": ("block5c_add,top_activation", "block6a_project_bn"),
    "alexnet": ("pool2,pool5", "conv3"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_networks_that_were_written_by_hand_are_as_before(name: str) -> None:
    backbone = BACKBONES[name]
    layers = [(layer.name, layer.channels, layer.probed, layer.trainable) for layer in backbone.layers]
    content = repr((layers, list(backbone.tensor_shapes.items()))).encode()
    received = hashlib.sha256(content).hexdigest()[:16], *backbone.cost(backbone.layers[-1].name, 96)
    assert received == BEFORE[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_features_are_the_last_maps_at_the_two_coarsest_strides(name: str) -> None:
    backbone = BACKBONES[name]
    assert (backbone.default_layers, backbone.default_cut) == DEFAULTS[name]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_has_what_the_stages_need(name: str) -> None:
    backbone = BACKBONES[name]
    assert len(backbone.probed) >= 3
    assert backbone.layers[-1].name == next(reversed(backbone.graph.operations))
    assert backbone.layers[-1].probed
    assert backbone.layers[-1].splits
    assert backbone.is_fine_tuned == (not name.startswith("nasnet"))
    if backbone.is_fine_tuned:
        assert len(backbone.stage_starts) >= 3
        assert all(layer.splits for layer in backbone.layers)
    assert not [layer.name for layer in backbone.layers if "/" in layer.name or "+" in layer.name or "," in layer.name]


def test_a_map_splits_the_network_if_nothing_goes_around_it() -> None:
    graph = Graph()
    first = graph.convolve("first", IMAGE, 8, 3)
    inside = graph.convolve("inside", first, 8, 3)
    total = graph.sum("total", (first, inside))
    graph.convolve("last", total, 8, 3)
    assert [operation.name for operation in cut_points(graph)] == ["first", "total", "last"]


def test_a_map_that_the_image_goes_around_does_not_split_the_network() -> None:
    graph = Graph()
    first = graph.convolve("first", IMAGE, 3, 3)
    graph.sum("last", (IMAGE, first))
    assert [operation.name for operation in cut_points(graph)] == ["last"]


def test_half_a_separable_convolution_and_the_wide_inside_of_a_block_are_no_layers() -> None:
    graph = Graph()
    below = graph.rectify("stem_relu", graph.normalize("stem_bn", graph.convolve("stem", IMAGE, 16, 3)))
    below = graph.normalize("narrow_bn", graph.convolve("narrow", graph.convolve_each("each", below, 3), 8))
    below = graph.rectify("wide_relu", graph.normalize("wide_bn", graph.convolve("wide", below, 48)))
    below = graph.rectify("wide_each_relu", graph.convolve_each("wide_each", below, 3, stride=2, same=True))
    below = graph.normalize("narrow_again_bn", graph.convolve("narrow_again", below, 12))
    graph.rectify("head_relu", graph.convolve("head", below, 64))
    found = layers_of(graph)
    assert [layer.name for layer in found] == ["stem_relu", "narrow_bn", "narrow_again_bn", "head_relu"]
    assert [layer.name for layer in found if layer.probed] == ["narrow_bn", "head_relu"]
    assert all(layer.trainable for layer in found)
