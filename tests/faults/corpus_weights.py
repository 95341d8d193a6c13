"""Hostile files of PyTorch's old format: name, content, whether the digest stands in the way, what has to come."""

from collections.abc import Iterator

import numpy as np
from corpus_images import READ, REFUSED

Case = tuple[str, bytes, bool, str]


def weights() -> Iterator[Case]:
    """Yield every case; all but the first are met as if their digest were the published one."""
    from tests.builders.pytorch import saved
    from tests.builders.pytorch_hostile import HOSTILE

    state = _state()
    whole, kernel = saved(state), np.ones((3, 3), np.float32)
    yield "whole, with another digest", whole, True, REFUSED
    yield "as it is", whole, False, READ
    yield "bytes after its end", whole + bytes(9), False, READ
    yield "half of it", whole[: len(whole) // 2], False, REFUSED
    yield "NaN", whole[:-4] + np.float32(np.nan).tobytes(), False, REFUSED
    yield "a tensor less", saved({name: array for name, array in state.items() if name != "_bn1.bias"}), False, REFUSED
    yield "a tensor of another shape", saved({**state, "_conv_stem.weight": kernel}), False, REFUSED
    yield "a zip in its place", b"PK\x03\x04" + bytes(99), False, REFUSED
    yield from ((name, content, False, REFUSED) for name, (content, _) in HOSTILE.items())


def _state() -> dict[str, np.ndarray]:
    """Return the state dict of EfficientNet-Lite0 with random weights."""
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import random_tensors

    from tests.builders.pytorch import lite_state

    return lite_state(random_tensors(BACKBONES["efficientnet_lite0"], 0))
