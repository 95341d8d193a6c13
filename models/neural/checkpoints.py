"""The progress of a training, and the file from which a broken training continues to an equal end."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw.features.errors import FILE_ERRORS
from thaw.features.files.atomic import write_whole


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve; epoch 0 is before training, and losses are cross-entropies in nats."""

    epoch: int
    learning_rate: float
    loss: float | None
    accuracy: float | None
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    seconds: float


@dataclass
class State:
    """The progress of a training.

    Attributes:
        history: the rows of the learning curve.
        best_epoch: the epoch whose weights are kept; without patience, the last with finite weights.
        best_weights: its weights.
        stopped: why training ended, None while it continues.
        collapsed: whether it ended because the network is of no use.
        out_of_time: whether it ended because no time was left.
    """

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = -1
    best_weights: list[np.ndarray] = field(default_factory=list)
    stopped: str | None = None
    collapsed: bool = False
    out_of_time: bool = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all calls."""
        return sum(row.seconds for row in self.history)


class Checkpoint:
    """The file of a training after its last whole epoch.

    It holds every variable of the network (a dropout layer's seed generator too) and of the optimizer, the best weights
    and the curve. The orders and rates of the next epochs follow from seed and epoch.
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
        """Return the record of a checkpoint of these settings, None if there is none or it cannot be read."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                record = json.loads(arrays["record"].tobytes())
            return record if record["settings_sha256"] == self.settings_sha256 else None
        except FILE_ERRORS:
            return None

    def restore(self, model: keras.Model) -> State | None:
        """Set the network and its optimizer to their last whole epoch and return its state, None if there is none."""
        record = self.peek()
        if record is None:
            return None
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for i, variable in enumerate(_variables(model)):
                variable.assign(arrays[f"variable_{i}"])
            best = [arrays[f"best_{i}"] for i in range(len(model.weights))] if record["best_epoch"] >= 0 else []
        history = [Epoch(**row) for row in record["history"]]
        return State(history, record["best_epoch"], best, record["stopped"], record["collapsed"])


def _variables(model: keras.Model) -> Sequence[Any]:
    return [*model.variables, *model.optimizer.variables]
