"""The training loop: epochs, early stopping, collapse, and checkpoints from which a broken training continues."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from thaw.models.neural.batches import Source
from thaw.models.neural.checkpoints import Checkpoint, Epoch, State
from thaw.models.neural.prediction import predict
from thaw.models.neural.recipes import Recipe

CHANCE_MARGIN = 1.05  # times 1/K; no better a balanced accuracy counts as chance
FALLEN_EPOCHS, FALLEN_STEPS = 2, 20  # at chance in a row, after better ones, before a training ends
IDLE_EPOCHS, IDLE_STEPS = 5, 500  # at chance from the first epoch on, before a training ends
NO_FIGURES = (math.nan, 0.0, 0.0)  # of a network whose outputs are not finite


@dataclass(frozen=True)
class Samples:
    """A source with its labels.

    Attributes:
        source: the inputs.
        labels: (n,) int64.
        num_classes: K.
        class_weights: a weight for each class, (K,), None for equal ones.
    """

    source: Source
    labels: np.ndarray
    num_classes: int
    class_weights: np.ndarray | None = None

    def targets(self, numbers: np.ndarray) -> np.ndarray:
        """Return one-hot targets, float32 (n, K)."""
        return np.eye(self.num_classes, dtype=np.float32)[self.labels[numbers]]

    def weights(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the samples' weights, float32 (n,), or None if all are equal."""
        return None if self.class_weights is None else self.class_weights[self.labels[numbers]].astype(np.float32)


def balanced(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a weight for each class, n / (K n_k) over the K classes present, so that all classes count alike."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def train_step(
    model: keras.Model, samples: Samples, inputs: np.ndarray, numbers: np.ndarray, rate: float
) -> tuple[float, float]:
    """Train one step and return its loss and accuracy.

    Args:
        model: the compiled network.
        samples: the training samples.
        inputs: a batch (n, H, W, C) of them.
        numbers: the sample numbers (n,) of the batch.
        rate: the learning rate.
    """
    model.optimizer.learning_rate = rate
    logs = model.train_on_batch(
        inputs, samples.targets(numbers), sample_weight=samples.weights(numbers), return_dict=True
    )
    return float(logs["loss"]), float(logs["accuracy"])


class Training:
    """The training of one network, epoch by epoch.

    Args:
        model: the compiled network.
        recipe: how it is trained.
        training: the samples to train on.
        validation: the samples of the curve and, if the recipe has patience, of the choice of the weights.
        seed: the seed of the orders of the epochs.
        checkpoint: keeps every finished epoch. A later Training with equal settings continues from there and ends with
            the weights of a training without a break.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        training: Samples,
        validation: Samples,
        seed: int,
        checkpoint: Checkpoint | None = None,
    ):
        self.model, self.recipe, self.training, self.validation = model, recipe, training, validation
        self.seed, self.checkpoint = seed, checkpoint
        self.steps_per_epoch = -(-training.source.num_samples // recipe.batch_size)
        self.chance = 1 / len(np.unique(validation.labels))
        self.state = State()
        model.optimizer.build(model.trainable_variables)
        if checkpoint and (state := checkpoint.restore(model)):
            self.state = state

    def run(
        self,
        max_minutes: float | None = None,
        progress: Callable[[int], None] = lambda count: None,
        on_epoch: Callable[[Epoch], None] = lambda row: None,
    ) -> State:
        """Train to the end of the recipe, the patience or the time, then set the network's final weights.

        Args:
            max_minutes: the minutes of training over all calls, None for no limit.
            progress: called with the number of samples after each step.
            on_epoch: called with each new row of the learning curve.
        """
        state = self.state
        if not state.history:
            began = time.perf_counter()
            figures = self.evaluate()
            self._finish_epoch(Epoch(0, 0.0, None, None, *figures, time.perf_counter() - began), on_epoch)
        while len(state.history) <= self.recipe.epochs and not state.stopped:
            if max_minutes is not None and state.seconds + state.history[-1].seconds > 60 * max_minutes:
                state.stopped, state.out_of_time = "no time was left for another epoch", True
                break
            self._finish_epoch(self.train_epoch(len(state.history), progress), on_epoch)
        self.model.set_weights(state.best_weights)
        return state

    def train_epoch(self, epoch: int, progress: Callable[[int], None] = lambda count: None) -> Epoch:
        """Train one epoch, counted from 1, and return its row of the learning curve."""
        began = time.perf_counter()
        first_step = (epoch - 1) * self.steps_per_epoch
        batches = self.training.source.epoch(self.recipe.batch_size, self.seed, epoch)
        totals, rate = np.zeros(2), 0.0
        for step, (inputs, numbers) in enumerate(batches, start=first_step):
            rate = self.recipe.rate(step, self.recipe.epochs * self.steps_per_epoch)
            totals += len(numbers) * np.array(train_step(self.model, self.training, inputs, numbers, rate))
            progress(len(numbers))
            if not math.isfinite(totals[0]):
                self._collapse(f"the loss is not finite in epoch {epoch}")
                break
        loss, accuracy = (totals / self.training.source.num_samples).tolist()
        figures = self.evaluate() if math.isfinite(loss) else NO_FIGURES
        return Epoch(epoch, rate, loss, accuracy, *figures, time.perf_counter() - began)

    def evaluate(self) -> tuple[float, float, float]:
        """Return cross-entropy, accuracy and balanced accuracy on the validation samples."""
        source, labels = self.validation.source, self.validation.labels
        probabilities = predict(self.model, source.in_order(self.recipe.batch_size))
        if not np.isfinite(probabilities).all():
            return NO_FIGURES
        losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
        hits = probabilities.argmax(axis=1) == labels
        recalls = [hits[labels == label].mean() for label in np.unique(labels)]
        return float(losses.mean()), float(hits.mean()), float(np.mean(recalls))

    def _finish_epoch(self, row: Epoch, on_epoch: Callable[[Epoch], None]) -> None:
        state = self.state
        state.history.append(row)
        if self._is_best(row):
            state.best_epoch, state.best_weights = row.epoch, self.model.get_weights()
        if not state.stopped:
            self._stop_early()
        if self.checkpoint:
            self.checkpoint.keep(self.model, state)
        on_epoch(row)

    def _is_best(self, row: Epoch) -> bool:
        if row.epoch == 0:
            return True
        if not math.isfinite(row.val_loss):
            return False
        if self.recipe.patience is None:
            return True
        best = self.state.history[self.state.best_epoch]
        return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)

    def _stop_early(self) -> None:
        """End training if the accuracy fell to chance or stayed there, or the patience is over.

        Chance is a balanced accuracy of 1/K, which a network has if it gives every image one class. Without patience
        nothing may be chosen. Then only a loss that is not finite ends the training.
        """
        state, patience = self.state, self.recipe.patience
        if patience is None:
            return
        accuracies = [row.val_balanced_accuracy for row in state.history]
        above = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy > CHANCE_MARGIN * self.chance]
        idle = len(accuracies) - 1 - max(above, default=0)
        if above and idle >= FALLEN_EPOCHS and idle * self.steps_per_epoch >= FALLEN_STEPS:
            self._collapse(f"the accuracy fell to chance in epoch {above[-1] + 1}")
        elif not above and idle >= IDLE_EPOCHS and idle * self.steps_per_epoch >= IDLE_STEPS:
            self._collapse(f"the accuracy has stayed at chance for {idle} epochs")
        elif patience <= state.history[-1].epoch - state.best_epoch and len(accuracies) <= self.recipe.epochs:
            state.stopped = f"no better accuracy, nor a lower loss at the same, on validation for {patience} epoch(s)"

    def _collapse(self, reason: str) -> None:
        self.state.stopped, self.state.collapsed = reason, True
