"""The best network, image size, layers, pooling and transform, by successive halving on samples of the images."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import linear_probe, optimism, paired_error, screening, transformed
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.arms import WORTHWHILE_GAIN, Arm, Setting
from thaw.pipeline.advice.sample import Sampled
from thaw.pipeline.run.advice_json import Configuration

log = logging.getLogger("thaw")

FEWEST_ROWS, FIRST_ROWS, MOST_ROWS = 100, 400, 3000
FIRST_SHARE = 0.45  # of the search's time, for the first round
KEPT_SETTINGS = 3  # of an arm, from the first round on
BEHIND = 2.0  # standard errors behind the best: an arm that is more is given up, and its larger sizes are not tried
LAST_ARMS = 3  # that the last rounds measure on more images


@dataclass(frozen=True)
class Found:
    """What a search found: the arms of its last round, best first, all that were tried, and why others were not.

    Attributes:
        best: the arms of the last round, whose probes are of equal images.
        arms: all arms that were tried.
        tried: each setting of each round.
        untried: a line for each arm that was not tried.
    """

    best: list[Arm]
    arms: list[Arm]
    tried: list[Configuration]
    untried: list[str]


def search(images: Sampled, arms: Sequence[Arm], seconds: float) -> Found:
    """Try arms on ever more images; each round keeps the better half and doubles the images.

    Args:
        images: The run's images.
        arms: What to choose among.
        seconds: About how long the search may take.

    Returns:
        What was found; at least one arm is tried, however short the time.
    """
    deadline = time.perf_counter() + seconds
    tried: list[Configuration] = []
    num_rows = _first_rows(images, arms, FIRST_SHARE * seconds)
    done, untried = _first_round(images, arms, num_rows, deadline)
    while True:
        kept = _better_half(done)
        tried += _configurations(done, kept)
        more = min(2 * num_rows, len(images.order), MOST_ROWS)
        if len(kept) == 1 or more == num_rows or time.perf_counter() + _needed(kept, more) > deadline:
            return Found(_ranked(done), [arm for arm in arms if arm.probed], tried, untried)
        for arm in kept:
            arm.settings = arm.best_settings(KEPT_SETTINGS)
            _try(images, arm, more)
        num_rows, done = more, kept


def _ranked(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms, the more accurate first, of equals the one that takes less time."""
    return sorted(arms, key=lambda arm: (-arm.accuracy, arm.seconds_per_image))


def _first_rows(images: Sampled, arms: Sequence[Arm], seconds: float) -> int:
    """Return the images of the first round: so many that all arms take about `seconds`, within bounds."""
    per_image = sum(arm.expected_seconds for arm in arms)
    return int(min(len(images.order), np.clip(seconds / per_image, FEWEST_ROWS, FIRST_ROWS)))


def _first_round(images: Sampled, arms: Sequence[Arm], num_rows: int, deadline: float) -> tuple[list[Arm], list[str]]:
    """Try the arms, those first that take less time; return those that were tried, and a line for each other one.

    A larger size of a network is not tried if its smaller sizes are clearly behind, or if there is no time.
    """
    done: list[Arm] = []
    untried = []
    factor = 1.0  # of the time that was estimated
    for arm in sorted(arms, key=lambda arm: arm.expected_seconds):
        name = f"{arm.shared.backbone} at {arm.shared.image_size} pixels"
        needed = num_rows * arm.expected_seconds * factor
        smaller = [one for one in done if one.shared.backbone == arm.shared.backbone]
        above_own = len(smaller) >= 2 and arm is _largest(arms, arm.shared.backbone)
        if above_own and all(_behind(one, done) > BEHIND for one in smaller):
            untried.append(f"{name}: its smaller sizes are clearly behind")
        elif done and time.perf_counter() + needed > deadline:
            untried.append(f"{name}: a sample takes about {needed:.0f} s, more than --budget leaves")
        else:
            _try(images, arm, num_rows)
            factor = max(0.2, arm.seconds_per_image / arm.expected_seconds)
            done.append(arm)
    return done, untried


def _largest(arms: Sequence[Arm], backbone: str) -> Arm:
    return max((arm for arm in arms if arm.shared.backbone == backbone), key=lambda arm: arm.shared.image_size)


def _behind(arm: Arm, done: Sequence[Arm]) -> float:
    """Return how many standard errors of the paired difference an arm is behind the best of its round."""
    best = _ranked(done)[0]
    if arm is best:
        return 0.0
    return (best.accuracy - arm.accuracy) / paired_error(best.correct, arm.correct)


def _better_half(done: Sequence[Arm]) -> list[Arm]:
    ranked = _ranked(done)
    half = ranked[: max(LAST_ARMS, (len(ranked) + 1) // 2)] if len(ranked) > LAST_ARMS else ranked[:2]
    return [arm for arm in half if _behind(arm, done) <= BEHIND]


def _needed(arms: Iterable[Arm], num_rows: int) -> float:
    """Return the seconds for more images of each arm: one more takes as long as those so far, probes included."""
    return sum((num_rows - len(arm.rows)) * arm.seconds / len(arm.rows) for arm in arms)


def _try(images: Sampled, arm: Arm, num_rows: int) -> None:
    """Extract what is missing of the first `num_rows` images of an arm, and probe its settings."""
    began = time.perf_counter()
    extract_more(images, arm, num_rows)
    extracted = time.perf_counter()
    labels, folds = images.labels[arm.rows], images.folds(arm.rows)
    arm.probed = {}
    for setting in arm.settings:
        values = arm.values(setting)
        arm.probed[setting] = linear_probe(STRATEGIES["logreg"], values, labels, folds, screening(values.shape[1]))
    arm.round += 1
    arm.extraction += extracted - began
    arm.seconds += time.perf_counter() - began
    log.info(
        "%s at %d pixels, %d images: %.1f %% (%s)",
        *(arm.shared.backbone, arm.shared.image_size, len(arm.rows), 100 * arm.accuracy, _described(arm.best)),
    )


def _described(setting: Setting) -> str:
    return f"{setting.layer}, {setting.pooling}" + (", square root" if setting.transform == "sqrt" else "")


def extract_more(images: Sampled, arm: Arm, num_rows: int) -> None:
    """Add the features of the images that are still missing, in the order of the run's images, up to `num_rows`.

    Images that cannot be read are left out by --skip-bad.
    """
    had = arm.reached
    rows = images.order[had:num_rows]
    if not len(rows):
        return
    names = sorted({name for setting in arm.settings for name in setting.names})
    sample = f"{arm.name}-{had}-{num_rows}"
    with FeatureFile(images.sample(sample, rows, names, of=arm.shared)) as features:
        everyone = np.ones(len(features.ids), bool)
        for name in names:
            parts = [arm.features[name]] if name in arm.features else []
            arm.features[name] = np.concatenate([*parts, features.read([name], everyone)])
        found = np.array([images.dataset.row_of[name] for name in features.ids], np.int64)
    arm.rows, arm.reached = np.concatenate([arm.rows, found]), num_rows
    if len(np.unique(images.labels[arm.rows])) < 2:
        raise InputError("fewer than two classes have images that are not test and can be read; add images")


def _configurations(done: Sequence[Arm], kept: Sequence[Arm]) -> list[Configuration]:
    """Return what advice.json says of each setting that was tried in the current round."""
    return [
        Configuration(
            backbone=arm.shared.backbone,
            image_size=arm.shared.image_size,
            **setting._asdict(),
            strategy="logreg",
            round=arm.round,
            num_images=len(arm.rows),
            accuracy=probed.accuracy,
            seconds=arm.seconds,
            images_per_second=len(arm.rows) / arm.seconds,
            kept=arm in kept,
        )
        for arm in done
        for setting, probed in arm.probed.items()
    ]


def chosen_arm(found: Found) -> Arm:
    """Return the arm that takes the least time of those within half a point of the best."""
    most = found.best[0].accuracy
    return min((arm for arm in found.best if arm.accuracy >= most - WORTHWHILE_GAIN), key=lambda a: a.seconds_per_image)


def mirrors_help(images: Sampled, arm: Arm) -> bool:
    """Return whether the mean features of image and mirror classify the arm's sample better, by more than the error.

    They do not if mirrored images are another class (digits, text).
    """
    setting, had = arm.best, arm.accuracy
    name = f"{arm.name}-flip-{len(arm.rows)}"
    path = images.sample(name, arm.rows, sorted(setting.names), of=arm.shared, views="flip")
    with FeatureFile(path) as features:
        values = features.read(setting.names, np.ones(len(features.ids), bool))
    order = np.argsort(np.argsort(arm.rows))  # the file's rows ascend
    values = transformed(values[order], setting.transform)
    labels, folds = images.labels[arm.rows], images.folds(arm.rows)
    probed = linear_probe(STRATEGIES["logreg"], values, labels, folds, screening(values.shape[1]))
    gain, error = probed.accuracy - had, paired_error(probed.correct, arm.correct)
    log.info("with the mirrors of the images: %.1f %% (%+.1f points, standard error %.1f)",
             100 * probed.accuracy, 100 * gain, 100 * error)  # fmt: skip
    return gain > error


def arm_optimism(images: Sampled, found: Found) -> float:
    """Return how much the accuracy of the chosen arm on all images flatters it, because it was picked on a sample.

    The bias on the sample's rows counts by their share of all.
    """
    arms = [arm for arm in found.best if len(arm.correct) == len(found.best[0].correct)]
    if len(arms) < 2:
        return 0.0
    return optimism([arm.correct for arm in arms], images.settings.seed) * len(arms[0].rows) / len(images.order)
