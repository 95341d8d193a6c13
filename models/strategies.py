"""The strategies on frozen features, one entry each; an entry is a command and a Makefile target too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

MAX_EXACT_RBF_ROWS = 5000  # with more, the exact machine costs more than it gains: benchmarks/README.md
HALF_DECADES = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-10, 5))  # 1e-5 to 100


@dataclass(frozen=True)
class Strategy:
    """A classifier and the one number that is chosen for it.

    Attributes:
        summary: a line for the command's help.
        estimator: the module and the name of the classifier's class.
        parameter: the name of the number that is chosen.
        values: the values to choose among, on a log grid from the smoothest model to the most flexible.
        settings: the fixed arguments of the class.
        calibration: how scores become logits over a temperature, `scores` or `margins`; empty if the classifier has
            probabilities of its own.
        batched: whether our own solver fits all classes and folds at once, to the features as they are.
        nystroem: the number of components of a Nystroem map before the classifier, 0 for no map.
        neighbours: whether the parameter counts rows.
    """

    summary: str
    estimator: str
    parameter: str
    values: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    calibration: str = ""
    batched: bool = False
    nystroem: int = 0
    neighbours: bool = False

    def kind(self) -> Any:
        """Return the classifier's class."""
        module, _, name = self.estimator.rpartition(".")
        return getattr(import_module(module), name)

    def within(self, num_rows: int) -> "Strategy":
        """Return the strategy with the values that `num_rows` rows allow: no more neighbours than rows."""
        if not self.neighbours:
            return self
        return replace(self, values=tuple(value for value in self.values if value <= num_rows))

    def among(self, values: Sequence[float]) -> "Strategy":
        """Return the strategy with other values, in its own order; raises ValueError if it cannot take one of them."""
        if self.neighbours and any(value != int(value) for value in values):
            raise ValueError(f"{self.parameter} is a whole number")
        chosen = sorted({type(self.values[0])(value) for value in values}, reverse=self.values[0] > self.values[-1])
        return replace(self, values=tuple(chosen))

    def classifier(self, value: float, seed: int, class_weight: str | None = None) -> "BaseEstimator":
        """Return the unfitted classifier.

        Args:
            value: the value of its parameter.
            seed: its random state, if it takes one.
            class_weight: `balanced` or None.

        Raises:
            ValueError: `class_weight` is given, and the classifier has no class weights.
        """
        estimator = self.kind()(**self.settings)
        accepted = estimator.get_params()
        if class_weight and "class_weight" not in accepted:
            raise ValueError(f"{type(estimator).__name__} knows no class weights")
        wanted = {self.parameter: value, "random_state": seed, "class_weight": class_weight}
        return estimator.set_params(**{key: given for key, given in wanted.items() if key in accepted})


STRATEGIES = {
    "svm": Strategy(
        "linear support vector machine (squared hinge, one-vs-rest; --kernel rbf too)",
        "thaw.models.linear.LinearSVM",
        "C",
        HALF_DECADES,
        calibration="margins",
        batched=True,
    ),
    "logreg": Strategy(
        "multinomial logistic regression",
        "thaw.models.linear.SoftmaxRegression",
        "C",
        HALF_DECADES,
        calibration="scores",
        batched=True,
    ),
    "knn": Strategy(
        "nearest-neighbour classifier",
        "sklearn.neighbors.KNeighborsClassifier",
        "n_neighbors",
        (50, 20, 10, 5, 3, 1),
        neighbours=True,
        settings={"algorithm": "brute"},  # of few features it would keep a tree, which no model file may hold
    ),
    "ridge": Strategy(
        "ridge classifier",
        "sklearn.linear_model.RidgeClassifier",
        "alpha",
        (1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0),
        calibration="scores",
    ),
}

EXACT_RBF = Strategy(
    "exact RBF support vector machine",
    "sklearn.svm.SVC",
    "C",
    (0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0),
    calibration="scores",
)
NYSTROEM_RBF = Strategy(
    "RBF support vector machine on a Nystroem map",
    "thaw.models.linear.LinearSVM",
    "C",
    HALF_DECADES,
    calibration="margins",
    nystroem=2000,
)


def find_strategy(name: str, kernel: str, num_rows: int) -> Strategy:
    """Return the strategy of that name for a number of training rows.

    Args:
        name: a key of STRATEGIES, which counts if the kernel is linear.
        kernel: `linear` or `rbf`. The RBF machine is exact up to 5,000 rows, beyond it is linear on a Nystroem map.
        num_rows: the number of rows that are not test.
    """
    if kernel == "rbf":
        return EXACT_RBF if num_rows <= MAX_EXACT_RBF_ROWS else NYSTROEM_RBF
    return STRATEGIES[name]
