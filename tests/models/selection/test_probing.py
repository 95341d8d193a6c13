"""Quick linear probes, and samples of rows that keep the classes' shares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thaw.models.metrics import paired_interval
from thaw.models.selection.probing import linear_probe, nested_order, optimism, paired_error, probe_folds, transformed
from thaw.models.selection.search import FitOptions, make_folds, try_candidate
from thaw.models.solver.blocks import ArrayBlocks
from thaw.models.strategies import STRATEGIES

OPTIONS = FitOptions(seed=0, class_weight=None, jobs=1)


def blobs(num_rows: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(num_rows) % 3
    return (generator.normal(0, spread, (num_rows, 8)) + 2 * np.eye(8)[labels]).astype(np.float32), labels


def test_a_probe_is_what_the_choice_of_a_stage_finds() -> None:
    features, labels = blobs(240)
    folds = make_folds(labels, None, 5, 0)
    values = (0.01, 0.1, 1.0)
    strategy = STRATEGIES["logreg"].among(values)
    tried = try_candidate(strategy, ArrayBlocks(features), labels, folds, OPTIONS)
    probed = linear_probe(STRATEGIES["logreg"], features, labels, folds, values)
    assert len(probed.correct) == 240
    assert probed.accuracy == max(one.accuracy for one in tried)
    assert probed.value in values


def test_only_rows_that_a_fold_holds_out_count() -> None:
    features, labels = blobs(300)
    folds = make_folds(labels, None, 5, 0)[:2]
    assert len(linear_probe(STRATEGIES["logreg"], features, labels, folds).correct) == 120


def test_folds_hold_out_as_many_rows_as_are_wanted() -> None:
    labels = np.arange(10_000) % 4
    assert len(probe_folds(labels, None, 0)) == 1
    assert len(probe_folds(labels[:3000], None, 0)) == 4
    assert len(probe_folds(labels[:100], None, 0)) == 5
    assert len(probe_folds(np.array([0, 0, 0, 1, 1, 1]), None, 0)) == 3


def test_groups_stay_together() -> None:
    groups = np.repeat(np.arange(30), 4)
    for fitted, held_out in probe_folds(np.arange(120) % 3, groups, 0):
        assert not set(groups[fitted]) & set(groups[held_out])


@given(st.lists(st.integers(0, 3), min_size=4, max_size=200), st.integers(0, 5))
def test_every_beginning_of_the_order_has_the_classes_own_shares(classes: list[int], seed: int) -> None:
    labels = np.array(classes)
    order = nested_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    totals = np.bincount(labels, minlength=4)
    for count in (1, len(labels) // 2, len(labels)):
        seen = np.bincount(labels[order[:count]], minlength=4)
        assert (np.abs(seen - totals * count / len(labels)) <= 4).all()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=300))
def test_the_paired_error_is_that_of_the_paired_interval(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = (np.array(column) for column in zip(*pairs, strict=True))
    low, high = paired_interval(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours))
    if low > -1 and high < 1:
        assert np.isclose((high - low) / 2, 1.959964 * paired_error(ours, theirs), rtol=1e-5)


def test_the_square_root_leaves_the_callers_features_as_they_are() -> None:
    features = np.array([[4.0, -9.0]], np.float32)
    assert transformed(features, "sqrt").tolist() == [[2.0, -3.0]]
    assert features.tolist() == [[4.0, -9.0]]
    assert transformed(features, "none") is features


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=8), st.integers(0, 9))
def test_the_best_of_some_is_never_judged_better_than_it_looks(rows: list[list[bool]], seed: int) -> None:
    tried = [np.array(row) for row in rows]
    best = max(row.mean() for row in tried)
    assert 0 <= optimism(tried, seed) <= best
    assert optimism([tried[0]] * 3, seed) == 0


def test_the_optimism_of_picking_among_equals_is_what_a_simulation_finds() -> None:
    generator = np.random.default_rng(0)
    flattered, corrected = [], []
    for seed in range(60):
        tried = [generator.random(300) < 0.7 for _ in range(12)]
        best = max(row.mean() for row in tried)
        flattered.append(best - 0.7)
        corrected.append(best - optimism(tried, seed) - 0.7)
    assert np.mean(flattered) > 0.025
    assert abs(np.mean(corrected)) < 0.01
