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
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from thaw.features.errors import InputError
from thaw.features.images.decode import decode, least_side
from thaw.features.images.preprocess import RESIZES, resize

SMOOTH = [method for method in RESIZES if method != "article"]
PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def triangle_weights(old: int, new: int) -> np.ndarray:
    """(new, old): the weight of every old pixel in every new one; a triangle as wide as the wider pixel."""
    scale = old / new
    reach = max(scale, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(old):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


# ---- resize


@pytest.mark.parametrize("method", RESIZES)
def test_same_size_changes_nothing(method):
    image = noise(9, 9)
    result = resize(image, 9, method)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("method", RESIZES)
@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_a_constant_stays_constant(method, size):
    image = np.broadcast_to(np.array([7, 100, 255], np.uint8), (11, 14, 3))
    expected = np.broadcast_to(np.float32([7, 100, 255]), (size, size, 3))
    np.testing.assert_allclose(resize(image, size, method), expected, rtol=1e-6)


def test_bilinear_enlarging_interpolates_between_pixel_centres():
    image, size = noise(5, 7), 13
    expected = np.empty((size, size, 3))
    for i in range(size):
        for j in range(size):
            y = np.clip((i + 0.5) * 5 / size - 0.5, 0, 4)
            x = np.clip((j + 0.5) * 7 / size - 0.5, 0, 6)
            top, left = min(int(y), 3), min(int(x), 5)
            corners = image[top : top + 2, left : left + 2].astype(float)
            above, below = corners[:, 0] * (1 - (x - left)) + corners[:, 1] * (x - left)
            expected[i, j] = above * (1 - (y - top)) + below * (y - top)
    np.testing.assert_allclose(resize(image, size, "bilinear"), expected, atol=1e-4)


@pytest.mark.parametrize("size", [3, 8, 10, 20])
def test_bilinear_is_a_triangle_filter_in_both_directions(size):
    image = noise(17, 12)
    expected = np.einsum("ih,jw,hwc->ijc", triangle_weights(17, size), triangle_weights(12, size), image)
    np.testing.assert_allclose(resize(image, size, "bilinear"), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 48), (32, 32, 48), (90, 40, 32), (40, 200, 32), (300, 200, 48)]
)
def test_small_images_are_resized_as_pillow_does(method, height, width, size):
    image = noise(height, width)
    planes = [Image.fromarray(image[:, :, channel].astype(np.float32)) for channel in range(3)]
    expected = [np.asarray(plane.resize((size, size), Image.Resampling[method.upper()])) for plane in planes]
    np.testing.assert_allclose(resize(image, size, method), np.stack(expected, axis=2), atol=2e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_long_images_need_no_memory_for_their_weights(method):
    assert resize(np.full((1, 100_000, 3), 9, np.uint8), 1, method).tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_area_averages_whole_blocks(factor):
    image = noise(4 * factor, 4 * factor)
    result = resize(image, 4, "area")
    blocks = image.reshape(4, factor, 4, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(result, blocks, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 24))
def test_area_keeps_the_mean(image, size):
    np.testing.assert_allclose(resize(image, size, "area").mean(), image.mean(), rtol=1e-5, atol=1e-3)


def plain_area(image: np.ndarray, size: int) -> np.ndarray:
    """Every new pixel as the mean of what it covers: by each old pixel's share of its area."""
    height, width = image.shape[:2]

    def shares(old: int) -> list[list[float]]:
        scale = old / size
        spans = [(k * scale, (k + 1) * scale) for k in range(size)]
        return [[max(0.0, min(end, j + 1) - max(start, j)) / scale for j in range(old)] for start, end in spans]

    return np.einsum("ih,jw,hwc->ijc", shares(height), shares(width), image.astype(float))


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 24))
def test_any_size_is_its_formula(image, size):
    np.testing.assert_allclose(resize(image, size, "area"), plain_area(image, size), atol=2e-3)
    weights = triangle_weights(image.shape[0], size), triangle_weights(image.shape[1], size)
    np.testing.assert_allclose(resize(image, size, "bilinear"), np.einsum("ih,jw,hwc->ijc", *weights, image), atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_one_colour_stays_one_at_any_size(colour, height, width, size):
    image = np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))
    for method in RESIZES:
        np.testing.assert_allclose(resize(image, size, method), np.broadcast_to(colour, (size, size, 3)), atol=1e-3)


def test_area_splits_a_pixel_between_two():
    image = np.zeros((1, 5, 3), np.uint8)
    image[0, 2] = 100
    np.testing.assert_allclose(resize(image, 2, "area")[0, :, 0], [20, 20], atol=1e-4)


def test_bicubic_is_not_clipped():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    result = resize(image, 32, "bicubic")
    assert result.min() < 0
    assert result.max() > 255


def test_nothing_is_rounded():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 1
    np.testing.assert_allclose(resize(image, 4, "bilinear")[0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 12), (30, 20, 6), (5, 3, 7)])
def test_article_is_numpy_resize(height, width, size):
    image = noise(height, width)
    result = resize(image, size, "article")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.resize(image, (size, size, 3)))


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 24), st.sampled_from(SMOOTH))
def test_flipping_and_resizing_commute(image, size, method):
    result = resize(image, size, method)
    np.testing.assert_allclose(resize(image[:, ::-1], size, method), result[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(resize(image[::-1], size, method), result[::-1], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 24), st.sampled_from(["bilinear", "area"]))
def test_weights_are_averages(image, size, method):
    result = resize(image, size, method)
    assert result.shape == (size, size, 3)
    assert result.min() >= image.min() - 1e-3
    assert result.max() <= image.max() + 1e-3


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError) as error:
        resize(noise(2, 2), 4, "lanczos")
    assert str(error.value) == ("--resize lanczos: expected bilinear, bicubic, area, article; type --resize bilinear")


# ---- decode: what every mode becomes


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
        "a.tif has grey values from 0 to 70000; expected 0 to 65535; "
        "save it with 8 bits, or leave it out by --skip-bad"
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


# ---- decode: JPEGs at a reduced size


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Two real photographs of 640 x 427, which scikit-learn carries."""
    return tuple(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


@pytest.mark.parametrize(("width", "height"), [(640, 427), (640, 424), (633, 409), (409, 427)])
@pytest.mark.parametrize(("method", "size"), [("bilinear", 13), ("bicubic", 25), ("bilinear", 51), ("area", 25)])
def test_a_reduced_jpeg_gives_the_same_resized_picture(method, size, width, height):
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


def test_a_phones_jpeg_of_two_pictures_is_reduced():
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


def test_the_articles_resize_takes_the_whole_jpeg():
    assert least_side(48, "article") is None


def test_a_large_jpeg_that_is_cut_off_or_too_large_is_refused_as_before():
    data = encoded(photographs()[0], "JPEG")
    with pytest.raises(InputError, match=r"^x is damaged \(image file is truncated \(\d+ bytes not processed\)\); "):
        decode(data[:-3000], "x", least_side=50)
    with pytest.raises(InputError, match=r"^x has 273280 pixels \(640 x 427\); expected at most 273279; "):
        decode(data, "x", max_pixels=273_279, least_side=50)


# ---- decode: what is refused

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
