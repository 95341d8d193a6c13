"""What a foreign network gives: each layer's form and shape, seen by running it on a grey image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.errors import shown
from thaw.features.foreign.onnx_file import RANKS, ImageInput, refused
from thaw.features.onnx.runtime import runtime_errors, start_session

NUM_PROBED = 2  # images at once, so that a network whose inside is fixed to one shows it


@dataclass(frozen=True)
class Form:
    """What a layer gives: `kind` is `vector` (N, D), `tokens` (N, T, D), `channels_first` or `channels_last` maps.

    `shape` is the (H, W, C) that becomes of one image: (1, 1, D) of a vector; (1, 1, 2 D) of tokens, the first one and
    the mean of the others side by side, (1, 1, D) if there is one alone.
    """

    kind: str
    shape: tuple[int, int, int]
    num_tokens: int = 0


def probe(path: Path, model: bytes, image: ImageInput, size: int, names: tuple[str, ...]) -> dict[str, Form]:
    """Return the form of every output `names` of a serialised model for images of `size` pixels.

    Raises InputError if the model cannot be run, or if an output is nothing that features can be taken from.
    """
    count = image.batch or NUM_PROBED
    shape = (count, 3, size, size) if image.channels_first else (count, size, size, 3)
    try:
        with runtime_errors(f"--backbone onnx:{shown(path)}: ONNX Runtime cannot run it on images of {size} pixels"):
            session = start_session(model)
            outputs = session.run(list(names), {image.name: np.full(shape, 0.25, np.float32)})
    except MemoryError:
        advice = "choose a smaller --image-size, or another network"
        raise refused(path, f"{count} images of {size} pixels take more memory than there is; {advice}") from None
    return {name: _form(path, name, output, count, image) for name, output in zip(names, outputs, strict=True)}


def _form(path: Path, name: str, output: Any, count: int, image: ImageInput) -> Form:
    rows, *sides = np.shape(output)[:1] + np.shape(output)[1:] if np.ndim(output) else (0,)
    is_float = isinstance(output, np.ndarray) and output.dtype in (np.float16, np.float32, np.float64)
    if not is_float or np.ndim(output) not in RANKS or rows != count or 0 in sides:
        received = f"{getattr(output, 'dtype', 'a list')} {list(np.shape(output))}"
        raise refused(
            path,
            f"its {shown(name)} is {received} for {count} images; expected floats of rank 2 to 4 with a row for each "
            "image: choose another tensor by --layers, or export with a free batch (dynamic_axes)",
        )
    if len(sides) == 1:
        return Form("vector", (1, 1, sides[0]))
    if len(sides) == 2:
        return Form("tokens", (1, 1, sides[1] * (2 if sides[0] > 1 else 1)), num_tokens=sides[0])
    first = _channels_first(tuple(sides), image.channels_first)
    channels, height, width = sides if first else (sides[2], *sides[:2])
    return Form("channels_first" if first else "channels_last", (height, width, channels))


def _channels_first(sides: tuple[int, ...], usual: bool) -> bool:
    """Return whether channels come first: maps of square images are square; `usual` is the order of the input."""
    first, last = sides[1] == sides[2], sides[0] == sides[1]
    return usual if first == last else first
