"""How each neural strategy is trained: the article's recipe, and the one tuned on validation images."""

import math
from dataclasses import dataclass, replace
from typing import Any

BATCH_SIZE = 256
STEPS_PER_EPOCH = 50  # at least, by a smaller batch if the images are few
SMALLEST_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        learning_rate: the highest rate.
        epochs: the most epochs.
        batch_size: the samples of a step.
        weight_decay: None for plain Adam, else of AdamW (Loshchilov and Hutter 2019).
        warmup: the share of all steps in which the rate rises to `learning_rate`.
        decay: whether the rate then falls to zero along a cosine.
        label_smoothing: the share of each target that all classes get alike.
        backbone_rate: multiplies the rate of the convolutions.
        stage_rate: multiplies it once more for every stage above the layer's own; a pooling layer ends a stage.
        probe_rate: multiplies the rate of the probe.
        patience: None trains all epochs and keeps the last weights. Otherwise the best weights on validation are kept,
            and training ends when they are `patience` epochs old.
    """

    learning_rate: float
    epochs: int
    batch_size: int = BATCH_SIZE
    weight_decay: float | None = None
    warmup: float = 0.0
    decay: bool = False
    label_smoothing: float = 0.0
    backbone_rate: float = 1.0
    stage_rate: float = 1.0
    probe_rate: float = 1.0
    patience: int | None = None

    def rate(self, step: int, num_steps: int) -> float:
        """Return the learning rate of one step, counted from 0, of all `num_steps`."""
        rising = self.warmup * num_steps
        if step < rising:
            return self.learning_rate * min(1.0, (step + 1) / rising)
        if not self.decay:
            return self.learning_rate
        done = (step - rising) / max(1.0, num_steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


_TUNED = Recipe(1e-3, 20, weight_decay=1e-2, warmup=0.05, decay=True, patience=4)

RECIPES = {
    "article": {
        "head": Recipe(1e-3, 10),
        "finetune": Recipe(1e-3, 15),
        "scratch": Recipe(1e-3, 15),
    },
    "tuned": {
        "head": _TUNED,
        "finetune": replace(_TUNED, epochs=8, backbone_rate=0.1, stage_rate=0.7, probe_rate=0.1, patience=3),
        "scratch": replace(_TUNED, learning_rate=1e-4, epochs=30, patience=8),
    },
}


def find_recipe(name: str, strategy: str, num_training: int, **given: Any) -> Recipe:
    """Return a recipe; the tuned one halves its batch until an epoch has fifty steps, down to 32 images.

    Args:
        name: a key of RECIPES.
        strategy: the strategy.
        num_training: the number of training images.
        given: fields of the recipe; those that are not None replace its own.
    """
    recipe = RECIPES[name][strategy]
    if name == "tuned":
        size = recipe.batch_size
        while size > SMALLEST_BATCH and num_training / size < STEPS_PER_EPOCH:
            size //= 2
        recipe = replace(recipe, batch_size=size)
    return replace(recipe, **{key: value for key, value in given.items() if value is not None})
