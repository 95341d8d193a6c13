"""`learning_curve.csv`: writing it, and reading it back checked; its chart, and the epochs for TensorBoard."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.pipeline.plots import charts
from thaw.pipeline.plots.svg import draw_png

if TYPE_CHECKING:
    import keras

    from thaw.models.neural.checkpoints import Epoch
    from thaw.models.neural.lr_finder import RateTest

CHART_HEIGHT = 3.8  # inches


def _rows(history: Sequence["Epoch"], watched: str) -> list[dict[str, Any]]:
    """Return the epochs with the fields of learning_curve.csv, named after the watched split."""
    return [{name.replace("val_", f"{watched}_"): value for name, value in asdict(epoch).items()} for epoch in history]


def write_csv(path: Path, history: Sequence["Epoch"], watched: str) -> None:
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


def read_curve(path: Path) -> tuple[list[dict[str, float | None]], str]:
    """Return the rows of a learning_curve.csv and the name of its watched split, validation or test.

    Raises InputError if the file is missing or is no learning curve.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    names = " ".join(map(str, rows[0])) if rows else ""
    watched = re.search(r"(\w+)_balanced_accuracy", names)
    if not watched or not {"epoch", f"{watched[1]}_accuracy", f"{watched[1]}_loss"} <= set(rows[0]):
        raise InputError(
            f"{path} is not a learning curve; expected epoch, accuracy, loss and those of the watched images"
        )
    return rows, watched[1]


def draw(path: Path, history: Sequence["Epoch"], watched: str, best_epoch: int | None) -> None:
    """Draw accuracy and loss by epoch into a PNG; the epoch of the kept weights, if it is given, is marked."""
    rows = _rows(history, watched)
    draw_png(path, CHART_HEIGHT, lambda figure: charts.learning(figure, rows, watched, best_epoch))


def draw_rates(path: Path, test: "RateTest") -> None:
    """Draw the loss by learning rate into a PNG; the suggested rate is marked."""
    draw_png(path, CHART_HEIGHT, lambda figure: charts.learning_rates(figure, test.rates, test.losses, test.suggested))


def tensorboard(folder: Path, model: "keras.Model") -> Callable[["Epoch"], None]:
    """Return a function that writes each epoch for TensorBoard into `folder`."""
    import keras

    callback = keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0)
    callback.set_model(model)
    callback.on_train_begin()

    def write(row: "Epoch") -> None:
        names = ("loss", "accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "learning_rate")
        values = {name: getattr(row, name) for name in names}
        callback.on_epoch_end(row.epoch, {name: value for name, value in values.items() if value is not None})

    return write
