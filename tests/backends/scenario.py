"""What one backend of Keras does with a few pictures: features, trainings, exports, maps; its numbers as one .npz.

Started as `python scenario.py FOLDER PICTURES [OTHER...]`, with KERAS_BACKEND in the environment; OTHER are folders
that earlier calls filled under other backends, whose models label the pictures here.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.engines.agreement import noise, relative_error
from thaw.features.engines.network import Network
from thaw.models.neural import gradcam, network
from thaw.models.neural.checkpoints import Checkpoint
from thaw.models.neural.network import Architecture
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.prediction import predict
from thaw.models.neural.recipes import Recipe
from thaw.models.neural.training import Samples, Training
from thaw.pipeline.cli import run
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.loading import load_classifier

FAST = ["--image-size", "32", "--weights", "random", "--engine", "keras", "--layers", "block3_pool,block5_pool"]
TRAINED = ("logreg", "head", "finetune", "scratch", "random")
ODD = np.random.default_rng(0).integers(0, 256, (2, 41, 53, 3)).astype(np.uint8)
RECIPE = Recipe(1e-3, epochs=3, batch_size=16, weight_decay=1e-2, warmup=0.1, decay=True, patience=4)
PLAIN = Architecture("vgg16", 32, 3, "block5_conv2", "block5_conv3", units=16, dropout=0.0)


class Memory:
    """Samples in memory; an epoch named by `fail_at` breaks off after its first batch, as a kill would."""

    num_views, order = 1, "all at once"

    def __init__(self, inputs: np.ndarray, fail_at: int | None = None):
        self.inputs, self.num_samples, self.fail_at = inputs, len(inputs), fail_at

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng((seed, epoch)).permutation(self.num_samples)
        for start in range(0, len(order), batch_size):
            if start and epoch == self.fail_at:
                raise KeyboardInterrupt
            yield self.inputs[order[start : start + batch_size]], order[start : start + batch_size]

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[np.ndarray]:
        yield from (self.inputs[start : start + batch_size] for start in range(0, self.num_samples, batch_size))


def samples(num: int, seed: int, fail_at: int | None = None) -> Samples:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, num)
    inputs = 0.1 * generator.standard_normal((num, 2, 2, 512)).astype(np.float32)
    inputs[..., :60] += 0.1 * np.repeat(np.eye(3, dtype=np.float32), 20, axis=1)[labels][:, None, None, :]
    return Samples(Memory(inputs, fail_at), labels, 3)


def training(architecture: Architecture, checkpoint: Checkpoint | None = None, fail_at: int | None = None) -> Training:
    model = network.build(architecture, load_weights("random", BACKBONES["vgg16"], 0), seed=0)
    compile_model(model, RECIPE)
    return Training(model, RECIPE, samples(80, 1, fail_at), samples(60, 2), 0, checkpoint)


def trained_weights(numbers: dict[str, np.ndarray]) -> None:
    """Add the weights before and after the same training, without dropout, and its curve."""
    unbroken = training(PLAIN)
    numbers["first_head"] = np.concatenate([weight.ravel() for weight in unbroken.model.get_weights()[-4:]])
    state = unbroken.run()
    numbers["trained_head"] = np.concatenate([weight.ravel() for weight in unbroken.model.get_weights()[-4:]])
    numbers["losses"] = np.array([row.val_loss for row in state.history])


def hopeless(numbers: dict[str, np.ndarray]) -> None:
    """Add the loss of images whose class is far behind, and what it should be: minus the logarithm of its softmax."""
    run = training(PLAIN)
    kernel, bias = run.model.get_layer("predictions").get_weights()
    run.model.get_layer("predictions").set_weights([kernel, bias + np.array([0, 40, 80], np.float32)])
    inputs, numbers_of = next(run.training.source.epoch(16, 0, 1))
    probabilities = predict(run.model, iter([inputs]))
    labels = run.training.labels[numbers_of]
    numbers["hopeless_probability"] = probabilities[np.arange(len(labels)), labels]
    logs = run.model.train_on_batch(inputs, run.training.targets(numbers_of), return_dict=True)
    numbers["hopeless_loss"] = np.array(float(logs["loss"]))


def resumed(folder: Path, numbers: dict[str, np.ndarray]) -> None:
    """Add by how much the weights of a training that broke off in epoch 2 differ from those of an unbroken one."""
    architecture = replace(PLAIN, dropout=0.3)
    whole = training(architecture)
    whole.run()
    path = folder / "checkpoint.npz"
    with contextlib.suppress(KeyboardInterrupt):
        training(architecture, Checkpoint(path, "same"), fail_at=2).run()
    rest = training(architecture, Checkpoint(path, "same"))
    numbers["epochs_kept"] = np.array(len(rest.state.history) - 1)
    rest.run()
    pairs = zip(whole.model.get_weights(), rest.model.get_weights(), strict=True)
    numbers["resumed_differs_by"] = np.array(max(float(np.abs(a - b).max()) for a, b in pairs))


def mixed(numbers: dict[str, np.ndarray]) -> None:
    """Add the features' relative error and the trained losses with 16-bit arithmetic."""
    weights, images = load_weights("random", BACKBONES["vgg16"], 0), noise(32)
    exact = Network(BACKBONES["vgg16"], weights, ("block3_pool",), 32).start("keras", 4)(images)
    for precision in ("bfloat16", "float16"):
        engine = Network(BACKBONES["vgg16"], weights, ("block3_pool",), 32, precision).start("keras", 4)
        error = relative_error(engine(images)["block3_pool"], exact["block3_pool"])
        numbers[f"{precision}_error"] = np.array(error)
        state = training(replace(PLAIN, precision=f"mixed_{precision}")).run()
        numbers[f"{precision}_losses"] = np.array([row.val_loss for row in state.history])


def maps(numbers: dict[str, np.ndarray]) -> None:
    """Add Grad-CAM's maps of a network with seeded weights."""
    architecture = Architecture("vgg16", 32, 3, "block4_pool", "block5_conv1", units=16)
    model = network.build(architecture, load_weights("random", BACKBONES["vgg16"], 0), seed=0)
    inputs = np.abs(np.random.default_rng(1).standard_normal((4, 2, 2, 512))).astype(np.float32)
    found = gradcam.heat_maps(model, inputs, np.array([0, 1, 2, 0]))
    numbers["maps"] = np.empty(0) if found is None else found


def said(*arguments: object) -> tuple[int, str]:
    """Return the exit code of a command and the last line of what it said."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = run([str(argument) for argument in arguments])
    return code, (errors.getvalue().splitlines() or [""])[-1]


def stages(folder: Path, pictures: Path) -> dict[str, Any]:
    """Run the stages on the pictures, and return what the commands that should be refused said."""
    where = ["--run", str(folder / "run")]
    commands = [
        ["features", "--dataset", f"folder:{pictures}", *FAST],
        ["logreg", "--values", "0.01"],
        ["head", "--epochs", "2"],
    ]
    commands += [["finetune", "--epochs", "1"], ["scratch", "--epochs", "1"], ["random", "--values", "0.01"]]
    for command in commands:
        assert run([*command, *where]) == 0, command
    for kind in ("onnx", "keras"):
        assert run(["export", str(folder / "run"), "--name", "head", "--format", kind]) == 0
    return {
        "savedmodel": said("export", folder / "run", "--name", "head", "--format", "savedmodel"),
        "gpu": said("features", *where, "--device", "gpu", "--run", folder / "other", "--dataset", "digits"),
        "report": json.loads((folder / "run" / "head" / "report.json").read_text(encoding="utf-8")),
    }


def labelled(run_folder: Path) -> dict[str, np.ndarray]:
    """Return the probabilities that each trained model gives two images of an odd size."""
    found = {}
    for name in TRAINED:
        classifier = load_classifier(run_folder / name, Trained(engine="keras", device="cpu"))
        found[name] = classifier.average(
            classifier.views(np.stack([classifier.preprocessing.prepare(image) for image in ODD]))
        )
    return found


def main(folder: Path, pictures: Path, others: list[Path]) -> None:
    """Write `numbers.npz` and `words.json` into the folder, and what the others' models say as `of_<name>.npz`."""
    import keras

    numbers: dict[str, np.ndarray] = {}
    trained_weights(numbers)
    hopeless(numbers)
    resumed(folder, numbers)
    maps(numbers)
    mixed(numbers)
    words = {"backend": keras.backend.backend(), **stages(folder, pictures)}
    np.savez(folder / "numbers.npz", **numbers)
    for other in [folder, *others]:
        np.savez(folder / f"of_{other.name}.npz", **labelled(other / "run"))
    exported = keras.models.load_model(folder / "run" / "head" / "model.keras")
    np.savez(folder / "exported.npz", head=np.asarray(exported.predict_on_batch(ODD)))
    (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
