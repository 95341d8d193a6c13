"""The JSON beside an ONNX file: what it may state, and the line that refuses anything else."""

import json
from pathlib import Path

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.features.foreign.network import open_network
from thaw.features.foreign.preprocessing import Stated, read_stated
from thaw.features.images.preprocess import normalize

from tests.builders.onnx_networks import convolutional, state

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "net.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_stated_is_read(tmp_path: Path) -> None:
    content = {"mean": MEAN, "std": DEVIATION, "size": 224, "aspect": "crop", "resize": "bicubic"}
    expected = Stated("rgb:0.485,0.456,0.406:0.229,0.224,0.225", 224, "crop", "bicubic")
    assert read_stated(written(tmp_path, content)) == expected
    assert read_stated(tmp_path / "other.json") == Stated()


def test_scale_and_order_are_those_of_the_network_s_input(tmp_path: Path) -> None:
    caffe = {"mean": [103.939, 116.779, 123.68], "std": [1, 1, 1], "scale": 1, "order": "bgr"}
    method = read_stated(written(tmp_path, caffe)).normalize
    assert method is not None
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 3, 3))
    np.testing.assert_allclose(normalize(images, method), normalize(images, "caffe"), atol=1e-3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "it is no JSON ("),
        ("[1]", 'it holds no object; expected {"mean": '),
        ({"mean": MEAN}, "it has no std; expected both mean and std"),
        ({"std": DEVIATION}, "it has no mean; expected both mean and std"),
        ({"mean": [0.5], "std": DEVIATION}, "its mean is [0.5]; expected three numbers, for example [0.485, "),
        ({"mean": MEAN, "std": [0.2, 0, 0.2]}, "its std is [0.2, 0, 0.2]; expected three numbers above 0, for "),
        ({"mean": "NaN", "std": DEVIATION}, 'its mean is "NaN"; expected three numbers, '),
        ('{"mean": [NaN, 1, 1], "std": [1, 1, 1]}', "its mean is [NaN, 1, 1]; expected three numbers, "),
        ({"mean": MEAN, "std": DEVIATION, "order": "grb"}, 'its order is "grb"; expected rgb or bgr'),
        ({"size": "224"}, 'its size is "224"; expected a number of pixels'),
        ({"size": True}, "its size is true; expected a number of pixels"),
        ({"size": 10**400}, "its size is 1000"),
        ({"mean": [10**400] * 3, "std": DEVIATION}, "its mean is [1000"),
        ({"aspect": "fit"}, 'its aspect is "fit"; expected squash or crop or pad'),
        ({"resize": "lanczos"}, 'its resize is "lanczos"; expected bilinear or bicubic or area or article'),
        ({"crop_pct": 0.9}, "it has the unknown field 'crop_pct'; expected the fields mean, std, order, scale, size, "),
        ({"mean": MEAN, "std": [1e-9] * 3}, "its mean, std and scale give rgb:"),
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: object, expected: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_stated(path)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)


def test_a_network_without_any_statement_says_what_to_write_or_type(tmp_path: Path) -> None:
    network = open_network(convolutional(tmp_path / "net.onnx", size="S"), "onnx:net")
    with pytest.raises(InputError) as error:
        _ = network.normalization
    assert str(error.value) == (
        f"--backbone onnx:{network.path}: nothing says how its images are prepared; expected mean and std in "
        f'{tmp_path / "net.json"}, for example {{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": '
        "224}, or type --normalize rgb:0.485,0.456,0.406:0.229,0.224,0.225"
    )
    with pytest.raises(InputError) as error:
        _ = network.default_image_size
    assert str(error.value) == (
        f"--backbone onnx:{network.path}: it takes images of any size, and nothing says which it was trained with; "
        f"expected size in {tmp_path / 'net.json'}, or type for example --image-size 224"
    )


def test_another_size_than_the_file_takes_is_refused(tmp_path: Path) -> None:
    network = open_network(state(convolutional(tmp_path / "net.onnx"), size=48), "onnx:net")
    with pytest.raises(InputError, match=r"its images have 32 pixels, and .*net.json says 48; correct the size there"):
        _ = network.default_image_size
    with pytest.raises(InputError) as error:
        network.check_image_size(64)
    assert str(error.value) == (
        "--image-size 64: onnx:net takes images of 32 pixels alone; leave --image-size out, or export the network with "
        "a free height and width"
    )
