"""How a foreign network wants its images, as a JSON file beside the ONNX file states it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.features.errors import InputError, shown
from thaw.features.images.aspect import ASPECTS, check_aspect
from thaw.features.images.preprocess import RESIZES, is_normalization, stated

MOST_BYTES = 2**20  # of the JSON file
MOST_NUMBER = 1e9
USUAL_SCALE = 1 / 255


@dataclass(frozen=True)
class Stated:
    """What a JSON file states: None if it does not. `normalize` is a word that `preprocess.normalize` takes."""

    normalize: str | None = None
    image_size: int | None = None
    aspect: str | None = None
    resize: str | None = None


def read_stated(path: Path) -> Stated:
    """Return what the file states, nothing if there is none; raises InputError if it states what cannot be.

    `mean` and `std` are three numbers in the channels' order, `order` (rgb or bgr); an image's values from 0 to 255
    are multiplied by `scale` (1/255 unless given) first. `size` is the side in pixels, `aspect` and `resize` are the
    words of the command line.
    """
    if not path.is_file():
        return Stated()
    try:
        content = json.loads(path.read_bytes()[: MOST_BYTES + 1])
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"it is no JSON ({shown(error)[:100]})", _EXAMPLE) from None
    if not isinstance(content, dict):
        raise _refused(path, "it holds no object", _EXAMPLE)
    for name, value in content.items():
        if name not in _FIELDS:
            raise _refused(path, f"it has the unknown field {shown(name)!r}", f"the fields {', '.join(_FIELDS)}")
        is_valid, expected = _FIELDS[name]
        if not is_valid(value):
            raise _refused(path, f"its {name} is {shown(json.dumps(value))[:80]}", expected)
    aspect, resize = content.get("aspect"), content.get("resize")
    check_aspect(aspect or "squash", resize or "bilinear")
    return Stated(_normalization(path, content), content.get("size"), aspect, resize)


def _normalization(path: Path, content: dict[str, Any]) -> str | None:
    """Return the normalisation that the file states, in units of 0 to 1; None if it states no mean and deviation."""
    if "mean" not in content and "std" not in content:
        return None
    if missing := {"mean", "std"} - set(content):
        raise _refused(path, f"it has no {missing.pop()}", "both mean and std")
    unit = 255 * content.get("scale", USUAL_SCALE)
    mean, deviation = ([value / unit for value in content[name]] for name in ("mean", "std"))
    word = stated(content.get("order", "rgb"), mean, deviation)
    if not is_normalization(word):
        raise _refused(
            path, f"its mean, std and scale give {word}", "what images have: means of 0 to 1 after the scale"
        )
    return word


def _refused(path: Path, reason: str, expected: str) -> InputError:
    return InputError(f"{shown(path)}: {reason}; expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_NUMBER  # no NaN either


def _three(least: float) -> Callable[[Any], bool]:
    """Return a check of a list of three numbers above `least`."""

    def check(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 3 and all(_is_number(v) and v > least for v in value)

    return check


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "mean": (_three(-math.inf), "three numbers, for example [0.485, 0.456, 0.406]"),
    "std": (_three(0), "three numbers above 0, for example [0.229, 0.224, 0.225]"),
    "order": (lambda value: value in ("rgb", "bgr"), "rgb or bgr"),
    "scale": (lambda value: _is_number(value) and value > 0, "a number above 0, for example 0.00392156862745098"),
    "size": (lambda value: isinstance(value, int) and _is_number(value) and value > 0, "a number of pixels"),
    "aspect": (lambda value: value in ASPECTS, " or ".join(ASPECTS)),
    "resize": (lambda value: value in RESIZES, " or ".join(RESIZES)),
}
_EXAMPLE = '{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": 224}'
