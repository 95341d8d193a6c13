"""The cases that advice is judged on: datasets and sub-samples that fill all four cells of the rule of thumb.

CIFAR-10's images have 32 x 32 pixels; most cases of them run at that size, which halves what they cost.

Their sizes follow from what they are to decide: whether intervals of 3 points on each side hold. Accuracies near 70 %,
measured on n images and then on m others, differ by sqrt(0.21 / n + 0.21 / m) as one standard deviation: 2.0 points at
1,000 and 1,000: 3 points hold 86 % even of perfect estimates. It is 1.2 at 2,500 and 3,000: they hold 98 %.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import case_images, synthetic_images
from benchmarks.case_images import Change, Counts, Labelled, draw, equal_counts, falling_counts

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
VEHICLES = ("airplane", "automobile", "ship", "truck")
CIFAR = tuple(sorted(ANIMALS + VEHICLES))
LARGE = 11_200  # training images: at least 10,000 without the validation images


@dataclass(frozen=True)
class Case:
    """One dataset. `cell` is its intended cell; `make` yields its images from a zipped CIFAR-10.

    Without `make` the dataset is `options` alone. The strategies run at `image_size`; `size_given` says that advice
    is asked with it too, so that the size is not searched over. `few_epochs` shortens fine-tuning to that many epochs.
    """

    name: str
    what: str
    cell: str
    make: Callable[[Path], Labelled] | None = None
    options: tuple[str, ...] = ()
    image_size: int = 48
    size_given: bool = True
    few_epochs: int | None = None
    scratch_epochs: int = 2

    def dataset(self, work: Path, images: Path) -> tuple[str, ...]:
        """Return the options that name the dataset, relative to `work`; its zip is made there if it is missing."""
        if self.make is None:
            return self.options
        target = work / "data" / f"{self.name}.zip"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            case_images.write_folder(target, self.make(images))
        return ("--dataset", f"folder:data/{target.name}")


def _clothes() -> Iterator[Case]:
    """CIFAR-10 in other clothes, with equal classes and numbers of images throughout."""
    counts, similar, different = equal_counts(CIFAR, 250, 300), "small-similar", "small-different"
    for name, change, what, cell in (
        ("cifar", None, "250 training images a class", similar),
        ("grey", case_images.grey, "without colours", similar),
        ("swapped", case_images.swap_colours, "red and blue exchanged", similar),
        ("negative", case_images.invert, "negatives", similar),
        ("coarse", case_images.coarsen, "blocks of 2x2 pixels averaged", similar),
        ("turned", case_images.quarter_turns, "each turned by 0, 90, 180 or 270 degrees", similar),
        ("upside-down", case_images.upside_down, "turned by 180 degrees", similar),
        ("blocks", case_images.permute_blocks, "8x8 blocks in another order, the same for all", different),
        ("pixels", case_images.permute_pixels, "pixels in another order, the same for all", different),
    ):
        yield _cifar(f"{name}-250", counts, what, cell, change)


def _cifar(name: str, counts: Counts, what: str, cell: str = "small-similar", change: Change | None = None) -> Case:
    return Case(name, f"CIFAR-10, {what}", cell, partial(draw, name=name, counts=counts, change=change), image_size=32)


def _cifar_free(name: str, counts: Counts, what: str) -> Case:
    make = partial(draw, name=name, counts=counts)
    return Case(name, f"CIFAR-10, {what}", "small-similar", make, size_given=False)


def _small_cifar() -> Iterator[Case]:
    yield _cifar("vehicles-600", equal_counts(VEHICLES, 600, 750), "the four vehicles")
    yield _cifar("animals-400", equal_counts(ANIMALS, 400, 500), "the six animals")
    yield _cifar("uneven-600", falling_counts(CIFAR, 600, 750, 10), "600 training images of a class down to 60")
    yield _cifar("cifar-150", equal_counts(CIFAR, 150, 300), "150 training images a class")
    yield _cifar("cifar-400", equal_counts(CIFAR, 400, 300), "400 training images a class")
    three = equal_counts(("automobile", "horse", "ship"), 500, 600)
    yield _cifar_free("three-500", three, "automobile, horse or ship, at 48 pixels")
    yield _cifar_free("cat-dog-1000", equal_counts(("cat", "dog"), 1000, 1000), "cat or dog, at 48 pixels")
    yield _cifar_free("cifar-200", equal_counts(CIFAR, 200, 200), "200 training images a class, at 48 pixels")


def _made(name: str, pictures: Callable[[], Labelled], what: str, size_given: bool = True) -> Case:
    return Case(name, what, "small-different", lambda _: pictures(), size_given=size_given)


def _others() -> Iterator[Case]:
    digits, synthetic = case_images.digits, synthetic_images.pictures
    yield Case("digits", "digits, whole", "small-different", options=("--dataset", "digits"))
    yield _made("digits-90", partial(digits, 90, 80), "digits, 90 training images a class", size_given=False)
    patches = "16x16 patches of two photographs, class: the quarter of which"
    yield Case("photographs", patches, "small-similar", lambda _: case_images.photograph_parts(200, 60, side=16))
    slopes = partial(synthetic, synthetic_images.TEXTURES, 250, 250)
    yield _made("textures", slopes, "synthetic: noise of six spectral slopes")
    tones = partial(synthetic, synthetic_images.SPECTROGRAMS, 250, 250)
    yield _made("spectrograms", tones, "synthetic: spectrograms of five tones in noise", size_given=False)
    yield _made("elpv-1600", partial(case_images.solar_cells, 1600, 1024), "elpv, 1,600 training images, 96x96 pixels")


def _large() -> Iterator[Case]:
    counts = equal_counts(CIFAR, LARGE // 10, 150)
    for name, change, what, cell in (
        ("cifar-1120", None, "1,120 training images a class", "large-similar"),
        ("blocks-1120", case_images.permute_blocks, "the same, 8x8 blocks in another order", "large-different"),
    ):
        make = partial(draw, name=name, counts=counts, change=change)
        yield Case(name, f"CIFAR-10, {what}", cell, make, image_size=32, few_epochs=3, scratch_epochs=1)


CASES: Sequence[Case] = (*_clothes(), *_small_cifar(), *_others(), *_large())
