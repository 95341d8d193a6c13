"""The graphs of Keras' networks as files of the package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thaw.features.backbones.applications.graph_files import (
    FOLDER,
    LIST,
    graph_as_text,
    read_graph_file,
    read_list,
    read_places,
)
from thaw.features.backbones.registry import BACKBONES
from thaw.features.images.preprocess import NORMALIZATIONS, neutral_colour

ROOT = Path(__file__).resolve().parents[4]
NAMES = [row["name"] for row in read_list()]


def test_every_network_of_the_list_has_its_file_and_no_other_is_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {LIST, *(f"{name}.json" for name in NAMES)}
    assert len(NAMES) == 40
    assert set(NAMES) == {name for name, backbone in BACKBONES.items() if backbone.builder}


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_is_written_as_it_was_read(name: str) -> None:
    path = FOLDER / f"{name}.json"
    places = read_places(name)
    assert graph_as_text(read_graph_file(name), places) == path.read_text(encoding="utf-8")
    assert set(places) == set(BACKBONES[name].tensor_shapes)
    assert set(places.values()) == set(range(max(places.values()) + 1))


@pytest.mark.parametrize("row", read_list(), ids=lambda row: str(row["name"]))
def test_the_facts_of_a_network_are_whole(row: dict[str, object]) -> None:
    assert row["name"] == str(row["builder"]).lower()
    assert row["normalization"] in NORMALIZATIONS
    assert 32 <= row["min_image_size"] < row["own_image_size"]  # type: ignore[operator]
    assert str(row["url"]).startswith("https://storage.googleapis.com/")
    assert str(row["url"]).endswith(".h5")
    assert row["digest"] is None or len(str(row["digest"])) in (32, 64)
    assert (row["digest"] is None) == (row["name"] in ("mobilenet", "mobilenetv2"))


@pytest.mark.parametrize("name", [row["name"] for row in read_list() if row["normalization"] == "pixels"])
def test_the_colour_of_a_border_is_nearly_zero_behind_a_network_s_own_rescaling(name: str) -> None:
    """EfficientNet divides by 255 and has the mean and the deviation in its weights."""
    value = neutral_colour("pixels")
    for operation in read_graph_file(name).operations.values():
        if operation.kind != "rescale":
            break
        value = value * np.array(operation.factor) + np.array(operation.offset)
    expected = (0.485, 0.456, 0.406) if name.startswith("efficientnetb") else 0
    np.testing.assert_allclose(value, np.broadcast_to(expected, 3), atol=0.2)
    if not name.startswith(("mobilenet", "efficientnetv2s", "efficientnetv2m", "efficientnetv2l")):
        np.testing.assert_allclose(value, np.broadcast_to(expected, 3), atol=1e-5)


def test_help_and_defaults_read_no_graph_but_that_of_the_network_and_no_keras() -> None:
    code = (
        "import pathlib, sys; opened = set()\n"
        "sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == 'open' else None)\n"
        "from thaw.pipeline.cli import run; run(['svm', '--help'])\n"
        "from thaw.pipeline.config import Finetune; assert Finetune(backbone='resnet152').layer_names\n"
        "graphs = {pathlib.Path(path).name for path in opened if '/graphs/' in path}\n"
        "print(*sorted(graphs), *({'keras', 'tensorflow'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.splitlines()[-1].split() == [LIST, "resnet152.json"]
