"""The best setting that a run's features lack, beside the best that they have, on as many images as the time allows.

The search ends on a sample. Earlier layers and larger images have more to learn from, so that their lead there may
grow with the images: it is measured, not extrapolated, as far as the time goes.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np

from thaw.models.selection.probing import Probed, linear_probe, paired_error, transformed
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.linear_probes import CHOOSING_ROWS, Frozen, read, values_of
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import AtSize, Round, Search, Setting, extract_more
from thaw.pipeline.run.advice_json import Configuration

log = logging.getLogger("thaw")

WORTHWHILE = 1.25  # times the sample's images, at least; fewer say nothing new


@dataclass(frozen=True)
class Finalist:
    """A setting, its probe of some rows (n,), and which of them, `own` (n,) bool, the run's best labels rightly."""

    image_size: int
    setting: Setting
    probed: Probed
    own: np.ndarray

    @property
    def lead(self) -> float:
        """How much more of the rows it labels rightly."""
        return self.probed.accuracy - float(self.own.mean())

    @property
    def lead_error(self) -> float:
        """The standard error of the lead."""
        return paired_error(self.probed.right, self.own)


def with_finalist(survey: Survey, found: Search, best: Frozen, seconds: float) -> tuple[Search, Finalist | None]:
    """Return the finalist of a search, None without one, and the search with what was tried for it.

    It is judged again, by the kind of `best`, where it may be better and `seconds` allow for more images than the
    search had.
    """
    first = _of_sample(survey, found)
    if first is None or first.lead + first.lead_error <= 0:
        return found, first
    at = found.sizes[first.image_size]
    most = min(len(survey.order), CHOOSING_ROWS)
    num_rows = min(most, at.num_rows + int(seconds * survey.speed_at(first.image_size)))
    if num_rows < WORTHWHILE * at.num_rows:
        return found, first
    again, tried = _judge(survey, at, first.setting, best, num_rows, 1 + max(row.round for row in found.tried))
    return Search([*found.tried, *tried], found.sizes), again


def _of_sample(survey: Survey, found: Search) -> Finalist | None:
    at = found.sizes.get(survey.settings.image_size)
    best = at.best_in(survey) if at else None
    others = [(size, *item) for size, other in found.sizes.items() for item in other.probed.items()]
    others = [other for other in others if not survey.has(other[0], other[1].layer, other[1].pooling)]
    if at is None or best is None or not others:
        return None
    return Finalist(*max(others, key=lambda other: other[2].accuracy), own=at.probed[best].right)


def _judge(
    survey: Survey, at: AtSize, setting: Setting, best: Frozen, num_rows: int, number: int
) -> tuple[Finalist, list[Configuration]]:
    began = time.perf_counter()
    more = AtSize(at.image_size, [setting], {name: at.features[name] for name in setting.names}, at.rows)
    extract_more(survey, more, num_rows)
    rows = np.sort(more.rows)
    labels = survey.features.labels[rows]
    folds = survey.folds(rows)

    def probe(features: np.ndarray) -> Probed:
        values = values_of(best.strategy, features.shape[1])
        return linear_probe(STRATEGIES[best.strategy], features, labels, folds, values)

    probed = probe(more.values(setting)[np.argsort(more.rows)])
    own = best.probed  # of all rows, by the same folds
    if len(rows) < len(survey.order):
        own = probe(transformed(read(survey, best.layer, rows), best.transform))
    log.info("the best of these and the run's own on %d images: %.1f and %.1f %%", len(rows), 100 * probed.accuracy,
             100 * own.accuracy)  # fmt: skip
    of_round = Round(number, len(rows), time.perf_counter() - began)
    own_setting = Setting(best.layer, survey.settings.pooling, best.transform)
    tried = [
        of_round.record(at.image_size, setting, best.strategy, probed, kept=True),
        of_round.record(survey.settings.image_size, own_setting, best.strategy, own, kept=True),
    ]
    return Finalist(at.image_size, setting, probed, own.right), tried
