"""The best setting that a run's features lack, beside the best that they have, on as many images as the time allows.

The search ends on a sample. Earlier layers and larger images have more to learn from, so their lead there may grow
with the images: the lead is measured, not extrapolated, as far as the time goes.
"""

import logging
import time
from dataclasses import dataclass

import numpy as np

from thaw.models.selection.probing import Probed, paired_error, transformed
from thaw.pipeline.advice.linear_probes import CHOOSING_ROWS, LinearProbe, probe_rows, read
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.advice.size_search import Setting, SizeProbes, extract_more
from thaw.pipeline.run.advice_json import Configuration

log = logging.getLogger("thaw")

WORTHWHILE = 1.25  # times the sample's images, at least; fewer say nothing new


@dataclass(frozen=True)
class Refinement:
    """A setting, its probe of some rows (n,), and which of them, `own` (n,) bool, the run's best labels correctly."""

    image_size: int
    setting: Setting
    probed: Probed
    own: np.ndarray

    @property
    def lead(self) -> float:
        """How much larger the share of rows is that the setting labels correctly."""
        return self.probed.accuracy - float(self.own.mean())

    @property
    def lead_error(self) -> float:
        """The standard error of the lead."""
        return paired_error(self.probed.correct, self.own)


def refine(
    survey: Survey, sizes: dict[int, SizeProbes], best: LinearProbe, seconds: float
) -> tuple[Refinement | None, list[Configuration]]:
    """Judge the best setting that the run's features lack beside the run's own best.

    It is judged on more images than the search had, by the kind of `best`, if it may be better and the time allows.

    Args:
        survey: The run.
        sizes: The sizes of the search's last round, by size.
        best: The best classifier on the run's own features.
        seconds: How long the extraction of more images may take.

    Returns:
        The setting, None if the run's features lack none, and what was tried for it.
    """
    first = _of_sample(survey, sizes)
    if first is None or first.lead + first.lead_error <= 0:
        return first, []
    sample = sizes[first.image_size]
    affordable = len(sample.rows) + int(seconds * survey.speed_at(first.image_size))
    num_rows = min(len(survey.order), CHOOSING_ROWS, affordable)
    if num_rows < WORTHWHILE * len(sample.rows):
        return first, []
    return _judge_on_more(survey, sample, first.setting, best, num_rows)


def _of_sample(survey: Survey, sizes: dict[int, SizeProbes]) -> Refinement | None:
    """Return the best setting that the run's features lack, on the images of the search; None without one."""
    own_size = sizes[survey.settings.image_size]
    own = own_size.best_in(survey)
    lacking = [
        (size, setting, probed)
        for size, probes in sizes.items()
        for setting, probed in probes.probed.items()
        if not survey.has(size, setting.layer, setting.pooling)
    ]
    if own is None or not lacking:
        return None
    return Refinement(*max(lacking, key=lambda row: row[2].accuracy), own=own_size.probed[own].correct)


def _judge_on_more(
    survey: Survey, sample: SizeProbes, setting: Setting, best: LinearProbe, num_rows: int
) -> tuple[Refinement, list[Configuration]]:
    began = time.perf_counter()
    features = {name: sample.features[name] for name in setting.names}
    more = SizeProbes(sample.image_size, [setting], features, sample.rows, round=sample.round + 1)
    extract_more(survey, more, num_rows)
    rows = np.sort(more.rows)
    probed = probe_rows(survey, best.strategy, more.values(setting)[np.argsort(more.rows)], rows)
    own = best.probed  # of all rows, by the same folds
    if len(rows) < len(survey.order):
        own = probe_rows(survey, best.strategy, transformed(read(survey, best.layer, rows), best.transform), rows)
    log.info("the best of these and the run's own on %d images: %.1f and %.1f %%", len(rows), 100 * probed.accuracy,
             100 * own.accuracy)  # fmt: skip
    more.seconds = time.perf_counter() - began
    own_setting = Setting(best.layer, survey.settings.pooling, best.transform)
    theirs = more.configuration(setting, best.strategy, probed.accuracy, kept=True)
    ours = more.configuration(own_setting, best.strategy, own.accuracy, kept=True)
    ours = ours.model_copy(update={"image_size": survey.settings.image_size})
    return Refinement(sample.image_size, setting, probed, own.correct), [theirs, ours]
