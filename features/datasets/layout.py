"""What the folders of a data set mean: which are splits and which are classes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from thaw.features.datasets.split_words import is_plain, is_unlabelled, split_named
from thaw.features.errors import InputError, shown
from thaw.features.images.endings import is_image_name

_SEVERAL = 3  # names that a line lists


class Layout(NamedTuple):
    """`rows` are (id, class, split) of each image, sorted by id; `top` is the folder that ids begin in, "" or "a/b/".

    `notes` are lines that say what was guessed or left alone.
    """

    rows: list[tuple[str, str, str]]
    top: str
    notes: list[str]


def layout_of(dataset: str, names: Iterable[str], no_splits: bool = False) -> Layout:
    """Return what the names of files, with "/" between their parts, and of folders, with "/" at their end, mean.

    Args:
        dataset: what errors call the dataset.
        names: of all files and folders.
        no_splits: if the top folders are classes whatever their names are.

    Raises:
        InputError: the folders are neither classes nor splits.
    """
    listed = sorted(names)
    files = [name for name in listed if not name.endswith("/")]
    images, notes = _images(files)
    top = _superfluous(images)
    if top:
        inside = [name.removeprefix(top) for name in images if name.startswith(top)]
        beside = f"; {len(images) - len(inside)} image(s) beside it are left out" if len(inside) < len(images) else ""
        notes.append(f"{shown(top)} holds the classes, and is entered{beside}")
        images = inside
    paths = [name.split("/") for name in images]
    tops = sorted({parts[0] for parts in paths if len(parts) > 1})
    splits = {} if no_splits else _splits(dataset, tops, paths)
    rows = _rows(images, paths, splits) if splits else None
    if rows is None and not no_splits:
        rows = _sides_in_classes(images, paths, notes)
    if rows is None:
        if not no_splits:
            _check_same_folders(dataset, tops, paths)
        rows = [(name, parts[0], "") for name, parts in zip(images, paths, strict=True) if len(parts) > 1]
    if listed and not rows:
        if any(name.endswith(".arrow") for name in listed):
            raise InputError(
                f"{shown(dataset)} is a dataset as Hugging Face's datasets saves it, with its images inside of .arrow "
                "files; "
                "expected image files: save them with metadata.csv, or as PATH/<class>/*"
            )
        raise InputError(
            f"{shown(dataset)} has no images in class folders; expected PATH/<class>/* or PATH/train/<class>/*; "
            "put the images of each class into a folder of its own"
        )
    notes += _left_out(images, rows, splits)
    notes += _empty(listed, top, images, 1 if splits else 0)
    return Layout(rows, top, notes)


def _images(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names with the ending of an image, or all if none has one, and a line about the others."""
    images = [name for name in files if is_image_name(name)]
    if not images or len(images) == len(files):
        return list(files), []
    others = len(files) - len(images)
    known = set(images)
    first = next(name for name in files if name not in known)
    return images, [f"left alone: {others} file(s) that are no images by their ending, such as {shown(first)}"]


def _superfluous(images: Sequence[str]) -> str:
    """Return the one folder after another that hold everything in class folders, "a/b/", or "" if there is none."""
    top = ""
    while True:
        start = len(top)
        inside = [name for name in images if name.startswith(top) and name.find("/", start) >= 0]
        inner = {name[start : name.find("/", start)] for name in inside}
        if len(inner) != 1 or is_plain(min(inner)):
            return top
        deeper = f"{top}{min(inner)}/"
        if any(name.find("/", len(deeper)) < 0 for name in inside):
            return top
        top = deeper


def _splits(dataset: str, tops: Sequence[str], paths: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the split that each top folder is, empty if they are classes; raises InputError if both are mixed."""
    known = {top: split for top in tops if (split := split_named(top))}
    others = [top for top in tops if top not in known]
    plain = [top for top in known if is_plain(top)]
    if not plain and not {"train"} < set(known.values()):
        return {}
    if not others:
        return known
    with_classes = {parts[0] for parts in paths if len(parts) > 2}
    if with_classes & known.keys() and not with_classes & set(others) and all(map(is_unlabelled, others)):
        return known  # the others are said to be left out
    if not plain and not with_classes:
        return {}
    raise InputError(
        f"{shown(dataset)} mixes split folders ({_some(sorted(known))}) with others ({_some(others)}); "
        "expected classes only or splits only; move or rename one kind, or take all as classes by --no-splits"
    )


def _rows(images: Sequence[str], paths: Sequence[Sequence[str]], splits: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return (id, class, split) of each image in a class folder of a split folder."""
    inner: dict[str, set[str]] = {}
    for parts in paths:
        inner.setdefault(parts[0], set()).add(parts[1] if len(parts) > 2 else "")
    depth = {}
    for top, folders in inner.items():
        only = min(folders)
        again = len(folders) == 1 and (only.lower() == top.lower() or split_named(only) == splits.get(top, ""))
        depth[top] = 2 if again else 1
    return [
        (name, parts[depth[parts[0]]], splits[parts[0]])
        for name, parts in zip(images, paths, strict=True)
        if parts[0] in splits and len(parts) > depth[parts[0]] + 1
    ]


def _sides_in_classes(
    images: Sequence[str], paths: Sequence[Sequence[str]], notes: list[str]
) -> list[tuple[str, str, str]] | None:
    """Return (id, class, split) if all class folders hold split folders, as in cat/train and cat/test, else None."""
    deep = [(name, parts) for name, parts in zip(images, paths, strict=True) if len(parts) > 1]
    names = {parts[1] if len(parts) > 2 else "" for _, parts in deep}
    splits = {name: split_named(name) for name in names}
    if len(names) < 2 or not all(splits.values()) or "train" not in splits.values():
        return None
    notes.append(f"the class folders hold the split folders {_some(sorted(names))}, which are taken as given")
    return [(name, parts[0], splits[parts[1]] or "") for name, parts in deep]


def _check_same_folders(dataset: str, tops: Sequence[str], paths: Sequence[Sequence[str]]) -> None:
    """Raise InputError if all top folders hold the same folders and no image: which are the classes?"""
    inner: dict[str, set[str]] = {top: set() for top in tops}
    for parts in paths:
        if len(parts) > 1:
            inner[parts[0]].add(parts[1] if len(parts) > 2 else "")
    kinds = set(map(frozenset, inner.values()))
    same = next(iter(kinds), frozenset())
    if len(tops) > 1 and len(kinds) == 1 and len(same) > 1 and "" not in same:
        raise InputError(
            f"{shown(dataset)}: the folders {_some(tops)} all hold the same folders ({_some(sorted(same))}); expected "
            f"classes or splits at the top; name one of them (folder:PATH/{shown(tops[0])}), rename them to train and "
            f"test, or take {_some(tops)} as the classes by --no-splits"
        )


def _left_out(images: Sequence[str], rows: Sequence[tuple[str, str, str]], splits: dict[str, str]) -> list[str]:
    """Return lines about the images that lie outside of class folders, by the folder that they lie in."""
    if len(images) == len(rows):
        return []
    taken = {row[0] for row in rows}
    counts: dict[str, int] = {}
    for name in images:
        if name not in taken:
            top = name.partition("/")[0] if "/" in name else ""
            counts[top] = counts.get(top, 0) + 1
    given = {row[2] for row in rows}
    lines = []
    for top, count in counts.items():
        where = f"in {shown(top)}/" if top else "beside the folders"
        redrawn = top in splits and splits[top] not in given
        end = f"; the {splits[top]} split is drawn from the others" if redrawn else ""
        lines.append(f"left out: {count} image(s) {where} that lie in no class folder and so have no label{end}")
    return lines


def _empty(listed: Sequence[str], top: str, images: Sequence[str], depth: int) -> list[str]:
    """Return a line about the folders at the level of the classes, or above, in which no image lies."""
    folders = {name[len(top) :].rstrip("/") for name in listed if name.endswith("/") and name.startswith(top)} - {""}
    parents = {name.rpartition("/")[0] for name in images}
    used = {"/".join(parent.split("/")[:length]) for parent in parents for length in range(1, depth + 2)}
    empty = sorted(name for name in folders - used if name.count("/") <= depth)
    return [f"left alone: {len(empty)} folder(s) without images ({_some(empty)})"] if empty else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SEVERAL} more" if len(names) > _SEVERAL else ""
    return shown(", ".join(names[:_SEVERAL])) + more
