"""Image files inside a .zip that is read in place."""

import stat
import struct
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from thaw.features.datasets.listing import EncodedImages
from thaw.features.datasets.remote import RemotePath, path_or_url
from thaw.features.datasets.zip_names import decoded_names
from thaw.features.errors import FILE_ERRORS, InputError, shown


@dataclass(frozen=True, eq=False)
class ZipImages(EncodedImages):
    """Image files inside one open .zip; any number of threads may read."""

    archive: zipfile.ZipFile
    members: list[zipfile.ZipInfo]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def source(self, i: int) -> bytes:
        """Return the unpacked file of image `i`; raises InputError that names its id."""
        member, name = self.members[i], self.ids[i]
        limit = 8 * self.max_pixels + 2**20  # four 16-bit channels uncompressed, and metadata
        if member.file_size > limit:
            raise InputError(
                f"{shown(name)} unpacks to {member.file_size} bytes; expected at most {limit} for an "
                f"image of {self.max_pixels} pixels; raise --max-pixels, or leave it out by --skip-bad"
            )
        try:
            with self.lock:
                return self.archive.read(member)
        except FILE_ERRORS as error:
            raise InputError(
                f"{shown(name)} is damaged in {shown(self.archive.filename)} ({shown(error)}); expected a "
                "whole zip member; make the archive again, or leave it out by --skip-bad"
            ) from error

    def content(self, i: int) -> bytes:
        """Return the CRC-32 and the size of image `i`'s file, from the directory: nothing is unpacked."""
        return struct.pack(">IQ", self.members[i].CRC, self.members[i].file_size)

    def stamp(self, i: int) -> str:
        """Return the CRC-32 and the size of image `i`'s file, from the directory."""
        return f"{self.members[i].CRC:08x} {self.members[i].file_size}"

    def take(self, rows: Sequence[int]) -> Self:
        """Return the images at `rows` alone, in the same open archive."""
        return replace(super().take(rows), members=[self.members[row] for row in rows])

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the archive itself, once for all images that it is sent."""
        return _zip_images, (self.ids, self.max_pixels, self.white, str(self.archive.filename), self.members)


def _zip_images(
    ids: tuple[str, ...], max_pixels: int, white: float | None, path: str, members: list[zipfile.ZipInfo]
) -> ZipImages:
    archive, lock = _opened_once(path)
    return ZipImages(ids, max_pixels, white, archive, members, lock)


@lru_cache(maxsize=4)
def _opened_once(path: str) -> tuple[zipfile.ZipFile, threading.Lock]:
    return _opened(path_or_url(path)), threading.Lock()


def open_zip(
    path: Path | RemotePath, encoding: str | None = None
) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], list[str]]:
    """Return the open archive, its members by cleaned name, and lines about what was guessed.

    A folder's name ends with "/". Nothing is ever unpacked to disk, yet a name that is absolute or climbs by ".." is
    refused. Names that are not marked as UTF-8 are decoded by `encoding`, or by the one that fits them all.

    Raises InputError if it is no zip, is encrypted, or has unsafe or repeated names.
    """
    archive = _opened(path)
    names, notes = decoded_names(archive.infolist(), shown(path), encoding)
    members: dict[str, zipfile.ZipInfo] = {}
    for member, text in zip(archive.infolist(), names, strict=True):
        name = _clean_name(member, text, path)
        if name == "/":  # the archive's own root
            continue
        if name in members and not name.endswith("/"):
            raise InputError(
                f"{shown(path)} holds {shown(name)} twice; expected each name once; make the archive again"
            )
        members[name] = member
    return archive, members, notes


def _opened(path: Path | RemotePath) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path.absolute() if isinstance(path, Path) else path.open_binary())
        archive.filename = str(path.absolute() if isinstance(path, Path) else path)
    except FILE_ERRORS as error:
        raise InputError(
            f"{shown(path)} is not a whole zip archive ({shown(error)}); expected a .zip of image folders; "
            "make or download it again"
        ) from error
    return archive


def _clean_name(member: zipfile.ZipInfo, name: str, path: Path | RemotePath) -> str:
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
