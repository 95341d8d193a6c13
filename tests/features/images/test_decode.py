import functools
import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from thaw.features.errors import InputError
from thaw.features.images.aspect import fit
from thaw.features.images.decode import KeptMiddle, _scales, decode, least_side
from thaw.features.images.preprocess import neutral_colour, resize

from tests.builders.images import encoded, noise

# ---- what every mode becomes


def test_rgb_comes_through_from_bytes_path_and_stream(tmp_path):
    image = noise(5, 7)
    data = encoded(Image.fromarray(image))
    (tmp_path / "a.png").write_bytes(data)
    for source in (data, tmp_path / "a.png", io.BytesIO(data)):
        result = decode(source, "a.png")
        assert result.dtype == np.uint8
        assert result.flags.writeable
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("P", "GIF"), ("L", "TIFF")])
def test_grey_and_palette(mode, kind):
    image = Image.fromarray(noise(6, 5)).convert(mode)
    result = decode(encoded(image, kind), "x")
    np.testing.assert_array_equal(result, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk(kind):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    np.testing.assert_allclose(decode(encoded(image, kind), "x")[8, 8], [255, 0, 0], atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_257_and_rounded(kind):
    values = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16)
    result = decode(encoded(Image.fromarray(values), kind), "x")
    np.testing.assert_array_equal(result[0, :, 0], [0, 0, 1, 1, 128, 254, 255, 255])
    assert (result == result[..., :1]).all()


def test_sixteen_bits_big_endian():
    header = struct.pack(">2sHIH", b"MM", 42, 8, 8)
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 110), (278, 1), (279, 4)]
    body = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = header + body + b"\0" * 4 + struct.pack(">HH", 65535, 257)
    np.testing.assert_array_equal(decode(data, "x")[0, :, 0], [255, 1])


def test_pgm_of_sixteen_bits():
    result = decode(b"P5 2 1 65535\n" + struct.pack(">HH", 257, 65535), "x")
    np.testing.assert_array_equal(result[0, :, 0], [1, 255])


def test_wide_integers_are_refused():
    data = encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF")
    with pytest.raises(InputError) as error:
        decode(data, "a.tif")
    assert str(error.value) == (
        "a.tif has grey values from 0 to 70000; expected 0 to 65535; save it with 8 bits, or leave it out by --skip-bad"
    )


def test_floats_from_0_to_1():
    data = encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF")
    np.testing.assert_array_equal(decode(data, "x")[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
def test_other_floats_are_refused(value):
    data = encoded(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
    with pytest.raises(InputError, match=r"a\.tif has grey values from .*; expected 0 to 1; "):
        decode(data, "a.tif")


def test_lab_is_refused():
    with pytest.raises(InputError) as error:
        decode(encoded(Image.new("LAB", (2, 2)), "TIFF"), "a.tif")
    assert str(error.value) == (
        "a.tif has pixels of kind LAB; expected grey, palette, RGB or CMYK; "
        "save it as RGB, or leave it out by --skip-bad"
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 50), (128, 152)])
def test_alpha_is_laid_over_white(mode, alpha, expected):
    colour = (50, alpha) if mode == "LA" else (50, 50, 50, alpha)
    result = decode(encoded(Image.new(mode, (3, 2), colour)), "x")
    np.testing.assert_allclose(result.astype(int), expected, atol=1)


def test_premultiplied_alpha():
    tags = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 2), (273, 134), (277, 4), (278, 1), (279, 8), (338, 1)]
    body = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    bits = struct.pack("<4H", 8, 8, 8, 8)
    body = body.replace(struct.pack("<HHII", 258, 3, 1, 8), struct.pack("<HHII", 258, 3, 4, 142))
    data = struct.pack("<2sHIH", b"II", 42, 8, 10) + body + b"\0" * 4
    data += bytes([0, 0, 0, 0, 200, 200, 200, 255]) + bits
    np.testing.assert_array_equal(decode(data, "x")[0, :, 0], [255, 200])


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for options in ({"transparency": 0}, {"transparency": bytes([0, 255])}):
        result = decode(encoded(image, **options), "x")
        np.testing.assert_array_equal(result[0], [[255, 255, 255], [40, 50, 60]])


def test_transparent_keys_are_white():
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    result = decode(encoded(rgb, transparency=(1, 2, 3)), "x")
    np.testing.assert_array_equal(result[0], [[255, 255, 255], [4, 5, 6]])
    grey = Image.fromarray(np.array([[9, 8]], np.uint8))
    np.testing.assert_array_equal(decode(encoded(grey, transparency=9), "x")[0, :, 0], [255, 8])
    deep = Image.fromarray(np.array([[514, 257]], np.uint16))
    np.testing.assert_array_equal(decode(encoded(deep, transparency=514), "x")[0, :, 0], [255, 1])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise(4, 6)), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    result = decode(data, "x")
    assert result.shape == ((6, 4, 3) if orientation in (5, 6, 7, 8) else (4, 6, 3))
    np.testing.assert_array_equal(result, expected)


def test_an_orientation_of_6_turns_clockwise():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise(4, 6)
    result = decode(encoded(Image.fromarray(image), exif=exif), "x")
    np.testing.assert_array_equal(result, np.rot90(image, -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_cannot_be_read_turns_nothing():
    data = encoded(Image.fromarray(noise(16, 16)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data, "x").shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data, "x")[4, 4], [255, 0, 0])


# ---- JPEGs at a reduced size


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Two real photographs of 640 x 427, which scikit-learn carries."""
    return tuple(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


@pytest.mark.parametrize(("width", "height"), [(640, 427), (640, 424), (633, 409), (409, 427)])
@pytest.mark.parametrize(("method", "size"), [("bilinear", 13), ("bicubic", 25), ("bilinear", 51), ("area", 25)])
def test_a_reduced_jpeg_gives_the_same_resized_image(method, size, width, height):
    for photograph in photographs():
        data = encoded(photograph.crop((0, 0, width, height)), "JPEG", quality=92)
        whole, reduced = decode(data, "x"), decode(data, "x", least_side=least_side(size, method))
        assert min(reduced.shape[:2]) in range(least_side(size, method), min(width, height) // 2 + 2)
        difference = resize(reduced, size, method) - resize(whole, size, method)
        assert np.sqrt(np.mean(difference**2)) <= 1
        assert np.abs(difference).max() <= 8


@pytest.mark.parametrize(
    ("options", "mode"), [({}, "L"), ({}, "CMYK"), ({"progressive": True}, "RGB"), ({"subsampling": 0}, "RGB")]
)
def test_every_kind_of_jpeg_is_reduced(options, mode):
    data = encoded(photographs()[0].convert(mode), "JPEG", **options)
    whole, reduced = decode(data, "x"), decode(data, "x", least_side=100)
    assert reduced.shape == (107, 160, 3)
    assert np.sqrt(np.mean((resize(reduced, 25, "bilinear") - resize(whole, 25, "bilinear")) ** 2)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_turned_by_its_exif_too(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photographs()[0], "JPEG", exif=exif)
    whole, reduced = decode(data, "x"), decode(data, "x", least_side=100)
    assert reduced.shape == ((160, 107, 3) if orientation >= 5 else (107, 160, 3))
    assert np.sqrt(np.mean((resize(reduced, 25, "bilinear") - resize(whole, 25, "bilinear")) ** 2)) <= 1


def test_a_phones_jpeg_of_two_images_is_reduced():
    data = encoded(photographs()[0], "MPO", save_all=True, append_images=[photographs()[1]])
    whole, reduced = decode(data, "x"), decode(data, "x", least_side=100)
    assert reduced.shape == (107, 160, 3)
    assert np.sqrt(np.mean((resize(reduced, 25, "bilinear") - resize(whole, 25, "bilinear")) ** 2)) <= 1


@pytest.mark.parametrize(("side", "shape"), [(214, (427, 640)), (213, (214, 320)), (54, (107, 160)), (53, (53, 80))])
def test_the_smallest_size_that_is_large_enough(side, shape):
    assert decode(encoded(photographs()[0], "JPEG"), "x", least_side=side).shape[:2] == shape


def test_only_jpegs_are_reduced():
    for kind in ("PNG", "TIFF", "WEBP"):
        assert decode(encoded(photographs()[0], kind), "x", least_side=32).shape == (427, 640, 3)


# Half of the sides, or of their difference, would be no whole pixels for most of these in an eighth of the size.
@pytest.mark.parametrize("aspect", ["crop", "pad"])
@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(408, 424, 8), (640, 416, 8), (640, 424, 4), (636, 420, 4), (638, 410, 2), (640, 427, 1)],
)
@pytest.mark.parametrize(("method", "size"), [("bilinear", 12), ("bicubic", 12), ("area", 6)])
def test_a_reduced_jpeg_gives_the_same_middle_and_border(method, size, width, height, scale, aspect):
    border = neutral_colour("caffe")
    for photograph in photographs():
        data = encoded(photograph.crop((0, 0, width, height)), "JPEG", quality=92)
        whole, reduced = decode(data, "x"), decode(data, "x", least_side=least_side(size, method, aspect))
        assert reduced.shape == (height // scale, width // scale, 3)
        difference = fit(reduced, size, method, aspect, border) - fit(whole, size, method, aspect, border)
        assert np.sqrt(np.mean(difference**2)) <= 1
        assert np.abs(difference).max() <= 8


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 400))
def test_the_middle_of_a_reduced_jpeg_lies_between_the_same_pixels(width, height, side):
    assert set(_scales((width, height), KeptMiddle(side))) <= set(_scales((width, height), side))
    for scale in _scales((width, height), KeptMiddle(side)):
        assert (width % scale, height % scale) == (0, 0)
        small = abs(width - height) // scale
        assert abs(width - height) // 2 == scale * (small // 2)
        assert min(width, height) // scale >= side


def test_the_articles_resize_takes_the_whole_jpeg():
    assert least_side(48, "article") is None


def test_a_large_jpeg_that_is_cut_off_or_too_large_is_refused_as_before():
    data = encoded(photographs()[0], "JPEG")
    with pytest.raises(InputError, match=r"^x is damaged \(image file is truncated \(\d+ bytes not processed\)\); "):
        decode(data[:-3000], "x", least_side=50)
    with pytest.raises(InputError, match=r"^x has 273280 pixels \(640 x 427\); expected at most 273279; "):
        decode(data, "x", max_pixels=273_279, least_side=50)


# ---- what is refused

EXPECTED = "expected JPEG, PNG, GIF, BMP, TIFF, WebP, JPEG 2000, AVIF or PNM"


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_not_an_image(data):
    with pytest.raises(InputError) as error:
        decode(data, "cats/x.jpg")
    assert str(error.value) == (
        "cats/x.jpg is not an image that can be read (cannot identify image file); "
        f"{EXPECTED}; remove it, or leave it out by --skip-bad"
    )


def test_a_truncated_file():
    data = encoded(Image.fromarray(noise(40, 40)), "JPEG")
    with pytest.raises(InputError) as error:
        decode(data[:-300], "cats/x.jpg")
    assert re.fullmatch(
        r"cats/x\.jpg is damaged \(image file is truncated \(\d+ bytes not processed\)\); "
        "expected a whole image file; replace it, or leave it out by --skip-bad",
        str(error.value),
    )


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(InputError) as error:
        decode(tmp_path / "x.jpg", "cats/x.jpg")
    assert str(error.value) == (
        "cats/x.jpg cannot be opened (No such file or directory); expected a readable file; "
        "check its name and permissions, or leave it out by --skip-bad"
    )


def test_too_many_pixels_are_refused_by_the_header_alone():
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = struct.pack(">II", 30_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            decode(bytes(data), "cats/x.png")
    assert str(error.value) == (
        "cats/x.png has 600000000 pixels (30000 x 20000); expected at most 178956970; "
        "shrink it, allow it by --max-pixels 600000000, or leave it out by --skip-bad"
    )


def test_max_pixels_is_the_most_that_passes():
    data = encoded(Image.fromarray(noise(4, 6)))
    assert decode(data, "x", max_pixels=24).shape == (4, 6, 3)
    with pytest.raises(InputError, match=r"^x has 24 pixels \(6 x 4\); expected at most 23; "):
        decode(data, "x", max_pixels=23)


def test_a_huge_tiff_tile_counts_as_pixels():
    header = struct.pack("<2sHIH", b"II", 42, 8, 11)
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (277, 1), (284, 1)]
    tags += [(322, 60000), (323, 60000), (324, 150), (325, 1)]
    data = header + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + b"\0" * 64
    with pytest.raises(InputError, match=r"^x has 3600000000 pixels \(60000 x 60000\); "):
        decode(data, "x")


def test_a_name_stays_on_one_line():
    with pytest.raises(InputError) as error:
        decode(b"", "a\nb\x1b[31m.jpg")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("a b\\x1b[31m.jpg is not an image")


SEEDS = [
    encoded(Image.fromarray(noise(9, 8)).convert(mode), kind)
    for mode, kind in [
        ("RGB", "JPEG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("L", "TIFF"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
        ("L", "PPM"),
    ]
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=4),
    st.sampled_from([None, 1, 4]),
)
def test_made_up_bytes_give_an_image_or_one_line(data, edits, side):
    mutated = bytearray(data)
    for position, new in edits:
        mutated[position : position + len(new)] = new
    message, result = "", np.empty((1, 1, 3), np.uint8)
    try:
        result = decode(bytes(mutated), "x", max_pixels=10_000, least_side=side)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert result.dtype == np.uint8
    assert result.ndim == 3
    assert result.shape[2] == 3
