"""Where a result lies: the strategy's folder, or one with the name of its feature set."""

import logging
from pathlib import Path
from typing import Any

import pytest

from thaw.pipeline.config import Linear
from thaw.pipeline.run.feature_sets import with_feature_set
from thaw.pipeline.run.results import result_folder
from thaw.pipeline.run.run_json import write_run

from tests.builders.results import add, refusal


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A run with VGG16 at 48 pixels and EfficientNet-Lite0."""
    write_run(Linear(run=tmp_path))
    write_run(Linear(run=tmp_path, backbone="efficientnet_lite0"))
    return tmp_path


def folder(run: Path, strategy: str = "svm", named: bool = True, **given: Any) -> str:
    settings = with_feature_set(Linear.model_validate({"run": run, **given}))
    return result_folder(settings, strategy, named).name


def test_the_first_set_needs_no_name(two: Path) -> None:
    assert folder(two) == "svm"
    assert folder(two, image_size=48) == "svm"
    assert folder(two, "random", weights="random") == "random"


def test_another_set_that_is_named_is_appended(two: Path) -> None:
    assert folder(two, backbone="efficientnet_lite0") == "svm-efficientnet_lite0-224"
    assert folder(two, "random", backbone="efficientnet_lite0", weights="random") == "random-efficientnet_lite0-224"


def test_a_name_of_ones_own_is_taken_as_it_is(two: Path) -> None:
    assert folder(two, name="mine", backbone="efficientnet_lite0") == "mine"


def test_a_set_that_was_chosen_keeps_the_strategys_name(two: Path) -> None:
    assert folder(two, named=False, backbone="efficientnet_lite0") == "svm"


def test_a_result_on_another_set_is_never_overwritten(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(two, "svm", [])
    add(two, "mine", [])
    assert folder(two) == "svm"  # of the same set: it is made again
    with caplog.at_level(logging.INFO, "thaw"):
        assert folder(two, named=False, backbone="efficientnet_lite0") == "svm-efficientnet_lite0-224"
    assert caplog.messages == [
        "svm is the result on the feature set vgg16-48; this one is named svm-efficientnet_lite0-224"
    ]
    assert folder(two, name="mine", backbone="efficientnet_lite0") == "mine-efficientnet_lite0-224"


def test_folders_of_the_run_are_no_results(two: Path) -> None:
    for name in ("features", "activations", "plots"):
        said = refusal(result_folder, Linear(run=two, name=name), "svm")
        assert said == f"--name {name}: {two / name} is the run's own; choose another name"
