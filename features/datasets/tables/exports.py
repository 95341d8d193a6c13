"""Labels in files that other tools write: COCO's JSON, lines of JSON, lists of `path index`, tables beside images."""

import importlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thaw.features.datasets.split_words import split_named
from thaw.features.errors import InputError, shown

BESIDE_IMAGES = ("metadata.csv", "metadata.jsonl", "_classes.csv")
"""Tables beside images, by which their folder is understood: of Hugging Face's image folders, and of Roboflow."""

_NAMES_OF_NUMBERS = ("labels.txt", "synsets.txt")
_COCO = ("images", "annotations", "categories")


class FolderTable(NamedTuple):
    """A table beside images: the folder's name with "/" at its end, or "", the split that it means, and the table."""

    prefix: str
    split: str
    path: Path


def tables_beside_images(root: Path) -> list[FolderTable]:
    """Return the tables in a folder, or in its split folders; none if the folder is to be understood by its folders."""
    own = [root / name for name in BESIDE_IMAGES if (root / name).is_file()]
    if len(own) == 1:
        return [FolderTable("", "", own[0])]
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        split = split_named(folder.name)
        tables = [folder / name for name in BESIDE_IMAGES if (folder / name).is_file()]
        if split and len(tables) == 1:
            found.append(FolderTable(f"{folder.name}/", split, tables[0]))
    return found


def coco_rows(path: Path, text: str) -> list[list[str]]:
    """Return the header and rows (path, label) of a COCO file in which each image has one category.

    Raises InputError if it is another JSON, or an image has no category or several.
    """
    content = _parsed(path, text)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in _COCO):
        raise InputError(
            f"{shown(path)} is JSON without the lists {', '.join(_COCO)}; expected a COCO file, or lines of JSON with "
            "file_name and label (.jsonl)"
        )
    try:
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        labels: dict[Any, set[str]] = {}
        for entry in content["annotations"]:
            labels.setdefault(entry["image_id"], set()).add(names[entry["category_id"]])
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{shown(path)} is a COCO file that lacks {shown(error)}; export it again") from error
    for number, file in files.items():
        found = labels.get(number, set())
        if len(found) != 1:
            raise InputError(
                f"{shown(path)}: {shown(file)} has {len(found)} categories; expected one for each image; leave it "
                "out, or "
                "cut the images by their boxes"
            )
    return [["path", "label"], *([file, *labels[number]] for number, file in files.items())]


def json_lines(path: Path, text: str) -> list[list[str]]:
    """Return the header and rows of lines of JSON, each an object of texts and numbers."""
    objects = [_parsed(path, line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not all(isinstance(found, dict) for found in objects):
        raise InputError(f"{shown(path)} has a line that is no object of JSON; expected file_name and label on each")
    header = list(dict.fromkeys(name for found in objects for name in found))
    return [header, *([_cell(found, name) for name in header] for found in objects)]


def _cell(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name, "")
    return "" if value is None else str(value)


def _parsed(path: Path, text: str, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" line {line}" if line else ""
        raise InputError(f"{shown(path)}{where} is no JSON ({shown(error)}); save it again") from error


def parquet_rows(path: Path) -> list[list[str]]:
    """Return the header and rows of a parquet file as text, its nested columns left out; needs the extra parquet."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            f"{shown(path)} is a parquet file, which needs the package pyarrow; it is not installed: type make setup "
            "EXTRA=parquet, or pip install pyarrow; or save the table as CSV"
        )
    parquet: Any = importlib.import_module("pyarrow.parquet")
    arrow: Any = importlib.import_module("pyarrow")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise InputError(f"{shown(path)} cannot be read as parquet ({shown(error)}); save it again") from error
    flat = [name for name in table.column_names if not arrow.types.is_nested(table.schema.field(name).type)]
    columns = [["" if value is None else str(value) for value in table[name].to_pylist()] for name in flat]
    return [flat, *map(list, zip(*columns, strict=True))]


def blank_rows(path: Path, text: str) -> list[list[str]] | None:
    """Return the header and rows of a list of `path label` separated by blanks, None if it is no such list.

    Numbers become names by a file labels.txt or synsets.txt beside it, a name or `number name` on each line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = [re.split(r"\s+", line[::-1], maxsplit=1) for line in lines]  # the last blank, since a path may hold some
    if not rows or not all(len(row) == 2 for row in rows):
        return None
    pairs = [[row[1][::-1], row[0][::-1]] for row in rows]
    names = _names_of_numbers(path.parent) if all(label.isdigit() for _, label in pairs) else {}
    return [["path", "label"], *([image, names.get(int(label) if names else -1, label)] for image, label in pairs)]


def _names_of_numbers(folder: Path) -> dict[int, str]:
    for name in _NAMES_OF_NUMBERS:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            pairs = [re.match(r"(\d+)[\s:,]+(.+)", line) for line in lines if line.strip()]
            if all(pairs):
                return {int(pair[1]): pair[2].strip() for pair in pairs if pair}
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    return {}


def headless(row: Sequence[str], root: Path) -> list[str] | None:
    """Return the header that a table's first line lacks, None if it is one.

    It is Google's `TRAIN,path,label`, or `path,label` if there is such a file in the folder `root`.
    """
    first = row[0].strip() if row else ""
    if len(row) >= 3 and (first == "UNASSIGNED" or (first.isupper() and split_named(first))):
        return ["split", "path", "label", *(f"column {number}" for number in range(4, len(row) + 1))]
    try:
        is_image = len(row) == 2 and (root / first).is_file()
    except ValueError:  # a NUL in the name
        return None
    return ["path", "label"] if is_image else None
