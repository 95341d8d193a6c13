"""The rule of thumb: the dataset's cell, what the rule says there, and whether the measurements agree."""

from collections.abc import Sequence

import numpy as np

from thaw.features.store import FeatureFile
from thaw.pipeline.run.advice_json import (
    Candidate,
    DataSize,
    FineTuningForecast,
    LayerProfile,
    PerClass,
    RuleOfThumb,
    Similarity,
)

LARGE_IMAGES, LARGE_PER_CLASS = 10_000, 500
SIMILAR_GAIN = 0.15  # over the random network, of the best averaged layer
SIMILAR_DEPTH = 0.7  # of the network's pooling layers, at least, that the best one lies at
WORTHWHILE_GAIN = 0.005  # of accuracy: a dearer candidate has to be better by more
LINEAR = ("svm", "logreg")
RULES = {
    "small-similar": ("svm", "features of the last layers and a linear SVM; fine-tune with caution"),
    "small-different": ("logreg", "features of earlier layers and a linear classifier"),
    "large-similar": ("finetune", "fine-tune the last block"),
    "large-different": ("finetune", "train the whole network, beginning from the ImageNet weights"),
}


def data_size(features: FeatureFile) -> DataSize:
    """Return the size of the dataset; large is many images in all, and in the middle class too."""
    num_train, num_validation, num_test = np.bincount(features.split, minlength=3).tolist()
    known = features.split != 2
    per_class = np.bincount(features.labels[known], minlength=len(features.class_names))
    total, median = int(known.sum()), float(np.median(per_class))
    large = total >= LARGE_IMAGES and median >= LARGE_PER_CLASS
    return DataSize(
        num_train=num_train,
        num_validation=num_validation,
        num_test=num_test,
        num_classes=len(features.class_names),
        images_per_class=PerClass(fewest=int(per_class.min()), median=median, most=int(per_class.max())),
        cell="large" if large else "small",
        reason=f"{total:,} images that are not test, {median:,.0f} in the middle class; large is {LARGE_IMAGES:,} and "
        f"{LARGE_PER_CLASS} or more",
    )


def similarity(layers: Sequence[LayerProfile]) -> Similarity:
    """Return how near the images are to ImageNet: similar if a late layer is best, far above a random network."""
    best = max(layers, key=lambda layer: layer.average_accuracy)
    similar = best.depth >= SIMILAR_DEPTH * len(layers) and best.gain >= SIMILAR_GAIN
    return Similarity(
        best_layer=best.layer,
        depth=best.depth,
        num_layers=len(layers),
        accuracy=best.average_accuracy,
        random_accuracy=best.random_accuracy,
        gain=best.gain,
        cell="similar" if similar else "different",
        reason=f"the best averaged layer is {best.layer}, {best.depth} of {len(layers)}, {100 * best.gain:.0f} points "
        f"above a random network's; similar is {SIMILAR_DEPTH * len(layers):.1f} or later and "
        f"{100 * SIMILAR_GAIN:.0f} points or more",
    )


def recommend(candidates: Sequence[Candidate], forecasts: Sequence[FineTuningForecast] = ()) -> Candidate:
    """Return the cheapest of the candidates whose expected accuracy is within half a point of the best.

    Linear classifiers cost what their features still cost; on one feature set it is the more accurate one. A network
    is left out if its trial gained no more than the standard error of the gain, because so little may be chance.
    """
    doubtful = {forecast.unfreeze_from for forecast in forecasts if forecast.gain <= forecast.gain_error}
    usable = [c for c in candidates if (c.layer if c.strategy == "finetune" else c.strategy) not in doubtful]
    best = max(candidate.accuracy for candidate in usable)
    near = [candidate for candidate in usable if candidate.accuracy >= best - WORTHWHILE_GAIN]
    of_set = {c.features: min(other.minutes for other in near if other.features == c.features) for c in near}
    return min(near, key=lambda c: (c.strategy not in LINEAR, of_set[c.features], -c.accuracy))


def rule_of_thumb(
    size: DataSize, near: Similarity, candidates: Sequence[Candidate], recommended: Candidate
) -> RuleOfThumb:
    """Return what the rule says for a cell, and whether the recommendation agrees with it.

    Args:
        size: How large the dataset is.
        near: How close it is to ImageNet.
        candidates: Everything that was measured.
        recommended: One of the candidates.
    """
    cell = f"{size.cell}-{near.cell}"
    strategy, text = RULES[cell]
    by_rule = [c for c in candidates if c.strategy == strategy or (c.strategy in LINEAR and strategy in LINEAR)]
    lead = 100 * (recommended.accuracy - max((c.accuracy for c in by_rule), default=0.0))
    agrees = recommended in by_rule
    if agrees:
        evidence = f"agree: {recommended.strategy} is expected at {100 * recommended.accuracy:.1f} %"
    elif lead >= 0:
        ours = f"{recommended.strategy} is expected {lead:.1f} points above {strategy}"
        evidence = f"contradict the rule: {ours}, at {recommended.minutes:.1f} minutes"
    else:
        theirs = f"{strategy} would gain {-lead:.1f} points, less than its cost is worth"
        evidence = f"contradict the rule: {theirs} beside {recommended.strategy}"
    return RuleOfThumb.model_validate(
        {"cell": cell, "strategy": strategy, "text": text, "agrees": agrees, "evidence": f"the measurements {evidence}"}
    )
