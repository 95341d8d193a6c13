"""Files and folders at a URL that fsspec understands, which every machine of a cluster can reach."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from thaw.features.datasets.listing import EncodedImages
from thaw.features.errors import InputError, shown

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")


def is_url(text: str) -> bool:
    """Return whether `text` is a URL and not a path."""
    return _URL.match(text) is not None


def path_or_url(text: str | Path) -> "Path | RemotePath":
    """Return the path or the URL as an object with the methods of a path; `file://` is a path of this machine."""
    text = str(text)
    if not is_url(text):
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme.lower() == "file" else RemotePath(text)


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and its path there; raises InputError if fsspec has none for it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(
            f"{shown(url)}: URLs need the package fsspec, which is not installed; type make setup EXTRA=cluster"
        ) from None
    try:
        system, path = url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise InputError(
            f"{shown(url)} cannot be used ({shown(error)}); expected a URL of fsspec such as s3://BUCKET/FOLDER or "
            "file:///FOLDER, and its package installed here and on every worker"
        ) from None
    return system, path


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder at a URL, with the methods of a path that a feature file's parts need."""

    url: str

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last component."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """The folder that it lies in."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])

    def open_binary(self) -> IO[bytes]:
        """Return the file, open for reading; raises OSError if it cannot be read."""
        system, path = self._fresh()
        return system.open(path, "rb")

    def write(self, data: Any) -> None:
        """Write `data`, bytes or a buffer of them. An object store takes all of it or nothing."""
        system, path = self._fresh()
        system.pipe_file(path, bytes(data))

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Make the folder, if the file system has folders."""
        system, path = self._fresh()
        system.makedirs(path, exist_ok=exist_ok)

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield what lies in the folder."""
        system, path = self._fresh()
        for name in system.ls(path, detail=False):
            yield self / str(name).rstrip("/").rpartition("/")[2]

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        system, path = self._fresh()
        if not missing_ok or system.exists(path):
            system.rm_file(path)

    def rmdir(self) -> None:
        """Remove the empty folder, if the file system has kept it."""
        system, path = self._fresh()
        if system.isdir(path):
            system.rmdir(path)

    def _fresh(self) -> tuple[Any, str]:
        """Return the file system, its cache of listings dropped, and the path: other machines write there too."""
        system, path = file_system(self.url)
        system.invalidate_cache()
        return system, path


@dataclass(frozen=True, eq=False)
class RemoteFiles(EncodedImages):
    """Image files below a folder at a URL."""

    url: str

    def source(self, i: int) -> bytes:
        """Return the file of image `i`; raises InputError that names its id."""
        try:
            return self._bytes(i)
        except Exception as error:  # each file system has errors of its own
            raise InputError(
                f"{shown(self.ids[i])} cannot be read from {shown(self.url)} ({shown(error)}); expected a file that "
                "can; look after the connection, or leave it out by --skip-bad"
            ) from error

    def content(self, i: int) -> bytes:
        """Return the whole file of image `i`, or that it cannot be opened: `read` then raises the reason."""
        try:
            return self._bytes(i)
        except Exception:  # each file system has errors of its own
            return b"cannot be opened"

    def _bytes(self, i: int) -> bytes:
        system, root = file_system(self.url)
        return system.cat_file(f"{root.rstrip('/')}/{self.ids[i]}")


def found_files(url: str) -> list[str]:
    """Return the names of all files below the folder at `url`, relative to it with "/", sorted.

    Raises InputError if there is no such folder, or a name leads out of it.
    """
    system, root = file_system(url)
    top = f"{root.rstrip('/')}/"
    try:
        names = sorted(str(name) for name in system.find(root))
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{shown(url)} cannot be listed ({shown(error)}); expected a folder; fix the URL") from error
    if not names:
        raise InputError(f"{shown(url)} holds no files; expected a folder with a folder per class; fix the URL")
    outside = [name for name in names if not name.startswith(top) or ".." in name.split("/")]
    if outside:
        raise InputError(f"{shown(url)} lists {shown(outside[0])}, which lies outside of it; expected its own files")
    return [name.removeprefix(top) for name in names]
