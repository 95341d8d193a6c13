"""Check HDF5's global heaps, which hold texts: a made-up heap sends the HDF5 library into an endless loop."""

import functools
import mmap
import struct
from pathlib import Path

_HEAP = struct.Struct("<4sB3sQ")  # signature, version, nothing, the size of the whole
_OBJECT = struct.Struct("<HHIQ")  # index (0: free space), references, nothing, size


def check_heaps(path: Path) -> None:
    """Raise ValueError if the file holds a global heap whose objects do not lead to its end.

    The layout is that of the HDF5 File Format Specification, III.E. The library follows an object of no size, or of one
    that overflows, without end and without Python's lock, so that nothing in this process could stop it.
    """
    status = path.stat()
    _check(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)  # a stage opens its file several times
def _check(path: Path, inode: int, size: int, changed: int) -> None:
    if not size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(b"GCOL")
        while at >= 0:
            _walk(content, at)
            at = content.find(b"GCOL", at + 4)


def _walk(content: mmap.mmap, start: int) -> None:
    if start + _HEAP.size > len(content):
        return
    _, version, nothing, size = _HEAP.unpack_from(content, start)
    if version != 1 or nothing != b"\0\0\0":  # four bytes of a value that read the same
        return
    at, end = start + _HEAP.size, min(start + size, len(content))
    while at + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(content, at)
        step = _OBJECT.size + -(-length // 8) * 8 if index else length
        if step < _OBJECT.size or step > end - at:
            raise ValueError(f"a heap of its texts has an object of {length} bytes at {at}")
        at += step
