"""Image folders in a .zip for the cases that advice is judged on, made from what is at hand.

Every image is written as PNG, which loses nothing; everything is drawn by a fixed seed.
"""

import io
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from thaw.features.files.atomic import write_whole

SEED = 3
Picture = np.ndarray  # uint8 (H, W, 3)
Change = Callable[[Picture, np.random.Generator], Picture]
Labelled = Iterable[tuple[str, str, Picture]]  # split (train or test), class, image
Counts = Mapping[str, Mapping[str, int]]  # images of each class of each split


def write_folder(target: Path, pictures: Labelled) -> None:
    """Write `pictures` as `{train,test}/<class>/<number>.png` into the .zip `target`, which is whole or missing."""
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    with write_whole(target, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for side, label, picture in pictures:
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "png")
            entry = zipfile.ZipInfo(f"{side}/{label}/{numbers[side, label]:05d}.png")  # of a fixed date
            archive.writestr(entry, data.getvalue())
            numbers[side, label] += 1


def draw(images: Path, name: str, counts: Counts, change: Change | None = None) -> Iterator[tuple[str, str, Picture]]:
    """Yield `counts`[split][class] images of the zipped image folder `images`, each changed by `change`.

    Each `name` has a draw of its own: what chance does to one case then says nothing of the next.
    """
    generator = np.random.default_rng([SEED, *name.encode()])
    with zipfile.ZipFile(images) as archive:
        members = _members(archive)
        for side, classes in counts.items():
            for label, count in classes.items():
                names = members[side, label]
                for number in sorted(generator.choice(len(names), count, replace=False)):
                    with archive.open(names[number]) as file, Image.open(file) as picture:
                        pixels = np.asarray(picture.convert("RGB"))
                    yield side, label, change(pixels, generator) if change else pixels


def _members(archive: zipfile.ZipFile) -> dict[tuple[str, str], list[str]]:
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(archive.namelist()):
        parts = PurePosixPath(name).parts
        if not name.endswith("/") and len(parts) >= 3:
            members[parts[-3], parts[-2]].append(name)
    return members


def equal_counts(classes: Sequence[str], train: int, test: int) -> Counts:
    """Return `train` and `test` images of every class."""
    return {"train": dict.fromkeys(classes, train), "test": dict.fromkeys(classes, test)}


def falling_counts(classes: Sequence[str], train: int, test: int, ratio: float) -> Counts:
    """Return counts that fall by equal factors over the classes, from `train` and `test` to 1/`ratio` of them."""
    shares = ratio ** -np.linspace(0, 1, len(classes))
    sides = {"train": train, "test": test}
    return {
        side: {name: round(most * share) for name, share in zip(classes, shares, strict=True)}
        for side, most in sides.items()
    }


def permute_blocks(picture: Picture, _: np.random.Generator, side: int = 8) -> Picture:
    """Return the image with its blocks of `side` x `side` pixels in another order, one order for all images."""
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    blocks = picture.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(rows * columns, side, side, 3)
    blocks = blocks[np.random.default_rng(SEED).permutation(len(blocks))]
    return blocks.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(picture.shape)


def permute_pixels(picture: Picture, generator: np.random.Generator) -> Picture:
    """Return the image with its pixels in another order, one order for all images."""
    return permute_blocks(picture, generator, side=1)


def invert(picture: Picture, _: np.random.Generator) -> Picture:
    """Return the negative."""
    return 255 - picture


def grey(picture: Picture, _: np.random.Generator) -> Picture:
    """Return the image without colours."""
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def swap_colours(picture: Picture, _: np.random.Generator) -> Picture:
    """Return the image with red and blue exchanged."""
    return np.ascontiguousarray(picture[:, :, ::-1])


def coarsen(picture: Picture, _: np.random.Generator, side: int = 2) -> Picture:
    """Return the image, of as many pixels, with each block of `side` x `side` replaced by its mean."""
    height, width = picture.shape[0] // side, picture.shape[1] // side
    means = picture.reshape(height, side, width, side, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return means.repeat(side, axis=0).repeat(side, axis=1)


def quarter_turns(picture: Picture, generator: np.random.Generator) -> Picture:
    """Return the image turned by 0, 90, 180 or 270 degrees, drawn for each image."""
    return np.ascontiguousarray(np.rot90(picture, generator.integers(4)))


def upside_down(picture: Picture, _: np.random.Generator) -> Picture:
    """Return the image turned by 180 degrees."""
    return np.ascontiguousarray(picture[::-1, ::-1])


def digits(train: int, test: int) -> Iterator[tuple[str, str, Picture]]:
    """Yield `train` and `test` images of each class of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    generator = np.random.default_rng(SEED)
    pictures = np.round(data.images * (255 / 16)).astype(np.uint8)
    for label in range(10):
        rows = generator.permutation(np.flatnonzero(data.target == label))[: train + test]
        for place, row in enumerate(rows):
            yield "train" if place < train else "test", str(label), np.stack([pictures[row]] * 3, axis=2)


def photograph_parts(train: int, test: int, side: int = 24) -> Iterator[tuple[str, str, Picture]]:
    """Yield patches of scikit-learn's two photographs, `side` pixels; the class is a quarter of a photograph."""
    from sklearn.datasets import load_sample_image

    generator = np.random.default_rng(SEED)
    for name in ("china", "flower"):
        photograph = load_sample_image(f"{name}.jpg")
        height, width = photograph.shape[0] // 2, photograph.shape[1] // 2
        for quarter in range(4):
            top, left = quarter // 2 * height, quarter % 2 * width
            corners = [
                (top + y, left + x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)
            ]
            for place, number in enumerate(generator.permutation(len(corners))[: train + test]):
                y, x = corners[number]
                patch = photograph[y : y + side, x : x + side]
                yield "train" if place < train else "test", f"{name}-{quarter}", patch


def solar_cells(train: int, test: int) -> Iterator[tuple[str, str, Picture]]:
    """Yield `train` and `test` images of the package elpv_dataset, in its two classes as they come, at 96 pixels."""
    from thaw.features.datasets.dataset import load_dataset

    dataset = load_dataset("elpv")
    rows = np.random.default_rng(SEED).permutation(len(dataset.ids))[: train + test]
    for place, row in enumerate(rows):
        pixels = Image.fromarray(dataset.read(int(row))).resize((96, 96), Image.Resampling.BOX)
        yield "train" if place < train else "test", dataset.class_names[dataset.labels[row]], np.asarray(pixels)
