"""A table of images and labels, as spreadsheets and programs write it: its text, its columns and its lines."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from thaw.features.datasets.options import ReadOptions
from thaw.features.datasets.tables.columns import COLUMNS, column_names, find_columns, one_hot
from thaw.features.datasets.tables.exports import blank_rows, coco_rows, headless, json_lines, parquet_rows
from thaw.features.errors import InputError, shown

DELIMITERS = (",", ";", "\t", "|")
_FORMS = {".json": "COCO", ".jsonl": "lines of JSON"}


class Line(NamedTuple):
    """One line of a table: its number, counted from 1, and its fields; "" for a column that the table lacks."""

    number: int
    path: str
    label: str
    split: str
    group: str


@dataclass
class Table:
    """The lines of a table; `notes` say what was guessed, and `has_group` whether it has groups."""

    lines: list[Line]
    has_group: bool
    notes: list[str] = field(default_factory=list)


def read_table(path: Path, options: ReadOptions) -> Table:
    """Return the lines of a table, its encoding, delimiter and columns found if they are not given.

    Raises InputError if it is no text, or lacks the columns.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    text, notes = ("", []) if is_parquet else _text(path, options.encoding)
    try:
        header, rows = _numbered(parquet_rows(path)) if is_parquet else _rows(path, text, notes)
        columns, said = find_columns(path, header, options)
        numbered = list(_checked(path, header, rows))
    except csv.Error as error:
        raise InputError(_unreadable(path, error)) from error
    notes += said
    if "label" not in columns:
        labels, said = one_hot(path, header, columns, numbered)
        notes += said
    else:
        labels = [row[columns["label"]] for _, row in numbered]
    empty = [""] * len(numbered)
    cells = {name: [row[columns[name]] for _, row in numbered] if name in columns else empty for name in COLUMNS}
    paths = _with_suffix(cells["path"], options.suffix)
    columns_of = zip((n for n, _ in numbered), paths, labels, cells["split"], cells["group"], strict=True)
    return Table([Line(*fields) for fields in columns_of], "group" in columns, notes)


def _text(path: Path, encoding: str | None) -> tuple[str, list[str]]:
    """Return the text of a file and a line about its encoding, if that is neither given nor UTF-8."""
    try:
        content = path.read_bytes()
        if encoding:
            return content.decode(encoding).removeprefix("\ufeff"), []
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16"), []
        try:
            return content.decode("utf-8-sig"), []
        except UnicodeDecodeError:
            text = content.decode("cp1252")
    except (OSError, UnicodeError, LookupError) as error:
        raise InputError(_unreadable(path, error)) from error
    return text, [
        f"{shown(path)} is not UTF-8 and is read as cp1252, the encoding of Windows (--encoding takes another)"
    ]


def _unreadable(path: Path, error: Exception) -> str:
    return (
        f"{shown(path)} cannot be read as a table ({shown(error)}); expected text with the columns "
        "path,label[,split][,group]; save it again as CSV, or name its encoding by --encoding"
    )


def _rows(path: Path, text: str, notes: list[str]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header and the numbered lines after it, however the file writes them."""
    found = {".json": coco_rows, ".jsonl": json_lines}.get(path.suffix.lower(), _blank_rows)(path, text)
    if found is not None:
        notes.append(f"{shown(path.name)} is read as {_FORMS.get(path.suffix.lower(), 'a list of path and label')}")
        return _numbered(found, 1 if path.suffix.lower() == ".jsonl" else 2)
    header, rows = _delimited(text)
    stated = headless(header, path.parent) if not set(column_names(header)) & set(COLUMNS["path"]) else None
    if stated is None:
        return header, rows
    notes.append(f"{shown(path.name)} has no header; its columns are taken as {', '.join(stated[:3])}")
    return stated, chain([(1, header)], rows)


def _numbered(rows: list[list[str]], first: int = 2) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header of a table and the other rows, numbered from `first`."""
    return rows[0], iter(enumerate(rows[1:], first))


def _blank_rows(path: Path, text: str) -> list[list[str]] | None:
    """Return the rows of a list separated by blanks, None if its first line has another delimiter."""
    first = text.lstrip().partition("\n")[0]
    return None if any(mark in first for mark in DELIMITERS) else blank_rows(path, text)


def _delimited(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header and the numbered lines after it, split at the delimiter that gives most known columns."""
    first, _, rest = text.partition("\n")
    stated = first.strip().lower()
    if stated.startswith("sep=") and len(stated) == 5:  # a spreadsheet's own line
        reader = _reader(rest, first.strip()[4], 1)
    else:
        begin = text.lstrip("\r\n")[:65536].partition("\n")[0]
        names = {name for known in COLUMNS.values() for name in known}
        known = lambda mark: len(names & set(column_names(next(csv.reader([begin], delimiter=mark), []))))  # noqa: E731
        reader = _reader(text, max(DELIMITERS, key=lambda mark: (known(mark), begin.count(mark))), 0)
    _, header = next(reader, (0, []))
    return header, reader


def _reader(text: str, delimiter: str, before: int) -> Iterator[tuple[int, list[str]]]:
    first = text.lstrip("\r\n").partition("\n")[0]
    blanks = first.count(delimiter) > 0 and first.count(delimiter) == first.count(f"{delimiter} ")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=blanks)
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num + before, row


def _checked(
    path: Path, header: Sequence[str], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the numbered lines, each with a field per column; raises InputError that names the line."""
    for number, row in rows:
        if len(row) < len(header) or any(cell for cell in row[len(header) :]):
            raise InputError(
                f"{shown(path)} line {number} has too many or too few fields; expected one per column; fix the line"
            )
        yield number, row[: len(header)]


def _with_suffix(paths: Sequence[str], suffix: str | None) -> list[str]:
    return [path if not suffix or path.lower().endswith(suffix.lower()) else path + suffix for path in paths]
