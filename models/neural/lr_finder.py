"""Which learning rates work: one run over rising rates (Smith 2017), on a network that is thrown away."""

import math
from dataclasses import dataclass

import keras
import numpy as np

from thaw.models.neural.training import Samples

NUM_STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
DIVERGED = 4.0  # times the lowest loss, where the run ends
SMOOTHING = 0.9  # of the running mean of the loss
FIRST_EPOCH = 2**31  # so that its orders are not those of training
BELOW_LOWEST = 10.0  # the suggested rate is that of the lowest loss divided by this


@dataclass(frozen=True)
class RateTest:
    """Rates and the smoothed losses that they led to, both (n,), and the rate that they suggest."""

    rates: list[float]
    losses: list[float]
    suggested: float


def find_rate(model: keras.Model, samples: Samples, batch_size: int, seed: int) -> RateTest:
    """Train the compiled `model`, which is of no use afterwards, at rates rising from 1e-6 to 1 in 100 steps."""
    rates: list[float] = []
    losses: list[float] = []
    mean, step, epoch = 0.0, 0, FIRST_EPOCH
    while step < NUM_STEPS:
        for inputs, numbers in samples.source.epoch(batch_size, seed, epoch):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (NUM_STEPS - 1))
            model.optimizer.learning_rate = rate
            logs = model.train_on_batch(
                inputs, samples.targets(numbers), sample_weight=samples.weights(numbers), return_dict=True
            )
            step += 1
            mean = SMOOTHING * mean + (1 - SMOOTHING) * float(logs["loss"])
            smoothed = mean / (1 - SMOOTHING**step)
            if math.isfinite(smoothed):
                rates.append(rate)
                losses.append(smoothed)
            if not math.isfinite(smoothed) or smoothed > DIVERGED * min(losses) or step >= NUM_STEPS:
                step = NUM_STEPS
                break
        epoch += 1
    lowest = rates[int(np.argmin(losses))] if losses else LOWEST
    return RateTest(rates, losses, lowest / BELOW_LOWEST)
