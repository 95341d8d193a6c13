"""A figure -> two files, and the same as SVG inside a page, in the page's own colours."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from thaw.features.files.atomic import whole_path, write_whole
from thaw.pipeline.formatting import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PAPER = "#1c1e21", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, GREY = SERIES = ("#0072b2", "#c04d00", "#00805d", "#a6528a", "#6f757d")
"""Told apart by colour-blind readers (after Okabe and Ito), at a contrast of 3 or more on white; the page maps them."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.0  # inches; at 72 dots an inch this is a phone's screen, so that text is not shrunk there
PNG_DPI = 160
MAX_LABEL = 26

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_STYLE: dict[str, Any] = {
    "text.usetex": False,
    "text.parse_math": False,  # a class may be called $x$
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "thaw",  # the same figure gives the same bytes
    "savefig.bbox": None,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
}


def draw(folder: Path, name: str, alt: str, height: float, paint: Callable[["Figure"], None]) -> str:
    """Let `paint` fill a figure of `height` inches; write `folder`/`name`.svg and .png; return SVG for a page.

    The SVG in the page takes its ink, paper and series colours from the page's style sheet, so that it follows its
    theme; `alt` is what it says to who does not see it. Nothing of matplotlib's state is left changed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    svg = io.StringIO()
    style: Any = _STYLE  # its type names every key of matplotlib's
    with rc_context(style), warnings.catch_warnings():
        # Of glyphs that the font in the PNG lacks; the SVG leaves them to the reader's own fonts.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        figure.savefig(svg, format="svg", dpi=PNG_DPI, metadata={"Date": None})
        figure.set_layout_engine("none")
        with whole_path(folder / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=PNG_DPI)
    with write_whole(folder / f"{name}.svg") as file:
        file.write(svg.getvalue())
    return inline(svg.getvalue(), name, alt)


def inline(svg: str, name: str, alt: str) -> str:
    """Return matplotlib's `svg` for the inside of a page: themed, labelled `alt`, its ids told from other figures'."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)  # noqa: S314 (written by matplotlib a moment ago)
    for unwanted in (f"{_SVG}metadata", f"{_SVG}defs"):
        for element in root.findall(unwanted):
            if element.tag.endswith("metadata") or element.find(f"{_SVG}style") is not None:
                root.remove(element)
    prefix = hashlib.sha256(name.encode()).hexdigest()[:6]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    for element in root.iter():
        _theme(element, prefix, used)
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.attrib |= {"role": "img", "aria-label": plain(alt), "class": "chart"}
    return ElementTree.tostring(root, encoding="unicode")


def _theme(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    """Give one element of a figure the page's colours and fonts, and the figure's own ids."""
    given = element.attrib
    name = given.pop("id", None)
    if name in used:
        given["id"] = f"{prefix}{name}"
    if given.get(_LINK, "").startswith("#"):
        given[_LINK] = f"#{prefix}{given[_LINK][1:]}"
    if "clip-path" in given:
        given["clip-path"] = given["clip-path"].replace("url(#", f"url(#{prefix}")
    if "style" in given:
        style = re.sub(r"font-family:[^;]*;?\s*", "", given["style"])
        given["style"] = re.sub(r"#[0-9a-f]{6}", lambda match: _themed(match[0]), style)
    if "d" in given:
        given["d"] = re.sub(r"\s+", " ", given["d"]).strip()
    if element.tag != f"{_SVG}text":
        element.text = element.text if element.text and element.text.strip() else None
    element.tail = None


def _themed(colour: str) -> str:
    if colour == INK:
        return "currentColor"
    if colour == PAPER:
        return "var(--card)"
    return f"var(--series-{SERIES.index(colour) + 1})" if colour in SERIES else colour


def label(text: str, length: int = MAX_LABEL) -> str:
    """Return `text` as one printable line of at most `length` characters, its middle left out where it is longer."""
    text = plain(text).strip() or "(no name)"
    if len(text) <= length:
        return text
    return f"{text[: (length - 1) // 2]}…{text[len(text) - length // 2 :]}"
