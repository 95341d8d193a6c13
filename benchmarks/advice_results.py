"""What is published of the cases: advice.json beside this page, and what follows from it.

Times are seconds of processor, which other work on the machine changes little; pinned to one core they are what a
command takes there alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.case_runs import STRATEGIES
from benchmarks.cases import Case

FEW_TEST_IMAGES = 500  # with fewer, an interval may reach 5 points on each side, else 3
POINT = 0.01
NEEDED = frozenset({"features", "svm", "logreg", "finetune"})  # a case counts without the others, but not in time


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(_Strict):
    """One strategy's command; the seconds of `scratch` are those counted, see case_runs.py."""

    command: str
    accuracy: float
    cpu_seconds: float


class Advised(_Strict):
    """What advice recommended, what it cost, and what its recommended command then measured."""

    command: str
    cpu_seconds: float
    cell: str
    gain: float
    agrees: bool
    strategy: str
    image_size: int
    layer: str
    recommended: str
    expected: float
    interval: tuple[float, float]
    measured: float


class CaseResult(_Strict):
    """Everything about one case; accuracies are fractions."""

    name: str
    what: str
    meant_for: str
    num_train: int
    num_test: int
    features_cpu_seconds: float
    strategies: dict[str, Outcome]
    advised: Advised | None

    @property
    def cpu_seconds(self) -> float:
        """Seconds of extraction and all strategies."""
        return self.features_cpu_seconds + sum(outcome.cpu_seconds for outcome in self.strategies.values())

    @property
    def best(self) -> tuple[str, float]:
        """Name and test accuracy of the best strategy; what was recommended counts as one of them."""
        found = {name: outcome.accuracy for name, outcome in self.strategies.items()}
        if self.advised and self.advised.measured > max(found.values()):
            return "recommended", self.advised.measured
        name = max(found, key=lambda key: found[key])
        return name, found[name]

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds the accuracy that was measured."""
        return self.advised and self.advised.interval[0] <= self.advised.measured <= self.advised.interval[1]

    @property
    def reach(self) -> float | None:
        """How far the interval reaches from the expected accuracy, to its farther end."""
        if self.advised is None:
            return None
        low, high = self.advised.interval
        return max(self.advised.expected - low, high - self.advised.expected)

    @property
    def narrow(self) -> bool | None:
        """Whether it reaches no farther than is allowed."""
        allowed = 0.05 if self.num_test < FEW_TEST_IMAGES else 0.03
        return self.reach and self.reach <= allowed + 1e-9

    @property
    def near_best(self) -> bool | None:
        """Whether what was recommended is within a point of the best strategy."""
        return self.advised and self.advised.measured >= self.best[1] - POINT - 1e-9

    @property
    def share(self) -> float | None:
        """Advice's time over that of all strategies; None if not all of them have been run."""
        whole = self.advised and len(self.strategies) == len(STRATEGIES)
        return self.advised.cpu_seconds / self.cpu_seconds if self.advised and whole else None


class CaseResults(_Strict):
    """All cases that were measured, on one machine."""

    schema_version: int = 1
    command: str
    machine: str
    cases: list[CaseResult]


def collect(cases: Sequence[Case], entries: Mapping[str, Mapping[str, Any]]) -> list[CaseResult]:
    """Return the cases of which all that is needed has been measured, from what a ledger holds."""
    ran = {case.name: {key for key, entry in entries.get(case.name, {}).items() if _ran(entry)} for case in cases}
    return [_collect(case, entries[case.name]) for case in cases if ran[case.name] >= NEEDED]


def _ran(entry: Mapping[str, Any]) -> bool:
    return entry.get("failed", True) is None


def _collect(case: Case, entries: Mapping[str, Any]) -> CaseResult:
    features, any_report = entries["features"], entries["svm"]
    return CaseResult(
        name=case.name,
        what=case.what,
        meant_for=case.cell,
        num_train=any_report["num_train"] + any_report["num_validation"],
        num_test=any_report["num_test"],
        features_cpu_seconds=features["cpu_seconds"],
        strategies={name: _outcome(entries[name]) for name in STRATEGIES if _ran(entries.get(name, {}))},
        advised=_advised(entries["advise"], entries["recommended"])
        if _ran(entries.get("advise", {})) and _ran(entries.get("recommended", {}))
        else None,
    )


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    seconds = entry.get("counted_cpu_seconds", entry["cpu_seconds"])
    return Outcome(command=entry["command"], accuracy=entry["accuracy"], cpu_seconds=seconds)


def _advised(advise: Mapping[str, Any], measured: Mapping[str, Any]) -> Advised:
    advice = advise["advice"]
    chosen = advice["recommended"]
    return Advised(
        command=advise["command"],
        cpu_seconds=advise["cpu_seconds"],
        cell=advice["rule_of_thumb"]["cell"],
        gain=advice["similarity"]["gain"],
        agrees=advice["rule_of_thumb"]["agrees"],
        recommended=measured["command"],
        expected=chosen["accuracy"],
        interval=tuple(chosen["accuracy_interval"]),
        measured=measured["accuracy"],
        **{key: chosen[key] for key in ("strategy", "image_size", "layer")},
    )
