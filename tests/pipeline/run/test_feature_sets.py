"""Which feature set of a run a command means."""

import logging
from pathlib import Path
from typing import Any

import pytest

from thaw.pipeline.config import Finetune, Linear, Shared
from thaw.pipeline.run.feature_sets import sets_to_choose_among, with_feature_set
from thaw.pipeline.run.run_json import features_path, write_run

from tests.builders.results import refusal


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A run with VGG16 at 48 pixels, its random baseline, and EfficientNet-Lite0 at 224; no file is there yet."""
    for given in ({}, {"weights": "random"}, {"backbone": "efficientnet_lite0"}):
        write_run(Shared.model_validate({"run": tmp_path, **given}))
    return tmp_path


def meant(run: Path, **given: Any) -> str:
    return with_feature_set(Shared.model_validate({"run": run, **given})).features


def test_without_options_it_is_the_runs_first(two: Path) -> None:
    settings = with_feature_set(Finetune(run=two))
    assert (settings.features, settings.backbone, settings.image_size) == ("vgg16-48", "vgg16", 48)


def test_a_set_is_meant_by_its_name_or_by_any_of_its_options(two: Path) -> None:
    assert meant(two, features="efficientnet_lite0-224") == "efficientnet_lite0-224"
    assert meant(two, backbone="efficientnet_lite0") == "efficientnet_lite0-224"
    assert meant(two, image_size=224) == "efficientnet_lite0-224"
    assert meant(two, image_size=48) == "vgg16-48"
    assert meant(two, weights="random") == "vgg16-48-random"
    lite = with_feature_set(Finetune(run=two, backbone="efficientnet_lite0"))
    assert lite.unfreeze_from != "block5_conv1"
    assert (lite.image_size, lite.pooling) == (224, "avg")


def test_options_that_no_set_has_make_a_new_one(two: Path) -> None:
    assert meant(two, image_size=64) == "vgg16-64"
    assert meant(two, backbone="efficientnet_lite0", image_size=160) == "efficientnet_lite0-160"
    assert meant(two, resize="area", features="mine") == "mine"
    assert meant(two, resize="area", weights="random", features="mine") == "mine-random"


def test_a_new_set_of_a_network_that_the_run_has_takes_its_image_size(tmp_path: Path) -> None:
    """The size is chosen once for each network; here it was 64, and by the images it would be 48."""
    write_run(Shared(run=tmp_path, image_size=64))
    assert meant(tmp_path, pooling="avg") == "vgg16-64-avg"
    assert meant(tmp_path, backbone="vgg19") == "vgg19-48"
    assert meant(tmp_path, image_size="auto") == "vgg16-64"


def test_the_network_of_the_run_is_what_options_without_a_network_mean(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path, backbone="efficientnet_lite1"))
    assert meant(tmp_path, image_size=160) == "efficientnet_lite1-160"
    assert meant(tmp_path, pooling="auto") == "efficientnet_lite1-240"
    assert meant(tmp_path, pooling="max") == "efficientnet_lite1-240-max"


def test_a_new_run_takes_the_command_line(tmp_path: Path) -> None:
    settings = with_feature_set(Shared(run=tmp_path / "new", image_size=64))
    assert (settings.features, settings.image_size, settings.run) == ("vgg16-64", 64, tmp_path / "new")


def test_a_taken_name_is_refused(two: Path) -> None:
    settings = Shared(run=two, features="vgg16-48", image_size=64)
    assert refusal(with_feature_set, settings).startswith(
        f"--features vgg16-48 of {two} was made with other settings: --image-size was 48 and is now 64. Leave the "
    )


def test_a_name_that_the_run_does_not_have_is_refused_unless_options_describe_it(two: Path, tmp_path: Path) -> None:
    assert refusal(with_feature_set, Shared(run=two, features="vgg16-64")) == (
        f"{two} has no feature set vgg16-64; it has vgg16-48, vgg16-48-random, efficientnet_lite0-224: name one of "
        "them, or describe a new one, for example --backbone efficientnet_lite0"
    )
    assert meant(tmp_path / "new", features="mine") == "mine"


def test_the_run_itself_cannot_be_another(two: Path) -> None:
    assert "--seed was 0 and is now 1. Leave the option out" in refusal(with_feature_set, Shared(run=two, seed=1))


def test_later_stages_need_no_repetition(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path, dataset="npz:x.npz", image_size=64, layers="block3_pool"))
    settings = with_feature_set(Linear(run=tmp_path, layer="block3_pool"), choosing=True)
    assert (settings.image_size, settings.layers, settings.layer) == (64, "block3_pool", "block3_pool")
    assert settings.dataset == f"npz:{Path('x.npz').absolute()}"


def test_linear_strategies_choose_among_the_sets_that_are_there(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = with_feature_set(Linear(run=two, folds=3), choosing=True)
    assert settings.features == "auto"
    assert [one.features for one in sets_to_choose_among(settings)] == ["vgg16-48"]  # none is there: the first is made
    for name in ("vgg16-48", "vgg16-48-random", "efficientnet_lite0-224"):
        features_path(two, name).parent.mkdir(exist_ok=True)
        features_path(two, name).touch()
    chosen = sets_to_choose_among(settings)
    assert [(one.features, one.image_size, one.folds) for one in chosen] == [
        *(("vgg16-48", 48, 3), ("efficientnet_lite0-224", 224, 3))
    ]
    features_path(two, "efficientnet_lite0-224").unlink()
    with caplog.at_level(logging.INFO, "thaw"):
        assert len(sets_to_choose_among(settings)) == 1
    assert "the feature set efficientnet_lite0-224 has no file and is left out" in caplog.text


def test_a_named_set_leaves_nothing_to_choose(two: Path) -> None:
    for given in ({"features": "efficientnet_lite0-224"}, {"backbone": "efficientnet_lite0"}):
        settings = with_feature_set(Linear.model_validate({"run": two, **given}), choosing=True)
        assert [one.features for one in sets_to_choose_among(settings)] == ["efficientnet_lite0-224"]
