"""An image size that no memory holds is refused in one line, before anything is read."""

from pathlib import Path

import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.errors import InputError
from thaw.features.foreign.network import OnnxNetwork
from thaw.pipeline.cli import run
from thaw.pipeline.config import Shared
from thaw.pipeline.memory import check_image_memory, image_mb


def test_an_image_takes_what_the_largest_operation_holds() -> None:
    assert image_mb(BACKBONES["vgg16"], 224) == pytest.approx(4e-6 * 224**2 * (64 + 64))
    assert image_mb(OnnxNetwork(Path("none.onnx"), "onnx:none"), 224) == pytest.approx(4e-6 * 224**2 * 3)


@pytest.mark.parametrize(
    ("size", "memory", "advice"),
    [(20_000, 10_000, "--image-size 224"), (1000, 10_000, "--batch-size 19"), (1000, 1, "--memory with more MB")],
)
def test_a_size_beyond_the_memory_says_what_to_type(size: int, memory: int, advice: str) -> None:
    settings, vgg16 = Shared(image_size=size, memory=memory), BACKBONES["vgg16"]
    with pytest.raises(InputError) as error:
        check_image_memory(settings, vgg16, 64)
    needed = 64 * image_mb(vgg16, size)
    assert str(error.value) == (
        f"--image-size {size}: 64 images at once take {needed:,.0f} MB or more in vgg16, and may use {memory:,} MB; "
        f"type {advice}"
    )


def test_a_size_that_fits_is_no_matter() -> None:
    check_image_memory(Shared(image_size=224, memory=2000), BACKBONES["vgg16"], 64)


def test_the_command_stops_before_it_begins_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert (
        run(["svm", "--dataset", "digits", "--run", str(folder), "--image-size", "20000", "--weights", "random"]) == 1
    )
    assert capsys.readouterr().err.startswith(
        "error: --image-size 20000: 64 images at once take 13,107,200 MB or more "
    )
    assert not folder.exists()
