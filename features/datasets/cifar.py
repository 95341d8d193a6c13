"""List the images of CIFAR's original .tar.gz, whose pickles are read in place."""

import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from thaw.features.datasets.listing import ImageArrays, Listing, array_ids
from thaw.features.errors import FILE_ERRORS, InputError, shown
from thaw.features.files.atomic import file_digest


@dataclass(frozen=True)
class Cifar:
    """One of the two original archives, as its authors published it."""

    url: str
    sha256: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    key_prefix: bytes

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]

    @property
    def cached_as(self) -> tuple[str, ...]:
        """The names that the archive may have in Keras' cache; the first is what Keras 3 downloads to."""
        return *(f"{self.folder}{end}" for end in ("-target_archive", "-target.tar.gz", ".tar.gz")), self.file


CIFAR = {
    "cifar10": Cifar(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{k}" for k in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        key_prefix=b"",
    ),
    "cifar100": Cifar(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        key_prefix=b"fine_",
    ),
}


def read_cifar(name: str, data: Path | None = None) -> Listing:
    """List the images of `cifar10` or `cifar100` from the archive `data`, the Keras cache or the network.

    Nothing is unpickled unless the archive's sha256 is the published one, and then only arrays of bytes.

    Raises InputError if there is no archive, it has another digest, or a pickle asks for more.
    """
    cifar = CIFAR[name]
    path = data or cached_archive(name) or _downloaded(name)
    try:
        with path.open("rb") as file:
            _check_digest(cifar, path, file)
            return _parse(cifar, _unpickled(cifar, file))
    except InputError:
        raise
    except (*FILE_ERRORS, tarfile.TarError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{shown(path)} cannot be read as a CIFAR archive ({shown(error)}); expected "
            f"{cifar.file}; download it again, or give an image folder or .zip by --data PATH"
        ) from error


def _check_digest(cifar: Cifar, path: Path, file: BufferedReader) -> None:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != cifar.sha256:
        raise InputError(
            f"{shown(path)} has sha256 {digest}; expected {cifar.sha256} of {cifar.file}; it was "
            "not unpacked: download it again, or give an image folder or .zip by --data PATH"
        )
    file.seek(0)


def cached_archive(name: str) -> Path | None:
    """Return the first file of the Keras cache that is `cifar10` or `cifar100` by its digest, None if there is none."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
    for path in (folder / file for file in CIFAR[name].cached_as):
        if path.is_file() and file_digest(path) == CIFAR[name].sha256:
            return path
    return None


def _downloaded(name: str) -> Path:
    """Return Keras' own download, which is checked by the published digest and lands in Keras' cache."""
    cifar = CIFAR[name]
    try:
        from keras.utils import get_file

        return Path(get_file(fname=cifar.cached_as[0], origin=cifar.url, file_hash=cifar.sha256))
    except Exception as error:  # Keras raises Exception itself when a download fails
        raise InputError(
            f"{name} could not be downloaded ({shown(error)}); expected {cifar.file} in the Keras "
            "cache or by --data; type --data PATH with that archive, an image folder or a .zip "
            f"(with make: DATA={name}-images.zip)"
        ) from error


def _unpickled(cifar: Cifar, file: BufferedReader) -> dict[str, Any]:
    """Return the content of each pickle in the archive, by file name."""
    wanted = {f"{cifar.folder}/{name}": name for name in (*cifar.train, cifar.test, cifar.meta)}
    found = {}
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name in wanted else None
            if stream is not None:
                found[wanted[member.name]] = _ByteArrays(stream, encoding="bytes").load()
    return found


def _parse(cifar: Cifar, found: dict[str, Any]) -> Listing:
    class_names = tuple(name.decode("ascii") for name in found[cifar.meta][cifar.key_prefix + b"label_names"])
    images: list[np.ndarray] = []
    labels: list[int] = []
    num_train = 0
    for name in (*cifar.train, cifar.test):
        num_train = len(images)  # in the end: all before the test file
        images.extend(found[name][b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.extend(found[name][cifar.key_prefix + b"labels"])
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, {len(labels)} labels")
    ids, splits = array_ids(num_train, len(images) - num_train)
    names = [class_names[label] for label in labels]
    return Listing(ImageArrays(images), ids, names, splits, order=class_names)


def _byte_type(code: bytes, *_: object) -> np.dtype:
    """Stand in for numpy.dtype, whose old arguments NumPy 2.4 warns about."""
    if code != b"u1":
        raise pickle.UnpicklingError(f"it asks for an array of {code!r}")
    return np.dtype(np.uint8, copy=True)


def _empty_array(*_: object) -> np.ndarray:
    """Stand in for NumPy's _reconstruct; the pickle then sets shape and bytes."""
    return np.ndarray((0,), np.uint8)


class _ByteArrays(pickle.Unpickler):
    """An unpickler of uint8 arrays, numbers, strings and containers that calls only functions of this file."""

    allowed: ClassVar[dict[tuple[str, str], Callable[..., object] | str]] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy", "dtype"): _byte_type,
        ("numpy", "ndarray"): "numpy.ndarray",  # an argument of _reconstruct, never called
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global, or raise UnpicklingError."""
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.allowed[module, name]
