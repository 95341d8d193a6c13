"""The best frozen configuration: image size x layer x pooling x transform, by successive halving on a sample."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import HELD_OUT_ROWS, Probed, transformed
from thaw.pipeline.advice.linear_probes import probe_rows
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import Configuration

log = logging.getLogger("thaw")

SIZES = (48, 64, 96, 128, 160, 224)
TOP_LAYERS, SMALL_SIZE = 3, 64  # pooling layers that are tried, from the top; above this size one fewer
USUAL_SIZE = 128  # larger sizes are tried only if the largest so far is the best
FEWEST_ROWS, MOST_ROWS = 200, 2000
FIRST_HELD_OUT = 600  # images that many settings are judged by; the few settings that are left, by all
KEPT_SETTINGS = 3  # of a size, from the first round on
WORSE = 0.01  # than the best size so far; after two such sizes in a row larger ones are not tried


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
class SizeProbes:
    """The settings of one image size, their features and probes, and what they took together.

    `features` (n, D) by name are of the images at `rows` (n,) of the feature set.
    """

    image_size: int
    settings: list[Setting]
    features: dict[str, np.ndarray] = field(default_factory=dict)
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    seconds: float = 0.0
    probed: dict[Setting, Probed] = field(default_factory=dict)
    round: int = 0

    def values(self, setting: Setting) -> np.ndarray:
        """Return the features (n, D) of a setting, its layers side by side, transformed."""
        return transformed(np.concatenate([self.features[name] for name in setting.names], 1), setting.transform)

    @property
    def best(self) -> Setting:
        """The setting of the highest accuracy, the first of equals."""
        return max(self.probed, key=self.accuracy)

    def accuracy(self, setting: Setting | None = None) -> float:
        """Return the accuracy of a setting, of the best one if none is given."""
        return self.probed[setting or self.best].accuracy

    def best_in(self, survey: Survey) -> Setting | None:
        """Return the best setting that the run's own features have, None if they have none."""
        own = [setting for setting in self.probed if survey.has(self.image_size, setting.layer, setting.pooling)]
        return max(own, key=self.accuracy, default=None)

    def configuration(self, setting: Setting, strategy: str, accuracy: float, *, kept: bool) -> Configuration:
        """Return what advice.json says of a setting that was tried in the current round.

        Args:
            setting: What was done to the activations.
            strategy: What classified them.
            accuracy: The share of held-out rows that were labelled correctly.
            kept: Whether the next round has this image size.
        """
        return Configuration(
            image_size=self.image_size,
            **setting._asdict(),
            strategy=strategy,
            round=self.round,
            num_images=len(self.rows),
            accuracy=accuracy,
            seconds=self.seconds,
            images_per_second=len(self.rows) / self.seconds,
            kept=kept,
        )


def search(
    survey: Survey, seconds: float, averaged: str | None = None
) -> tuple[list[Configuration], dict[int, SizeProbes]]:
    """Try image sizes with their layers, poolings and transforms on ever more images.

    Each round keeps the better half of the sizes, with the run's own, and the best settings of each, and doubles the
    images.

    Args:
        survey: The run.
        seconds: About how long the search may take.
        averaged: A layer that is tried too, averaged, beside the layers that always are.

    Returns:
        All that was tried, and the sizes of the last round by size; the run's own is always among them.
    """
    deadline = time.perf_counter() + seconds
    sizes = {size: SizeProbes(size, _settings(survey, size, averaged)) for size in _sizes(survey)}
    num_rows = _first_rows(survey, sizes, seconds)
    tried: list[Configuration] = []
    while True:
        done = _probe_sizes(survey, sizes, num_rows, deadline)
        kept = _better_half(survey, done)
        for probes in done.values():
            tried += [
                probes.configuration(setting, "logreg", probed.accuracy, kept=probes.image_size in kept)
                for setting, probed in probes.probed.items()
            ]
            log.info("%d pixels, %d images: %.1f %% by %s %s, transform %s", probes.image_size, num_rows,
                     100 * probes.accuracy(), *probes.best)  # fmt: skip
        sizes = {size: done[size] for size in kept}
        last = len(done) <= 2 and sizes[kept[0]].round > 1
        more = min(2 * num_rows, len(survey.order), MOST_ROWS)
        if last or more == num_rows or not _affords(survey, sizes.values(), more, deadline):
            return tried, sizes
        num_rows = more
        for probes in sizes.values():
            probes.settings = _best_settings(survey, probes)


def _best_settings(survey: Survey, probes: SizeProbes) -> list[Setting]:
    best = sorted(probes.probed, key=probes.accuracy, reverse=True)[:KEPT_SETTINGS]
    own = probes.best_in(survey)  # what the others are compared with
    return [*best, own] if own and own not in best else best


def _sizes(survey: Survey) -> list[int]:
    """Return the image sizes to try; the run's own alone if the user gave it."""
    own = survey.settings.image_size
    if "image_size" in survey.given:
        return [own]
    smallest = get_backbone(survey.settings.backbone).min_image_size
    return sorted({own, *(size for size in SIZES if size >= smallest)})


def _settings(survey: Survey, image_size: int, averaged: str | None) -> list[Setting]:
    """Return what to try at a size: layers alone, the upper ones joined, and the averages of all."""
    backbone = get_backbone(survey.settings.backbone)
    top = TOP_LAYERS if image_size <= SMALL_SIZE else TOP_LAYERS - 1
    layers = survey.settings.layer_names if "layers" in survey.given else survey.pools[-top:]
    poolings = [survey.settings.pooling] if "pooling" in survey.given else _poolings(backbone)
    found = []
    for layer in layers:
        shape = backbone.output_shape(layer, image_size)
        for pooling in poolings if shape[:2] != (1, 1) else poolings[:1]:
            found += _with_transforms(layer, pooling, resolve_pooling(pooling, shape))
    joined = "+".join(layers)
    if len(layers) > 1 and not survey.has(image_size, joined, poolings[0]):
        found += _with_transforms(joined, poolings[0], poolings[0])
    if "layers" not in survey.given and "avg" in poolings:
        lower = [averaged] if averaged and averaged not in layers else []
        found += [Setting(layer, "avg", "none") for layer in (*lower, "+".join(survey.pools))]
    return list(dict.fromkeys(found))


def _poolings(backbone: Backbone) -> list[str]:
    """Return what `auto` means for the network, and averages."""
    return list(dict.fromkeys([backbone.pooling("auto"), "avg"]))


def _with_transforms(layer: str, pooling: str, resolved: str) -> list[Setting]:
    """Return a layer's settings; the square root is for maps, whose values are sparse, not for averages."""
    transforms = ("none",) if resolved in ("avg", "max") else ("none", "sqrt")
    return [Setting(layer, pooling, transform) for transform in transforms]


def _first_rows(survey: Survey, sizes: Iterable[int], seconds: float) -> int:
    """Return the images of the first round: half of the time for all usual sizes, within bounds."""
    usual = max(USUAL_SIZE, survey.settings.image_size)
    per_image = sum(1 / survey.speed_at(size) for size in sizes if size <= usual)
    return int(min(len(survey.order), max(FEWEST_ROWS, min(MOST_ROWS / 4, seconds / 2 / per_image))))


def _affords(survey: Survey, sizes: Iterable[SizeProbes], num_rows: int, deadline: float, slowest: float = 0.0) -> bool:
    """Return whether there is time for `num_rows` images of each size.

    One more image takes as long as the images so far took, probes included. If a size has none yet, an image takes as
    long as its extraction, and at least `slowest` seconds.
    """
    needed = 0.0
    for probes in sizes:
        expected = max(slowest, 1 / survey.speed_at(probes.image_size))
        per_image = probes.seconds / len(probes.rows) if len(probes.rows) else expected
        needed += (num_rows - len(probes.rows)) * per_image
    return time.perf_counter() + needed < deadline


def _probe_sizes(survey: Survey, sizes: dict[int, SizeProbes], num_rows: int, deadline: float) -> dict[int, SizeProbes]:
    """Probe the sizes on `num_rows` images, the run's own first and larger ones as long as they may still be better."""
    own = survey.settings.image_size
    done: dict[int, SizeProbes] = {}
    best, worse = own, 0
    for size in sorted(sizes, key=lambda size: (size != own, size)):
        probes = sizes[size]
        hopeless = size > max(USUAL_SIZE, own) and best != max(done)
        slowest = max((other.seconds / num_rows for other in done.values()), default=0.0)
        if done and (hopeless or not _affords(survey, [probes], num_rows, deadline, slowest)):
            break
        extract_more(survey, probes, num_rows)
        _probe_all(survey, probes)
        done[size] = probes
        worse = worse + 1 if probes.accuracy() < done[best].accuracy() - WORSE and size > own else 0
        best = max(done, key=lambda other: done[other].accuracy())
        if worse == 2:
            break
    return dict(sorted(done.items()))


def _better_half(survey: Survey, done: dict[int, SizeProbes]) -> list[int]:
    ranked = sorted(done, key=lambda size: done[size].accuracy(), reverse=True)
    return sorted({*ranked[: max(1, len(ranked) // 2)], survey.settings.image_size})


def extract_more(survey: Survey, probes: SizeProbes, num_rows: int) -> None:
    """Add the features of the images that are still missing, in the order of the survey, up to `num_rows`."""
    rows = survey.order[len(probes.rows) : num_rows]
    if not len(rows):
        return
    began = time.perf_counter()
    names = sorted({name for setting in probes.settings for name in setting.names})
    sample = f"size{probes.image_size}-{len(probes.rows)}-{num_rows}"
    with FeatureFile(survey.sample(sample, rows, names, image_size=probes.image_size)) as features:
        everyone = np.ones(len(features.ids), bool)
        for name in names:
            parts = [probes.features[name]] if name in probes.features else []
            probes.features[name] = np.concatenate([*parts, features.read([name], everyone)])
    probes.rows = np.concatenate([probes.rows, np.sort(rows)])
    probes.seconds += time.perf_counter() - began


def _probe_all(survey: Survey, probes: SizeProbes) -> None:
    began = time.perf_counter()
    num_held_out = FIRST_HELD_OUT if len(probes.settings) > KEPT_SETTINGS + 1 else HELD_OUT_ROWS
    probes.probed = {
        setting: probe_rows(survey, "logreg", probes.values(setting), probes.rows, num_held_out)
        for setting in probes.settings
    }
    probes.round += 1
    probes.seconds += time.perf_counter() - began
