"""Hostile and odd image files: name -> (bytes, what has to come of it)."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

READ, REFUSED = "read", "refused"
Case = tuple[str, bytes, str]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the file of an image."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def images() -> Iterator[Case]:
    """Yield every case."""
    yield from _whole()
    yield from _modes()
    yield from _more_modes()
    yield from _damaged()
    yield from _bombs()
    yield from _not_images()


def _whole() -> Iterator[Case]:
    picture = Image.fromarray(PIXELS)
    for kind in KINDS:
        yield f"whole {kind}", saved(picture, kind), READ
    frames = [Image.fromarray(np.roll(PIXELS, k, axis=0)) for k in range(3)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        yield f"three frames {kind}", saved(frames[0], kind, save_all=True, append_images=frames[1:]), READ
    for orientation in (*range(10), 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"EXIF orientation {orientation}", saved(picture, "JPEG", exif=exif), READ
    yield "EXIF of noise", saved(picture, "PNG", exif=b"Exif\0\0" + bytes(range(200))), READ
    yield "one pixel", saved(Image.new("RGB", (1, 1)), "PNG"), READ
    yield "one column", saved(Image.new("L", (1, 5000)), "PNG"), READ
    yield "progressive JPEG", saved(picture, "JPEG", progressive=True), READ
    yield "bytes after the end", saved(picture, "PNG") + b"<script>" * 1000, READ
    yield "comment of HTML", saved(picture, "GIF", comment=b"<img src=x onerror=alert(1)>"), READ


def _modes() -> Iterator[Case]:
    picture = Image.fromarray(PIXELS)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG of mode {mode}", saved(picture.convert(mode), "PNG"), READ
    for mode in ("CMYK", "YCbCr"):
        yield f"TIFF of mode {mode}", saved(picture.convert(mode), "TIFF"), READ
    yield "TIFF of mode LAB", saved(Image.new("LAB", (4, 4)), "TIFF"), REFUSED
    grey = np.linspace(0, 1, 120, dtype=np.float32).reshape(12, 10)
    yield "16-bit PNG", saved(Image.fromarray((65535 * grey).astype(np.uint16)), "PNG"), READ
    yield "float TIFF from 0 to 1", saved(Image.fromarray(grey), "TIFF"), READ
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("2", 2.0), ("-1", -1.0)):
        yield f"float TIFF with {name}", saved(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"), REFUSED
    for name, value in (("70000", 70000), ("-1", -1)):
        yield f"32-bit TIFF with {name}", saved(Image.fromarray(np.full((4, 4), value, np.int32)), "TIFF"), REFUSED


def _more_modes() -> Iterator[Case]:
    """The modes that other formats hold, and EXIF outside JPEG."""
    picture = Image.fromarray(PIXELS)
    held = {
        "TIFF": ("1", "L", "LA", "P", "RGBA", "RGBX"),
        "JPEG": ("L", "CMYK"),
        "BMP": ("1", "L", "P", "RGBA"),
        "GIF": ("1", "L", "P"),
        "WEBP": ("RGBA", "RGBX"),
        "PPM": ("1", "L"),
        "JPEG2000": ("L", "LA", "RGBA"),
    }
    for kind, modes in held.items():
        for mode in modes:
            yield f"{kind} of mode {mode}", saved(picture.convert("RGB").convert(mode), kind), READ
    grey = np.linspace(0, 65535, 120).astype(np.uint16).reshape(12, 10)
    for kind in ("TIFF", "PPM", "JPEG2000"):
        yield f"{kind} of mode I;16", saved(Image.fromarray(grey), kind), READ
    yield "PNG of mode P with transparency", saved(picture.convert("P"), "PNG", transparency=3), READ
    yield "PNG of mode P without a palette", _png(4, 4, colour=3), REFUSED
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "TIFF", "WEBP"):
        yield f"EXIF orientation 6 in {kind}", saved(picture, kind, exif=exif), READ


def _damaged() -> Iterator[Case]:
    noise = np.random.default_rng(1).integers(0, 256, (90, 80, 3)).astype(np.uint8)
    for kind in KINDS:
        whole = saved(Image.fromarray(noise), kind)
        for share in (0.02, 0.5):
            yield f"{kind} cut at {share:.0%}", whole[: int(share * len(whole))], REFUSED
    png = saved(Image.fromarray(noise), "PNG")
    yield "PNG with a wrong checksum", png[:40] + bytes([png[40] ^ 255]) + png[41:], REFUSED
    yield "PNG without its end", png[:-30], REFUSED
    yield "PNG whose header says 0 x 0", _png(0, 0), REFUSED
    yield "JPEG of markers alone", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 500 + b"\xff\xd9", REFUSED


def _bombs() -> Iterator[Case]:
    yield "PNG of 60,000 x 60,000", _png(60_000, 60_000), REFUSED
    yield "PNG of 2^31 x 2^31", _png(2**31 - 1, 2**31 - 1), REFUSED
    yield "BMP of 50,000 x 50,000", _bmp(50_000, 50_000), REFUSED
    yield "BMP of negative width", _bmp(-5, 5), REFUSED
    yield "PPM of 99,999 x 99,999", b"P6 99999 99999 255\n" + bytes(100), REFUSED
    yield (
        "GIF of 65,535 x 65,535",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b",",
        REFUSED,
    )
    yield "TIFF with a tile of 2^30", _tiff({256: 4, 257: 4, 322: 2**15, 323: 2**15}), REFUSED
    yield "TIFF whose directory is itself", _tiff({256: 4, 257: 4}, next_directory=8), READ
    text = zlib.compress(bytes(50_000_000), 9)
    bomb = _chunk(b"zTXt", b"Comment\0\0" + text)
    whole = saved(Image.fromarray(PIXELS), "PNG")
    yield "PNG with 50 MB of compressed text", whole[:33] + bomb + whole[33:], REFUSED


def _not_images() -> Iterator[Case]:
    yield "empty", b"", REFUSED
    yield "zero bytes", bytes(5000), REFUSED
    yield "text", b"not an image\n", REFUSED
    yield "HTML called .png", b"<html><script>alert(1)</script></html>", REFUSED
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", REFUSED
    yield (
        "EPS that runs",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch executed) (w) file\n",
        REFUSED,
    )
    yield "pickle", b"\x80\x04cos\nsystem\n(S'touch executed'\ntR.", REFUSED
    yield "zip", b"PK\x03\x04" + bytes(100), REFUSED
    yield "PDF", b"%PDF-1.7\n" + bytes(100), REFUSED
    yield "XPM", b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c #000000", "a"};', REFUSED
    yield "Python", b"import os; os.system('touch executed')\n", REFUSED
    yield "ELF", b"\x7fELF" + bytes(200), REFUSED


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def _tiff(tags: dict[int, int], next_directory: int = 0) -> bytes:
    entries = {258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 4, 279: 16, **tags}
    if 322 in tags:
        entries |= {324: 200, 325: 16}
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<I", next_directory)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + bytes(16)
