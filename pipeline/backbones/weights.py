"""Stage `weights`: find the source of a network's weights and verify them."""

from thaw.features.foreign.extractors import get_extractor, weights_of, without_path
from thaw.pipeline.config import WeightsSettings


def main(settings: WeightsSettings) -> None:
    """Print the source of the weights, their digest and the number of layers; raises InputError if there are none."""
    given = without_path({"backbone": settings.backbone, "weights": settings.weights})
    extractor = get_extractor(given["backbone"], given["weights"])
    weights = weights_of(extractor, given["weights"], settings.seed)
    layers = f"layers: {len(weights.tensors)}, all checked" if weights.tensors else "one file, checked"
    print(f"source: {weights.source}\nsha256: {weights.sha256}\n{layers}")
