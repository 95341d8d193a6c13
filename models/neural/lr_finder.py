"""Which learning rates work: one run over rising rates (Smith 2017), on a network that is thrown away."""

import math
from dataclasses import dataclass
from itertools import chain, count, islice

import keras
import numpy as np

from thaw.models.neural.training import Samples, train_step

NUM_STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
DIVERGED = 4.0  # times the lowest loss, at which the run ends
SMOOTHING = 0.9  # of the running mean of the loss
FIRST_EPOCH = 2**31  # so that its orders are not those of training
BELOW_LOWEST = 10.0  # the rate of the lowest loss over the suggested rate


@dataclass(frozen=True)
class RateTest:
    """Rates, the smoothed losses after them, both (n,), and the rate that they suggest."""

    rates: list[float]
    losses: list[float]
    suggested: float


def find_rate(model: keras.Model, samples: Samples, batch_size: int, seed: int) -> RateTest:
    """Train at rates that rise from 1e-6 to 1 in 100 steps, and suggest one.

    Args:
        model: a compiled network, which is of no use afterwards.
        samples: the training samples.
        batch_size: samples of a step.
        seed: the seed of their order.
    """
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    batches = chain.from_iterable(samples.source.epoch(batch_size, seed, epoch) for epoch in count(FIRST_EPOCH))
    for step, (inputs, numbers) in enumerate(islice(batches, NUM_STEPS)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (NUM_STEPS - 1))
        loss, _ = train_step(model, samples, inputs, numbers, rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed):
            break
        rates.append(rate)
        losses.append(smoothed)
        if smoothed > DIVERGED * min(losses):
            break
    lowest = rates[int(np.argmin(losses))] if losses else LOWEST
    return RateTest(rates, losses, lowest / BELOW_LOWEST)
