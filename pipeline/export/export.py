"""Stage `export`: write a trained model as one file that needs nothing of this project, with its size and latency."""

import json
import logging
import os
import statistics
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.engines.backend import backend_name
from thaw.features.errors import InputError
from thaw.features.files.atomic import whole_folder, whole_path, write_whole
from thaw.features.processor import num_cores
from thaw.pipeline.commands import running_command
from thaw.pipeline.config import Export
from thaw.pipeline.export.bundle import write_bundle
from thaw.pipeline.export.onnx_model import INPUT, onnx_classifier
from thaw.pipeline.formatting import size
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.run.export_json import BATCH_SIZE, IMAGE_SIDE, Exported, record_export
from thaw.pipeline.run.results import making

if TYPE_CHECKING:
    import keras

log = logging.getLogger("thaw")

FILES = {"onnx": "model.onnx", "keras": "model.keras", "savedmodel": "savedmodel", "bundle": "bundle.zip"}
TIMED_SECONDS, MAX_TIMED_CALLS = 2.0, 30  # a latency is the median of as many calls as fit

Run = Callable[[np.ndarray], Any]


def main(settings: Export) -> Path:
    """Write the model, print its path, size and latency, note them in export.json, and return the path.

    Raises InputError if the run has no such model, the format cannot hold it, or the path cannot be written.
    """
    folder = find_result(settings.run, settings.name)
    path = settings.out or folder / FILES[settings.format]
    _check_path(path, settings.format)
    with making(folder):
        exported = _export(settings, folder, path)
    print(path, size(exported.bytes), *latencies(exported), sep="\n")
    return path


def _export(settings: Export, folder: Path, path: Path) -> Exported:
    run, runtime = _write(settings.format, path, load_classifier(folder, None), settings.weights)
    one, many = (_latency(run, num_images) if run else None for num_images in (1, BATCH_SIZE))
    exported = Exported(
        format=settings.format,
        path=str(path.absolute() if settings.out else path.name),
        bytes=sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        runtime=runtime,
        cores=num_cores(),
        image_side=IMAGE_SIDE,
        batch_size=BATCH_SIZE,
        milliseconds_one=one,
        milliseconds_batch=many,
        command=running_command(),
    )
    record_export(folder, exported)
    return exported


def latencies(exported: Exported) -> list[str]:
    """Return a line on the time of one image and a line on the time of a batch; none if no time was measured."""
    one, many = exported.milliseconds_one, exported.milliseconds_batch
    if one is None or many is None:
        return []
    side, runtime = exported.image_side, f"{exported.runtime}, {exported.cores} cores"
    return [
        f"{one:.1f} ms for one image of {side}x{side} pixels, {runtime}",
        f"{many:.1f} ms for {exported.batch_size} images at once",
    ]


def _check_path(path: Path, form: str) -> None:
    """Raise InputError if the file cannot be written, before anything is computed."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--out {path}: {path.parent} is no folder that can be written into; choose another place")
    if form == "savedmodel" and backend_name() != "tensorflow":
        raise InputError(
            f"--format savedmodel is TensorFlow's own, and Keras runs on {backend_name()} here; type "
            "KERAS_BACKEND=tensorflow before the command, or --format onnx or keras"
        )
    expected = None
    if form == "savedmodel":
        if path.exists() and not (path / "saved_model.pb").is_file():
            expected = "the name of a folder that is not there yet, or of an earlier export"
    elif form == "keras" and path.suffix != ".keras":
        expected = "a name that ends in .keras"
    elif path.is_dir():
        expected = f"the name of a file, for example {path / FILES[form]}"
    if expected:
        raise InputError(f"--out {path}: expected {expected}")


def _write(form: str, path: Path, classifier: Classifier, weights: str | None) -> tuple[Run | None, str | None]:
    """Write the file; return a function that runs the exported model and the name of the runtime.

    Both are None without ONNX Runtime.
    """
    if form in ("onnx", "bundle"):
        content = onnx_classifier(classifier, weights)
        if form == "bundle":
            write_bundle(path, classifier, content)
        else:
            with write_whole(path, "wb") as file:
                file.write(content)
        return _onnx_runtime(content)
    import keras

    from thaw.pipeline.export.keras_model import keras_classifier

    model, class_names = keras_classifier(classifier, weights), json.dumps(classifier.class_names, ensure_ascii=False)
    (_save_keras if form == "keras" else _save_savedmodel)(path, model, class_names)
    return model.predict_on_batch, f"Keras {keras.__version__} on {keras.backend.backend()}"


def _save_keras(path: Path, model: "keras.Model", class_names: str) -> None:
    with whole_path(path, ".keras") as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr("class_names.json", class_names)


def _save_savedmodel(path: Path, model: "keras.Model", class_names: str) -> None:
    with whole_folder(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorFlow about its own code
            model.export(temporary, verbose=False)
        extra = temporary / "assets.extra"  # TensorFlow's folder for files that are the user's own
        extra.mkdir(exist_ok=True)
        (extra / "class_names.json").write_text(class_names, encoding="utf-8")


def _onnx_runtime(model: bytes) -> tuple[Run | None, str | None]:
    """Return a function that runs the model and the name of the runtime; None and None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        log.info("ONNX Runtime is not installed, so that the latency is not measured; type pip install onnxruntime")
        return None, None
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images}), f"ONNX Runtime {onnxruntime.__version__}"


def _latency(run: Run, num_images: int) -> float:
    """Return the median milliseconds that images of noise take at once, after one call to warm up."""
    images = np.random.default_rng(0).integers(0, 256, (num_images, IMAGE_SIDE, IMAGE_SIDE, 3)).astype(np.uint8)
    run(images)
    seconds: list[float] = []
    while len(seconds) < MAX_TIMED_CALLS and (not seconds or sum(seconds) < TIMED_SECONDS):
        began = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)
