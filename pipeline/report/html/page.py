"""`report.html`: the comparison of a run as one file that needs nothing from outside."""

import base64
import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from thaw.features.files.atomic import write_whole
from thaw.pipeline.formatting import plain
from thaw.pipeline.plots.svg import label
from thaw.pipeline.report.html.parts import Run
from thaw.pipeline.templating import environment, source

if TYPE_CHECKING:
    pass

log = logging.getLogger("thaw")

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
