"""Our own networks through ONNX Runtime give what Keras gives, far closer than an engine has to be."""

import numpy as np
import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.engines import agreement
from thaw.features.engines.network import Network
from thaw.features.engines.onnxruntime_engine import OnnxRuntimeEngine
from thaw.features.errors import InputError

MOST_ERROR = 5e-5  # relative L2 norm; 1.5e-5 was measured, of EfficientNet-Lite2's last layer
SMALL = ("vgg16", "alexnet", "efficientnet_lite0")


def network_of(name: str) -> Network:
    backbone = BACKBONES[name]
    layers = tuple(layer.name for layer in backbone.probed[-2:])
    return Network(backbone, load_weights("random", backbone), layers, max(48, backbone.min_image_size))


@pytest.mark.parametrize("name", SMALL)
def test_our_networks_give_what_keras_gives(name: str) -> None:
    network = network_of(name)
    images = agreement.noise(network.image_size, network.backbone.normalization)
    received, expected = (network.start(engine, 3) for engine in ("onnxruntime", "keras"))
    assert isinstance(received, OnnxRuntimeEngine)
    assert agreement.compare(received, expected, images, 3) < MOST_ERROR


def test_an_image_s_features_do_not_depend_on_how_full_its_batch_is() -> None:
    network = network_of("efficientnet_lite0")
    engine = network.start("onnxruntime", 4)
    images = agreement.noise(network.image_size, network.backbone.normalization)
    for layer, values in engine(images).items():
        assert values.flags.owndata
        assert values.dtype == np.float32
        np.testing.assert_array_equal(engine(images[:1])[layer], values[:1])


def test_what_onnx_runtime_cannot_run_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^ONNX Runtime cannot run the network \(.*\)$"):
        OnnxRuntimeEngine(b"no model", ("features",), 4)
