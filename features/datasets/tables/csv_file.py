"""List the files that a .csv names."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from thaw.features.datasets.class_names import is_missing
from thaw.features.datasets.listing import ImageFiles, Listing
from thaw.features.datasets.options import DEFAULT, ReadOptions
from thaw.features.datasets.split_words import split_named
from thaw.features.datasets.tables.exports import FolderTable
from thaw.features.datasets.tables.table import Line, read_table
from thaw.features.errors import InputError, shown

DRAWN = ("unassigned", "none")  # words in a column of splits beside nothing at all: the split is drawn


def list_csv(path: Path, max_pixels: int, options: ReadOptions = DEFAULT) -> Listing:
    """List the files that a table with the columns path,label[,split][,group], or names like these, names.

    Raises InputError that names the line, unless `skip_bad` leaves out lines without label, group or file.
    """
    table = read_table(path, options)
    finder = _Finder(path.parent, options.follow_links)
    rows: dict[str, Line] = {}
    splits, left = [], []
    for line in table.lines:
        where = f"{shown(path)} line {line.number}"
        problem = _missing(line, table.has_group)
        found = None if problem else finder.find(where, line.path)
        problem = problem or (
            "" if found else f": {shown(line.path)} is not a file; expected a path relative to the table"
        )
        if problem and options.skip_bad:
            left.append(f"{where}{problem.partition(';')[0]}")
            continue
        if problem or found is None:
            raise InputError(f"{where}{problem}; fix it, or leave it out by --skip-bad")
        if found in rows:
            raise InputError(f"{where}: {shown(found)} a second time; expected each path once; remove it")
        splits.append(_split(where, line.split))
        rows[found] = line
    notes = [*table.notes, *([f"left out: {len(left)} line(s) by --skip-bad, such as {left[0]}"] if left else [])]
    groups = [line.group for line in rows.values()] if table.has_group else None
    images = ImageFiles(tuple(rows), max_pixels, options.white, path.parent)
    return Listing(images, tuple(rows), [line.label for line in rows.values()], splits, groups, notes=notes)


def list_tables(root: Path, tables: Sequence[FolderTable], max_pixels: int, options: ReadOptions) -> Listing:
    """List the images of a folder by the tables in it, or in its split folders.

    Raises InputError as `list_csv` does.
    """
    found = [(table, list_csv(table.path, max_pixels, options)) for table in tables]
    ids = tuple(table.prefix + name for table, listing in found for name in listing.ids)
    splits = [table.split or split for table, listing in found for split in listing.splits]
    names = [name for _, listing in found for name in listing.names]
    read = ", ".join(f"{table.prefix}{table.path.name}" for table, _ in found)
    notes = [
        f"the folder is read by {shown(read)}",
        *dict.fromkeys(note for _, listing in found for note in listing.notes),
    ]
    groups = [group for _, listing in found for group in listing.groups or ()]
    return Listing(
        ImageFiles(ids, max_pixels, options.white, root),
        ids,
        names,
        splits,
        groups if len(groups) == len(ids) else None,
        notes=notes,
    )


def _missing(line: Line, has_group: bool) -> str:
    """Return what a line lacks, as the middle of an error, or "" if it lacks nothing."""
    for column, text in (("label", line.label), *((("group", line.group),) if has_group else ())):
        if is_missing(text):
            written = f" ({shown(text)})" if text.strip() else ""
            return f" has no {column}{written}; expected one on every line"
    return ""


def _split(where: str, text: str) -> str:
    """Return train, validation, test or "" for the text of a split; raises InputError for any other."""
    if is_missing(text) or text.strip().lower() in DRAWN:
        return ""
    split = split_named(text)
    if split is None:
        raise InputError(
            f"{where} has the split {shown(text)!r}; expected train, validation, val, test or nothing; fix it"
        )
    return split


class _Finder:
    """Finds the files that a table in the folder `root` names."""

    def __init__(self, root: Path, follow_links: bool):
        self._root, self._follow_links = root, follow_links
        self._real = root.resolve()
        self._folders: dict[str, Path] = {}

    def find(self, where: str, text: str) -> str | None:
        """Return the id of a file: its path relative to the table with "/", or absolute if it is elsewhere.

        None if there is no such file. Raises InputError if a relative path leaves the folder.
        """
        name = self._named(text)
        if name is None:
            return None
        if name.is_absolute():
            return (name.relative_to(self._real) if name.is_relative_to(self._real) else name).as_posix()
        if ".." in name.parts or not (self._follow_links or self._is_inside(name)):
            raise InputError(
                f"{where}: {shown(name)} leaves the folder of the table; expected a path inside it, or an absolute "
                "one; move the file there"
            )
        return PurePosixPath(name.as_posix()).as_posix()

    def _named(self, text: str) -> Path | None:
        """Return the path as it is written, or with "/" for each backslash, if it is a file."""
        for written in dict.fromkeys((text, text.strip(), text.strip().replace("\\", "/"))):
            try:
                if written and (self._root / written).is_file():
                    return Path(written)
            except ValueError:  # a NUL in the name
                continue
        return None

    def _is_inside(self, name: Path) -> bool:
        """Return whether a file, its links followed, lies below the table; the folders' links are followed once."""
        try:
            folder = self._real_folder(str(name.parent))
            file = folder / name.name
            return (file.resolve() if file.is_symlink() else file).is_relative_to(self._real)
        except (OSError, RuntimeError):  # a loop of links
            return False

    def _real_folder(self, folder: str) -> Path:
        if folder not in self._folders:
            self._folders[folder] = (self._real / folder).resolve()
        return self._folders[folder]
