"""The cases that advice is judged on: data sets and sub-samples that fill all four cells of the rule of thumb.

CIFAR-10's pictures have 32 x 32 pixels; most cases of them run at that size, which halves what they cost.
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
    """One data set. `cell` is the one it is meant for; `make` yields its pictures from a zipped CIFAR-10.

    Without `make` the data set is `options` alone. The strategies run at `image_size`; `size_given` says that advice
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
        """Return the options that name the data set, relative to `work`; its zip is made there if it is not there."""
        if self.make is None:
            return self.options
        target = work / "data" / f"{self.name}.zip"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            case_images.write_folder(target, self.make(images))
        return ("--dataset", f"folder:data/{target.name}")


def _clothes() -> Iterator[Case]:
    """CIFAR-10 in other clothes: the same classes and numbers of images throughout."""
    counts, similar, different = equal_counts(CIFAR, 100, 150), "small-similar", "small-different"
    for name, change, what, cell in (
        ("cifar-100", None, "100 training images a class", similar),
        ("grey-100", case_images.grey, "without colours", similar),
        ("negative-100", case_images.invert, "negatives", similar),
        ("turned-100", case_images.quarter_turns, "each turned by 0, 90, 180 or 270 degrees", similar),
        ("upside-down-100", case_images.upside_down, "turned by 180 degrees", similar),
        ("blocks-100", case_images.permute_blocks, "8x8 blocks in another order, the same for all", different),
        ("pixels-100", case_images.permute_pixels, "pixels in another order, the same for all", different),
    ):
        yield _cifar(name, counts, what, cell, change)


def _cifar(name: str, counts: Counts, what: str, cell: str = "small-similar", change: Change | None = None) -> Case:
    return Case(name, f"CIFAR-10, {what}", cell, partial(draw, counts=counts, change=change), image_size=32)


def _cifar_free(name: str, counts: Counts, what: str) -> Case:
    make = partial(draw, counts=counts)
    return Case(name, f"CIFAR-10, {what}", "small-similar", make, size_given=False)


def _small_cifar() -> Iterator[Case]:
    yield _cifar("vehicles-200", equal_counts(VEHICLES, 200, 400), "the four vehicles")
    yield _cifar("animals-150", equal_counts(ANIMALS, 150, 250), "the six animals")
    yield _cifar("uneven-250", falling_counts(CIFAR, 250, 400, 10), "250 training images of a class down to 25")
    yield _cifar("cifar-30", equal_counts(CIFAR, 30, 150), "30 training images a class")
    yield _cifar("cifar-200", equal_counts(CIFAR, 200, 150), "200 training images a class")
    yield _cifar_free("three-100", equal_counts(("automobile", "horse", "ship"), 100, 300), "automobile, horse or ship")
    yield _cifar_free("cat-dog-200", equal_counts(("cat", "dog"), 200, 500), "cat or dog")
    yield _cifar_free("cifar-50", equal_counts(CIFAR, 50, 100), "50 training images a class, at 48 pixels")


def _made(name: str, pictures: Callable[[], Labelled], what: str, size_given: bool = True) -> Case:
    return Case(name, what, "small-different", lambda _: pictures(), size_given=size_given)


def _others() -> Iterator[Case]:
    digits, synthetic = case_images.digits, synthetic_images.pictures
    yield _made("digits-10", partial(digits, 10, 100), "digits, 10 training images a class")
    yield _made("digits-30", partial(digits, 30, 100), "digits, 30 training images a class", size_given=False)
    patches = "24x24 patches of two photographs, class: the quarter of which"
    yield Case("photographs", patches, "small-similar", lambda _: case_images.photograph_parts(40, 64))
    slopes = partial(synthetic, synthetic_images.TEXTURES, 50, 170)
    yield _made("textures", slopes, "synthetic: noise of six spectral slopes")
    tones = partial(synthetic, synthetic_images.SPECTROGRAMS, 50, 200)
    yield _made("spectrograms", tones, "synthetic: spectrograms of five tones in noise", size_given=False)
    yield _made("elpv-400", partial(case_images.solar_cells, 400, 1000), "elpv, 400 training images, 96x96 pixels")


def _words() -> Iterator[Case]:
    for name, what, options in (
        ("digits", "digits, whole", ("--dataset", "digits")),
        ("elpv", "elpv, functional or defective", ("--dataset", "elpv")),
        ("elpv-four", "elpv, four degrees", ("--dataset", "elpv", "--target", "four")),
    ):
        yield Case(name, what, "small-different", options=options)


def _large() -> Iterator[Case]:
    counts = equal_counts(CIFAR, LARGE // 10, 150)
    for name, change, what, cell in (
        ("cifar-1120", None, "1,120 training images a class", "large-similar"),
        ("blocks-1120", case_images.permute_blocks, "the same, 8x8 blocks in another order", "large-different"),
    ):
        make = partial(draw, counts=counts, change=change)
        yield Case(name, f"CIFAR-10, {what}", cell, make, image_size=32, few_epochs=3, scratch_epochs=1)


CASES: Sequence[Case] = (*_clothes(), *_small_cifar(), *_others(), *_words(), *_large())
