"""The optimizer of a recipe, with a learning rate for each part of the network."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from thaw.models.neural.recipes import Recipe


class ScaledAdamW(keras.optimizers.AdamW):
    """AdamW with a multiple of the learning rate for each trainable variable, in their order.

    The decay of the weights, separate from their gradients, uses the learning rate itself.
    """

    def __init__(self, learning_rate: float, multiples: Sequence[float], **options: Any):
        super().__init__(learning_rate, **options)
        self.multiples = list(multiples)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at its own rate."""
        multiple = self.multiples[self._get_variable_index(variable)]  # the backend's variable has no path
        super().update_step(gradient, variable, learning_rate * multiple)


def rate_multiples(model: keras.Model, recipe: Recipe, depths: Mapping[str, int]) -> list[float]:
    """Return the multiple of the learning rate for each trainable variable.

    Args:
        model: the network.
        recipe: the multiples of the backbone, its stages and the probe.
        depths: the number of stages above each layer's own, by layer.
    """
    of_layer = {name: recipe.backbone_rate * recipe.stage_rate**depth for name, depth in depths.items()}
    of_layer["probe"] = recipe.probe_rate
    return [of_layer.get(variable.path.split("/")[0], 1.0) for variable in model.trainable_variables]


def compile_model(
    model: keras.Model, recipe: Recipe, depths: Mapping[str, int] | None = None, on_gpu: bool = False
) -> None:
    """Compile the network for its recipe.

    On a CPU TensorFlow does not use XLA, which is slower than oneDNN. JAX has only XLA, and PyTorch is not compiled.

    Args:
        model: the network.
        recipe: the optimizer and the loss.
        depths: the number of stages above each layer's own, by layer, see `rate_multiples`.
        on_gpu: whether it is trained on a GPU.
    """
    if recipe.weight_decay is None:
        optimizer: keras.optimizers.Optimizer = keras.optimizers.Adam(recipe.learning_rate)
    else:
        optimizer = ScaledAdamW(
            recipe.learning_rate, rate_multiples(model, recipe, depths or {}), weight_decay=recipe.weight_decay
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile="auto" if on_gpu or keras.backend.backend() != "tensorflow" else False,
    )
