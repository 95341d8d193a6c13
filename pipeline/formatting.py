"""How numbers and texts are written, both on the terminal and in files."""

import re

MAX_LABEL = 26


def percent(value: float, num_images: int = 0) -> str:
    """Return a fraction in percent: with two digits if it is of a thousand images or more, else with one."""
    return f"{100 * value:.{2 if num_images >= 1000 else 1}f}"


def with_interval(value: float, interval: list[float], num_images: int = 0) -> str:
    """Return a fraction and its interval [low, high] in percent, with the digits of `percent`."""
    low, high = (percent(end, num_images) for end in interval)
    return f"{percent(value, num_images)} [{low}, {high}]"


def in_points(low: float, high: float) -> str:
    """Return the interval of a difference of two fractions, in points."""
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that reads best, "-" for None."""
    if seconds is None:
        return "-"
    if 0 < seconds < 0.005:
        return "<0.01 s"
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def size(num_bytes: float | None) -> str:
    """Return a number of bytes in the unit that reads best, "-" for None."""
    if num_bytes is None:
        return "-"
    units = ["B", "kB", "MB", "GB", "TB"]
    while num_bytes >= 999.5 and len(units) > 1:
        num_bytes, units = num_bytes / 1000, units[1:]
    digits = 0 if num_bytes >= 99.95 or units[0] == "B" else 1
    return f"{num_bytes:.{digits}f} {units[0]}"


def plain(text: str) -> str:
    """Return a text without the characters that could steer a terminal, turn the reading direction or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)


def shortened(text: str, length: int = MAX_LABEL) -> str:
    """Return a text as one printable line of at most `length` characters; a longer one loses its middle."""
    text = plain(text).strip() or "(no name)"
    if len(text) <= length:
        return text
    return f"{text[: (length - 1) // 2]}…{text[len(text) - length // 2 :]}"


def escape_markdown(text: str) -> str:
    """Return a text that GitHub's Markdown shows as it is, also in a table."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\\", "&#92;")
    # An underscore within a word, as in block5_pool, needs no escape.
    return re.sub(r"([|`*~\[\]$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
