"""The same trainings on whatever backend Keras has: head and fine-tuning from cached activations, a few seeds each.

Started as `python trainings.py FEATURES OUT`, with KERAS_BACKEND in the environment; FEATURES holds block4_pool and
block5_pool unpooled. OUT becomes a JSON file: task -> the test accuracies, one a seed.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.store import FeatureFile
from thaw.models.neural import network
from thaw.models.neural.batches import CachedActivations
from thaw.models.neural.network import Architecture
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.recipes import find_recipe
from thaw.models.neural.training import Samples, Training


@dataclass(frozen=True)
class Task:
    """A training: from which activations, how much of the network, how long, how often, in which arithmetic."""

    input_layer: str
    unfreeze_from: str | None
    epochs: int
    seeds: int
    dropout: float = 0.3
    precision: str = "float32"


# Dropout's masks are each backend's own: over ten seeds the mean difference has an error of 0.2 points, over forty 0.1.
# Where they are left out, only rounding makes two backends differ.
TASKS = {
    "head": Task("block5_pool", None, 8, seeds=40),
    "head, no dropout": Task("block5_pool", None, 8, seeds=3, dropout=0.0),
    "finetune, no dropout": Task("block4_pool", "block5_conv1", 2, seeds=3, dropout=0.0),
    "head, bfloat16": Task("block5_pool", None, 8, seeds=3, dropout=0.0, precision="mixed_bfloat16"),
    "head, float16": Task("block5_pool", None, 8, seeds=3, dropout=0.0, precision="mixed_float16"),
}


class _Uncurved(Training):
    """A training whose learning curve nobody wants."""

    def evaluate(self) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0


def samples(file: FeatureFile, layer: str, image_size: int, side: int) -> Samples:
    mask = file.split == side
    shape = BACKBONES["vgg16"].output_shape(layer, image_size)
    return Samples(CachedActivations([file], layer, shape, mask), file.labels[mask], len(file.class_names))


def accuracy(file: FeatureFile, task: Task, seed: int) -> float:
    """Return the test accuracy of the last epoch's weights."""
    image_size = int(file.attributes["image_size"])
    architecture = Architecture(
        "vgg16",
        image_size,
        len(file.class_names),
        task.input_layer,
        task.unfreeze_from,
        dropout=task.dropout,
        precision=task.precision,
    )
    training, test = (samples(file, task.input_layer, image_size, side) for side in (0, 2))
    kind = "finetune" if task.unfreeze_from else "head"
    recipe = find_recipe("tuned", kind, len(training.labels), epochs=task.epochs)
    recipe = replace(recipe, patience=None)  # nothing is chosen: the same number of steps everywhere
    model = network.build(architecture, load_weights("imagenet", BACKBONES["vgg16"], 0), seed)
    compile_model(model, recipe, network.depths(model, architecture))
    run = _Uncurved(model, recipe, training, test, seed)
    for epoch in range(1, task.epochs + 1):
        run.train_epoch(epoch)
    return Training.evaluate(run)[1]


def main(features: Path, out: Path) -> None:
    """Train every task and write the accuracies after each."""
    found: dict[str, list[float]] = {}
    for name, task in TASKS.items():
        began = time.perf_counter()
        with FeatureFile(features) as file:
            found[name] = [accuracy(file, task, seed) for seed in range(task.seeds)]
        print(name, [f"{100 * value:.2f}" for value in found[name]], f"{time.perf_counter() - began:.0f} s", flush=True)
        out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
