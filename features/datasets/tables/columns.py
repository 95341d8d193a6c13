"""The columns of a table: which holds the images, the classes, the splits and the groups."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from thaw.features.datasets.options import ReadOptions
from thaw.features.errors import InputError, shown

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

_EXPECTED = "expected path,label[,split][,group]"


def column_names(header: Sequence[str]) -> list[str]:
    """Return the names of columns as they are looked for: in small letters, without blanks at their ends."""
    return [name.strip().lower() for name in header]


def find_columns(path: Path, header: Sequence[str], options: ReadOptions) -> tuple[dict[str, int], list[str]]:
    """Return the index of each column that is used, and a line about them unless they have our own names."""
    given = {
        "path": options.image_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }
    names = column_names(header)
    columns = {}
    for kind, known in COLUMNS.items():
        named = given[kind]
        found = _index(path, header, kind, named) if named else _known_index(path, header, names, known)
        if found is not None:
            columns[kind] = found
    others = [header[index] for index in range(len(header)) if index not in columns.values()]
    for kind in ("split", "group"):
        close = (
            difflib.get_close_matches(kind, column_names(others)[:1000], n=1, cutoff=0.8) if kind not in columns else []
        )
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


def one_hot(
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
