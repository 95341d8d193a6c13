"""What the article's `np.resize` does to a picture: `python -m benchmarks.article_picture` draws docs/np-resize.png.

The picture is scikit-learn's `china.jpg` (by Daniel Buechele, CC BY 2.0), cut to a square and shrunk to CIFAR-10's
32x32; then it is brought to 48x48 by the two ways.
"""

from pathlib import Path

import numpy as np

from benchmarks.runner import ROOT
from thaw.features.images.preprocess import resize

TARGET = ROOT / "docs" / "np-resize.png"
SIDE, SIZE = 32, 48


def picture() -> np.ndarray:
    """Return the picture, uint8 (32, 32, 3)."""
    from sklearn.datasets import load_sample_image

    image = load_sample_image("china.jpg")
    height, width = image.shape[:2]
    left = (width - height) // 2
    return as_bytes(resize(image[:, left : left + height], SIDE, "area"))


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Return an image in units of 0 to 255 as uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def still_neighbours(side: int, size: int) -> tuple[float, float]:
    """Return which share of the pixels beside, and below, another after `np.resize` were so before, too.

    A `side` x `side` image becomes `size` x `size`.
    """
    places = np.resize(np.arange(side * side), (size, size))
    rows, columns = np.divmod(places, side)
    beside = (np.diff(rows, axis=1) == 0) & (np.diff(columns, axis=1) == 1)
    below = (np.diff(rows, axis=0) == 1) & (np.diff(columns, axis=0) == 0)
    return float(beside.mean()), float(below.mean())


def draw(path: Path) -> None:
    """Draw the picture, `np.resize` of it, and a bilinear resize of it, side by side."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    image = picture()
    panels = {
        f"the image, {SIDE}x{SIDE}": image,
        f"np.resize, {SIZE}x{SIZE}": as_bytes(resize(image, SIZE, "article")),
        f"bilinear, {SIZE}x{SIZE}": as_bytes(resize(image, SIZE, "bilinear")),
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(7.2, 2.6), layout="constrained")
    for axis, (title, pixels) in zip(axes, panels.items(), strict=True):
        axis.imshow(pixels, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(TARGET)
    print(TARGET)
