"""Learning curves: as CSV, as a picture, and for TensorBoard."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.features.files.atomic import whole_path, write_whole
from thaw.models.neural.checkpoints import Epoch
from thaw.models.neural.lr_finder import RateTest

if TYPE_CHECKING:
    import keras

Row = Callable[[Epoch], None]


def write_csv(path: Path, history: Sequence[Epoch], watched: str) -> None:
    """Write one line per epoch; `watched` names the images that the curve beside the training's is of."""
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name.replace("val_", f"{watched}_") for field in fields(Epoch)])
        writer.writerows(["" if value is None else value for value in asdict(row).values()] for row in history)


def draw(path: Path, history: Sequence[Epoch], watched: str, best_epoch: int | None) -> None:
    """Draw accuracy and loss by epoch into a PNG, the epoch whose weights were kept marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name, label in zip(panels, ("accuracy", "loss"), ("accuracy, %", "cross-entropy"), strict=True):
        factor = 100 if name == "accuracy" else 1
        for field, text in ((name, "training"), (f"val_{name}", watched)):
            points = [(row.epoch, getattr(row, field)) for row in history if getattr(row, field) is not None]
            axes.plot(
                [epoch for epoch, _ in points], [factor * value for _, value in points], marker="o", ms=3, label=text
            )
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", lw=0.8, ls=":", label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if name == "loss":  # that of a head not yet trained would dwarf the rest
            trained = [value for row in history[1:] for value in (row.val_loss, row.loss or 0) if math.isfinite(value)]
            axes.set_ylim(0, 1.1 * max(trained) if trained else None)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False)
    _save(figure, path)


def draw_rates(path: Path, test: RateTest) -> None:
    """Draw the loss by learning rate into a PNG, the suggested rate marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(test.rates, test.losses)
    axes.axvline(test.suggested, color="grey", lw=0.8, ls=":", label=f"suggested: {test.suggested:.1e}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("cross-entropy, smoothed")
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with whole_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


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
