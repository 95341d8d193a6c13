"""Formats that need a package of their own: HEIC by pi-heif, DICOM by pydicom; each an extra that may be missing."""

import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from thaw.features.errors import FILE_ERRORS, InputError

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_SAMPLES_PER_PIXEL = 277  # a tag of TIFF
_DICOM_MARK = b"DICM"  # after 128 bytes of anything
_PACKAGES = {"heic": ("pi_heif", "pi-heif"), "dicom": ("pydicom", "pydicom")}


def kind_of(head: bytes) -> str | None:
    """Return heic or dicom for the first bytes of such a file, else None.

    >>> kind_of(b"\\0\\0\\0\\x18ftypheic"), kind_of(b"\\x89PNG")
    ('heic', None)
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "heic"
    return "dicom" if head[128:132] == _DICOM_MARK else None


def read_extra(source: bytes | Path | BinaryIO, name: str, max_pixels: int) -> Image.Image | None:
    """Return the image of a HEIC or DICOM file, None for a file of any other kind.

    A DICOM image is shown through its window, as uint8; an inverted one is turned round.

    Args:
        source: the file's bytes, its path, or an open stream.
        name: what errors call the image.
        max_pixels: the most pixels that are accepted.

    Raises:
        InputError: the package that reads it is not installed, or the file is damaged or holds several frames.
    """
    content = _content(source)
    kind = kind_of(content[:132])
    if kind is None:
        return None
    module, package = _PACKAGES[kind]
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"{name} is a {kind.upper()} image, which needs the package {package}; it is not installed: type make "
            f"setup EXTRA={kind}, or pip install {package}; or convert the image to JPEG, or leave it out by --skip-bad"
        )
    try:
        return _heic(content, name, max_pixels) if kind == "heic" else _dicom(content, name, max_pixels)
    except (*FILE_ERRORS, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name} is damaged ({type(error).__name__}: {error}); expected a whole {kind.upper()} image; replace it, "
            "or "
            "leave it out by --skip-bad"
        ) from error


def number_of_bands(source: bytes | Path | BinaryIO) -> int | None:
    """Return the samples per pixel that a TIFF states, None for any other file."""
    stream = BytesIO(_content(source))
    head = stream.read(8)
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        stream.seek(tags.next)
        tags.load(stream)
        bands = tags.get(_SAMPLES_PER_PIXEL)
    except (*FILE_ERRORS, Warning):
        return None
    return bands if isinstance(bands, int) else None


def _content(source: bytes | Path | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return source.read_bytes()
    source.seek(0)
    return source.read()


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width * height} pixels ({width} x {height}); expected at most {max_pixels}; shrink it, "
            "allow it "
            f"by --max-pixels {width * height}, or leave it out by --skip-bad"
        )


def _heic(content: bytes, name: str, max_pixels: int) -> Image.Image:
    heif: Any = importlib.import_module("pi_heif")
    file = heif.open_heif(BytesIO(content), convert_hdr_to_8bit=True)
    _check_size(int(file.size[0]), int(file.size[1]), name, max_pixels)
    return file.to_pillow()


def _dicom(content: bytes, name: str, max_pixels: int) -> Image.Image:
    dicom: Any = importlib.import_module("pydicom")
    pixels: Any = importlib.import_module("pydicom.pixels")
    file = dicom.dcmread(BytesIO(content))
    frames = int(getattr(file, "NumberOfFrames", 1) or 1)
    if frames != 1:
        raise InputError(f"{name} holds {frames} frames; expected one; save one, or leave it out by --skip-bad")
    _check_size(int(file.Columns), int(file.Rows), name, max_pixels)
    values = file.pixel_array
    if values.ndim == 3:
        return Image.fromarray(
            pixels.convert_color_space(values, file.PhotometricInterpretation, "RGB").astype(np.uint8)
        )
    shown = pixels.apply_voi_lut(pixels.apply_modality_lut(values, file), file).astype(np.float64)
    shown -= shown.min()
    grey = np.rint(shown * (255 / max(float(shown.max()), 1e-9))).astype(np.uint8)
    return Image.fromarray(255 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey)
