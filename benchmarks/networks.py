"""VGG16 without its classifier, as each contender runs it: built once, then called on the same batch of images.

Every function takes the path of the network's input, float32 (N, S, S, 3) in .npy, and the layers wanted, and returns
the function that is timed: layer -> float32 (N, D). Nothing of ours is imported above, since `features` sets
TensorFlow's oneDNN switch where nobody else has.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Run = Callable[[], dict[str, np.ndarray]]
BATCH = 64


def ours(images: str, layers: Sequence[str], engine: str) -> Run:
    """The product's engine, in batches as the features stage has them."""
    batches = _batches(images)
    return _warm(_engine(engine, tuple(layers), batches[0].shape[1]), batches, layers)


def _engine(name: str, layers: tuple[str, ...], size: int) -> Any:
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights
    from thaw.features.engines.network import Network

    backbone = BACKBONES["vgg16"]
    return Network(backbone, load_weights("imagenet", backbone), layers, size).start(name, BATCH)


def keras_predict(images: str, layers: Sequence[str]) -> Run:
    """Keras' own `predict` on all images at once, as its documentation has it."""
    model = _keras(layers, images)
    inputs = np.load(images)
    model.predict(inputs[:BATCH], verbose=0)

    def run() -> dict[str, np.ndarray]:
        outputs = model.predict(inputs, verbose=0)
        return _flat(outputs if isinstance(outputs, list) else [outputs], layers)

    return run


def tensorflow_function(images: str, layers: Sequence[str]) -> Run:
    """One compiled TensorFlow function over batches."""
    import tensorflow as tf

    model = _keras(layers, images)
    batches = _batches(images)
    call = tf.function(lambda batch: model(batch, training=False))

    def one(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = call(tf.constant(batch))
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return dict(zip(layers, map(np.asarray, outputs), strict=True))

    return _warm(one, batches, layers)


def _keras(layers: Sequence[str], images: str) -> Any:
    import tensorflow  # noqa: F401  # first: its oneDNN switch is this contender's, not ours

    from thaw.features.backbones.keras_model import build_frozen, truncate
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights

    backbone = BACKBONES["vgg16"]
    size = np.load(images, mmap_mode="r").shape[1]
    return truncate(build_frozen(backbone, size, load_weights("imagenet", backbone).tensors), tuple(layers))


def pytorch(images: str, layers: Sequence[str]) -> Run:
    """PyTorch in inference mode, channels last."""
    import torch
    from torch import nn

    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights

    backbone, cuts = BACKBONES["vgg16"], []
    weights, parts, part = load_weights("imagenet", backbone), [], []
    for layer in backbone.layers:
        if layer.trainable:
            kernel, bias = weights.tensors[layer.name]
            convolution = nn.Conv2d(kernel.shape[2], layer.channels, 3, padding=1)
            convolution.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
            convolution.bias.data = torch.from_numpy(bias.copy())
            part += [convolution, nn.ReLU(inplace=True)]
        else:
            part.append(nn.MaxPool2d(2))
        if layer.name in layers:
            cuts.append(layer.name)
            parts.append(nn.Sequential(*part).eval().to(memory_format=torch.channels_last))
            part = []
    batches = _batches(images)

    def one(batch: np.ndarray) -> dict[str, np.ndarray]:
        value, outputs = torch.from_numpy(batch).permute(0, 3, 1, 2), {}  # such a view is channels last
        with torch.inference_mode():
            for name, part in zip(cuts, parts, strict=True):
                value = part(value)
                outputs[name] = value.permute(0, 2, 3, 1).numpy()
        return outputs

    return _warm(one, batches, layers)


def onnx_runtime(images: str, layers: Sequence[str]) -> Run:
    """ONNX Runtime with all its graph optimisations, the default."""
    import onnxruntime

    batches = _batches(images)
    session = onnxruntime.InferenceSession(_onnx(layers, batches[0]), providers=["CPUExecutionProvider"])

    return _warm(lambda b: _nhwc(session.run(list(layers), {"images": _nchw(b)}), layers), batches, layers)


def openvino(images: str, layers: Sequence[str]) -> Run:
    """OpenVINO, compiled for the batch in float32."""
    import openvino as ov

    core, batches = ov.Core(), _batches(images)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(_onnx(layers, batches[0])), "CPU", settings).create_infer_request()

    def one(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = request.infer([_nchw(batch)])
        return _nhwc([outputs[name].copy() for name in layers], layers)

    return _warm(one, batches, layers)


def _onnx(layers: Sequence[str], batch: np.ndarray) -> bytes:
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights
    from thaw.features.onnx.network import network_graph

    backbone = BACKBONES["vgg16"]
    return network_graph(backbone, load_weights("imagenet", backbone), tuple(layers), batch.shape[1], len(batch))


def _nchw(batch: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def _nhwc(outputs: Sequence[np.ndarray], layers: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: output.transpose(0, 2, 3, 1) for name, output in zip(layers, outputs, strict=True)}


def _batches(images: str) -> list[np.ndarray]:
    inputs = np.load(images)
    assert len(inputs) % BATCH == 0, "whole batches, since some contenders are compiled for one size"
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def _warm(one: Callable[[np.ndarray], dict[str, np.ndarray]], batches: Sequence[np.ndarray], layers: Any) -> Run:
    """Return the run over all batches, after one of them, so that nothing is compiled or loaded in it."""
    one(batches[0])
    return lambda: _joined([one(batch) for batch in batches], layers)


def _joined(outputs: Sequence[dict[str, np.ndarray]], layers: Sequence[str]) -> dict[str, np.ndarray]:
    return _flat([np.concatenate([output[name] for output in outputs]) for name in layers], layers)


def _flat(outputs: Sequence[np.ndarray], layers: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.asarray(o).reshape(len(o), -1) for name, o in zip(layers, outputs, strict=True)}
