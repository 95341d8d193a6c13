import json
from pathlib import Path

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.config import RUN_FIELDS, Finetune, Linear, Neural, Shared
from thaw.pipeline.run.run_json import read_run_settings, shared_settings, with_run_settings, write_run_settings


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("digits", "runs/digits"),
        ("folder:/data/flowers", "runs/flowers"),
        ("folder:/data/flowers.zip", "runs/flowers"),
        ("csv:list.csv", "runs/list"),
        ("npz:/a/b.npz", "runs/b"),
    ],
)
def test_the_run_is_named_after_the_data(dataset: str, expected: str) -> None:
    assert Shared(dataset=dataset).run_folder == Path(expected)


def test_later_stages_need_no_repetition(tmp_path: Path) -> None:
    write_run_settings(Shared(run=tmp_path, dataset="npz:x.npz", image_size=64, layers="block3_pool"))
    settings = with_run_settings(Linear(run=tmp_path, layer="block3_pool"))
    assert (settings.image_size, settings.layers, settings.layer) == (64, "block3_pool", "block3_pool")
    assert settings.dataset == f"npz:{Path('x.npz').absolute()}"


def test_repeating_the_same_settings_is_no_contradiction(tmp_path: Path) -> None:
    write_run_settings(Shared(run=tmp_path, dataset="npz:x.npz", image_size=64))
    assert with_run_settings(Shared(run=tmp_path, dataset="npz:x.npz", image_size=64)).image_size == 64


def test_a_contradiction_says_what_differs_and_what_to_type(tmp_path: Path) -> None:
    run = tmp_path / "flowers"
    run.mkdir()
    write_run_settings(Shared(run=run, image_size=48))
    with pytest.raises(InputError) as error:
        with_run_settings(Shared(run=run, image_size=64, resize="area"))
    assert str(error.value) == (
        f"{run} was made with other settings: --image-size was 48 and is now 64; --resize was bilinear and is now "
        f"area. Leave the option out to continue with the run's, or start another run: --run {run}-2"
    )


def test_another_aspect_than_the_runs_is_refused_with_the_usual_line(tmp_path: Path) -> None:
    write_run_settings(Shared(run=tmp_path))
    assert with_run_settings(Shared(run=tmp_path)).aspect == "squash"
    with pytest.raises(InputError) as error:
        with_run_settings(Shared(run=tmp_path, aspect="crop"))
    assert str(error.value) == (
        f"{tmp_path} was made with other settings: --aspect was squash and is now crop. Leave the option out to "
        f"continue with the run's, or start another run: --run {tmp_path}-2"
    )


def test_a_new_run_takes_the_command_line(tmp_path: Path) -> None:
    settings = with_run_settings(Shared(run=tmp_path / "new", image_size=64))
    assert (settings.image_size, settings.run) == (64, tmp_path / "new")


@pytest.mark.parametrize("content", ["{", "[]", '{"image_size": "large"}', "{}"])
def test_a_damaged_run_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run.json is damaged .*; remove it and type the first command of the run"):
        read_run_settings(tmp_path)


def test_the_run_file_holds_every_shared_setting(tmp_path: Path) -> None:
    write_run_settings(Shared(run=tmp_path))
    assert set(json.loads((tmp_path / "run.json").read_text())) == set(RUN_FIELDS)


def test_what_follows_from_the_network_is_the_runs(tmp_path: Path) -> None:
    """The command line says neither the network nor where fine-tuning begins."""
    run = tmp_path / "run"
    run.mkdir()
    write_run_settings(Shared(run=run, backbone="inceptionv3"))
    settings = with_run_settings(Finetune(run=run))
    assert (settings.backbone, settings.unfreeze_from) == ("inceptionv3", "mixed8")
    assert (settings.image_size, settings.normalize, settings.layers) == (299, "tf", "mixed7,mixed10")
    with pytest.raises(InputError, match="--backbone was inceptionv3 and is now resnet50. Leave the option out"):
        with_run_settings(Finetune(run=run, backbone="resnet50"))


@pytest.mark.parametrize(("given", "expected"), [({"batch_size": 128}, 128), ({}, None)])
def test_the_batch_of_a_training_is_another_than_the_batch_of_the_extraction(
    tmp_path: Path, given: dict[str, int], expected: int | None
) -> None:
    write_run_settings(Shared(run=tmp_path, batch_size=16))
    settings = with_run_settings(Neural.model_validate({"run": tmp_path, **given}))
    assert settings.training_batch_size == expected
    assert shared_settings(settings).batch_size == 16


def test_the_run_file_of_the_defaults_is_as_it_always_was(tmp_path: Path) -> None:
    write_run_settings(Shared(run=tmp_path))
    content = json.loads((tmp_path / "run.json").read_text())
    assert list(content) == list(RUN_FIELDS)
    assert [content[name] for name in ("backbone", "image_size", "normalize", "layers")] == [
        *("vgg16", 48, "caffe", "block4_pool,block5_pool")
    ]


def test_auto_pooling_is_what_the_runs_network_makes_of_it(tmp_path: Path) -> None:
    """A later command that says `auto` too, without naming the network, means the run's own."""
    write_run_settings(Shared(run=tmp_path, backbone="efficientnet_lite1"))
    assert [json.loads((tmp_path / "run.json").read_text())[name] for name in ("image_size", "pooling")] == [240, "avg"]
    assert with_run_settings(Linear(run=tmp_path)).pooling == "avg"
    assert with_run_settings(Linear(run=tmp_path, pooling="auto")).pooling == "avg"
    with pytest.raises(InputError, match="--pooling was avg and is now max"):
        with_run_settings(Linear(run=tmp_path, pooling="max"))
    assert (Shared().pooling, Shared(backbone="efficientnet_lite0", pooling="grid2").pooling) == ("auto", "grid2")
