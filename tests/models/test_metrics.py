"""models/metrics.py against plain loops, exact sums, scikit-learn and simulated coverage."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as reference

from thaw.models.metrics import compare, evaluate, expected_calibration_error, holm, paired_interval

EXAMPLES = settings(max_examples=80, deadline=None)


def sample(seed: int, num_images: int = 200, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, num_images)
    scores = generator.gumbel(size=(num_images, num_classes))
    scores[np.arange(num_images), labels] += 1.5
    probabilities = np.exp(scores)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities, [f"class {k}" for k in range(num_classes)]


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    return sample(draw(st.integers(0, 2**31)), draw(st.integers(1, 40)), draw(st.integers(2, 6)))


def bools(num_images: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.booleans(), min_size=num_images, max_size=num_images).map(lambda x: np.array(x, dtype=bool))


PAIRS = st.integers(1, 60).flatmap(lambda n: st.tuples(bools(n), bools(n)))


def test_evaluate_agrees_with_scikit_learn_if_all_classes_occur() -> None:
    labels, probabilities, names = sample(0)
    result, predicted = evaluate(labels, probabilities, names), probabilities.argmax(axis=1)
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted)
    assert result["accuracy"] == reference.accuracy_score(labels, predicted)
    assert result["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert result["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert result["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities))
    assert result["confusion_matrix"] == reference.confusion_matrix(labels, predicted).tolist()
    assert [row["class"] for row in result["per_class"]] == names
    assert [row["precision"] for row in result["per_class"]] == pytest.approx(precision.tolist())
    assert [row["recall"] for row in result["per_class"]] == pytest.approx(recall.tolist())
    assert [row["f1"] for row in result["per_class"]] == pytest.approx(f1.tolist())
    assert [row["support"] for row in result["per_class"]] == support.tolist()
    assert result["roc_auc"] is None


@EXAMPLES
@given(samples())
def test_evaluate_agrees_with_scikit_learn_on_any_labels(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    labels, probabilities, names = case
    result, predicted, classes = evaluate(labels, probabilities, names), probabilities.argmax(axis=1), range(len(names))
    matrix = reference.confusion_matrix(labels, predicted, labels=classes)
    assert result["confusion_matrix"] == matrix.tolist()
    assert result["accuracy"] == reference.accuracy_score(labels, predicted)
    assert result["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities, labels=classes))
    columns = reference.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in result["per_class"]] == pytest.approx(column.tolist())
    if len(names) == 2 and len(set(labels.tolist())) == 2:
        assert result["roc_auc"] == pytest.approx(reference.roc_auc_score(labels, probabilities[:, 1]))


@EXAMPLES
@given(samples())
def test_every_figure_keeps_its_bounds(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    labels, probabilities, names = case
    result = evaluate(labels, probabilities, names)
    low, high = result["accuracy_ci95"]
    assert 0 <= low <= result["accuracy"] <= high <= 1
    assert all(0 <= result[name] <= 1 for name in ("balanced_accuracy", "macro_f1", "ece"))
    assert result["log_loss"] >= 0
    assert result["roc_auc"] is None or 0 <= result["roc_auc"] <= 1
    assert np.sum(result["confusion_matrix"]) == len(labels) == sum(row["support"] for row in result["per_class"])


@EXAMPLES
@given(samples())
def test_evaluate_agrees_with_plain_counting(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    labels, probabilities, names = case
    result, classes = evaluate(labels, probabilities, names), range(len(names))
    pairs = [(int(label), max(classes, key=row.__getitem__)) for label, row in zip(labels, probabilities, strict=True)]
    counts = [[pairs.count((true, called)) for called in classes] for true in classes]
    assert result["confusion_matrix"] == counts
    assert result["accuracy"] == sum(counts[k][k] for k in classes) / len(labels)
    recalls = [Fraction(counts[k][k], sum(counts[k])) for k in classes if sum(counts[k])]
    assert result["balanced_accuracy"] == pytest.approx(float(sum(recalls) / len(recalls)))
    called = [sum(row[k] for row in counts) for k in classes]
    f1 = [Fraction(2 * counts[k][k], sum(counts[k]) + called[k]) for k in classes if sum(counts[k]) + called[k]]
    assert result["macro_f1"] == pytest.approx(float(sum(f1) / len(f1)))
    surprise = [-math.log(row[label]) for label, row in zip(labels, probabilities, strict=True)]
    assert result["log_loss"] == pytest.approx(sum(surprise) / len(labels))


def plain_ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Guo et al.'s equations 2, 3 and 5, bin by bin: ((m - 1)/15, m/15]."""
    total = 0.0
    tops = [(max(row), row.tolist().index(max(row)) == label) for row, label in zip(probabilities, labels, strict=True)]
    for m in range(1, 16):
        inside = [(top, hit) for top, hit in tops if (m - 1) / 15 < top <= m / 15]
        if inside:
            accuracy, confidence = (
                sum(column) / len(inside) for column in ((h for _, h in inside), (t for t, _ in inside))
            )
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@EXAMPLES
@given(samples())
def test_calibration_error_agrees_with_the_paper_s_sum(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    labels, probabilities, _ = case
    result = expected_calibration_error(labels, probabilities)
    assert 0 <= result <= 1
    assert result == pytest.approx(plain_ece(labels, probabilities), abs=1e-12)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.7, 0.3], [0.72, 0.28], [0.6, 0.4], [0.1, 0.9]])
    labels = np.array([0, 1, 0, 1])
    # Bins: (9/15, 10/15] none; (10/15, 11/15] holds 0.7 correct, 0.72 wrong; (8/15, 9/15] 0.6; (13/15, 14/15] 0.9.
    assert expected_calibration_error(labels, probabilities) == pytest.approx((abs(1 - 1.42) + 0.4 + 0.1) / 4)


def test_a_confidence_that_rounding_puts_above_one_is_counted() -> None:
    probabilities = np.array([[1 + 1e-9, 0.0], [0.0, 1 + 1e-9]])
    result = evaluate(np.array([0, 0]), probabilities, ["a", "b"])
    assert result["ece"] == 0.5
    assert result["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_wilson_interval_by_its_formula() -> None:
    labels = np.zeros(50, dtype=np.int64)
    probabilities = np.repeat([[0.9, 0.1], [0.2, 0.8]], [40, 10], axis=0)
    z, p, n = 1.959963984540054, 0.8, 50
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
    assert evaluate(labels, probabilities, ["a", "b"])["accuracy_ci95"] == pytest.approx(expected)


def test_perfect_predictions() -> None:
    result = evaluate(np.arange(3).repeat(4), np.eye(3).repeat(4, axis=0), list("abc"))
    assert [result[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece")] == [1, 1, 1, 0]
    assert result["accuracy_ci95"][1] == 1
    assert result["confusion_matrix"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    # A probability of 1 counts as 1 - epsilon.
    assert result["log_loss"] == pytest.approx(np.finfo(float).eps, rel=1e-6, abs=0)


def test_predictions_that_are_always_wrong_and_sure_of_it() -> None:
    result = evaluate(np.arange(3).repeat(4), np.roll(np.eye(3), 1, axis=1).repeat(4, axis=0), list("abc"))
    assert [result[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece")] == [0, 0, 0, 1]
    assert result["log_loss"] == pytest.approx(36.04365, abs=1e-5)
    assert result["accuracy_ci95"][0] == 0
    assert all(type(row["support"]) is int for row in result["per_class"])


def test_a_class_without_test_images_and_one_never_predicted_warn_of_nothing() -> None:
    probabilities = np.array([[0.8, 0.2, 0, 0], [0.9, 0.1, 0, 0], [0.1, 0.2, 0.7, 0]])
    result = evaluate(np.array([0, 1, 0]), probabilities, list("abcd"))
    assert result["confusion_matrix"] == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result["balanced_accuracy"] == 0.25  # of a (1/2) and b (0); c and d have no test image
    assert result["macro_f1"] == pytest.approx(0.5 / 3)  # of a, b and c; d occurs nowhere
    assert result["per_class"][3] == {"class": "d", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_roc_auc_of_two_classes_counts_ordered_pairs() -> None:
    labels, probabilities, names = sample(3, 60, 2)
    positive, negative = (probabilities[labels == k, 1] for k in (1, 0))
    wins = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert evaluate(labels, probabilities, names)["roc_auc"] == pytest.approx(wins)
    assert evaluate(np.zeros(60, dtype=np.int64), probabilities, names)["roc_auc"] is None


@EXAMPLES
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(case: tuple[np.ndarray, np.ndarray, list[str]], random) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, names = case
    order = random.sample(range(len(labels)), len(labels))
    first, second = evaluate(labels, probabilities, names), evaluate(labels[order], probabilities[order], names)
    for name in ("log_loss", "ece", "roc_auc"):
        assert first.pop(name) == pytest.approx(second.pop(name), abs=1e-12)
    assert first == second


@EXAMPLES
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(case: tuple[np.ndarray, np.ndarray, list[str]], random) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities, names = case
    order = random.sample(range(len(names)), len(names))
    renamed = evaluate(np.argsort(order)[labels], probabilities[:, order], [names[k] for k in order])
    result = evaluate(labels, probabilities, names)
    for name in ("accuracy", "accuracy_ci95", "balanced_accuracy", "macro_f1", "ece"):
        assert renamed[name] == result[name]
    assert renamed["log_loss"] == pytest.approx(result["log_loss"], abs=1e-12)
    # The area under the curve of the other class is equal: both scores and classes are swapped.
    assert renamed["roc_auc"] == pytest.approx(result["roc_auc"], abs=1e-12)
    assert renamed["per_class"] == [result["per_class"][k] for k in order]
    assert renamed["confusion_matrix"] == [[result["confusion_matrix"][i][j] for j in order] for i in order]


GOOD = np.array([[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("labels", "probabilities", "names", "message"),
    [
        ([0.0, 1.0], GOOD, "ab", "labels are float64 (2,); expected integers of shape (N,)"),
        ([[0], [1]], GOOD, "ab", "labels are int64 (2, 1); expected integers of shape (N,)"),
        ([0, 1], GOOD, "abc", "probabilities have the shape (2, 2); expected (N, K) = (2, 3)"),
        ([0], GOOD, "ab", "probabilities have the shape (2, 2); expected (N, K) = (1, 2)"),
        ([0, 2], GOOD, "ab", "labels go from 0 to 2; expected 0 to 1"),
        ([-1, 0], GOOD, "ab", "labels go from -1 to 0; expected 0 to 1"),
        (
            [0, 1],
            [[0.5, 0.5], [np.nan, 1]],
            "ab",
            "probabilities of row 1 are not finite; expected numbers from 0 to 1",
        ),
        ([0, 1], [[0.5, 0.5], [-0.5, 1.5]], "ab", "row 1 has the probability -0.5; expected 0 to 1"),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], "ab", "probabilities of row 0 sum to 1.1; expected 1"),
        ([0, 1], GOOD, "", "got 2 labels and 0 classes; expected at least one of each"),
    ],
)
def test_evaluate_says_what_is_wrong(labels: list, probabilities: np.ndarray, names: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        evaluate(np.array(labels), np.array(probabilities), list(names))
    assert str(caught.value) == message


def test_evaluate_refuses_an_empty_test_split() -> None:
    with pytest.raises(ValueError, match=r"^got 0 labels and 2 classes; expected at least one of each$"):
        evaluate(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), ["a", "b"])


@EXAMPLES
@given(PAIRS)
def test_comparing_in_the_other_order_swaps_the_signs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    forth, back = compare(*pair), compare(*pair[::-1])
    assert forth["difference"] == -back["difference"]
    assert forth["ci95"] == pytest.approx([-bound for bound in back["ci95"][::-1]])
    assert forth["mcnemar_p"] == pytest.approx(back["mcnemar_p"])


@EXAMPLES
@given(PAIRS)
def test_mcnemar_is_the_exact_binomial_sum(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    rounds, wins = sum(x != y for x, y in zip(a, b, strict=True)), sum(x and not y for x, y in zip(a, b, strict=True))
    tail = sum(math.comb(rounds, k) for k in range(min(wins, rounds - wins) + 1))
    assert compare(a, b)["mcnemar_p"] == pytest.approx(float(min(Fraction(1), Fraction(2 * tail, 2**rounds))))


@EXAMPLES
@given(PAIRS, st.randoms(use_true_random=False))
def test_comparison_is_of_accuracies_inside_its_interval(pair: tuple[np.ndarray, np.ndarray], random) -> None:  # type: ignore[no-untyped-def]
    result, order = compare(*pair), random.sample(range(len(pair[0])), len(pair[0]))
    assert result["difference"] == pytest.approx(pair[0].mean() - pair[1].mean())
    assert -1 <= result["ci95"][0] <= result["difference"] <= result["ci95"][1] <= 1
    assert compare(pair[0][order], pair[1][order]) == result


def test_equal_strategies() -> None:
    correct = np.array([True, False, True])
    result = compare(correct, correct)
    assert (result["difference"], result["mcnemar_p"]) == (0, 1)
    assert result["ci95"] == pytest.approx([-1.959963984540054 / 5, 1.959963984540054 / 5])


def test_interval_of_a_textbook_s_table_by_hand() -> None:
    # Cells 227, 132, 107 and 678: the environment survey in Agresti's Introduction to Categorical Data Analysis.
    low, high = paired_interval(107, 132, 1144)
    centre, half = -25 / 1146, 1.959963984540054 * math.sqrt(240 - 625 / 1146) / 1146
    assert (low, high) == pytest.approx((centre - half, centre + half))
    assert (round(low, 4), round(high, 4)) == (-0.0483, 0.0047)


def exact_coverage(num_images: int, only_a: float, only_b: float) -> float:
    """The probability that the interval holds only_a - only_b, summed over all outcomes of n images."""
    total = 0.0
    for a in range(num_images + 1):
        rest = np.arange(num_images - a + 1)
        chances = binom.pmf(a, num_images, only_a) * binom.pmf(rest, num_images - a, only_b / (1 - only_a))
        bounds = np.array([paired_interval(a, int(b), num_images) for b in rest])
        inside = (bounds[:, 0] <= only_a - only_b) & (only_a - only_b <= bounds[:, 1])
        total += float(chances[inside].sum())
    return total


@pytest.mark.parametrize("num_images", [30, 60])
def test_exact_coverage_of_the_paired_interval(num_images: int) -> None:
    shares = [0.02, 0.05, 0.1, 0.2, 0.3]
    coverage = [
        exact_coverage(num_images, a, b) for a, b in [*combinations(shares, 2), *zip(shares, shares, strict=True)]
    ]
    assert min(coverage) > 0.93
    assert 0.945 < np.mean(coverage) < 0.985


def test_simulated_coverage_of_the_paired_interval_and_level_of_the_test() -> None:
    generator = np.random.default_rng(0)
    chances = np.array([0.70, 0.08, 0.05, 0.17])  # both correct, a alone, b alone, both wrong
    inside, claims = 0, 0
    for _ in range(1000):
        cell = generator.choice(4, size=200, p=chances)
        low, high = compare(cell <= 1, (cell == 0) | (cell == 2))["ci95"]
        inside += low <= 0.03 <= high
        equal = generator.choice(4, size=200, p=[0.70, 0.065, 0.065, 0.17])
        claims += compare(equal <= 1, (equal == 0) | (equal == 2))["mcnemar_p"] < 0.05
    assert 930 <= inside <= 970
    assert claims <= 65


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 0], [1, 1], "got int64 (2,) and int64 (2,); expected two bool arrays of shape (N,)"),
        ([[True]], [[True]], "got bool (1, 1) and bool (1, 1); expected two bool arrays of shape (N,)"),
        (
            [True],
            [True, False],
            "got bool (1,) and bool (2,); expected the same number of images in both, at least one",
        ),
    ],
)
def test_compare_says_what_is_wrong(a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        compare(np.array(a), np.array(b))
    assert str(caught.value) == message


def test_compare_refuses_no_images() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@EXAMPLES
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.2))
def test_holm_claims_what_the_step_down_procedure_claims(p_values: list[float], level: float) -> None:
    claimed: set[int] = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - step) * p_values[index] >= level:
            break
        claimed.add(index)
    assert {k for k, p in enumerate(holm(p_values)) if p < level} == claimed
