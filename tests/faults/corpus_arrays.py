"""Hostile .npz archives: name -> what makes one in a folder and returns its word, and what has to come of it."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from corpus_images import PIXELS, READ, REFUSED

Make = Callable[[Path], str]
Case = tuple[str, Make, str]


def _npz(**arrays: object) -> Make:
    def make(folder: Path) -> str:
        np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
        return f"npz:{folder / 'arrays.npz'}"

    return make


def _declared(shape: tuple[int, ...], descr: str = "|u1", header: str = "") -> Make:
    """Return what makes an archive whose array claims a shape that its bytes do not have, or has another header."""

    def make(folder: Path) -> str:
        text = header or repr({"descr": descr, "fortran_order": False, "shape": shape})
        line = text.encode().ljust(117) + b"\n"
        array = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(line)) + line + bytes(100)
        labels = io.BytesIO()
        np.save(labels, np.array([0, 1]))
        with zipfile.ZipFile(folder / "arrays.npz", "w") as archive:
            archive.writestr("x.npy", array)
            archive.writestr("y.npy", labels.getvalue())
        return f"npz:{folder / 'arrays.npz'}"

    return make


class _Executes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def arrays() -> Iterator[Case]:
    x, y = np.stack([PIXELS] * 4), np.array([0, 1, 0, 1])
    yield "arrays of four images", _npz(x=x, y=y), READ
    yield "arrays with a pickle that runs", _npz(x=np.array([_Executes()] * 2, object), y=y[:2]), REFUSED
    yield "arrays with labels that are objects", _npz(x=x, y=np.array([_Executes()] * 4, object)), REFUSED
    yield "arrays with NaN", _npz(x=np.full((4, 8, 8, 3), np.nan), y=y), REFUSED
    yield "arrays of floats", _npz(x=x / 255, y=y), READ
    yield "arrays of other lengths", _npz(x=x, y=y[:3]), REFUSED
    yield "arrays of five dimensions", _npz(x=x[..., np.newaxis], y=y), REFUSED
    yield "arrays of four channels", _npz(x=np.zeros((4, 8, 8, 4), np.uint8), y=y), READ
    yield "arrays by other names", _npz(images=x, labels=y), READ
    yield from _forms(x, y)
    yield "arrays without images", _npz(x=x[:0], y=y[:0]), REFUSED
    yield "arrays of one class", _npz(x=x, y=np.zeros(4, int)), REFUSED
    yield "array that claims 10^12 bytes", _declared((10**6, 1000, 1000, 3)), REFUSED
    yield "array that claims a negative length", _declared((-2, 8, 8, 3)), REFUSED
    yield "array whose header is a call", _declared((2,), "|u1", "__import__('os').system('touch executed')"), REFUSED
    yield "array whose header is 50,000 deep", _declared((2,), "|u1", "(" * 50_000 + ")" * 50_000), REFUSED
    yield "array of 10^9 dimensions in words", _declared((2,), "|u1", "{'descr': '|u1', 'shape': (2,)*10**9}"), REFUSED
    yield "arrays that unpack to 2 GB", _array_bomb, REFUSED
    yield "array of structures", _declared((2,), "|V64"), REFUSED
    yield "archive of JSON", _json_archive, REFUSED


def _forms(x: np.ndarray, y: np.ndarray) -> Iterator[Case]:
    """Yield archives in the forms that others write, and what is almost one."""
    yield "arrays in the names of MedMNIST", _npz(train_images=x, train_labels=y[:, np.newaxis]), READ
    yield "arrays with labels that are one-hot", _npz(x=x, y=np.eye(2)[y]), READ
    yield "arrays with labels of several classes", _npz(x=x, y=np.ones((4, 3), int)), REFUSED
    yield "arrays with labels that are NaN", _npz(x=x, y=np.array([0, 1, np.nan, 1])), REFUSED
    yield "arrays with labels that are infinite", _npz(x=x, y=np.array([0, 1, np.inf, 1])), REFUSED
    yield (
        "arrays with labels of bytes that are no UTF-8",
        _npz(x=x, y=np.array([b"\xff", b"a", b"\xff", b"a"])),
        REFUSED,
    )
    yield "arrays with labels that differ in case alone", _npz(x=x, y=np.array(["Ant", "ant", "bee", "bee"])), REFUSED
    yield "arrays with channels first", _npz(x=x.transpose(0, 3, 1, 2), y=y), READ
    yield "arrays of negative numbers", _npz(x=-x.astype(int), y=y), REFUSED
    yield "arrays of huge numbers", _npz(x=x.astype(float) * 1e300, y=y), READ
    yield "arrays of infinity", _npz(x=np.full((4, 8, 8), np.inf), y=y), REFUSED
    yield "arrays of bool", _npz(x=x > 100, y=y), READ
    yield "arrays of 16 bits", _npz(x=x.astype(np.uint16) * 16, y=y), READ
    yield "arrays of complex numbers", _npz(x=x.astype(complex), y=y), REFUSED
    yield "arrays beside a pickle that is not needed", _npz(x=x, y=y, z=np.array([_Executes()], object)), READ


def _array_bomb(folder: Path) -> str:
    """An archive of 2 MB whose images are 2 GB of zeros."""
    line = repr({"descr": "|u1", "fortran_order": False, "shape": (2, 18_000, 18_000, 3)}).encode().ljust(117) + b"\n"
    labels = io.BytesIO()
    np.save(labels, np.array([0, 1]))
    with zipfile.ZipFile(folder / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(line)) + line)
            for _ in range(1944):
                member.write(bytes(1_000_000))
        archive.writestr("y.npy", labels.getvalue())
    return f"npz:{folder / 'arrays.npz'}"


def _json_archive(folder: Path) -> str:
    (folder / "arrays.npz").write_text(json.dumps({"x": [1, 2], "y": [0, 1]}))
    return f"npz:{folder / 'arrays.npz'}"
