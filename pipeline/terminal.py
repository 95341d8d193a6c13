"""Consoles and tables on standard output, for a terminal and for a pipe."""

import os
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from thaw.pipeline.formatting import plain

PIPE_WIDTH = 10_000


def console_for() -> Console:
    """Return a console on standard output; a pipe gets every column, without colours or lines."""
    piped = not Console().is_terminal and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False)


def empty_table(console: Console) -> Table:
    """Return a table without columns yet."""
    if console.is_terminal:
        return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    return Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line without the characters that could steer the terminal; in a pipe it stays one line."""
    console.print(Text(plain(text), style=style), soft_wrap=not console.is_terminal)


def first_fitting(console: Console, tables: Iterable[Table]) -> Table:
    """Return the first table that is no wider than the console, or the last table."""
    wide = console.options.update_width(PIPE_WIDTH)
    for table in tables:
        if Measurement.get(console, wide, table).maximum <= console.width:
            break
    return table
