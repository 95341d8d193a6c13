"""Stage `weights`: find the source of a network's weights and verify them."""

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.pipeline.config import WeightsSettings


def main(settings: WeightsSettings) -> None:
    """Print the source of the weights, their digest and the number of layers; raises InputError if there are none."""
    weights = load_weights(settings.weights, get_backbone(settings.backbone), settings.seed)
    print(f"source: {weights.source}\nsha256: {weights.sha256}\nlayers: {len(weights.tensors)}, all checked")
