"""The training loop: resuming, choosing, stopping, collapsing."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.models.neural import network
from thaw.models.neural.checkpoints import Checkpoint, Epoch, State
from thaw.models.neural.lr_finder import find_rate
from thaw.models.neural.network import Architecture
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.prediction import predict
from thaw.models.neural.recipes import Recipe
from thaw.models.neural.training import Samples, Training, balanced

ARCHITECTURE = Architecture("vgg16", 32, 3, "block5_conv3", None, units=16)
RECIPE = Recipe(1e-3, epochs=4, batch_size=16, weight_decay=1e-2, warmup=0.1, decay=True, patience=4)


class Memory:
    """Samples in memory; `fail_at` (epoch, batch) is the batch at which reading stops, as after a kill."""

    num_views = 1
    order = "all at once"

    def __init__(self, inputs: np.ndarray, fail_at: tuple[int, int] | None = None):
        self.inputs, self.num_samples, self.fail_at = inputs, len(inputs), fail_at

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng((seed, epoch)).permutation(self.num_samples)
        for batch, start in enumerate(range(0, len(order), batch_size)):
            if (epoch, batch) == self.fail_at:
                raise KeyboardInterrupt
            yield self.inputs[order[start : start + batch_size]], order[start : start + batch_size]

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[np.ndarray]:
        yield from (self.inputs[start : start + batch_size] for start in range(0, self.num_samples, batch_size))


def samples(num: int, seed: int, fail_at: tuple[int, int] | None = None, noise: float = 1.0) -> Samples:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, num)
    inputs = noise * generator.standard_normal((num, 2, 2, 512)).astype(np.float32)
    inputs[..., :60] += 2 * np.repeat(np.eye(3, dtype=np.float32), 20, axis=1)[labels][:, None, None, :]
    return Samples(Memory(inputs, fail_at), labels, 3)


def prepared(recipe: Recipe = RECIPE) -> keras.Model:
    model = network.build(ARCHITECTURE, None, seed=0)
    compile_model(model, recipe)
    return model


def training(checkpoint: Checkpoint | None = None, fail_at: tuple[int, int] | None = None, **changes: Any) -> Training:
    recipe = replace(RECIPE, **changes)
    return Training(prepared(recipe), recipe, samples(90, 1, fail_at), samples(60, 2), 0, checkpoint)


def without_time(history: list[Epoch]) -> list[Epoch]:
    return [replace(row, seconds=0.0) for row in history]


@pytest.mark.parametrize("fail_at", [(1, 3), (2, 0), (3, 5), (4, 2)])
def test_broken_off_in_mid_epoch_and_resumed_it_ends_as_an_unbroken_run(
    tmp_path: Path, fail_at: tuple[int, int]
) -> None:
    unbroken = training()
    expected = unbroken.run()
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", "same")
    with pytest.raises(KeyboardInterrupt):
        training(checkpoint, fail_at).run()
    resumed = training(checkpoint)
    assert len(resumed.state.history) == fail_at[0]
    received = resumed.run()
    assert without_time(received.history) == without_time(expected.history)
    for resumed_weight, weight in zip(resumed.model.get_weights(), unbroken.model.get_weights(), strict=True):
        assert np.array_equal(resumed_weight, weight)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    training(Checkpoint(path, "these")).run()
    assert len(training(Checkpoint(path, "these")).state.history) == 5
    assert training(Checkpoint(path, "those")).state.history == []
    path.write_bytes(path.read_bytes()[:-200])
    assert training(Checkpoint(path, "these")).state.history == []


def test_two_runs_of_one_seed_are_equal() -> None:
    first, second = training(), training()
    assert without_time(first.run().history) == without_time(second.run().history)


def test_with_patience_the_best_weights_are_kept() -> None:
    run = training(patience=1, epochs=12, learning_rate=0.03)
    state = run.run()
    accuracies = [row.val_accuracy for row in state.history]
    assert accuracies[state.best_epoch] == max(accuracies)
    assert run.evaluate()[:2] == (state.history[state.best_epoch].val_loss, max(accuracies))
    if len(state.history) <= 12:
        assert state.stopped == "no better accuracy, nor a lower loss at the same, on validation for 1 epoch(s)"


def test_without_patience_the_last_weights_are_kept() -> None:
    run = training(patience=None, weight_decay=None)
    state = run.run()
    assert len(state.history) == 5
    assert run.evaluate()[1] == state.history[-1].val_accuracy


def test_the_weights_before_training_are_kept_if_training_only_harms() -> None:
    good = training()
    good.run()
    noise = Samples(Memory(np.zeros((90, 2, 2, 512), np.float32)), np.arange(90) % 3, 3)
    recipe = replace(RECIPE, epochs=2, learning_rate=1e-4)
    run = Training(good.model, recipe, noise, samples(60, 2), 0)
    start = run.evaluate()
    run.run()
    assert run.evaluate()[1] >= start[1]


def test_a_loss_that_is_not_finite_ends_training_with_finite_weights() -> None:
    run = training(learning_rate=1e30, warmup=0.0)
    state = run.run()
    assert state.stopped is not None
    assert "not finite" in state.stopped or "chance" in state.stopped
    assert state.collapsed
    assert all(np.isfinite(weight).all() for weight in run.model.get_weights())


def stopped(run: Training, *accuracies: float) -> str | None:
    rows = [Epoch(epoch, 0.0, 1.0, value, 1.0, value, value, 0.0) for epoch, value in enumerate(accuracies)]
    run.state = State(rows, int(np.argmax(accuracies)))
    run._stop_early()
    assert run.state.collapsed == (run.state.stopped is not None)
    return run.state.stopped


def test_a_fall_to_chance_is_a_collapse() -> None:
    run = training(patience=10)
    run.steps_per_epoch = 1
    assert stopped(run, run.chance, 0.9, run.chance, run.chance) is None  # two steps say nothing
    run.steps_per_epoch = 10
    assert stopped(run, run.chance, 0.9, run.chance) is None  # it may come back
    assert stopped(run, run.chance, 0.9, run.chance, run.chance) == "the accuracy fell to chance in epoch 2"
    assert stopped(run, 0.9, run.chance, run.chance) == "the accuracy fell to chance in epoch 1"


def test_chance_from_the_start_is_given_time_before_it_counts_as_a_collapse() -> None:
    run = training(patience=100)
    assert stopped(run, *[run.chance] * 11) is None
    run.steps_per_epoch = 50
    assert stopped(run, *[run.chance] * 11) == "the accuracy has stayed at chance for 10 epochs"
    run = training(patience=None)
    run.steps_per_epoch = 50
    assert stopped(run, *[run.chance] * 11) is None  # without patience nothing may be chosen


def test_a_frequent_class_makes_no_collapse() -> None:
    """On 19 images of one class and one of another, a network that knows both is no network that has collapsed."""
    run = training(patience=100)
    run.validation = Samples(run.validation.source, np.array([0] * 57 + [1] * 3), 3)
    run.chance, run.steps_per_epoch = 1 / 2, 500
    assert stopped(run, *[0.6] * 11) is None


def test_no_epoch_is_begun_that_the_time_does_not_allow() -> None:
    run = training(epochs=50, patience=50)
    run.run(max_minutes=1e-9)
    assert len(run.state.history) <= 2
    assert run.state.out_of_time
    assert not run.state.collapsed


def test_accuracy_and_loss_of_an_epoch_are_means_over_all_its_samples() -> None:
    run = training(learning_rate=1e-12, epochs=1)
    model = run.model
    model.get_layer("dropout").rate = 0.0
    row = run.run().history[1]
    probabilities = predict(model, run.training.source.in_order(16))
    labels = run.training.labels
    assert row.accuracy == pytest.approx((probabilities.argmax(axis=1) == labels).mean())


def test_deeper_layers_learn_slower() -> None:
    recipe = replace(
        RECIPE, backbone_rate=0.1, stage_rate=0.1, warmup=0.0, weight_decay=0.0, decay=False, learning_rate=1e-3
    )
    architecture = replace(ARCHITECTURE, input_layer="block4_conv3", unfreeze_from="block5_conv1")
    model = network.build(architecture, load_weights("random", BACKBONES["vgg16"]), seed=0)
    compile_model(model, recipe, {"block5_conv1": 1, "block5_conv2": 0, "block5_conv3": 0})
    before = {weight.path: np.array(weight) for weight in model.trainable_weights}
    inputs = np.random.default_rng(0).standard_normal((8, 4, 4, 512)).astype(np.float32)
    model.train_on_batch(inputs, np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    largest = {w.path.split("/")[0]: np.abs(np.array(w) - before[w.path]).max() for w in model.trainable_weights[::2]}
    assert largest["predictions"] == pytest.approx(1e-3, rel=0.05)  # Adam's first step has the size of the rate
    assert largest["block5_conv3"] == pytest.approx(1e-4, rel=0.05)
    assert largest["block5_conv1"] == pytest.approx(1e-5, rel=0.05)


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = balanced(labels, 4)
    assert weights[2] == 0
    assert [weights[k] * (labels == k).sum() for k in (0, 1, 3)] == pytest.approx([10 / 3] * 3)


def test_class_weights_reach_the_loss() -> None:
    plain, weighted = training(epochs=1), training(epochs=1)
    weighted.training = replace(weighted.training, class_weights=np.array([1.0, 1.0, 5.0]))
    plain.run()
    weighted.run()
    assert plain.state.history[1].loss != weighted.state.history[1].loss


def test_the_rate_finder_suggests_less_than_the_rate_of_the_lowest_loss() -> None:
    test = find_rate(prepared(), samples(90, 1), 16, seed=0)
    assert len(test.rates) == len(test.losses) > 20
    assert test.rates == sorted(test.rates)
    assert all(math.isfinite(loss) for loss in test.losses)
    assert test.suggested == pytest.approx(test.rates[int(np.argmin(test.losses))] / 10)
