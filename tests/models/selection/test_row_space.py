"""The solver in the space of the rows gives the classifiers of the one in the space of the features."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from thaw.models.linear import LinearModel, LinearSVM, SoftmaxRegression
from thaw.models.selection.path import LinearPath
from thaw.models.selection.row_space import MOST_ROWS, RowSpacePath, linear_path
from thaw.models.selection.search import make_folds
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, OtherBlocks

KINDS = (LinearSVM, SoftmaxRegression)
VALUES = (1e-4, 1e-3, 1e-2)


def rows(num_classes: int, num_rows: int = 120, num_features: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Rows of groups that overlap; two features are constant, one image is there twice, and the scales differ."""
    generator = np.random.default_rng(num_classes)
    labels = np.arange(num_rows) % num_classes
    values = (
        generator.normal(size=(num_rows, num_features))
        + 0.15 * generator.normal(size=(num_classes, num_features))[labels]
    )
    values[:, :2] = 3
    values[-num_classes] = values[0]
    return (values * generator.uniform(0.1, 50, num_features)).astype(np.float32), labels


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_chooses_and_fits_the_same(kind: type[LinearModel], class_weight: str | None, num_classes: int) -> None:
    values, labels = rows(num_classes)
    keep = (labels != 0) | (np.arange(len(labels)) % 3 == 0)
    values, labels = values[keep], labels[keep]
    folds = make_folds(labels, None, 4, 0)
    with BlockPool(ArrayBlocks(values)) as pool:
        paths = [path(kind, pool, labels, folds, class_weight) for path in (LinearPath, RowSpacePath)]
        correct = [np.array(list(path.correct(VALUES))) for path in paths]
        one, two = (path.fit(VALUES[1], held_out=True) for path in paths)
    assert 0 < correct[0].mean() < 1
    assert (correct[0] != correct[1]).mean() <= 0.003
    assert one.held_out_scores is not None
    assert two.held_out_scores is not None
    scale = np.abs(one.held_out_scores).max()
    np.testing.assert_allclose(two.held_out_scores, one.held_out_scores, atol=2e-3 * scale)
    scores = [fitted.steps[1].decision_function(fitted.steps[0].transform(values)) for fitted in (one, two)]
    np.testing.assert_allclose(scores[1], scores[0], atol=2e-3 * np.abs(scores[0]).max())
    assert (one.converged, two.converged) == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_without_folds_it_fits_all_rows(kind: type[LinearModel]) -> None:
    values, labels = rows(3)
    with BlockPool(ArrayBlocks(values)) as pool:
        one, two = (path(kind, pool, labels, [], None).fit(1e-3, held_out=False) for path in (LinearPath, RowSpacePath))
    assert two.held_out_scores is None
    scale = np.abs(one.steps[1].coef_).max()
    np.testing.assert_allclose(two.steps[1].coef_, one.steps[1].coef_, atol=5e-3 * scale)


def test_held_out_rows_change_nothing_that_is_fitted() -> None:
    values, labels = rows(3)
    fold = (np.arange(30, len(labels)), np.arange(30))
    changed = values.copy()
    changed[:30] *= 100
    found = []
    for given in (values, changed):
        with BlockPool(ArrayBlocks(given)) as pool:
            path = RowSpacePath(SoftmaxRegression, pool, labels, [fold], None)
            found.append(path._coordinates(path._folds[0], diagonal=False).rows.pool.blocks.read(slice(None)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5 * np.abs(found[0]).max())


@pytest.mark.parametrize(
    ("num_rows", "num_features", "num_classes", "expected"),
    [
        (100, 200, 2, RowSpacePath),
        (100, 199, 2, LinearPath),  # rows are not half of the features
        (MOST_ROWS + 1, 3 * MOST_ROWS, 3, LinearPath),  # a Gram matrix would be too large
        (3000, 6000, 2, LinearPath),  # two classes are solved sooner than the Gram matrices are made
        (3000, 6000, 30, RowSpacePath),
    ],
)
def test_the_path_that_costs_less_is_taken(
    num_rows: int, num_features: int, num_classes: int, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (LinearPath, RowSpacePath):
        monkeypatch.setattr(kind, "__init__", lambda self, *arguments: None)
    labels, folds = np.arange(num_rows) % num_classes, [(np.array([0]), np.array([1]))] * 5
    pool = BlockPool(ArrayBlocks(np.broadcast_to(np.float32(0), (num_rows, num_features))))
    assert type(linear_path(LinearSVM, pool, labels, folds, None)) is expected


def test_rows_that_are_read_from_a_file_are_solved_as_they_are_read() -> None:
    values, labels = rows(5)
    folds = make_folds(labels, None, 4, 0)
    assert type(linear_path(LinearSVM, BlockPool(ArrayBlocks(values)), labels, folds, None)) is RowSpacePath
    from_file = BlockPool(OtherBlocks(ArrayBlocks(values)))
    assert type(linear_path(LinearSVM, from_file, labels, folds, None)) is LinearPath


@pytest.mark.parametrize("diagonal", [False, True])
def test_coordinates_have_the_inner_products_of_the_standardised_rows(diagonal: bool) -> None:
    values, labels = rows(3)
    fold = (np.arange(30, len(labels)), np.arange(30))
    scaler = StandardScaler().fit(values[30:].astype(np.float64))
    expected = scaler.transform(values.astype(np.float64))
    with BlockPool(ArrayBlocks(values)) as pool:
        path = RowSpacePath(LinearSVM, pool, labels, [fold], None)
        found = path._coordinates(path._folds[0], diagonal)
    root = found.rows.pool.blocks.read(slice(None))
    scale = np.abs(expected @ expected.T).max()
    np.testing.assert_allclose(root @ root.T, expected[30:] @ expected[30:].T, atol=1e-5 * scale)
    np.testing.assert_allclose(found.others @ root.T, expected[:30] @ expected[30:].T, atol=1e-4 * scale)
    unknowns = np.random.default_rng(0).normal(size=(2, len(root))).astype(np.float32)
    np.testing.assert_allclose(found.combine(unknowns) @ root, unknowns, atol=1e-2)
    if diagonal:
        assert found.squares is not None
        gram = root.T @ root
        np.testing.assert_allclose(gram, np.diag(found.squares), atol=1e-5 * gram.max())


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_cores_gives_the_same_in_the_space_of_the_rows(kind: type[LinearModel]) -> None:
    values, labels = rows(5)
    found = []
    for num_threads in (1, 3):
        with threadpool_limits(num_threads, "blas"), BlockPool(ArrayBlocks(values), num_threads=num_threads) as pool:
            path = RowSpacePath(kind, pool, labels, make_folds(labels, None, 4, 0), None)
            found.append(np.stack(list(path.held_out_scores(VALUES))))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_are_not_finite_are_refused(kind: type[LinearModel]) -> None:
    values, labels = rows(3)
    values[5, 7] = np.nan
    with BlockPool(ArrayBlocks(values)) as pool:
        path = RowSpacePath(kind, pool, labels, make_folds(labels, None, 4, 0), None)
        with pytest.raises(ValueError, match="not finite or too large; expected finite numbers"):
            path.fit(1e-3, held_out=False)
