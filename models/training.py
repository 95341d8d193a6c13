"""The training loop: epochs, early stopping, collapse, and checkpoints that leave a broken run no different."""

import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from features.store import write_whole
from models.batches import Source
from models.network import predict
from models.recipes import Recipe

CHANCE_MARGIN = 1.05  # times the most frequent class's share; no better an accuracy counts as chance
FALLEN_EPOCHS, FALLEN_STEPS = 2, 20  # at chance in a row, after better ones, before a run is given up
TIME_IS_UP = "no time was left for another epoch"
IDLE_EPOCHS, IDLE_STEPS = 5, 500  # at chance from the first one on


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve; epoch 0 is the network before training. Losses are cross-entropies."""

    epoch: int
    learning_rate: float
    loss: float | None
    accuracy: float | None
    val_loss: float
    val_accuracy: float
    seconds: float


@dataclass
class State:
    """What has happened so far: the curve, the best epoch and its weights, why training ended and whether by collapse.

    Without patience nothing is chosen: then the last epoch with finite weights counts as the best.
    """

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = -1
    best_weights: list[np.ndarray] = field(default_factory=list)
    stopped: str | None = None
    collapsed: bool = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all calls."""
        return sum(row.seconds for row in self.history)


class ScaledAdamW(keras.optimizers.AdamW):
    """AdamW with a multiple of the learning rate for each trainable variable, in their order."""

    def __init__(self, learning_rate: float, multiples: Sequence[float], **options: Any):
        super().__init__(learning_rate, **options)
        self.multiples = list(multiples)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at its own rate."""
        multiple = self.multiples[self._get_variable_index(variable)]  # the backend's variable has no path
        super().update_step(gradient, variable, learning_rate * multiple)


@dataclass(frozen=True)
class Samples:
    """A source with its labels (n,) int64, and a weight for each class (K,) or None."""

    source: Source
    labels: np.ndarray
    num_classes: int
    class_weights: np.ndarray | None = None

    def targets(self, numbers: np.ndarray) -> np.ndarray:
        """Return one-hot float32 (n, K)."""
        return np.eye(self.num_classes, dtype=np.float32)[self.labels[numbers]]

    def weights(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the samples' weights, float32 (n,), or None where all are the same."""
        return None if self.class_weights is None else self.class_weights[self.labels[numbers]].astype(np.float32)


def balanced(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a weight for each class, n / (K n_k) over the K classes present, so that each counts the same."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def rate_multiples(model: keras.Model, recipe: Recipe, depths: Mapping[str, int]) -> list[float]:
    """Return the multiple of the learning rate for each trainable variable.

    `depths` gives for each convolution the number of stages above its own.
    """
    of_layer = {name: recipe.backbone_rate * recipe.stage_rate**depth for name, depth in depths.items()}
    of_layer["probe"] = recipe.probe_rate
    return [of_layer.get(variable.path.split("/")[0], 1.0) for variable in model.trainable_variables]


def compile_model(
    model: keras.Model, recipe: Recipe, depths: Mapping[str, int] | None = None, on_gpu: bool = False
) -> None:
    """Compile the network for its recipe; XLA is left to a GPU, since on a CPU it is slower than oneDNN."""
    if recipe.weight_decay is None:
        optimizer: keras.optimizers.Optimizer = keras.optimizers.Adam(recipe.learning_rate)
    else:
        optimizer = ScaledAdamW(
            recipe.learning_rate, rate_multiples(model, recipe, depths or {}), weight_decay=recipe.weight_decay
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile="auto" if on_gpu else False,
    )


class Training:
    """A network on its way through its epochs.

    `validation` gives the curve, and where the recipe has patience the choice of the weights. With `checkpoint` every
    finished epoch is kept there, under `settings_sha256`; a later Training of the same digest goes on from it and ends
    with the weights of an unbroken one.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        training: Samples,
        validation: Samples,
        seed: int,
        checkpoint: "Checkpoint | None" = None,
    ):
        self.model, self.recipe, self.training, self.validation = model, recipe, training, validation
        self.seed, self.checkpoint = seed, checkpoint
        self.steps_per_epoch = -(-training.source.num_samples // recipe.batch_size)
        watched = training if recipe.patience is None else validation
        self.chance = float(np.bincount(watched.labels).max()) / len(watched.labels)
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
        """Train to the end of the recipe, the patience or the time, then give the network the weights to be kept."""
        state = self.state
        if not state.history:
            self._finish_epoch(Epoch(0, 0.0, None, None, *self.evaluate(), 0.0), on_epoch)
        while len(state.history) <= self.recipe.epochs and not state.stopped:
            if max_minutes is not None and not self._fits(60 * max_minutes):
                state.stopped = TIME_IS_UP
                break
            self._finish_epoch(self.train_epoch(len(state.history), progress), on_epoch)
        self.model.set_weights(state.best_weights)
        return state

    def _fits(self, seconds: float) -> bool:
        return self.state.seconds + self.state.history[-1].seconds <= seconds

    def train_epoch(self, epoch: int, progress: Callable[[int], None] = lambda count: None) -> Epoch:
        """Train one epoch, counted from 1, and return its row of the learning curve."""
        began = time.perf_counter()
        first_step = (epoch - 1) * self.steps_per_epoch
        batches = self.training.source.epoch(self.recipe.batch_size, self.seed, epoch)
        totals, rate = np.zeros(2), 0.0
        for step, (inputs, numbers) in enumerate(batches, start=first_step):
            rate = self.recipe.rate(step, self.recipe.epochs * self.steps_per_epoch)
            self.model.optimizer.learning_rate = rate
            logs = self.model.train_on_batch(
                inputs, self.training.targets(numbers), sample_weight=self.training.weights(numbers), return_dict=True
            )
            totals += len(numbers) * np.array([float(logs["loss"]), float(logs["accuracy"])])
            progress(len(numbers))
            if not math.isfinite(totals[0]):
                self._collapse(f"the loss is not finite in epoch {epoch}")
                break
        loss, accuracy = (totals / self.training.source.num_samples).tolist()
        figures = self.evaluate() if math.isfinite(loss) else (math.nan, 0.0)
        return Epoch(epoch, rate, loss, accuracy, *figures, time.perf_counter() - began)

    def evaluate(self) -> tuple[float, float]:
        """Return (cross-entropy, accuracy) on the validation samples."""
        source, labels = self.validation.source, self.validation.labels
        probabilities = predict(self.model, source.in_order(self.recipe.batch_size))
        if not np.isfinite(probabilities).all():
            return math.nan, 0.0
        losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
        return float(losses.mean()), float((probabilities.argmax(axis=1) == labels).mean())

    def _finish_epoch(self, row: Epoch, on_epoch: Callable[[Epoch], None]) -> None:
        state = self.state
        state.history.append(row)
        if self._is_best(row):
            state.best_epoch, state.best_weights = row.epoch, self.model.get_weights()
        if not state.stopped:
            self._stop_in_vain()
        if self.checkpoint:
            self.checkpoint.keep(self.model, state)
        on_epoch(row)

    def _is_best(self, row: Epoch) -> bool:
        if not math.isfinite(row.val_loss):
            return False
        if self.recipe.patience is None or self.state.best_epoch < 0:
            return True
        best = self.state.history[self.state.best_epoch]
        return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)

    def _stop_in_vain(self) -> None:
        """End training where the accuracy fell to chance or stayed there, or the patience is over."""
        state, patience = self.state, self.recipe.patience
        accuracies = [row.val_accuracy if patience else float(row.accuracy or 0) for row in state.history]
        above = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy > CHANCE_MARGIN * self.chance]
        idle = len(accuracies) - 1 - max(above, default=0)
        if above and idle >= FALLEN_EPOCHS and idle * self.steps_per_epoch >= FALLEN_STEPS:
            self._collapse(f"the accuracy fell to chance in epoch {above[-1] + 1}")
        elif not above and idle >= IDLE_EPOCHS and idle * self.steps_per_epoch >= IDLE_STEPS:
            self._collapse(f"the accuracy has stayed at chance for {idle} epochs")
        elif patience and state.history[-1].epoch - state.best_epoch >= patience:
            state.stopped = f"no better validation accuracy for {patience} epoch(s)"

    def _collapse(self, reason: str) -> None:
        self.state.stopped, self.state.collapsed = reason, True


class Checkpoint:
    """The file that holds a training after its last whole epoch.

    It has every variable of the network (a dropout layer's seed generator too) and of the optimizer, the best weights
    and the curve. What the next epochs need beyond that, their order and rates, follows from seed and epoch.
    """

    def __init__(self, path: Path, settings_sha256: str):
        self.path, self.settings_sha256 = path, settings_sha256

    def keep(self, model: keras.Model, state: State) -> None:
        """Write the file, whole."""
        arrays: dict[str, Any] = {f"variable_{i}": np.asarray(value) for i, value in enumerate(_variables(model))}
        arrays |= {f"best_{i}": value for i, value in enumerate(state.best_weights)}
        curve = {
            "settings_sha256": self.settings_sha256,
            "history": [asdict(row) for row in state.history],
            "best_epoch": state.best_epoch,
            "stopped": state.stopped,
            "collapsed": state.collapsed,
        }
        arrays["record"] = np.frombuffer(json.dumps(curve).encode(), np.uint8)
        with write_whole(self.path, "wb") as file:
            np.savez(file, **arrays)

    def peek(self) -> dict[str, Any] | None:
        """Return the record of a checkpoint of these settings, None where there is none or it cannot be read."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                record = json.loads(arrays["record"].tobytes())
            return record if record["settings_sha256"] == self.settings_sha256 else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def restore(self, model: keras.Model) -> State | None:
        """Give the network and its optimizer their values of the last whole epoch and return the state then."""
        record = self.peek()
        if record is None:
            return None
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for i, variable in enumerate(_variables(model)):
                variable.assign(arrays[f"variable_{i}"])
            best = [arrays[f"best_{i}"] for i in range(len(model.weights))] if record["best_epoch"] >= 0 else []
        history = [Epoch(**row) for row in record["history"]]
        return State(history, record["best_epoch"], best, record["stopped"], record["collapsed"])

    def remove(self) -> None:
        """Remove the file, once the results of the training are written."""
        self.path.unlink(missing_ok=True)


def _variables(model: keras.Model) -> Sequence[Any]:
    return [*model.variables, *model.optimizer.variables]
