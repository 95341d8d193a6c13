"""The rows of a fold in coordinates of their own: as many as rows, with the inner products of all features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Known
from thaw.models.solver.objective import KnownRows

SMALLEST = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-11}  # shares of the trace that rounding hides


@dataclass(frozen=True)
class Coordinates:
    """The rows of a fold in n coordinates, in which their inner products are those of the standardised rows.

    Attributes:
        rows: the n fit rows R (n, n), with R R^T their Gram matrix, and their classes.
        others: the m held-out rows in the same coordinates, (m, n) in the precision of R.
        fit_rows: the indices of the fit rows, (n,).
        held_out: the indices of the held-out rows, (m,).
        squares: the sum of squares of each coordinate over the fit rows, (n,), if R^T R is diagonal, otherwise None.
        combine: gives R^-T u for each of some coefficients u (p, n): the combination of the fit rows, (p, n).
    """

    rows: KnownRows
    others: np.ndarray
    fit_rows: np.ndarray
    held_out: np.ndarray
    squares: np.ndarray | None
    combine: Callable[[np.ndarray], np.ndarray]


def turned(gram: np.ndarray, codes: np.ndarray, held_out: np.ndarray, diagonal: bool) -> Coordinates:
    """Return the coordinates of a fold.

    They are the rows of the Cholesky factor of the fit rows' Gram matrix, or, at ten times the cost, those along its
    eigenvectors.

    Args:
        gram: the inner products of all N rows, standardised by the fold's fit rows, (N, N), of which the upper triangle
            is read; the result is as precise.
        codes: the class of each row, (N,).
        held_out: which rows are held out, (N,) bool.
        diagonal: whether R^T R is to be diagonal.
    """
    fit_rows, others = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    own, above = gram[np.ix_(fit_rows, fit_rows)], fit_rows[:, None] < others
    beside = np.where(above, gram[np.ix_(fit_rows, others)], gram[np.ix_(others, fit_rows)].T)
    dtype = gram.dtype
    smallest = np.asarray(
        SMALLEST[dtype] * np.trace(own, dtype=np.float64), dtype
    )  # the Gram matrix of centred rows is singular
    own[np.diag_indices_from(own)] += smallest
    if diagonal:
        squares, vectors = eigh(own, lower=False, driver="evd", overwrite_a=True, check_finite=False)
        squares = np.maximum(squares, smallest)
        lengths = np.sqrt(squares)
        back = vectors / lengths
        return Coordinates(
            _rows(vectors * lengths, codes[fit_rows]),
            beside.T @ back,
            fit_rows,
            others,
            squares,
            lambda unknowns: unknowns @ back.T,
        )
    factor = cholesky(own.astype(np.float64), overwrite_a=True, check_finite=False).T
    return Coordinates(
        _rows(factor.astype(dtype), codes[fit_rows]),
        solve_triangular(factor, beside, lower=True, check_finite=False).T.astype(dtype),
        fit_rows,
        others,
        None,
        lambda unknowns: solve_triangular(factor, unknowns.T, lower=True, trans="T").T,
    )


def _rows(root: np.ndarray, codes: np.ndarray) -> KnownRows:
    return KnownRows(BlockPool(ArrayBlocks(np.ascontiguousarray(root)), [slice(0, len(root))]), Known(codes))
