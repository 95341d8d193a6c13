"""Images in a folder per class, on disk or in a .zip that is read in place -> Listing."""

import lzma
import os
import stat
import struct
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.datasets.listing import SPLIT_WORDS, ImageFiles, Images, Listing, leads_inside
from thaw.features.datasets.remote import RemoteFiles, RemotePath, found_files, place
from thaw.features.errors import FILE_FAULTS, InputError
from thaw.features.images.decode import decode, shown

_SPLIT_LOOKALIKES = {"training", "testing", "valid", "dev"}

# What a member of a hostile or torn archive raises: a wrong CRC, an unknown method, a password, bad sizes.
_FAULTS = (*FILE_FAULTS, lzma.LZMAError, zipfile.BadZipFile)


def list_folder(word: str, path: Path, max_pixels: int) -> Listing:
    """List PATH/<class>/* or PATH/{train,test,val,validation}/<class>/*, or a .zip of either.

    Whatever file lies in a class folder, however deep, is an image of the class, unless it is hidden. Files
    beside the class folders are left alone. A class folder without a file is an error.
    """
    if path.is_dir():
        rows = _layout(word, _walk(path))
        ids = tuple(row[0] for row in rows)
        images: Images = ImageFiles(path, ids, max_pixels)
        return _listing(images, rows)
    if path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path)):  # a device has no end
        return _list_zip(word, path, max_pixels)
    raise InputError(
        f"{shown(path)} is neither a folder nor a zip archive; expected one with a folder per class; "
        "type --dataset folder:PATH"
    )


def list_url(word: str, url: str, max_pixels: int) -> Listing:
    """List a folder of images, or a .zip of one, at a URL that fsspec understands; else as `list_folder`."""
    where = place(url)
    if isinstance(where, Path):
        if not where.exists():
            raise InputError(f"{shown(url)} does not exist; expected a folder or a .zip; type --dataset folder:URL")
        return list_folder(word, where, max_pixels)
    if where.name.lower().endswith(".zip"):
        return _list_zip(word, where, max_pixels)
    rows = _layout(word, (name for name in found_files(url) if not _is_hidden(name)))
    return _listing(RemoteFiles(url, tuple(row[0] for row in rows), max_pixels), rows)


def _list_zip(word: str, path: Path | RemotePath, max_pixels: int) -> Listing:
    archive, members = _open_zip(path)
    members = {name: member for name, member in members.items() if not _is_hidden(name)}
    top = _common_top(members)
    members = {name.removeprefix(top): member for name, member in members.items() if name != top}
    rows = _layout(word, members)
    ids = tuple(row[0] for row in rows)
    return _listing(ZipImages(archive, tuple(members[name] for name in ids), ids, max_pixels), rows)


def _listing(images: Images, rows: list[tuple[str, str, str]]) -> Listing:
    return Listing(images, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _layout(word: str, names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (id, class, split) of each image, sorted by id; raises InputError where folders do not fit."""
    listed = [(name, name.rstrip("/").split("/"), name.endswith("/")) for name in sorted(names)]
    tops = {parts[0] for _, parts, is_folder in listed if is_folder or len(parts) > 1}
    depth = _class_depth(word, tops)
    rows = [
        (name, parts[depth], SPLIT_WORDS[parts[0].lower()] if depth else "")
        for name, parts, is_folder in listed
        if not is_folder and len(parts) > depth + 1
    ]
    if listed and not rows:
        raise InputError(
            f"{shown(word)} has no images in class folders; expected PATH/<class>/* or PATH/train/<class>/*; "
            "put the images of each class into a folder of its own"
        )
    folders = {parts[depth] for _, parts, is_folder in listed if is_folder and len(parts) > depth}
    empty = sorted(folders - {row[1] for row in rows})
    if empty:
        raise InputError(
            f"{shown(word)} has no images in the class folder {shown(empty[0])}; expected one or more; "
            "add some, or name the folder that holds the classes"
        )
    return rows


def _class_depth(word: str, tops: set[str]) -> int:
    """Return which part of a path is the class: 0, or 1 below split folders."""
    splits = {top for top in tops if top.lower() in SPLIT_WORDS}
    others = sorted(tops - splits)
    if others and {top.lower() for top in tops} <= SPLIT_WORDS.keys() | _SPLIT_LOOKALIKES:
        raise InputError(
            f"{shown(word)} has a folder {shown(others[0])} that looks like a split; expected the names "
            "train, test, val or validation; rename it"
        )
    if splits and others:
        raise InputError(
            f"{shown(word)} mixes split folders ({shown(', '.join(sorted(splits)))}) with others "
            f"({shown(', '.join(others[:3]))}); expected classes only or splits only; move or rename one kind"
        )
    return 1 if splits else 0


def _is_hidden(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    junk = {"__macosx", "thumbs.db", "desktop.ini"}
    return any(part.startswith(".") or part.lower() in junk for part in parts)


def _walk(root: Path) -> Iterator[str]:
    """Yield what lies under `root`, hidden things left out: files by name, folders with a "/" at the end.

    A link to a file inside `root` counts as that file. Any other link is refused.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = list(found)
        except OSError as error:
            raise InputError(
                f"{shown(root / folder)} cannot be listed ({error.strerror}); expected a readable folder; "
                "change its permissions"
            ) from error
        for entry in entries:
            name = folder + entry.name
            if _is_hidden(entry.name):
                continue
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


@dataclass(frozen=True, eq=False)
class ZipImages:
    """Image files inside one open .zip; any number of threads may read."""

    archive: zipfile.ZipFile
    members: tuple[zipfile.ZipInfo, ...]
    ids: tuple[str, ...]
    max_pixels: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, i: int, least_side: int | None = None) -> np.ndarray:
        """Return image `i` as uint8 (H, W, 3); raises InputError naming its id."""
        member, name = self.members[i], self.ids[i]
        limit = 8 * self.max_pixels + 2**20  # four 16-bit channels uncompressed, and metadata
        if member.file_size > limit:
            raise InputError(
                f"{shown(name)} unpacks to {member.file_size} bytes; expected at most {limit} for an "
                f"image of {self.max_pixels} pixels; raise --max-pixels, or go on without it by --skip-bad"
            )
        try:
            with self.lock:
                data = self.archive.read(member)
        except _FAULTS as error:
            raise InputError(
                f"{shown(name)} is damaged in {shown(self.archive.filename)} ({shown(error)}); expected a "
                "whole zip member; make the archive again, or go on without it by --skip-bad"
            ) from error
        return decode(data, name, self.max_pixels, least_side)

    def content(self, i: int) -> bytes:
        """Return the CRC-32 and the size of image `i`'s file, from the directory: nothing is unpacked."""
        return struct.pack(">IQ", self.members[i].CRC, self.members[i].file_size)

    def take(self, rows: Sequence[int]) -> "ZipImages":
        """Return these images alone, in the same open archive."""
        chosen = (tuple(self.members[row] for row in rows), tuple(self.ids[row] for row in rows))
        return ZipImages(self.archive, *chosen, self.max_pixels, self.lock)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the archive itself, once for all images that it is sent."""
        return _zip_images, (str(self.archive.filename), self.members, self.ids, self.max_pixels)


def _zip_images(where: str, members: tuple[zipfile.ZipInfo, ...], ids: tuple[str, ...], max_pixels: int) -> ZipImages:
    archive, lock = _opened_once(where)
    return ZipImages(archive, members, ids, max_pixels, lock)


@lru_cache(maxsize=4)
def _opened_once(where: str) -> tuple[zipfile.ZipFile, threading.Lock]:
    return _open_zip(place(where))[0], threading.Lock()


def _open_zip(path: Path | RemotePath) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Return the open archive and its entries by cleaned name; a folder's name ends with "/".

    Nothing is ever unpacked to disk, yet a name that is absolute or climbs by ".." is refused.

    Raises InputError: not a zip, encrypted, unsafe or repeated names.
    """
    try:
        archive = zipfile.ZipFile(path.absolute() if isinstance(path, Path) else path.open_binary())
        archive.filename = str(path.absolute() if isinstance(path, Path) else path)
    except _FAULTS as error:
        raise InputError(
            f"{shown(path)} is not a whole zip archive ({shown(error)}); expected a .zip of image folders; "
            "make or download it again"
        ) from error
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = _clean_name(member, path)
        if name == "/":  # the archive's own root
            continue
        if name in members and not name.endswith("/"):
            raise InputError(
                f"{shown(path)} holds {shown(name)} twice; expected each name once; make the archive again"
            )
        members[name] = member
    return archive, members


def _clean_name(member: zipfile.ZipInfo, path: Path | RemotePath) -> str:
    name = member.filename
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or ".." in parts or name[1:2] == ":":
        raise InputError(
            f"{shown(path)} holds a file named {shown(name)}; expected relative names without '..' and with "
            "'/'; make the archive again"
        )
    if member.flag_bits & 1 or stat.S_ISLNK(member.external_attr >> 16):
        kind = "encrypted" if member.flag_bits & 1 else "a link"
        raise InputError(f"{shown(name)} in {shown(path)} is {kind}; expected plain files; make the archive without it")
    return "/".join(parts) + ("/" if name.endswith("/") else "")


def _common_top(names: Iterable[str]) -> str:
    """Return "top/" where all files lie in one top folder that is neither a class nor a split, else ""."""
    depth_of_files = {(name.partition("/")[0], name.count("/") > 1) for name in names if not name.endswith("/")}
    tops = {top for top, _ in depth_of_files}
    top = min(tops, default="")
    nested = len(tops) == 1 and (top, True) in depth_of_files
    return top + "/" if nested and top.lower() not in SPLIT_WORDS else ""
