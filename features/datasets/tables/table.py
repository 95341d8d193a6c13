"""A table of images and labels, as spreadsheets and programs write it: its text, its columns and its lines."""

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from thaw.features.datasets.options import ReadOptions
from thaw.features.datasets.tables.exports import blank_rows, coco_rows, headless, json_lines, parquet_rows
from thaw.features.errors import InputError, shown

DELIMITERS = (",", ";", "\t", "|")
COLUMNS = {
    "path": (
        *("path", "image", "filename", "file_name", "file", "filepath", "file_path", "image_path", "image_name"),
        *("image_id", "img", "img_path", "id"),
    ),
    "label": ("label", "class", "category", "target", "class_name", "label_name", "choice"),
    "split": ("split", "subset", "set", "partition", "data_set"),
    "group": ("group", "group_id"),
}
"""The names that a column may have, in the order in which they are looked for; in small letters."""

_FORMS = {".json": "COCO", ".jsonl": "lines of JSON"}
_EXPECTED = "expected path,label[,split][,group]"


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
        columns, said = _columns(path, header, options)
        numbered = list(_checked(path, header, rows))
    except csv.Error as error:
        raise InputError(_unreadable(path, error)) from error
    notes += said
    if "label" not in columns:
        labels, said = _one_hot(path, header, columns, numbered)
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
    stated = headless(header, path.parent) if not set(_names(header)) & set(COLUMNS["path"]) else None
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
        known = lambda mark: len(names & set(_names(next(csv.reader([begin], delimiter=mark), []))))  # noqa: E731
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


def _names(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _columns(path: Path, header: Sequence[str], options: ReadOptions) -> tuple[dict[str, int], list[str]]:
    """Return the index of each column that is used, and a line about them unless they have our own names."""
    given = {
        "path": options.image_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }
    names = _names(header)
    columns = {}
    for kind, known in COLUMNS.items():
        named = given[kind]
        found = _index(path, header, kind, named) if named else _known_index(path, header, names, known)
        if found is not None:
            columns[kind] = found
    others = [header[index] for index in range(len(header)) if index not in columns.values()]
    for kind in ("split", "group"):
        close = difflib.get_close_matches(kind, _names(others)[:1000], n=1, cutoff=0.8) if kind not in columns else []
        if close:
            raise InputError(
                f"{shown(path)} has the columns {_listed(header)}; {_EXPECTED}; rename {shown(close[0])} to {kind}, or "
                "to something less like it"
            )
    if "path" not in columns:
        raise InputError(
            f"{shown(path)} has the columns {_listed(header)}; {_EXPECTED}; put them in the first line, or name them "
            "by --image-column and --label-column"
        )
    own = {kind: header[index] for kind, index in columns.items()}
    notes = []
    if any(kind != name for kind, name in own.items()) or others:
        used = ", ".join(f"{shown(name)} as {kind}" for kind, name in own.items())
        ignored = f"; not used: {_listed(others)}" if others and "label" in columns else ""
        notes.append(
            f"columns of {shown(path.name)}: {used}{ignored} (--image-column, --label-column and so on name others)"
        )
    return columns, notes


def _index(path: Path, header: Sequence[str], kind: str, name: str) -> int:
    """Return the index of a column that was named; raises InputError if there is none or are two."""
    option = f"--{'image' if kind == 'path' else kind}-column {shown(name)}"
    if header.count(name) != 1:
        count = "twice" if header.count(name) > 1 else "not"
        raise InputError(
            f"{option}: {shown(path)} has it {count} among its columns {_listed(header)}; name one of them"
        )
    return header.index(name)


def _known_index(path: Path, header: Sequence[str], names: Sequence[str], known: Sequence[str]) -> int | None:
    name = next((name for name in known if name in names), None)
    if name is None:
        return None
    if names.count(name) > 1:
        raise InputError(f"{shown(path)} has the columns {_listed(header)}; {_EXPECTED}, each once; remove one {name}")
    return names.index(name)


def _listed(header: Sequence[str]) -> str:
    return shown(",".join(header[:12])) + (f" and {len(header) - 12} more" if len(header) > 12 else "")


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


def _one_hot(
    path: Path, header: Sequence[str], columns: dict[str, int], numbered: Sequence[tuple[int, Sequence[str]]]
) -> tuple[list[str], list[str]]:
    """Return the label of each line from columns of 0 and 1, one for each class, and a line that says so."""
    bits = {"0": False, "0.0": False, "": False, "1": True, "1.0": True}
    classes = [
        index
        for index in range(len(header))
        if index not in columns.values() and all(row[index].strip() in bits for _, row in numbered)
    ]
    if len(classes) < 2 or not numbered:
        raise InputError(
            f"{shown(path)} has the columns {_listed(header)}; {_EXPECTED}; put them in the first line, or name them "
            "by --image-column and --label-column"
        )
    labels = []
    for number, row in numbered:
        ones = [header[index].strip() for index in classes if bits[row[index].strip()]]
        if len(ones) != 1:
            raise InputError(
                f"{shown(path)} line {number} has 1 in {len(ones)} of the columns of classes "
                f"({_listed([header[index] for index in classes])}); expected one; fix it, or name the column of the "
                "class by --label-column"
            )
        labels.append(ones[0])
    return labels, [
        f"the columns {_listed([header[index] for index in classes])} are taken as classes, 1 for the image's own"
    ]
