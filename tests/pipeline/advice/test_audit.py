"""The audit on folders with planted copies and labels, and the check of a preprocessing that costs accuracy."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.pipeline.advice.audit import audit, probe_labels
from thaw.pipeline.advice.preprocessing_check import _warning, compare_preprocessing
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction import extract
from thaw.pipeline.run.advice_json import PreprocessingCheck

from tests.builders.features import features_of

pytestmark = pytest.mark.weights
SIDE = 32


def random_image(generator: np.random.Generator, kind: int) -> np.ndarray:
    """Return a smooth random image, uint8 (32, 32, 3), whose colours and stripes show its kind."""
    coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(float)
    pixels[:: kind + 2] *= 0.6
    pixels[..., kind] = 0.7 * pixels[..., kind] + 76
    return pixels.clip(0, 255).astype(np.uint8)


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def as_jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


@dataclass(frozen=True)
class Planted:
    """A run of a folder, its settings, and id -> (twin, whether exact) of what was planted in its test split."""

    settings: Shared
    twins: dict[str, tuple[str, bool]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder, generator = tmp_path_factory.mktemp("audited"), np.random.default_rng(0)
    kinds = ("blue", "green", "red")
    images: dict[str, np.ndarray] = {}
    for kind, name in enumerate(kinds):
        for split, count in (("train", 40), ("val", 4), ("test", 12)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                images[f"{split}/{name}/{number:02d}.png"] = random_image(generator, 2 - kind)
    for id_, pixels in images.items():
        (folder / id_).write_bytes(as_png(pixels))
    changes = {
        "test/blue/same.png": ("train/blue/03.png", as_png),
        "test/red/same.png": ("val/green/01.png", as_png),  # under another label
        "test/green/jpeg.jpg": ("train/green/05.png", as_jpeg),
        "test/green/mirrored.png": ("train/green/07.png", lambda pixels: as_png(pixels[:, ::-1])),
        "test/red/brighter.png": ("train/red/09.png", lambda pixels: as_png((pixels * 0.95 + 12).astype(np.uint8))),
    }
    for id_, (source, change) in changes.items():
        (folder / id_).write_bytes(change(images[source]))
    settings = Shared(
        run=tmp_path_factory.mktemp("runs") / "audited",
        dataset=f"folder:{folder}",
        image_size=SIDE,
        layers="block3_pool,block4_pool",
        engine="keras",
    )
    extract.extract(settings)
    return Planted(settings, {id_: (source, change is as_png) for id_, (source, change) in changes.items()})


def audited(settings: Shared) -> Any:
    with FeatureFile(features_of(settings.run_folder)) as features:
        return audit(settings, features, load_dataset(settings.dataset))


def test_planted_copies_are_found_and_nothing_else(planted: Planted) -> None:
    found = audited(planted.settings)
    assert found.duplicate_test_ids == sorted(planted.twins)
    assert {twin.id: (twin.twin, twin.exact) for twin in found.duplicates} == planted.twins
    assert (found.num_exact_duplicates, found.num_near_duplicates) == (2, 3)
    similarities = [twin.similarity for twin in found.duplicates]
    assert similarities[:2] == [1, 1]
    assert similarities == sorted(similarities, reverse=True)
    assert min(similarities) > found.near_threshold
    told = {twin.id: (twin.twin_split, twin.same_label) for twin in found.duplicates}
    assert told["test/red/same.png"] == ("validation", False)
    assert told["test/green/mirrored.png"] == ("train", True)


def test_lists_are_cut_and_counts_are_not(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.pipeline.advice.audit.MAX_LISTED", 2)
    found = audited(planted.settings)
    assert len(found.duplicates) == 2
    assert len(found.duplicate_test_ids) == found.num_exact_duplicates + found.num_near_duplicates == 5


def test_classes_are_counted(planted: Planted) -> None:
    found = audited(planted.settings)
    assert [(row.class_name, row.train, row.validation, row.test) for row in found.class_counts] == [
        ("blue", 40, 4, 13),
        ("green", 40, 4, 14),
        ("red", 40, 4, 14),
    ]
    assert (found.imbalance, found.imbalance_warning, found.canary) == (1, None, None)


def test_labels_are_doubted_by_their_probabilities(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureFile(features_of(planted.settings.run_folder)) as features:
        rows = np.flatnonzero(features.split != 2)
        probabilities = np.full((len(rows), 3), 0.05)
        probabilities[np.arange(len(rows)), features.labels[rows]] = 0.9
        suspect = features.ids.index("val/green/02.png")
        probabilities[np.flatnonzero(rows == suspect)[0]] = [0.94, 0.02, 0.04]
    monkeypatch.setattr("thaw.pipeline.advice.audit.probe_labels", lambda *_: (rows, probabilities))
    found = audited(planted.settings)
    assert found.num_label_errors == 1
    (error,) = found.label_errors
    assert (error.id, error.split, error.label, error.suggested) == ("val/green/02.png", "validation", "green", "blue")
    assert (error.probability, error.margin) == pytest.approx((0.94, 0.92))


def test_labels_are_doubted_by_a_probe_of_rows_that_are_not_test(planted: Planted) -> None:
    with FeatureFile(features_of(planted.settings.run_folder)) as features:
        right = features.labels.copy()
        swapped = np.random.default_rng(1).choice(np.flatnonzero(features.split == 0), 6, replace=False)
        features.labels[swapped] = (features.labels[swapped] + 1) % 3
        found = audit(planted.settings, features, load_dataset(planted.settings.dataset))
    names = {features.ids[row]: features.class_names[right[row]] for row in swapped}
    listed = {error.id: error.suggested for error in found.label_errors}
    assert len(listed) == found.num_label_errors <= 9
    assert sum(listed.get(name) == label for name, label in names.items()) >= 5


def test_rows_that_labels_are_doubted_among(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.pipeline.advice.audit.MAX_ROWS", 60)
    with FeatureFile(features_of(planted.settings.run_folder)) as features:
        rows, probabilities = probe_labels(planted.settings, features)
        assert (features.split[rows] != 2).all()
        assert np.bincount(features.labels[rows]).tolist() == [20, 20, 20]
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(60))
        features.labels[features.split != 2] = 1  # one class is left: there is nothing to tell apart
        assert len(probe_labels(planted.settings, features)[0]) == 0


def test_images_that_are_gone_are_named(planted: Planted, tmp_path: Path) -> None:
    for split, name in (("train", "blue"), ("train", "green"), ("train", "red"), ("test", "red")):
        (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / split / name / "00.png").write_bytes(as_png(random_image(np.random.default_rng(0), 1)))
    other = planted.settings.model_copy(update={"dataset": f"folder:{tmp_path}"})
    path = features_of(planted.settings.run_folder)
    with pytest.raises(InputError) as caught:
        audited(other)
    assert str(caught.value) == (
        f"folder:{tmp_path} has no image test/blue/00.png, which {path} was made from; put it back, or remove {path} "
        "and type the command again"
    )


def checked(settings: Shared, **others: str) -> PreprocessingCheck | None:
    changed = settings.model_copy(update=others)
    with FeatureFile(features_of(settings.run_folder)) as features:
        return compare_preprocessing(changed, features, load_dataset(settings.dataset))


def test_a_preprocessing_that_costs_accuracy_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    digits = load_dataset("digits")
    images = np.stack([digits.read(row) for row in range(260)])
    np.savez(tmp_path / "digits.npz", x=images, y=digits.labels[:260])
    ours = {"resize": "article", "normalize": "article", "engine": "keras", "layers": "block4_pool", "image_size": SIDE}
    settings = Shared(run=tmp_path / "few digits", dataset=f"npz:{tmp_path / 'digits.npz'}", **ours)
    extract.extract(settings)
    caplog.clear()
    found = checked(settings)
    assert found is not None
    assert found.worse
    assert (found.resize, found.normalize) == ("article", "article")
    assert 150 < found.num_images <= 208  # those that are not test
    low, high = found.difference_interval
    assert low < found.accuracy - found.standard_accuracy < high < 0
    assert caplog.messages == [
        f"a probe of {found.num_images} images is correct on {found.accuracy:.1%} with --resize article --normalize "
        f"article and on {found.standard_accuracy:.1%} with the network's own preprocessing; start another run: --run "
        f"'{settings.run}-2' --dataset {settings.dataset} --resize bilinear --normalize caffe"
    ]


def test_the_run_to_start_instead_keeps_the_aspect(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path / "a", aspect="pad", normalize="article")
    found = PreprocessingCheck(
        resize="bilinear",
        normalize="article",
        num_images=100,
        accuracy=0.5,
        standard_accuracy=0.75,
        difference_interval=[-0.3, -0.2],
        worse=True,
    )
    assert _warning(settings, found).endswith(f"--run {tmp_path}/a-2 --resize bilinear --normalize caffe --aspect pad")


def test_a_preprocessing_that_costs_nothing_is_not(planted: Planted, caplog: pytest.LogCaptureFixture) -> None:
    found = checked(planted.settings, resize="bicubic")
    assert found is not None
    assert not found.worse
    assert found.num_images == 132
    assert found.accuracy == found.standard_accuracy  # images of the network's own size are not interpolated
    assert caplog.messages == []


def test_no_check_if_there_are_too_few_images(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.pipeline.advice.preprocessing_check.NUM_IMAGES", 8)
    assert checked(planted.settings, normalize="article") is None
