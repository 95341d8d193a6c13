"""`learning_curve.csv` and its chart, and the epochs for TensorBoard."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.features.files.atomic import write_whole
from thaw.models.neural.checkpoints import Epoch
from thaw.models.neural.lr_finder import RateTest
from thaw.pipeline.plots import charts
from thaw.pipeline.plots.svg import draw_png

if TYPE_CHECKING:
    import keras

CHART_HEIGHT = 3.8  # inches
Row = Callable[[Epoch], None]


def _rows(history: Sequence[Epoch], watched: str) -> list[dict[str, Any]]:
    """Return the epochs with the fields of learning_curve.csv, named after the watched split."""
    return [{name.replace("val_", f"{watched}_"): value for name, value in asdict(epoch).items()} for epoch in history]


def write_csv(path: Path, history: Sequence[Epoch], watched: str) -> None:
    """Write one line per epoch.

    Args:
        path: The file to write.
        history: The epochs, at least one.
        watched: The name of the split that is scored after each epoch, validation or test.
    """
    rows = _rows(history, watched)
    with write_whole(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(path: Path, history: Sequence[Epoch], watched: str, best_epoch: int | None) -> None:
    """Draw accuracy and loss by epoch into a PNG; the epoch of the kept weights, if it is given, is marked."""
    rows = _rows(history, watched)
    draw_png(path, CHART_HEIGHT, lambda figure: charts.learning(figure, rows, watched, best_epoch))


def draw_rates(path: Path, test: RateTest) -> None:
    """Draw the loss by learning rate into a PNG; the suggested rate is marked."""
    draw_png(path, CHART_HEIGHT, lambda figure: charts.learning_rates(figure, test.rates, test.losses, test.suggested))


def tensorboard(folder: Path, model: "keras.Model") -> Row:
    """Return a function that writes each epoch for TensorBoard into `folder`."""
    import keras

    callback = keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0)
    callback.set_model(model)
    callback.on_train_begin()

    def write(row: Epoch) -> None:
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "learning_rate")
        values = {name: getattr(row, name) for name in names}
        callback.on_epoch_end(row.epoch, {name: value for name, value in values.items() if value is not None})

    return write
