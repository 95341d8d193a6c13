"""Samples a second in an epoch from cached activations, beside the whole network, Keras' own `fit` and PyTorch.

Contenders that run the whole network get a sixteenth of the samples, and rates are compared. Random numbers are as good
as images here; what an epoch learns is not compared.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.results import Figures, rows_of
from benchmarks.runner import DEFAULTS, Contender, take_turns
from benchmarks.settings import Settings

IMAGE_SIZE, BATCH, CLASSES = 48, 256, 10
SHARE = 16  # of the samples, for what runs the whole network
SECTION, SAMPLES, ROUNDS = "training", 4096, 5
# task: contender -> what it runs, TensorFlow's oneDNN switch, whether it runs the whole network; ours comes first
TASKS: dict[str, dict[str, tuple[str, str | None, bool]]] = {
    "head": {
        "ours, cached activations": ("head_cached", "1", False),
        "ours, whole network": ("head_whole", "1", True),
    },
    "block 5 and head": {
        "ours, cached activations": ("block5_cached", "1", False),
        "fit on the whole network, oneDNN off": ("block5_fit", "0", True),
        "fit on the whole network, TensorFlow's defaults": ("block5_fit", DEFAULTS, True),
        "fit on the whole network, oneDNN on": ("block5_fit", "1", True),
        "PyTorch on cached activations": ("block5_torch", "1", False),
    },
}

Epoch = Callable[[], int]


def _labels(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, CLASSES, num)


def _images(num: int) -> np.ndarray:
    shape = (num, IMAGE_SIZE, IMAGE_SIZE, 3)
    return np.random.default_rng(0).uniform(-124, 152, shape).astype(np.float32)


def _activations(shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(np.random.default_rng(0).standard_normal(shape).astype(np.float32), 0)


class _Source:
    """Samples in memory, shuffled, as `thaw.models.neural.batches` has them."""

    num_views = 1
    order = "all at once"

    def __init__(self, inputs: np.ndarray):
        self.inputs, self.num_samples = inputs, len(inputs)

    def epoch(self, batch_size: int, seed: int, epoch: int):
        from thaw.models.neural.batches import rebatch

        order = np.random.default_rng((seed, epoch)).permutation(self.num_samples)
        blocks = (order[start : start + 256] for start in range(0, len(order), 256))
        return rebatch(((self.inputs[block], block) for block in blocks), batch_size)

    def in_order(self, batch_size: int, view: int = 0):
        yield self.inputs[:batch_size]


def _ours(input_layer: str | None, unfreeze_from: str | None, num: int) -> Epoch:
    """Return one epoch of the product's own loop, the article's recipe."""
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights
    from thaw.models.neural import network
    from thaw.models.neural.optimizers import compile_model
    from thaw.models.neural.recipes import Recipe
    from thaw.models.neural.training import Samples, Training

    architecture = network.Architecture("vgg16", IMAGE_SIZE, CLASSES, input_layer, unfreeze_from)
    model = network.build(architecture, load_weights("random", BACKBONES["vgg16"]), seed=0)
    recipe = Recipe(1e-4, epochs=10**6, batch_size=BATCH)
    compile_model(model, recipe)
    inputs = _images(num) if input_layer is None else _activations((num, *architecture.input_shape))
    samples = Samples(_Source(inputs), _labels(num), CLASSES)
    few = Samples(_Source(inputs[:8]), _labels(num)[:8], CLASSES)  # what evaluation takes is not part of the figure
    run = Training(model, recipe, samples, few, seed=0)
    return lambda: run.train_epoch(1) and num


def _fit(num: int) -> Epoch:
    """Return one epoch of Keras' `fit` on the whole network, frozen below block 5, as the article has it."""
    import keras

    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3))
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")
    hidden = keras.layers.Dense(1000, activation="relu")(keras.layers.Flatten()(base.output))
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(keras.layers.Dropout(0.3)(hidden))
    model = keras.Model(base.input, outputs)
    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", metrics=["accuracy"])
    images, targets = _images(num), np.eye(CLASSES, dtype=np.float32)[_labels(num)]
    return lambda: model.fit(images, targets, batch_size=BATCH, epochs=1, verbose=0) and num


def _torch(num: int) -> Epoch:
    """Return one epoch of the same layers on the same activations in PyTorch, channels last."""
    import torch
    from torch import nn

    convolutions = [part for _ in range(3) for part in (nn.Conv2d(512, 512, 3, padding=1), nn.ReLU())]
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 1000), nn.ReLU(), nn.Dropout(0.3), nn.Linear(1000, CLASSES)]
    model = nn.Sequential(*convolutions, *head).to(memory_format=torch.channels_last)
    optimizer, criterion = torch.optim.Adam(model.parameters(), 1e-4), nn.CrossEntropyLoss()
    activations = torch.from_numpy(_activations((num, 3, 3, 512))).permute(0, 3, 1, 2)
    labels = torch.from_numpy(_labels(num))

    def epoch() -> int:
        order = torch.randperm(num)
        for start in range(0, num, BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            criterion(model(activations[rows].contiguous(memory_format=torch.channels_last)), labels[rows]).backward()
            optimizer.step()
        return num

    return epoch


EPOCHS: dict[str, Callable[[int], Epoch]] = {
    "head_cached": lambda num: _ours("block5_pool", None, num),
    "head_whole": lambda num: _ours(None, None, num),
    "block5_cached": lambda num: _ours("block4_pool", "block5_conv1", num),
    "block5_fit": _fit,
    "block5_torch": _torch,
}


def epoch(what: str, num: int) -> Callable[[], dict[str, np.ndarray]]:
    """Return the contender that runs one epoch over `num` samples."""
    run = EPOCHS[what](num)
    return lambda: {"samples": np.asarray(run())}


def main(settings: Settings) -> Iterator[Figures]:
    """Time an epoch of each contender."""
    num = 512 if settings.quick else SAMPLES
    for task, entries in TASKS.items():
        amounts = {name: num // SHARE if whole else num for name, (_, _, whole) in entries.items()}
        contenders = [
            Contender(name, "benchmarks.training:epoch", {"what": what, "num": amounts[name]}, onednn, "torch" in what)
            for name, (what, onednn, _) in entries.items()
        ]
        results = take_turns(contenders, 2 if settings.quick else ROUNDS, lambda *_: 0.0)
        rows = rows_of(SECTION, f"an epoch of {task}", results, contenders[0].name, amounts, "samples/s")
        yield [row.model_copy(update={"difference": None}) for row in rows], []
