"""The best frozen configuration: image size x layer x pooling x transform, by successive halving on a sample."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import HELD_OUT_ROWS, Probed, linear_probe, transformed
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import Configuration

log = logging.getLogger("thaw")

SIZES = (48, 64, 96, 128, 160, 224)
TOP_LAYERS, SMALL_SIZE = 3, 64  # pooling layers that are tried, from the top; above this size one fewer
USUAL_SIZE = 128  # larger ones are tried only where the largest so far is the best
FEWEST_ROWS, MOST_ROWS = 200, 2000
FIRST_HELD_OUT = 600  # images that many settings are judged by; the few that are left, by all
KEPT_SETTINGS = 3  # of a size, from the first round on
WORSE = 0.01  # than the best size so far; after two such sizes in a row larger ones are not tried
LOGREG = STRATEGIES["logreg"]


class Setting(NamedTuple):
    """What is done to the activations of one image size; `layer` is one, or several joined by `+`."""

    layer: str
    pooling: str
    transform: str

    @property
    def names(self) -> list[str]:
        """Each layer with its pooling, as a sample is asked for it."""
        return [f"{layer}:{self.pooling}" for layer in self.layer.split("+")]


@dataclass
class AtSize:
    """One image size: the features (n, D) by name of those `rows` of features.h5 that were extracted, and the cost."""

    image_size: int
    settings: list[Setting]
    features: dict[str, np.ndarray] = field(default_factory=dict)
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    seconds: float = 0.0
    probed: dict[Setting, Probed] = field(default_factory=dict)

    def values(self, setting: Setting) -> np.ndarray:
        """Return the features (n, D) of a setting, its layers side by side, transformed."""
        return transformed(np.concatenate([self.features[name] for name in setting.names], 1), setting.transform)

    @property
    def num_rows(self) -> int:
        """How many images were extracted."""
        return len(self.rows)

    @property
    def best(self) -> tuple[Setting, Probed]:
        """The setting of the highest accuracy, the first of equals."""
        return max(self.probed.items(), key=lambda item: item[1].accuracy)

    def best_in(self, survey: Survey) -> Setting | None:
        """Return the best setting of those that the run's own features have, None where there is none."""
        own = [s for s in self.probed if survey.has(self.image_size, s.layer, s.pooling)]
        return max(own, key=lambda setting: self.probed[setting].accuracy, default=None)


class Round(NamedTuple):
    """A round of the search at one image size, and what its settings took together."""

    number: int
    num_images: int
    seconds: float

    def record(self, image_size: int, setting: Setting, strategy: str, probed: Probed, *, kept: bool) -> Configuration:
        """Return what advice.json says of a setting that was tried."""
        return Configuration(
            image_size=image_size,
            **setting._asdict(),
            strategy=strategy,
            round=self.number,
            num_images=self.num_images,
            accuracy=probed.accuracy,
            seconds=self.seconds,
            images_per_second=self.num_images / self.seconds,
            kept=kept,
        )


@dataclass(frozen=True)
class Search:
    """All that was tried, and the sizes of the last round by size; the run's own is always among them."""

    tried: list[Configuration]
    sizes: dict[int, AtSize]


def search(survey: Survey, seconds: float, averaged: str | None = None) -> Search:
    """Try image sizes with their layers, poolings and transforms for about `seconds`, on ever more images.

    `averaged` is a layer that is tried too, averaged, where it is not among the layers that always are.
    Each round keeps the better half of the sizes, with the run's own, and the best settings of each, and doubles the
    images.
    """
    deadline = time.perf_counter() + seconds
    sizes = {size: AtSize(size, _settings(survey, size, averaged)) for size in _sizes(survey)}
    num_rows = _first_rows(survey, sizes, seconds)
    tried: list[Configuration] = []
    number = 1
    while True:
        done = _round(survey, sizes, num_rows, deadline)
        kept = _better_half(survey, done)
        for at in done.values():
            of_round = Round(number, at.num_rows, at.seconds)
            tried += [
                of_round.record(at.image_size, setting, "logreg", probed, kept=at.image_size in kept)
                for setting, probed in at.probed.items()
            ]
            setting, probed = at.best
            log.info("%d pixels, %d images: %.1f %% by %s %s, transform %s", at.image_size, num_rows,
                     100 * probed.accuracy, *setting)  # fmt: skip
        sizes = {size: done[size] for size in kept}
        more = min(2 * num_rows, len(survey.order), MOST_ROWS)
        last = len(done) <= 2 and number > 1
        if last or more == num_rows or not _affords(survey, sizes.values(), more, deadline):
            return Search(tried, sizes)
        num_rows, number = more, number + 1
        for at in sizes.values():
            best = sorted(at.probed, key=lambda key: -at.probed[key].accuracy)[:KEPT_SETTINGS]
            own = at.best_in(survey)  # what the others are compared with
            at.settings = [*best, own] if own and own not in best else best


def _sizes(survey: Survey) -> list[int]:
    """Return the image sizes to try; the run's own alone where the user gave it."""
    own = survey.settings.image_size
    if "image_size" in survey.given:
        return [own]
    least = get_backbone(survey.settings.backbone).min_image_size
    return sorted({own, *(size for size in SIZES if size >= least)})


def _settings(survey: Survey, image_size: int, averaged: str | None) -> list[Setting]:
    """Return what to try at a size: layers alone, the upper ones joined, and the averages of all.

    The square root is for maps, whose values are sparse, not for averages.
    """
    backbone = get_backbone(survey.settings.backbone)
    top = TOP_LAYERS if image_size <= SMALL_SIZE else TOP_LAYERS - 1
    layers = survey.settings.layer_names if "layers" in survey.given else survey.pools[-top:]
    poolings = [survey.settings.pooling] if "pooling" in survey.given else ["auto", "avg"]
    found = []
    for layer in layers:
        height, width, _ = backbone.output_shape(layer, image_size)
        for pooling in poolings:
            if height * width > 1 or pooling == poolings[0]:
                found.append(Setting(layer, pooling, "none"))
                if resolve_pooling(pooling, backbone.output_shape(layer, image_size)) not in ("avg", "max"):
                    found.append(Setting(layer, pooling, "sqrt"))
    joined = "+".join(layers)
    if len(layers) > 1 and not survey.has(image_size, joined, poolings[0]):
        roots = [] if poolings[0] in ("avg", "max") else ["sqrt"]
        found += [Setting(joined, poolings[0], transform) for transform in ("none", *roots)]
    if "layers" not in survey.given and "avg" in poolings:
        lower = [averaged] if averaged and averaged not in layers else []
        found += [Setting(layer, "avg", "none") for layer in (*lower, "+".join(survey.pools))]
    return found


def _first_rows(survey: Survey, sizes: Iterable[int], seconds: float) -> int:
    """Return the images of the first round: half of the time for all usual sizes, within bounds."""
    usual = max(USUAL_SIZE, survey.settings.image_size)
    per_image = sum(1 / survey.speed_at(size) for size in sizes if size <= usual)
    return int(min(len(survey.order), max(FEWEST_ROWS, min(MOST_ROWS / 4, seconds / 2 / per_image))))


def _affords(survey: Survey, sizes: Iterable[AtSize], num_rows: int, deadline: float, usual: float = 0.0) -> bool:
    """Return whether there is time for so many images: as long for each more as it took so far, probes included.

    Of a size that has none yet, as long as it takes to extract them, `usual` seconds each at least.
    """

    def seconds(at: AtSize) -> float:
        return at.seconds / at.num_rows if at.num_rows else max(usual, 1 / survey.speed_at(at.image_size))

    needed = sum((num_rows - at.num_rows) * seconds(at) for at in sizes)
    return time.perf_counter() + needed < deadline


def _round(survey: Survey, sizes: dict[int, AtSize], num_rows: int, deadline: float) -> dict[int, AtSize]:
    """Probe the sizes on `num_rows` images, the run's own first and larger ones as long as they may still be better."""
    own = survey.settings.image_size
    done: dict[int, AtSize] = {}
    worse = 0
    for size in sorted(sizes, key=lambda size: (size != own, size)):
        at = sizes[size]
        best_size = max(done, key=lambda other: done[other].best[1].accuracy, default=own)
        hopeless = size > max(USUAL_SIZE, own) and best_size != max(done)
        usual = max((other.seconds / num_rows for other in done.values()), default=0.0)
        if done and (hopeless or not _affords(survey, [at], num_rows, deadline, usual)):
            break
        extract_more(survey, at, num_rows)
        _probe(survey, at, FIRST_HELD_OUT if len(at.settings) > KEPT_SETTINGS + 1 else HELD_OUT_ROWS)
        best = max((other.best[1].accuracy for other in done.values()), default=0.0)
        done[size] = at
        worse = worse + 1 if at.best[1].accuracy < best - WORSE and size > own else 0
        if worse == 2:
            break
    return dict(sorted(done.items()))


def _better_half(survey: Survey, done: dict[int, AtSize]) -> list[int]:
    ranked = sorted(done, key=lambda size: -done[size].best[1].accuracy)
    return sorted({*ranked[: max(1, len(ranked) // 2)], survey.settings.image_size})


def extract_more(survey: Survey, at: AtSize, num_rows: int) -> None:
    """Add the features of the images that are still missing; images come in the order of the survey's chunks."""
    rows = survey.order[at.num_rows : num_rows]
    if not len(rows):
        return
    began = time.perf_counter()
    names = sorted({name for setting in at.settings for name in setting.names})
    path = survey.sample(f"size{at.image_size}-{at.num_rows}-{num_rows}", rows, names, image_size=at.image_size)
    with FeatureFile(path) as features:
        everyone = np.ones(len(features.ids), bool)
        for name in names:
            parts = [at.features[name]] if name in at.features else []
            at.features[name] = np.concatenate([*parts, features.read([name], everyone)])
    at.rows = np.concatenate([at.rows, np.sort(rows)])
    at.seconds += time.perf_counter() - began


def _probe(survey: Survey, at: AtSize, num_held_out: int) -> None:
    began = time.perf_counter()
    rows = at.rows
    labels = survey.features.labels[rows]
    folds = survey.folds(rows, num_held_out)
    at.probed = {setting: linear_probe(LOGREG, at.values(setting), labels, folds) for setting in at.settings}
    at.seconds += time.perf_counter() - began
