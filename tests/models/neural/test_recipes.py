import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.neural.recipes import RECIPES, SMALLEST_BATCH, STEPS_PER_EPOCH, Recipe, find_recipe

STRATEGIES = ("head", "finetune", "scratch")
EXAMPLES = settings(max_examples=60, deadline=None)


def rates(recipe: Recipe, num_steps: int) -> list[float]:
    return [recipe.rate(step, num_steps) for step in range(num_steps)]


@pytest.mark.parametrize("name", ["article", "tuned"])
def test_every_strategy_has_a_recipe(name: str) -> None:
    assert set(RECIPES[name]) == set(STRATEGIES)


@pytest.mark.parametrize(("strategy", "epochs"), [("head", 10), ("finetune", 15), ("scratch", 15)])
@pytest.mark.parametrize("num_training", [20, 50_000])
def test_the_articles_recipe(strategy: str, epochs: int, num_training: int) -> None:
    recipe = find_recipe("article", strategy, num_training)
    assert recipe.weight_decay is None  # plain Adam
    assert recipe.learning_rate == 1e-3
    assert recipe.batch_size == 256
    assert recipe.epochs == epochs
    assert recipe.patience is None
    assert recipe.label_smoothing == 0
    assert (recipe.stage_rate, recipe.probe_rate) == (1, 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_articles_rate_is_constant(strategy: str) -> None:
    assert set(rates(find_recipe("article", strategy, 1000), 200)) == {1e-3}


@pytest.mark.parametrize("strategy", STRATEGIES)
@EXAMPLES
@given(num_steps=st.integers(100, 2000))
def test_the_tuned_rate_rises_in_the_warm_up_then_falls_to_zero(strategy: str, num_steps: int) -> None:
    recipe = find_recipe("tuned", strategy, 1000)
    received = rates(recipe, num_steps)
    warm = int(recipe.warmup * num_steps)
    assert warm >= 1
    assert all(before < after for before, after in pairwise(received[:warm]))
    assert all(before > after for before, after in pairwise(received[warm + 1 :]))
    assert max(received) == recipe.learning_rate
    assert received[0] < 0.5 * recipe.learning_rate
    assert 0 <= received[-1] < 1e-3 * recipe.learning_rate


@EXAMPLES
@given(
    num_steps=st.integers(1, 500),
    warmup=st.floats(0, 1),
    decay=st.booleans(),
    learning_rate=st.floats(1e-6, 1),
)
def test_no_rate_is_above_the_learning_rate_or_below_zero(
    num_steps: int, warmup: float, decay: bool, learning_rate: float
) -> None:
    received = rates(Recipe(learning_rate, 1, warmup=warmup, decay=decay), num_steps)
    assert all(0 <= rate <= learning_rate for rate in received)
    assert received[0] > 0


def test_warm_up_is_a_straight_line_and_decay_a_half_cosine() -> None:
    recipe = Recipe(1.0, 1, warmup=0.2, decay=True)
    assert rates(recipe, 20)[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert recipe.rate(12, 20) == pytest.approx(0.5)
    assert rates(dataclasses.replace(recipe, decay=False), 20)[4:] == [1.0] * 16


@EXAMPLES
@given(num_training=st.integers(1, 100_000), strategy=st.sampled_from(STRATEGIES))
def test_the_tuned_batch_is_the_largest_that_gives_an_epoch_fifty_steps(num_training: int, strategy: str) -> None:
    size = find_recipe("tuned", strategy, num_training).batch_size
    assert size in (32, 64, 128, 256)
    assert size == SMALLEST_BATCH or num_training / size >= STEPS_PER_EPOCH
    assert size == 256 or num_training / (2 * size) < STEPS_PER_EPOCH


@pytest.mark.parametrize(("num_training", "size"), [(1, 32), (3199, 32), (3200, 64), (12_799, 128), (12_800, 256)])
def test_the_batch_halves_if_the_images_are_few(num_training: int, size: int) -> None:
    assert find_recipe("tuned", "head", num_training).batch_size == size
    assert find_recipe("article", "head", num_training).batch_size == 256


@pytest.mark.parametrize("name", ["article", "tuned"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", 8), ("batch_size", 512), ("epochs", 3), ("learning_rate", 0.5), ("patience", 7), ("warmup", 0.0)],
)
def test_given_fields_replace_those_of_the_recipe_and_nothing_else(name: str, key: str, value: Any) -> None:
    expected = dataclasses.replace(find_recipe(name, "finetune", 100), **{key: value})
    assert find_recipe(name, "finetune", 100, **{key: value}) == expected


@pytest.mark.parametrize("name", ["article", "tuned"])
def test_none_given_replaces_nothing(name: str) -> None:
    given_none = {"epochs": None, "learning_rate": None, "batch_size": None, "patience": None}
    assert find_recipe(name, "head", 100, **given_none) == find_recipe(name, "head", 100)


def test_what_is_given_leaves_the_recipe_itself_alone() -> None:
    before = RECIPES["tuned"]["head"]
    find_recipe("tuned", "head", 10, epochs=1)
    assert RECIPES["tuned"]["head"] == before
    assert before.batch_size == 256
