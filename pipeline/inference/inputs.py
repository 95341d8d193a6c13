"""The images that are to be labelled: files, folders, patterns, and names on standard input."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from thaw.features.datasets.remote import is_url
from thaw.features.errors import InputError, shown
from thaw.features.images.endings import ENDINGS

STANDARD_INPUT = "-"


def list_images(words: Sequence[str], lines: Iterable[str]) -> Iterator[Path]:
    """Yield the images that `words` name, in their order; `-` stands for the names in `lines`, one a line.

    A folder stands for the image files anywhere in it, a word with `*`, `?` or `[` for what it matches, unless it is a
    file's name. The name of a missing file is yielded too: reading it is the error. Raises InputError if there are no
    words, or if a folder or a pattern holds no image.
    """
    if not words:
        raise InputError(
            'no image was named; type make predict IMAGES="photo.jpg folder", or make predict IMAGES=- to read a list'
        )
    for word in words:
        paths, problem = _named_by(word, lines)
        first = next(paths, None)
        if first is None:
            raise InputError(f"{problem}; expected JPEG, PNG or other image files: fix the name")
        yield first
        yield from paths


def _named_by(word: str, lines: Iterable[str]) -> tuple[Iterator[Path], str]:
    """Return the paths that a word names, and the error if there are none."""
    if word == STANDARD_INPUT:
        return (Path(name) for line in lines if (name := line.rstrip("\r\n"))), "standard input names no image"
    if is_url(word):
        raise InputError(
            f"{shown(word)} is a URL, which is not fetched here; expected a file, a folder or a pattern: download it "
            "first"
        )
    try:
        path = Path(word).expanduser()
    except RuntimeError as error:
        raise InputError(f"{shown(word)}: {error} Expected a file, a folder or a pattern: fix the name") from None
    if path.is_dir():
        return _in_folder(path), f"{shown(path)} holds no image file"
    if os.path.lexists(path) or not glob.has_magic(word):
        return iter([path]), ""
    matched = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207, an absolute pattern too
    files = (file for name in matched for file in (_in_folder(name) if name.is_dir() else [name]))
    return files, f"nothing matches {shown(word)}"


def _in_folder(folder: Path) -> Iterator[Path]:
    """Yield the image files under `folder`, folder by folder in the order of their names; hidden ones are left out."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                yield Path(at) / name
