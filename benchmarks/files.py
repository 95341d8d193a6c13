"""From JPEG files on disk to features: the features stage, beside what Keras' users type.

Keras' own decoder and resizing differ a little from ours (no antialiasing, other rounding in the decoder), so outputs
are compared with a wider tolerance, stated in the table.
"""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from benchmarks.checks import largest_error
from benchmarks.results import Row, rows_of
from benchmarks.runner import DEFAULTS, Contender, take_turns
from benchmarks.settings import Settings

LAYERS, SIZE, SECTION = ("block4_pool", "block5_pool"), 48, "extraction"
ALLOWED = 0.1
OURS = "ours, the features stage"


def rows(settings: Settings, num_images: int, repeats: int) -> list[Row]:
    """Return the rows of images a second from files to features."""
    task = f"from JPEG files, {SIZE} px, {num_images} images"
    if not settings.wants(task):
        return []
    with tempfile.TemporaryDirectory() as folder:
        unpack(settings.images, Path(folder), num_images)
        build, given = "benchmarks.files:{}", {"folder": folder}
        contenders = [
            Contender(
                "Keras image_dataset_from_directory and predict, TensorFlow's defaults",
                build.format("keras_files"),
                given,
                onednn=DEFAULTS,
            ),
            Contender(
                "Keras image_dataset_from_directory and predict, oneDNN on",
                build.format("keras_files"),
                given,
                allowed=ALLOWED,
            ),
            Contender(OURS, build.format("ours"), given, allowed=ALLOWED),
        ]
        results = take_turns(contenders, repeats, largest_error)
    return rows_of(SECTION, task, results, OURS, num_images, "images/s")


def unpack(images: Path, folder: Path, num_images: int) -> None:
    """Write images at equal steps through the zip as `folder`/<class>/*."""
    with zipfile.ZipFile(images) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        for number in np.linspace(0, len(names) - 1, num_images).astype(int):
            split, label, name = PurePosixPath(names[number]).parts[-3:]
            target = folder / label / f"{split}-{name}"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.read(names[number]))


def keras_files(folder: str) -> Callable[[], dict[str, np.ndarray]]:
    """Read the folder as Keras has it, and predict."""
    import keras
    import tensorflow as tf

    from thaw.features.backbones.keras_model import build_frozen, truncate
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights

    backbone = BACKBONES["vgg16"]
    model = truncate(build_frozen(backbone, SIZE, load_weights("imagenet", backbone).tensors), LAYERS)

    def run() -> dict[str, np.ndarray]:
        images = keras.utils.image_dataset_from_directory(
            folder, labels=None, image_size=(SIZE, SIZE), shuffle=False, verbose=False
        )
        images = images.map(keras.applications.vgg16.preprocess_input, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        outputs = model.predict(images, verbose=0)
        return {name: output.reshape(len(output), -1) for name, output in zip(LAYERS, outputs, strict=True)}

    return run


def ours(folder: str) -> Callable[[], Callable[[], dict[str, np.ndarray]]]:
    """Run the features stage into a new run each time."""
    from thaw.features.store import FeatureFile
    from thaw.pipeline.config import Shared
    from thaw.pipeline.extraction import extract

    kept = tempfile.TemporaryDirectory()
    numbers = iter(range(10**6))

    def run() -> Callable[[], dict[str, np.ndarray]]:
        settings = Shared(dataset=f"folder:{folder}", run=Path(kept.name) / str(next(numbers)), image_size=SIZE)
        path = extract.extract(settings)
        return lambda: read(path)

    def read(path: Path) -> dict[str, np.ndarray]:
        with FeatureFile(path) as file:
            order = np.argsort(file.ids)
            every = np.ones(len(file.ids), bool)
            return {name: file.read([name], every)[order] for name in LAYERS}

    return run
