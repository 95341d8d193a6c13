"""Limited-memory BFGS (Liu and Nocedal 1989) for many problems at once, so that they share their matrix products."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MEMORY = 10  # past steps that shape a direction
SUFFICIENT = 1e-4  # share of the promised decrease that a step has to give (Armijo)
SMALL_GAIN = 1e-5  # relative decrease of the last step at which a small gradient ends a problem, unless given
NO_GAIN = 1e-4  # relative decrease that ends a problem, in units of the precision of the products
ROUNDING = 100  # times the tolerance: the gradient that may be left if no step leads further down
RESTART, GIVE_UP = 15, 45  # refused steps in a row after which a problem goes down its gradient, or ends

# (unknowns (g, k, D), which problems they are (g,)) -> (objectives (g,), gradients (g, k, D))
Evaluate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Minimum:
    """The end of each problem: `unknowns` (G, k, D) float64, and (G,) of the other three."""

    unknowns: np.ndarray
    values: np.ndarray
    num_iterations: np.ndarray
    converged: np.ndarray


@dataclass
class _Live:
    """The g problems that are not finished: their numbers and their state."""

    problems: np.ndarray  # (g,)
    unknowns: np.ndarray  # (g, k, D)
    values: np.ndarray  # (g,)
    gradients: np.ndarray  # (g, k, D)
    steps: np.ndarray  # (MEMORY, g, k, D): past changes of the unknowns
    turns: np.ndarray  # and of the gradients
    weights: np.ndarray  # (MEMORY, g): 1 / (step . turn), 0 for no step
    scale: np.ndarray  # (g,): of the inverse Hessian that the directions start from
    directions: np.ndarray  # (g, k, D)
    lengths: np.ndarray  # (g,): the part of the direction to be tried next
    refused: np.ndarray  # (g,): steps refused in a row
    metric: np.ndarray  # (D,): the guess of the inverse Hessian's diagonal, up to `scale`

    def keep(self, chosen: np.ndarray) -> None:
        """Drop the problems that are not `chosen` (g,) bool."""
        for name in ("problems", "unknowns", "values", "gradients", "scale", "directions", "lengths", "refused"):
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
    metric: np.ndarray | None = None,
    small_gain: float = SMALL_GAIN,
) -> Minimum:
    """Minimise G smooth convex problems from `start` (G, k, D).

    A problem ends if the largest entry of its gradient is within its tolerance and its objective hardly decreases. It
    also ends if nothing is gained and the direction promises no more than rounding in the precision of `start` hides.
    Every round evaluates all problems that are left at once. Each accepts its step or tries a shorter one by itself.

    Args:
        evaluate: returns the objectives and gradients of some problems.
        start: the unknowns to begin at, (G, k, D), in the precision of the products.
        tolerances: the largest gradient entry that may be left of each problem, (G,).
        max_iterations: the most rounds.
        metric: a guess of the diagonal of the inverse Hessian, (D,), None for ones.
        small_gain: the relative decrease of the last step at which a small gradient ends a problem.
    """
    num = len(start)
    everything = np.arange(num)
    values, gradients = evaluate(start, everything)
    result = Minimum(start.astype(np.float64), values.copy(), np.zeros(num, int), np.zeros(num, bool))
    history = np.zeros((MEMORY, *start.shape), start.dtype)
    metric = np.ones(start.shape[2]) if metric is None else metric
    live = _Live(
        problems=everything,
        unknowns=result.unknowns.copy(),
        values=values,
        gradients=gradients,
        steps=history,
        turns=history.copy(),
        weights=np.zeros((MEMORY, num)),
        scale=np.ones(num),
        directions=-metric * gradients,
        lengths=_first_length(metric * gradients),
        refused=np.zeros(num, int),
        metric=metric,
    )
    at_rest = np.abs(gradients).max(axis=(1, 2)) == 0
    _hand_over(live, result, at_rest, at_rest)
    for slot in range(max_iterations):
        if not len(live.problems):
            break
        _round(live, evaluate, slot % MEMORY, result, tolerances, small_gain)
    return result


def _first_length(directions: np.ndarray) -> np.ndarray:
    """Return the share of a direction that the first step goes, (g,), so that its length is 1 at most."""
    return 1 / np.sqrt(np.maximum(_dot(directions, directions), 1))


def _round(
    live: _Live, evaluate: Evaluate, slot: int, result: Minimum, tolerances: np.ndarray, small_gain: float
) -> None:
    """Try a step of every problem; those that accept it get their next direction, the others a shorter step."""
    change = live.lengths[:, None, None] * live.directions
    values, gradients = evaluate(live.unknowns + change, live.problems)
    precision = np.finfo(live.steps.dtype).eps  # what rounding may add to the objective, relative to it
    slope = _dot(live.gradients, live.directions)
    promised = live.lengths * slope
    accepted = values <= live.values + SUFFICIENT * promised + precision * np.abs(live.values)
    gain = np.where(accepted, (live.values - values) / np.maximum(np.abs(values), np.finfo(float).tiny), np.inf)
    shorter = _shorter(live.lengths, promised, values - live.values)
    mine = accepted[:, None, None]
    _remember(live, slot, np.where(mine, change, 0), np.where(mine, gradients - live.gradients, 0))
    live.unknowns += np.where(mine, change, 0)
    live.gradients = np.where(mine, gradients, live.gradients)
    live.values = np.where(accepted, values, live.values)
    # A step may gain nothing by overshooting, far from the minimum; the slope along a quasi-Newton direction is about
    # twice what is left to gain (Boyd and Vandenberghe 2004, section 9.5.1), and tells whether the rest is rounding.
    flat = (gain <= NO_GAIN * precision) & (-slope <= precision * np.abs(values))
    stuck = (live.refused >= GIVE_UP) | (flat & (live.refused >= RESTART))  # at last so short that it changes nothing
    live.refused = np.where(accepted, 0, live.refused + 1)
    result.num_iterations[live.problems] += accepted
    live.directions = np.where(mine, _directions(live, slot), live.directions)
    live.lengths = np.where(accepted, 1.0, shorter)
    _restart(live, live.refused == RESTART)
    size = np.abs(live.gradients).max(axis=(1, 2)) / np.maximum(tolerances[live.problems], np.finfo(float).tiny)
    converged = ((size <= 1) & (gain <= small_gain)) | np.where(stuck, size <= ROUNDING, flat)
    _hand_over(live, result, converged, converged | stuck)


def _shorter(lengths: np.ndarray, promised: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """Return the lengths (g,) to try after refused ones: the minimum of the parabola, within a tenth and a half."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = -promised / (2 * (rise - promised))
    return lengths * np.clip(np.nan_to_num(share, nan=0.1, posinf=0.1, neginf=0.1), 0.1, 0.5)


def _restart(live: _Live, stuck: np.ndarray) -> None:
    """Forget the past of the problems `stuck` (g,) bool, whose directions lead nowhere, and go down their gradients."""
    live.weights[:, stuck] = 0
    live.scale[stuck] = 1
    live.directions[stuck] = -live.metric * live.gradients[stuck]
    live.lengths[stuck] = _first_length(live.directions[stuck])


def _remember(live: _Live, slot: int, step: np.ndarray, turn: np.ndarray) -> None:
    """Replace the oldest step and its change of the gradient by the newest; both are zero if the step was refused."""
    curvature = _dot(step, turn)
    useful = curvature > 0
    live.steps[slot], live.turns[slot] = step, turn
    live.weights[slot] = np.divide(1, curvature, out=np.zeros_like(curvature), where=useful)
    live.scale = np.divide(curvature, _dot(turn, live.metric * turn), out=live.scale.copy(), where=useful)


def _directions(live: _Live, newest: int) -> np.ndarray:
    """Return minus the approximate inverse Hessian times the gradient (the two-loop recursion)."""
    slots = [(newest - age) % MEMORY for age in range(MEMORY)]
    slots = [slot for slot in slots if live.weights[slot].any()]
    shares = {}
    remaining = live.gradients.copy()
    for slot in slots:
        shares[slot] = live.weights[slot] * _dot(live.steps[slot], remaining)
        remaining -= shares[slot][:, None, None] * live.turns[slot]
    direction = live.scale[:, None, None] * (live.metric * remaining)
    for slot in reversed(slots):
        share = live.weights[slot] * _dot(live.turns[slot], direction)
        direction += (shares[slot] - share)[:, None, None] * live.steps[slot]
    return -direction


def _hand_over(live: _Live, result: Minimum, converged: np.ndarray, done: np.ndarray) -> None:
    """Copy the state of all problems to the result, and drop the problems that are `done` (g,) bool."""
    result.unknowns[live.problems] = live.unknowns
    result.values[live.problems] = live.values
    result.converged[live.problems] = converged
    if done.any():
        live.keep(~done)
