"""What every section of the page is made of: parts that may be missing, charts, cells."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from markupsafe import Markup

from thaw.features.errors import InputError
from thaw.pipeline.plots.svg import draw
from thaw.pipeline.run.advice_json import Advice
from thaw.pipeline.run.results import Comparison, Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
log = logging.getLogger("thaw")


T = TypeVar("T")


class Part(NamedTuple, Generic[T]):
    """A part of the page: its `value`, or one line on why it is `missing`."""

    value: T | None = None
    missing: str | None = None


class Run(NamedTuple):
    """What the page is about: the run's folder, its strategies best first, their pairs, and what lies beside them.

    `advice_missing` says why there is no `advice`; `settings` are run.json's, None where it is not there.
    """

    folder: Path
    entries: Sequence[Entry]
    comparisons: Sequence[Comparison]
    advice: Advice | None
    advice_missing: str
    hindsight: str | None
    settings: dict[str, Any] | None

    @property
    def plots(self) -> Path:
        """The folder of the charts."""
        return self.folder / "plots"


def attempt(what: str, make: Callable[[], T], passed: tuple[type[Exception], ...] = ()) -> Part[T]:
    """Return what `make` returns, or why it could not: no picture is worth the tables around it.

    Errors that are to be `passed` on are raised.
    """
    try:
        return Part(make())
    except passed:
        raise
    except InputError as error:
        return Part(missing=f"{what}: {error}")
    except Exception as error:
        log.warning("%s could not be made (%s: %s)", what, type(error).__name__, " ".join(str(error).split()))
        log.debug("the traceback:", exc_info=True)
        return Part(missing=f"{what} could not be made ({type(error).__name__}).")


def chart(run: Run, name: str, alt: str, height: float, paint: Callable[..., None], *arguments: Any) -> Part[Markup]:
    """Return a chart for the page, written to the run's plots too; `paint(figure, *arguments)` fills it."""

    def make() -> Markup:
        def fill(figure: "Figure") -> None:
            paint(figure, *arguments)

        return Markup(draw(run.plots, name, alt, height, fill))  # noqa: S704 (escaped by the writer of its XML)

    return attempt(f"The chart {name}", make, passed=(OSError,))  # what cannot be written ends the stage


def plain_cells(*values: str | int) -> list[tuple[str, str | int]]:
    """Return cells that sort by what they show."""
    return [(str(value), value) for value in values]
