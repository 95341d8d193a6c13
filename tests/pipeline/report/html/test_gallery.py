"""Which test images are shown, and the small copies of them."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.pipeline import thumbnails
from thaw.pipeline.comparison.comparison import load_run
from thaw.pipeline.config import Shared
from thaw.pipeline.report.html.gallery import hottest_position, most_confident, on_image, overlay
from thaw.pipeline.report.html.pictures import _against_svm
from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import Pictures, encode, open_pictures

from tests.builders.results import CLASSES, IDS, add, refusal


def entry(tmp_path: Path, name: str, wrong: list[int]) -> Entry:
    """A strategy wrong on the images of these numbers, the more confident the larger an image's number."""
    add(tmp_path / name, name, wrong)
    one = load_run(tmp_path / name)[0]
    return one._replace(confidence=np.array([0.4 + number(image) / 100 for image in one.ids]))


def number(image: str) -> int:
    return int(Path(image).stem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, side in ((IDS[0], 8), (IDS[1], 300), ("train/cat/a.png", 8), ("train/dog/a.png", 8)):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side // 2, 3), 77, np.uint8)).save(path)
    return tmp_path / "images"


def test_the_most_confident_mistakes_come_first(tmp_path: Path) -> None:
    one = entry(tmp_path, "svm", [3, 50, 20])
    assert [number(one.ids[row]) for row in most_confident(one, ~one.correct, 2)] == [50, 20]


def test_what_one_strategy_fixes_and_breaks_against_another(tmp_path: Path) -> None:
    new, old = entry(tmp_path, "finetune", [1, 2, 9]), entry(tmp_path, "svm", [2, 5, 6, 7])
    fixed, broken = new.correct & ~old.correct, old.correct & ~new.correct
    rows = [most_confident(new, chosen, 2) for chosen in (fixed, broken)]
    assert [[number(new.ids[row]) for row in some] for some in rows] == [[7, 6], [9, 1]]
    galleries = _against_svm(new, old)
    assert [gallery.rows.tolist()[:2] for gallery in galleries] == [some.tolist() for some in rows]
    assert [gallery.entry for gallery in galleries] == [old, new]
    assert [gallery.text.split(" ")[0] for gallery in galleries] == ["3", "2"]


def test_confidence_and_class_stay_with_their_image_whatever_the_order(tmp_path: Path) -> None:
    add(tmp_path, "svm", [4])
    one = load_run(tmp_path)[0]
    row = one.ids.index(IDS[4])
    assert CLASSES[one.predicted[row]] == CLASSES[(4 + 1) % 3]
    assert one.confidence == pytest.approx(np.full(60, 0.9))
    assert np.array_equal(one.correct, [CLASSES[k] == name for k, name in zip(one.predicted, one.classes, strict=True)])


def test_large_images_become_small_jpeg_and_tiny_ones_keep_their_pixels() -> None:
    source, pixelated = encode(np.full((300, 150, 3), 200, np.uint8))
    assert source.startswith("data:image/jpeg;base64,")
    assert not pixelated
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        assert image.size == (48, 96)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    source, pixelated = encode(pixels)
    assert pixelated
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def decoded(source: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        return np.asarray(image)


def test_pictures_beside_others_are_smaller() -> None:
    assert decoded(encode(np.full((300, 150, 3), 200, np.uint8), 56)[0]).shape == (56, 28, 3)


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(300, 150, (96, 48, 3)), (8, 8, (96, 96, 3)), (1, 400, (1, 96, 3))]
)
def test_heat_is_yellow_on_a_grey_picture_of_the_thumbnail_s_form(
    height: int, width: int, shape: tuple[int, ...]
) -> None:
    pixels = np.full((height, width, 3), (200, 60, 60), np.uint8)
    cold = decoded(overlay(pixels, np.zeros((3, 3), np.float32))).astype(int)
    hot = decoded(overlay(pixels, np.ones((3, 3), np.float32))).astype(int)
    assert cold.shape == hot.shape == shape
    assert np.ptp(cold, axis=-1).max() <= 2  # grey
    assert (hot[..., 0] - hot[..., 2] > 80).all()  # yellow: red and green, little blue
    assert (hot[..., 1] - hot[..., 2] > 60).all()


def test_the_heat_of_a_middle_square_leaves_the_rest_of_the_image_cold() -> None:
    heat = on_image(np.zeros((100, 300, 3), np.uint8), np.ones((3, 3), np.float32), "crop")
    assert heat.shape == (32, 96)
    np.testing.assert_array_equal(heat, np.repeat([[0, 1, 0]], 32, axis=1).repeat(32, axis=0))
    corner = np.zeros((3, 3), np.float32)
    corner[0, 2] = 1
    assert hottest_position(corner) == "upper right"
    assert hottest_position(on_image(np.zeros((100, 300, 3), np.uint8), corner, "crop")) == "upper middle"


def test_the_heat_of_a_border_is_cut_off() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0], heat[1, 3] = 1, 0.5
    for pixels, map_, position in (
        (np.zeros((100, 200, 3), np.uint8), heat, "upper right"),
        (np.zeros((200, 100, 3), np.uint8), heat.T, "lower left"),
    ):
        shown = on_image(pixels, map_, "pad")
        assert shown.shape in ((48, 96), (96, 48))
        assert hottest_position(shown) == position
    squashed = on_image(np.zeros((100, 200, 3), np.uint8), heat, "squash")
    assert squashed is heat
    assert on_image(np.zeros((1, 400, 3), np.uint8), heat, "pad").shape == (1, 96)
    assert on_image(np.zeros((1, 400, 3), np.uint8), heat, "crop").shape == (1, 96)


def test_heat_lies_where_the_map_has_it() -> None:
    heat = np.zeros((3, 3), np.float32)
    heat[0, 2] = 1
    shown = decoded(overlay(np.full((60, 120, 3), 128, np.uint8), heat)).astype(int)
    warmth = shown[..., 0] - shown[..., 2]
    assert warmth[:16, 80:].mean() > 60
    assert abs(warmth[32:, :48]).max() < 10


@pytest.mark.parametrize(
    ("side", "row", "column", "said"),
    [(3, 1, 1, "centre"), (3, 0, 0, "upper left"), (2, 1, 1, "lower right"), (2, 0, 1, "upper right"),
     (7, 3, 6, "middle right"), (7, 6, 3, "lower middle"), (14, 4, 5, "upper middle"), (1, 0, 0, "centre")],
)  # fmt: skip
def test_the_hottest_place_is_said_in_words(side: int, row: int, column: int, said: str) -> None:
    heat = np.zeros((side, side), np.float32)
    heat[row, column] = 1
    assert hottest_position(heat) == said


def test_an_image_is_shown_only_if_it_still_has_its_label(folder: Path) -> None:
    pictures = Pictures(load_dataset(f"folder:{folder}"))
    assert pictures.thumbnail(IDS[0], "cat")[0]
    assert pictures.thumbnail(IDS[1])[0]
    assert pictures.thumbnail(IDS[0], "dog") == (None, False)
    assert pictures.thumbnail("test/cat/none.png", "cat") == (None, False)
    pixels = pictures.pixels(IDS[1], "dog", None)
    assert pixels is not None
    assert (pixels.shape, pixels.dtype) == ((300, 150, 3), np.uint8)
    assert pictures.pixels(IDS[1], "cat") is None
    (folder / IDS[0]).write_bytes(b"no image")
    assert pictures.thumbnail(IDS[0], "cat") == (None, False)


def test_pictures_are_of_the_run_s_own_data(folder: Path) -> None:
    settings = Shared(dataset=f"folder:{folder}").model_dump(mode="json")
    assert open_pictures(settings).thumbnail(IDS[0])[0]
    assert refusal(open_pictures, None) == "run.json, which says where the images are, is gone"
    gone = Shared(dataset=f"folder:{folder}-2").model_dump(mode="json")
    assert f"--dataset folder:{folder}-2 does not exist" in refusal(open_pictures, gone)


def test_nothing_is_downloaded_for_a_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(thumbnails, "load_dataset", lambda *_: pytest.fail("this would download"))
    said = refusal(open_pictures, Shared(dataset="cifar10").model_dump(mode="json"))
    assert said == "the archive of cifar10 is no longer in the Keras cache; type: make features again"
