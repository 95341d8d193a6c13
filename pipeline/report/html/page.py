"""`report.html`: the comparison of a run as one file that needs nothing from outside."""

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from markupsafe import Markup

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.pipeline.formatting import plain
from thaw.pipeline.plots.svg import draw, label
from thaw.pipeline.report.comparison import Comparison, Entry
from thaw.pipeline.run.advice_json import Advice
from thaw.pipeline.templating import environment, source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("thaw")

T = TypeVar("T")
LONGEST_NAME = 48
CHARTS = r"(cost|map|layers|data-efficiency|(classes|confusions|learning)-.*)$"  # the names of the files in plots/
SECTIONS = (
    ("verdict", "Verdict"),
    ("comparison", "All strategies"),
    ("cost", "Cost"),
    ("classes", "Classes"),
    ("curves", "Learning curves"),
    ("advice", "Advice"),
    ("map", "Map"),
    ("mistakes", "Mistakes"),
    ("audit", "Data"),
    ("made", "How made"),
)


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


def write_html(run: Run) -> Path:
    """Write `run`/report.html and the charts in `run`/plots, and return the page's path."""
    from thaw.pipeline.report.html import advice, audit, classes, comparison, exports, pictures, provenance

    _remove_old_charts(run.plots)
    context = {
        "sections": SECTIONS,
        **comparison.context(run),
        **classes.context(run),
        **advice.context(run),
        **audit.context(run),
        **pictures.context(run),
        **provenance.context(run),
        **exports.context(run),
    }
    path = run.folder / "report.html"
    with write_whole(path) as file:
        file.write(render(context))
    return path


def _remove_old_charts(folder: Path) -> None:
    """Remove what an earlier page left, so that no chart is of a strategy that is gone; other files stay."""
    for path in folder.glob("*.*"):
        if path.suffix in (".svg", ".png") and re.match(CHARTS, path.stem):
            path.unlink()


def render(context: dict[str, Any]) -> str:
    """Return the page; every text in `context` is escaped, and freed of what could steer its reading direction."""
    environment().filters["name"] = _name
    style, script = source("style.css"), source("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment().get_template("report.html")
    return page.render(**context, style=Markup(style), script=Markup(script), script_sha256=digest)  # noqa: S704 (ours)


def _name(text: object) -> Markup:
    """Return a name of the user's own for the page: set apart from the text around it, the whole of it as its title."""
    full = plain(str(text))
    short = label(full, LONGEST_NAME)
    if short == full:
        return Markup("<bdi>{}</bdi>").format(full)
    return Markup('<bdi title="{}">{}</bdi>').format(full, short)
