"""A figure -> an SVG and a PNG file, and SVG for the inside of a page in the page's own colours."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from thaw.features.files.atomic import whole_path, write_whole
from thaw.pipeline.formatting import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PAPER = "#1c1e21", "#ffffff"
# After Okabe and Ito: colour-blind readers see them as different, and their contrast on white is at least 3.
BLUE, ORANGE, GREEN, PURPLE, GREY = SERIES = ("#0072b2", "#c04d00", "#00805d", "#a6528a", "#6f757d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.0  # inches; 360 points fit a phone's screen, so that it does not shrink the text
PNG_DPI = 160

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


Paint = Callable[["Figure"], None]


def draw(folder: Path, name: str, alt: str, height: float, paint: Paint) -> str:
    """Write a chart as SVG and PNG, and return it as SVG for a page.

    The SVG for a page has the page's own colours, so that it follows the page's theme.

    Args:
        folder: The folder of the two files, made if it is missing.
        name: Their name without the ending.
        alt: What the chart shows, for a reader who cannot see it.
        height: The height of the figure in inches.
        paint: Fills the figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    svg = io.StringIO()
    with _painted(height, paint) as figure:
        figure.savefig(svg, format="svg", dpi=PNG_DPI, metadata={"Date": None})
        figure.set_layout_engine("none")
        _save_png(figure, folder / f"{name}.png")
    with write_whole(folder / f"{name}.svg") as file:
        file.write(svg.getvalue())
    return inline(svg.getvalue(), name, alt)


def draw_png(path: Path, height: float, paint: Paint) -> None:
    """Write a chart as PNG alone; the arguments are those of `draw`."""
    with _painted(height, paint) as figure:
        _save_png(figure, path)


@contextmanager
def _painted(height: float, paint: Paint) -> Iterator["Figure"]:
    """Yield a filled figure in the style of this project; matplotlib's own settings are not changed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = _STYLE  # its type names every key of matplotlib's
    with rc_context(style), warnings.catch_warnings():
        # The font of the PNG lacks some glyphs; the SVG is shown in the reader's own fonts.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        yield figure


def _save_png(figure: "Figure", path: Path) -> None:
    with whole_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PNG_DPI)


def inline(svg: str, name: str, alt: str) -> str:
    """Return the SVG for the inside of a page, with the page's colours, a description, and ids of its own.

    Args:
        svg: The SVG that matplotlib wrote.
        name: The name of the chart; it tells the ids of this chart from those of other charts on the page.
        alt: The description.
    """
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)  # noqa: S314 (written by matplotlib a moment ago)
    for element in [*root.findall(f"{_SVG}metadata"), *root.findall(f"{_SVG}defs[{_SVG}style]")]:
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
    """Give an element the page's colours and fonts, and ids that begin with `prefix` if they are `used`."""
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
