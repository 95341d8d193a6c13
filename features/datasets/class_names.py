"""Names of classes: those that mean the same class, and those that mean none."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from thaw.features.errors import InputError, shown

# How programs write a value that is missing; `none` and `na` in small letters may be classes.
MISSING = frozenset({"", "nan", "NaN", "NAN", "None", "NA", "N/A", "#N/A", "<NA>", "NaT", "null", "NULL"})


_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?")


def is_missing(text: str) -> bool:
    """Return whether the text of a label or group says that there is none.

    >>> is_missing(" NaN "), is_missing("none")
    (True, False)
    """
    return text.strip() in MISSING


def same_name(name: str) -> str:
    """Return what two names of one class have in common: blanks at the ends, case, Unicode form and zeros aside.

    >>> same_name(" Cat"), same_name("01"), same_name("1.0"), same_name("1.50")
    ('cat', '1', '1', '1.5')
    """
    text = unicodedata.normalize("NFC", name.strip().casefold())
    return f"{Decimal(text).normalize():f}" if _NUMBER.fullmatch(text) else text


def merged_names(dataset: str, names: Sequence[str], merge: bool) -> tuple[dict[str, str], list[str]]:
    """Return the class of each name that is another spelling of one, and a line that says so.

    The class takes the spelling of most images, or the first in order if there are as many.

    Args:
        dataset: what errors call the dataset.
        names: of the class of each image.
        merge: whether spellings may be taken as one class.

    Raises:
        InputError: two names are equal, and `merge` is not set.
    """
    counts = Counter(names)
    spellings: dict[str, list[str]] = {}
    for name in sorted(counts):
        spellings.setdefault(same_name(name), []).append(name)
    several = [found for found in spellings.values() if len(found) > 1]
    if not several:
        return {}, []
    listed = "; ".join(" and ".join(f"{shown(name)!r} ({counts[name]})" for name in found) for found in several[:3])
    if not merge:
        raise InputError(
            f"{shown(dataset)} has classes whose names differ in blanks, case, Unicode form or zeros alone: {listed}; "
            "expected one spelling of each class: rename them, or take them as one by --merge-classes"
        )
    one = {name: max(found, key=lambda name: counts[name]) for found in several for name in found}
    return one, [f"--merge-classes takes as one class each: {listed}"]
