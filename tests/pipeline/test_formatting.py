"""How numbers and texts are written."""

import pytest

from thaw.pipeline import formatting
from thaw.pipeline.formatting import MAX_LABEL, shortened


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0.00 s"), (0.001, "<0.01 s"), (0.25, "0.25 s"), (59.0, "59.0 s"), (90.0, "1.5 min"),
     (5400.0, "1.5 h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (999.7, "1.0 kB"), (61_440, "61.4 kB"), (99_960, "100 kB"),
     (999_900, "1.0 MB"), (5.6e9, "5.6 GB"), (3e15, "3000 TB")],
)  # fmt: skip
def test_sizes(num_bytes: float | None, text: str) -> None:
    assert formatting.size(num_bytes) == text


@pytest.mark.parametrize(
    ("text", "short"),
    [("cat", "cat"), ("x" * 26, "x" * 26), ("a" * 20 + "b" * 20, "a" * 12 + "…" + "b" * 13), (" \u202e", "(no name)")],
)
def test_long_names_lose_their_middle(text: str, short: str) -> None:
    assert shortened(text) == short
    assert len(short) <= MAX_LABEL


@pytest.mark.parametrize(
    ("num_images", "text"), [(0, "83.3 [41.2, 99.0]"), (999, "83.3 [41.2, 99.0]"), (1000, "83.33 [41.23, 99.00]")]
)
def test_a_fraction_has_the_digits_that_its_images_allow(num_images: int, text: str) -> None:
    assert formatting.with_interval(5 / 6, [0.41234, 0.99], num_images) == text
