"""What a reader of a dataset finds: the images, and the id, class and split of each, unchecked so far."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from thaw.features.errors import InputError
from thaw.features.images.decode import LeastSide, decode, shorter_side
from thaw.features.images.value_range import Peek, peek


class Images(Protocol):
    """Images by index, read from where they lie."""

    def read(self, i: int, least_side: LeastSide | None = None) -> np.ndarray:
        """Return image `i`, decoded now in any thread, as uint8 (H, W, 3); raises InputError that names its id.

        A JPEG may be decoded at a reduced size that `least_side` allows (thaw.features.images.decode.decode).
        """

    def shorter_side(self, i: int) -> int | None:
        """Return the shorter side of image `i` in pixels, without decoding it; None if it cannot be read."""

    def content(self, i: int) -> bytes:
        """Return bytes that identify image `i`."""

    def peek(self, i: int) -> Peek:
        """Return what a look at image `i` shows: the highest value of one with more than 8 bits, and its frames."""

    def stamp(self, i: int) -> str:
        """Return what shows a change of image `i` without reading it, "" if nothing does."""

    def take(self, rows: Sequence[int]) -> "Images":
        """Return the images at `rows` alone, holding on to no other: what is sent to another machine."""


@dataclass(frozen=True, eq=False)
class Listing:
    """N images: `ids`, `names` of their classes, `splits` (train, validation, test or ""), `groups` if any.

    `order` holds all classes in the order of their numbers, or is None if the data does not say it. `notes` are lines
    that say what was guessed, ignored or left out.
    """

    images: Images
    ids: Sequence[str]
    names: Sequence[str]
    splits: Sequence[str]
    groups: Sequence[str] | None = None
    order: Iterable[str] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class EncodedImages(ABC):
    """Image files, of at most `max_pixels` pixels each; a subclass knows where they lie.

    `white` is the value that becomes white in images of more than 8 bits, None if it is the type's highest.
    """

    ids: tuple[str, ...]
    max_pixels: int
    white: float | None

    @abstractmethod
    def source(self, i: int) -> bytes | Path:
        """Return the file of image `i`, or the path to read it from; raises InputError that names its id."""

    def read(self, i: int, least_side: LeastSide | None = None) -> np.ndarray:
        """Return image `i` as uint8 (H, W, 3); raises InputError that names its id."""
        return decode(self.source(i), self.ids[i], self.max_pixels, least_side, self.white)

    def shorter_side(self, i: int) -> int | None:
        """Return the shorter side of image `i` in pixels, None if its header cannot be read."""
        try:
            return shorter_side(self.source(i))
        except InputError:
            return None

    def peek(self, i: int) -> Peek:
        """Return what a look at image `i` shows; nothing of one that cannot be read."""
        try:
            return peek(self.source(i), self.max_pixels)
        except InputError:
            return Peek()

    def stamp(self, i: int) -> str:
        """Return nothing: a subclass may know what shows a change of image `i` without reading it."""
        return ""

    def take(self, rows: Sequence[int]) -> Self:
        """Return the images at `rows` alone."""
        return replace(self, ids=tuple(self.ids[row] for row in rows))


@dataclass(frozen=True, eq=False)
class ImageFiles(EncodedImages):
    """Image files under one folder."""

    root: Path

    def source(self, i: int) -> Path:
        """Return the path of image `i`."""
        return self.root / self.ids[i]

    def stamp(self, i: int) -> str:
        """Return the size and the time of the last change of image `i`'s file."""
        try:
            found = self.source(i).stat()
        except OSError as error:
            return f"cannot be opened: {error.errno}"
        return f"{found.st_size} {found.st_mtime_ns}"

    def content(self, i: int) -> bytes:
        """Return the whole file of image `i`, or the reason why it cannot be read, of which `read` informs the user."""
        try:
            return self.source(i).read_bytes()
        except OSError as error:
            return f"cannot be opened: {error.errno}".encode()


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Images in memory, each uint8 (H, W), (H, W, 1) or (H, W, 3)."""

    images: Sequence[np.ndarray]

    def read(self, i: int, least_side: LeastSide | None = None) -> np.ndarray:
        """Return a copy of image `i` as uint8 (H, W, 3)."""
        height, width = self.images[i].shape[:2]
        return np.broadcast_to(self.images[i].reshape(height, width, -1), (height, width, 3)).copy()

    def shorter_side(self, i: int) -> int:
        """Return the shorter side of image `i` in pixels."""
        return min(self.images[i].shape[:2])

    def peek(self, i: int) -> Peek:
        """Return nothing: arrays were scaled when they were listed."""
        return Peek()

    def stamp(self, i: int) -> str:
        """Return a checksum of image `i`, which is in memory already."""
        return f"{zlib.crc32(self.content(i)):08x}"

    def content(self, i: int) -> bytes:
        """Return the shape and the pixels of image `i`."""
        return str(self.images[i].shape).encode() + self.images[i].tobytes()

    def take(self, rows: Sequence[int]) -> "ImageArrays":
        """Return the images at `rows` alone."""
        return ImageArrays([self.images[row] for row in rows])


def array_ids(num_train: int, num_test: int = 0, num_validation: int = 0) -> tuple[list[str], list[str]]:
    """Return the ids and splits of images in arrays: train/00000 and up, then validation/00000 and test/00000.

    Without a second split the splits are empty.
    """
    counts = {"train": num_train, "validation": num_validation, "test": num_test}
    ids = [f"{split}/{i:0{max(5, len(str(num - 1)))}d}" for split, num in counts.items() for i in range(num)]
    given = bool(num_test or num_validation)
    return ids, [split if given else "" for split, num in counts.items() for _ in range(num)]


def leads_inside(root: Path, name: str | Path) -> bool:
    """Return whether `root / name`, its links followed, lies in `root`."""
    try:
        return (root / name).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        return False
