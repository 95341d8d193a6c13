"""Where in an image a network finds its class: Grad-CAM (Selvaraju et al., ICCV 2017), on every backend of Keras."""

from typing import Any

import keras
import numpy as np
from keras import ops

BATCH = 16  # images at a time


def heat_maps(model: keras.Model, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """Return for each of the `inputs` (n, H, W, C) where it shows the class of `classes` (n,): (n, h, w) float32.

    A map is the rectified sum of the channels of an activation A, each weighted by the mean over the positions of the
    derivative of the class's logit by A; it is scaled so that its largest value is 1, and all 0 where nothing speaks
    for the class. A is the last activation of more than one position that the whole logit depends on, the inputs
    included; None is returned where there is none. A derivative that is not finite (a square root's at 0) counts as 0.
    Since a channel has one weight, a map shows where the channels that speak for the class are active.
    `model` is an uncompiled network of `thaw.models.neural.network`, which is left as it is.
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
    """Return the tensor that comes in, and the last one with positions through which every way to the logits leads."""
    steps = [step for step in model.operations if not isinstance(step, keras.layers.InputLayer)][:-1]
    source = keras.tree.flatten(steps[0].input)[0]
    tensors = [source, *(step.output for step in steps)]
    places = {id(tensor): place for place, tensor in enumerate(tensors)}
    read_last = [0] * len(tensors)
    for place, step in enumerate(steps, start=1):
        for tensor in keras.tree.flatten(step.input):
            read_last[places[id(tensor)]] = place
    mapped, open_until = None, 0
    for place, tensor in enumerate(tensors):
        if open_until <= place and len(tensor.shape) == 4 and tensor.shape[1] * tensor.shape[2] > 1:
            mapped = tensor
        open_until = max(open_until, read_last[place])
    return source, mapped


class _Shifted(keras.Model):
    """The logits (n, K) of activations to which `shift` is added: its only weight, of their shape and zero."""

    def __init__(self, upper: keras.Model, shape: tuple[int, ...]):
        super().__init__()
        self._logits = lambda activations: upper(activations, training=False)  # so that its weights are not ours
        self.shift = self.add_weight(shape=shape, initializer="zeros", name="shift")

    def call(self, inputs: Any) -> Any:
        """Return the logits, as when nothing is trained: no dropout, no batch statistics."""
        return self._logits(inputs + self.shift)


class _OtherWay(keras.losses.Loss):
    """Minus the sum of the wanted logits of all rows."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return (n,) of the wanted classes, one of K (n, K), and the logits (n, K)."""
        return -ops.sum(y_true * ops.cast(y_pred, "float32"), axis=-1)


def _slopes(upper: keras.Model, activations: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the derivatives of each row's logit of its class by the row's `activations`, of their shape.

    Keras gives no derivatives that are the same for all its backends, but it trains on all of them: a shift of the
    activations that begins at zero is the derivative after one step of gradient descent of the length 1.
    """
    shifted = _Shifted(upper, activations.shape)
    shifted.compile(keras.optimizers.SGD(1.0), _OtherWay(), run_eagerly=True, jit_compile=False)
    wanted = np.eye(upper.output_shape[-1], dtype=np.float32)[classes]
    shifted.train_on_batch(activations, wanted)
    return np.asarray(ops.convert_to_numpy(shifted.shift), np.float32)
