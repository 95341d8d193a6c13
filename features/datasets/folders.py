"""List the images of a folder per class, on disk, at a URL, or in a .zip that is read in place."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from thaw.features.datasets.listing import SPLIT_WORDS, ImageFiles, Images, Listing, leads_inside
from thaw.features.datasets.remote import RemoteFiles, RemotePath, found_files, path_or_url
from thaw.features.datasets.zips import ZipImages, open_zip
from thaw.features.errors import InputError, shown

_SPLIT_LOOKALIKES = {"training", "testing", "valid", "dev"}


def list_folder(dataset: str, path: Path, max_pixels: int) -> Listing:
    """List PATH/<class>/* or PATH/{train,test,val,validation}/<class>/*, or a .zip of either.

    Whatever file lies in a class folder, however deep, is an image of the class, unless it is hidden. Files
    beside the class folders are left alone.

    Args:
        dataset: what errors call the dataset.
        path: the folder or the .zip.
        max_pixels: the most pixels of an image that is read.

    Raises:
        InputError: the folders are neither classes nor splits, or a class folder is empty.
    """
    if path.is_dir():
        return _listing(dataset, _walk(path), lambda ids: ImageFiles(ids, max_pixels, path))
    if path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path)):  # a device has no end
        return _list_zip(dataset, path, max_pixels)
    raise InputError(
        f"{shown(path)} is neither a folder nor a zip archive; expected one with a folder per class; "
        "type --dataset folder:PATH"
    )


def list_url(dataset: str, url: str, max_pixels: int) -> Listing:
    """List a folder of images, or a .zip, at a URL that fsspec understands, as `list_folder` does."""
    path = path_or_url(url)
    if isinstance(path, Path):
        if not path.exists():
            raise InputError(f"{shown(url)} does not exist; expected a folder or a .zip; type --dataset folder:URL")
        return list_folder(dataset, path, max_pixels)
    if path.name.lower().endswith(".zip"):
        return _list_zip(dataset, path, max_pixels)
    names = (name for name in found_files(url) if not _is_hidden(name))
    return _listing(dataset, names, lambda ids: RemoteFiles(ids, max_pixels, url))


def _list_zip(dataset: str, path: Path | RemotePath, max_pixels: int) -> Listing:
    archive, members = open_zip(path)
    members = {name: member for name, member in members.items() if not _is_hidden(name)}
    top = _common_top(members)
    members = {name.removeprefix(top): member for name, member in members.items() if name != top}
    return _listing(dataset, members, lambda ids: ZipImages(ids, max_pixels, archive, [members[name] for name in ids]))


def _listing(dataset: str, names: Iterable[str], images_of: Callable[[tuple[str, ...]], Images]) -> Listing:
    """Return the listing of the files `names`; `images_of` returns the images of the ids that it is given."""
    rows = _layout(dataset, names)
    ids = tuple(row[0] for row in rows)
    return Listing(images_of(ids), ids, [row[1] for row in rows], [row[2] for row in rows])


def _layout(dataset: str, names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (id, class, split) of each image, sorted by id; raises InputError if the folders do not fit."""
    listed = [(name, name.rstrip("/").split("/"), name.endswith("/")) for name in sorted(names)]
    tops = {parts[0] for _, parts, is_folder in listed if is_folder or len(parts) > 1}
    depth = _class_depth(dataset, tops)
    rows = [
        (name, parts[depth], SPLIT_WORDS[parts[0].lower()] if depth else "")
        for name, parts, is_folder in listed
        if not is_folder and len(parts) > depth + 1
    ]
    if listed and not rows:
        raise InputError(
            f"{shown(dataset)} has no images in class folders; expected PATH/<class>/* or PATH/train/<class>/*; "
            "put the images of each class into a folder of its own"
        )
    folders = {parts[depth] for _, parts, is_folder in listed if is_folder and len(parts) > depth}
    empty = sorted(folders - {row[1] for row in rows})
    if empty:
        raise InputError(
            f"{shown(dataset)} has no images in the class folder {shown(empty[0])}; expected one or more; "
            "add some, or name the folder that holds the classes"
        )
    return rows


def _class_depth(dataset: str, tops: set[str]) -> int:
    """Return the index of the class in the parts of a path: 0, or 1 below split folders."""
    splits = {top for top in tops if top.lower() in SPLIT_WORDS}
    others = sorted(tops - splits)
    if others and {top.lower() for top in tops} <= SPLIT_WORDS.keys() | _SPLIT_LOOKALIKES:
        raise InputError(
            f"{shown(dataset)} has a folder {shown(others[0])} that looks like a split; expected the names "
            "train, test, val or validation; rename it"
        )
    if splits and others:
        raise InputError(
            f"{shown(dataset)} mixes split folders ({shown(', '.join(sorted(splits)))}) with others "
            f"({shown(', '.join(others[:3]))}); expected classes only or splits only; move or rename one kind"
        )
    return 1 if splits else 0


def _is_hidden(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    junk = {"__macosx", "thumbs.db", "desktop.ini"}
    return any(part.startswith(".") or part.lower() in junk for part in parts)


def _walk(root: Path) -> Iterator[str]:
    """Yield the names of files and folders under `root` but for hidden ones; a folder's name ends with "/".

    A link to a file inside `root` counts as a file. Any other link is refused.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = [entry for entry in found if not _is_hidden(entry.name)]
        except OSError as error:
            raise InputError(
                f"{shown(root / folder)} cannot be listed ({error.strerror}); expected a readable folder; "
                "change its permissions"
            ) from error
        for entry in entries:
            name = folder + entry.name
            if entry.is_symlink():
                _check_link(root, name)
            if entry.is_dir(follow_symlinks=False):
                folders.append(name + "/")
                yield name + "/"
            elif entry.is_file():
                yield name


def _check_link(root: Path, name: str) -> None:
    if not leads_inside(root, name) or not (root / name).is_file():
        raise InputError(
            f"{shown(name)} in {shown(root)} is a link that leaves the folder or leads to no file; expected "
            "images, or links to files inside; put a copy in its place"
        )


def _common_top(names: Iterable[str]) -> str:
    """Return "top/" if all files lie in one top folder that is neither a class nor a split, else ""."""
    depth_of_files = {(name.partition("/")[0], name.count("/") > 1) for name in names if not name.endswith("/")}
    tops = {top for top, _ in depth_of_files}
    top = min(tops, default="")
    nested = len(tops) == 1 and (top, True) in depth_of_files
    return top + "/" if nested and top.lower() not in SPLIT_WORDS else ""
