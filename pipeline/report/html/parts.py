"""What every section of the page is made of: parts that may be missing, charts, cells."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from markupsafe import Markup

from thaw.features.errors import InputError
from thaw.pipeline.plots.svg import draw

log = logging.getLogger("thaw")

T = TypeVar("T")


class Part(NamedTuple, Generic[T]):
    """A part of the page: its `value`, or one line on why it is `missing`."""

    value: T | None = None
    missing: str | None = None


def attempt(what: str, make: Callable[[], T], passed: tuple[type[Exception], ...] = (), warn: bool = False) -> Part[T]:
    """Return a part of the page; one that fails is missing, so that the tables around it stay.

    Args:
        what: The name of the part.
        make: Returns its value.
        passed: The errors that end the stage.
        warn: Whether an InputError costs a warning too.
    """
    try:
        return Part(make())
    except passed:
        raise
    except InputError as error:
        if warn:
            log.warning("%s: %s", what, error)
        return Part(missing=f"{what}: {error}")
    except Exception as error:
        log.warning("%s could not be made (%s: %s)", what, type(error).__name__, " ".join(str(error).split()))
        log.debug("the traceback:", exc_info=True)
        return Part(missing=f"{what} could not be made ({type(error).__name__}).")


def chart(run: Path, name: str, alt: str, height: float, paint: Callable[..., None], *arguments: Any) -> Part[Markup]:
    """Return a chart for the page, and write it to the plots of the run.

    Args:
        run: The folder of the run.
        name: The name of the chart's files, without the ending.
        alt: What the chart shows, for a reader who cannot see it.
        height: The height in inches.
        paint: Fills the figure, its first argument.
        arguments: The further arguments of `paint`.
    """

    def make() -> Markup:
        svg = draw(run / "plots", name, alt, height, lambda figure: paint(figure, *arguments))
        return Markup(svg)  # noqa: S704 (escaped by the writer of its XML)

    return attempt(f"The chart {name}", make, passed=(OSError,))  # an unwritable file ends the stage


def plain_cells(*values: str | int) -> list[tuple[str, str | int]]:
    """Return cells that sort by what they show."""
    return [(str(value), value) for value in values]
