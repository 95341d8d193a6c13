"""Limited-memory BFGS (Liu and Nocedal 1989) for many problems at once, so that they share their matrix products."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MEMORY = 10  # past steps that shape a direction
SUFFICIENT = 1e-4  # share of the promised decrease that a step has to give (Armijo)
SHORTEST = 1e-8  # a step that had to become shorter ends its problem: rounding is all that is left
SMALLEST_GAIN = 1e-4  # relative decrease that ends a problem, in units of the precision of the products

# (unknowns (g, k, D), which problems they are (g,)) -> (objectives (g,), gradients (g, k, D))
Evaluate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended: `unknowns` (G, k, D) float64, and (G,) of the other three."""

    unknowns: np.ndarray
    values: np.ndarray
    num_iterations: np.ndarray
    converged: np.ndarray


@dataclass
class _Live:
    """The problems that go on: which they are, and their state, every array's problem axis cut down to them."""

    problems: np.ndarray  # (g,)
    unknowns: np.ndarray  # (g, k, D)
    values: np.ndarray  # (g,)
    gradients: np.ndarray  # (g, k, D)
    steps: np.ndarray  # (MEMORY, g, k, D): past changes of the unknowns
    turns: np.ndarray  # and of the gradients
    weights: np.ndarray  # (MEMORY, g): 1 / (step . turn), 0 where there is none
    scale: np.ndarray  # (g,): of the inverse Hessian that the directions start from
    directions: np.ndarray  # (g, k, D)
    lengths: np.ndarray  # (g,): the part of the direction to be tried next

    def keep(self, chosen: np.ndarray) -> None:
        """Drop the problems that are not `chosen` (g,) bool."""
        for name in ("problems", "unknowns", "values", "gradients", "scale", "directions", "lengths"):
            setattr(self, name, getattr(self, name)[chosen])
        for name in ("steps", "turns", "weights"):
            setattr(self, name, getattr(self, name)[:, chosen])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return each problem's inner product (g,) of two arrays (g, k, D)."""
    return np.einsum("gkd,gkd->g", a, b, dtype=np.float64)


def minimise(
    evaluate: Evaluate,
    start: np.ndarray,
    tolerances: np.ndarray,
    max_iterations: int,
) -> Minimum:
    """Minimise G smooth convex problems from `start` (G, k, D), each until its gradient's largest entry is small.

    Products are in the precision of `start`. `tolerances` (G,) says how small; a problem also ends where its objective
    decreases no further. Every round evaluates all problems that are left at once; each accepts the step or tries a
    shorter one by itself.
    """
    num = len(start)
    everything = np.arange(num)
    values, gradients = evaluate(start, everything)
    result = Minimum(start.astype(np.float64), values.copy(), np.zeros(num, int), np.zeros(num, bool))
    history = np.zeros((MEMORY, *start.shape), start.dtype)
    live = _Live(
        problems=everything,
        unknowns=result.unknowns.copy(),
        values=values,
        gradients=gradients,
        steps=history,
        turns=history.copy(),
        weights=np.zeros((MEMORY, num)),
        scale=np.ones(num),
        directions=-gradients,
        lengths=1 / np.sqrt(np.maximum(_dot(gradients, gradients), 1)),
    )
    _finish(live, result, np.abs(gradients).max(axis=(1, 2)) <= tolerances)
    for slot in range(max_iterations):
        if not len(live.problems):
            break
        _round(live, evaluate, slot % MEMORY, result, tolerances)
    return result


def _round(live: _Live, evaluate: Evaluate, slot: int, result: Minimum, tolerances: np.ndarray) -> None:
    """Try a step of every problem; those that accept it get their next direction, the others a shorter step."""
    change = live.lengths[:, None, None] * live.directions
    values, gradients = evaluate(live.unknowns + change, live.problems)
    precision = np.finfo(live.steps.dtype).eps  # what rounding may add to the objective, relative to it
    promised = live.lengths * _dot(live.gradients, live.directions)
    accepted = values <= live.values + SUFFICIENT * promised + precision * np.abs(live.values)
    mine = accepted[:, None, None]
    gain = np.where(accepted, live.values - values, np.inf)
    _remember(live, slot, np.where(mine, change, 0), np.where(mine, gradients - live.gradients, 0))
    live.unknowns += np.where(mine, change, 0)
    live.gradients = np.where(mine, gradients, live.gradients)
    live.values = np.where(accepted, values, live.values)
    result.num_iterations[live.problems] += accepted
    live.directions = np.where(mine, _directions(live, slot), live.directions)
    live.lengths = np.where(accepted, 1.0, 0.4 * live.lengths)
    small = np.abs(live.gradients).max(axis=(1, 2)) <= tolerances[live.problems]
    still = gain <= SMALLEST_GAIN * precision * np.abs(live.values)
    _finish(live, result, small | still | (live.lengths < SHORTEST))


def _remember(live: _Live, slot: int, step: np.ndarray, turn: np.ndarray) -> None:
    """Put an accepted step and its change of the gradient in place of the oldest."""
    curvature = _dot(step, turn)
    useful = curvature > 0
    live.steps[slot], live.turns[slot] = step, turn
    live.weights[slot] = np.divide(1, curvature, out=np.zeros_like(curvature), where=useful)
    live.scale = np.divide(curvature, _dot(turn, turn), out=live.scale.copy(), where=useful)


def _directions(live: _Live, newest: int) -> np.ndarray:
    """Return minus the approximate inverse Hessian times the gradient (the two-loop recursion)."""
    slots = [(newest - age) % MEMORY for age in range(MEMORY)]
    slots = [slot for slot in slots if live.weights[slot].any()]
    shares = {}
    remaining = live.gradients.copy()
    for slot in slots:
        shares[slot] = live.weights[slot] * _dot(live.steps[slot], remaining)
        remaining -= shares[slot][:, None, None] * live.turns[slot]
    direction = live.scale[:, None, None] * remaining
    for slot in reversed(slots):
        share = live.weights[slot] * _dot(live.turns[slot], direction)
        direction += (shares[slot] - share)[:, None, None] * live.steps[slot]
    return -direction


def _finish(live: _Live, result: Minimum, done: np.ndarray) -> None:
    """Hand over the state of all problems, and go on without those that are `done` (g,) bool."""
    result.unknowns[live.problems] = live.unknowns
    result.values[live.problems] = live.values
    result.converged[live.problems] = done
    if done.any():
        live.keep(~done)
