"""`report.html`: the comparison of a run as one file that loads nothing else."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thaw.features.files.atomic import write_whole
from thaw.pipeline.formatting import plain, shortened
from thaw.pipeline.report.html import advice, audit, classes, comparison, exports, pictures, provenance
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.templating import environment, source

LONGEST_NAME = 48  # characters
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


def write_html(inputs: ReportInputs) -> Path:
    """Write report.html and the charts in plots/, and return the path of the page."""
    _remove_old_charts(inputs.folder / "plots")
    context: dict[str, Any] = {"sections": SECTIONS}
    for section in (comparison, classes, advice, audit, pictures, provenance, exports):
        context |= section.context(inputs)
    path = inputs.folder / "report.html"
    with write_whole(path) as file:
        file.write(render(context))
    return path


def _remove_old_charts(folder: Path) -> None:
    """Remove the charts of an earlier page, which may be of a strategy that is gone; other files stay."""
    for path in folder.glob("*.*"):
        if path.suffix in (".svg", ".png") and re.match(CHARTS, path.stem):
            path.unlink()


def render(context: dict[str, Any]) -> str:
    """Return the page; every text in `context` is escaped and made printable."""
    environment().filters |= {"name": _name, "sentence": _sentence}
    style, script = source("style.css"), source("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment().get_template("report.html")
    return page.render(**context, style=Markup(style), script=Markup(script), script_sha256=digest)  # noqa: S704 (ours)


def _name(text: object) -> Markup:
    """Return a name of the user's own, set apart from the text around it; a shortened one has a title."""
    full = plain(str(text))
    short = shortened(full, LONGEST_NAME)
    if short == full:
        return Markup("<bdi>{}</bdi>").format(full)
    return Markup('<bdi title="{}">{}</bdi>').format(full, short)


def _sentence(text: str) -> str:
    """Return a reason of advice.json as a sentence: it begins with a capital and ends with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
