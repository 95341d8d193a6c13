"""List the images of a folder per class, on disk, at a URL, or in a .zip that is read in place."""

import importlib.util
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from thaw.features.datasets.layout import layout_of
from thaw.features.datasets.listing import ImageFiles, Images, Listing, leads_inside
from thaw.features.datasets.options import DEFAULT, ReadOptions
from thaw.features.datasets.remote import RemoteFiles, RemotePath, found_files, path_or_url
from thaw.features.datasets.tables.csv_file import list_tables
from thaw.features.datasets.tables.exports import tables_beside_images
from thaw.features.datasets.zips import ZipImages, open_zip
from thaw.features.errors import InputError, shown

# What systems and their programs put into folders, beside names that begin with a dot; in small letters.
SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "thumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "@recycle", "$recycle.bin"),
        *("@recently-snapshot", "#snapshot", "lost+found", "system volume information", "__pycache__"),
    )
)
RUN_FILE = "run.json"  # a folder that holds one is a run


def list_folder(dataset: str, path: Path, max_pixels: int, options: ReadOptions = DEFAULT) -> Listing:
    """List PATH/<class>/* or PATH/{train,test,val,validation}/<class>/*, or a .zip of either.

    Whatever image lies in a class folder, however deep, is of the class. Hidden files, those of the system, runs, and
    files that are no images by their ending are left alone.

    Args:
        dataset: what errors call the dataset.
        path: the folder or the .zip.
        max_pixels: the most pixels of an image that is read.
        options: how names are understood and whether links are followed.

    Raises:
        InputError: the folders are neither classes nor splits.
    """
    if path.is_dir():
        if tables := tables_beside_images(path):
            return list_tables(path, tables, max_pixels, options)
        walk = _Walk(path, options.follow_links)
        images = lambda ids, top: ImageFiles(ids, max_pixels, options.white, path / top)  # noqa: E731
        return _listing(dataset, list(walk.names()), walk.left, images, options)
    if path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path)):  # a device has no end
        return _list_zip(dataset, path, max_pixels, options)
    raise InputError(
        f"{shown(path)} is neither a folder nor a zip archive; expected one with a folder per class; "
        "type --dataset folder:PATH"
    )


def list_url(dataset: str, url: str, max_pixels: int, options: ReadOptions = DEFAULT) -> Listing:
    """List a folder of images, or a .zip, at a URL that fsspec understands, as `list_folder` does."""
    path = path_or_url(url)
    if re.match("https?:", url, re.IGNORECASE) and importlib.util.find_spec("aiohttp") is None:
        raise InputError(
            f"{shown(url)} needs the packages fsspec and aiohttp, which reads the web and is not installed; type pip "
            "install "
            "aiohttp, or download it and type --dataset folder:FILE"
        )
    if isinstance(path, Path):
        if not path.exists():
            raise InputError(f"{shown(url)} does not exist; expected a folder or a .zip; type --dataset folder:URL")
        return list_folder(dataset, path, max_pixels, options)
    if path.name.lower().endswith(".zip"):
        return _list_zip(dataset, path, max_pixels, options)
    names, left = _without_hidden(found_files(url))
    place = lambda top: f"{url.rstrip('/')}/{top.rstrip('/')}" if top else url  # noqa: E731
    images = lambda ids, top: RemoteFiles(ids, max_pixels, options.white, place(top))  # noqa: E731
    return _listing(dataset, names, left, images, options)


def _list_zip(dataset: str, path: Path | RemotePath, max_pixels: int, options: ReadOptions) -> Listing:
    archive, members, notes = open_zip(path, options.zip_encoding)
    names, left = _without_hidden(members)

    def images(ids: tuple[str, ...], top: str) -> ZipImages:
        return ZipImages(ids, max_pixels, options.white, archive, [members[top + name] for name in ids])

    return _listing(dataset, names, left, images, options, notes)


def _listing(
    dataset: str,
    names: list[str],
    left: list[str],
    images_of: Callable[[tuple[str, ...], str], Images],
    options: ReadOptions,
    notes: Iterable[str] = (),
) -> Listing:
    """Return the listing of the files `names`; `images_of` returns the images of ids in a folder."""
    layout = layout_of(dataset, names, options.no_splits)
    ids = tuple(row[0] for row in layout.rows)
    ignored = (
        [f"left alone: {len(left)} hidden or system file(s) and folder(s), such as {shown(left[0])}"] if left else []
    )
    return Listing(
        images_of(ids, layout.top),
        ids,
        [row[1] for row in layout.rows],
        [row[2] for row in layout.rows],
        notes=(*notes, *ignored, *layout.notes),
    )


def _is_hidden(name: str) -> bool:
    """Return whether a file or folder, by its last component, is hidden or one of the system's."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _without_hidden(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names none of whose components is hidden, and the others."""
    kept: list[str] = []
    left: list[str] = []
    for name in names:
        (left if any(map(_is_hidden, name.rstrip("/").split("/"))) else kept).append(name)
    return kept, left


class _Walk:
    """The files and folders under `root`; `left` are the names of those that were left alone.

    A link to a file inside `root` counts as a file. Any other link is refused, or followed if `follow` says so and what
    it leads to is the user's own and is not reached in another way.
    """

    def __init__(self, root: Path, follow: bool):
        self.root, self.follow = root, follow
        self.left: list[str] = []
        self._reached: set[str] = set()

    def names(self) -> Iterator[str]:
        """Yield the names of files and folders; a folder's name ends with "/"."""
        folders = [""]
        while folders:
            folder = folders.pop()
            entries = self._entries(folder)
            if folder and any(entry.name == RUN_FILE for entry in entries):
                self.left.append(folder)
                continue
            if folder:
                yield folder
            for entry in entries:
                name = folder + entry.name
                if _is_hidden(entry.name):
                    self.left.append(name)
                    continue
                if entry.is_symlink():
                    self._check_link(name)
                if entry.is_dir(follow_symlinks=self.follow):
                    folders.append(name + "/")
                elif entry.is_file():
                    yield name

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        path = self.root / folder
        if self.follow:
            self._reach(path, folder)
        try:
            with os.scandir(path) as found:
                return list(found)
        except OSError as error:
            raise InputError(
                f"{shown(path)} cannot be listed ({error.strerror}); expected a readable folder; change its permissions"
            ) from error

    def _reach(self, path: Path, folder: str) -> None:
        """Note the folder that `path` really is; raises InputError if it was reached before, as by a loop of links."""
        real = str(path.resolve())
        if real in self._reached:
            raise InputError(
                f"{shown(folder)} in {shown(self.root)} leads to {shown(real)}, which is reached in another way too; "
                "expected each folder once; remove the link"
            )
        self._reached.add(real)

    def _check_link(self, name: str) -> None:
        if self.follow:
            self._check_owner(name)
        elif not leads_inside(self.root, name) or not (self.root / name).is_file():
            raise InputError(
                f"{shown(name)} in {shown(self.root)} is a link that leaves the folder or leads to no file; expected "
                "images, or links to files inside; put a copy in its place, or follow links by --follow-links"
            )

    def _check_owner(self, name: str) -> None:
        path = self.root / name
        try:
            owner = path.stat().st_uid
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{shown(name)} in {shown(self.root)} is a link that leads nowhere ({shown(error)}); expected a file "
                "or a folder; remove it"
            ) from error
        if owner != os.getuid():
            raise InputError(
                f"{shown(name)} in {shown(self.root)} is a link to {shown(path.resolve())}, which belongs to somebody "
                "else; expected links to your own files; put a copy in its place"
            )
