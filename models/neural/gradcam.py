"""Grad-CAM, the parts of an image that speak for a class (Selvaraju et al., ICCV 2017), on every backend of Keras."""

from typing import Any

import keras
import numpy as np
from keras import ops

BATCH = 16  # images at a time


def heat_maps(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """Return a map for each input, (n, h, w) float32 from 0 to 1, of the parts that speak for its class.

    A map is the rectified sum of the channels of an activation A. A channel's weight is the mean over all positions of
    the derivative of the class's logit by A. A map is scaled to a maximum of 1, or is 0 if no channel speaks for the
    class. A is the last activation of several positions that the whole logit depends on, and may be the inputs. A
    derivative that is not finite (of a square root at 0) counts as 0.

    Args:
        model: an uncompiled network of `thaw.models.neural.network`, which does not change.
        inputs: (n, H, W, C) float32.
        classes: the class of each input, (n,) int64.

    Returns:
        The maps, or None if there is no such activation.
    """
    logits = model.operations[-1].input  # below the softmax
    source, mapped = _mapped(model)
    if mapped is None:
        return None
    lower = None if mapped is source else keras.Model(source, mapped)
    upper = keras.Model(mapped, logits)
    maps = []
    for start in range(0, len(inputs), BATCH):
        some = ops.convert_to_tensor(inputs[start : start + BATCH], "float32")
        activations = np.asarray(ops.convert_to_numpy(lower(some, training=False) if lower else some), np.float32)
        slopes = _slopes(upper, activations, classes[start : start + BATCH])
        weights = np.where(np.isfinite(slopes), slopes, 0).mean(axis=(1, 2), keepdims=True)
        maps.append(np.maximum((weights * activations).sum(axis=-1), 0))
    found = np.concatenate(maps) if maps else np.empty((0, *mapped.shape[1:3]), np.float32)
    largest = found.max(axis=(1, 2), keepdims=True)
    return np.divide(found, largest, out=np.zeros_like(found), where=largest > 0)


def _mapped(model: keras.Model) -> tuple[Any, Any | None]:
    """Return the input tensor, and the last tensor with several positions on every path to the logits, or None."""
    steps = [step for step in model.operations if not isinstance(step, keras.layers.InputLayer)][:-1]
    source = keras.tree.flatten(steps[0].input)[0]
    tensors = [source, *(step.output for step in steps)]
    indices = {id(tensor): index for index, tensor in enumerate(tensors)}
    read_last = [0] * len(tensors)
    for index, step in enumerate(steps, start=1):
        for tensor in keras.tree.flatten(step.input):
            read_last[indices[id(tensor)]] = index
    mapped, open_until = None, 0
    for index, tensor in enumerate(tensors):
        if open_until <= index and len(tensor.shape) == 4 and tensor.shape[1] * tensor.shape[2] > 1:
            mapped = tensor
        open_until = max(open_until, read_last[index])
    return source, mapped


class _Shifted(keras.Model):
    """The logits (n, K) of activations plus `shift`, its only weight, which begins at zero."""

    def __init__(self, upper: keras.Model, shape: tuple[int, ...]):
        super().__init__()
        self._logits = lambda activations: upper(activations, training=False)  # in a lambda its weights are not ours
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs: Any) -> Any:
        """Return the logits without dropout and without batch statistics."""
        return self._logits(inputs + self.shift)


def _minus_logits(y_true: Any, y_pred: Any) -> Any:
    """Return minus the sum of the logits (n, K) of the one-hot classes (n, K), a scalar."""
    return -ops.sum(y_true * ops.cast(y_pred, "float32"))


def _slopes(upper: keras.Model, activations: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the derivatives of the logit of each row's class by the row's `activations`, (n, h, w, c) float32.

    Keras has no derivatives in common for all its backends, but it trains on all of them. A shift of the activations
    that begins at zero is the derivative after one step of gradient descent of length 1.
    """
    shifted = _Shifted(upper, activations.shape)
    shifted.compile(keras.optimizers.SGD(1.0), _minus_logits, run_eagerly=True, jit_compile=False)
    wanted = np.eye(upper.output_shape[-1], dtype=np.float32)[classes]
    shifted.train_on_batch(activations, wanted)
    return np.asarray(ops.convert_to_numpy(shifted.shift), np.float32)
