"""run.json: the run's own settings, and those of each of its feature sets."""

import json
from pathlib import Path

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.config import DATA_FIELDS, RUN_FIELDS, SET_FIELDS, Neural, Shared
from thaw.pipeline.run.run_json import another_run, check_agrees, read_run, shared_settings, write_run

from tests.builders.results import refusal


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


def test_the_run_file_holds_the_run_and_each_of_its_feature_sets(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path))
    write_run(Shared(run=tmp_path, backbone="efficientnet_lite1", batch_size=16))
    content = json.loads((tmp_path / "run.json").read_text())
    assert list(content) == [*RUN_FIELDS, "skip_bad", "max_pixels", "feature_sets"]
    assert list(content["feature_sets"]) == ["vgg16-48", "efficientnet_lite1-240"]
    own = content["feature_sets"]["efficientnet_lite1-240"]
    assert list(own) == [*SET_FIELDS, "batch_size"]
    assert (own["image_size"], own["pooling"], own["batch_size"]) == (240, "avg", 16)


def test_what_was_written_is_read_back_as_settings(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path, dataset="npz:x.npz", image_size=64, layers="block3_pool", features="mine")
    write_run(settings)
    record = read_run(tmp_path)
    assert record is not None
    assert record.shared("mine").model_copy(update={"run": tmp_path}) == settings


def test_writing_a_set_again_changes_nothing_but_what_may_change(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path))
    before = (tmp_path / "run.json").stat().st_mtime_ns
    write_run(Shared(run=tmp_path))
    assert (tmp_path / "run.json").stat().st_mtime_ns == before
    write_run(Shared(run=tmp_path, batch_size=8, skip_bad=True))
    content = json.loads((tmp_path / "run.json").read_text())
    assert (content["skip_bad"], content["feature_sets"]["vgg16-48"]["batch_size"]) == (True, 8)


def test_random_weights_are_the_first_set_only_of_a_run_without_others(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path, weights="random"))
    record = read_run(tmp_path)
    assert record is not None
    assert (record.first, record.usable) == ("vgg16-48-random", ["vgg16-48-random"])
    write_run(Shared(run=tmp_path, image_size=64))
    record = read_run(tmp_path)
    assert record is not None
    assert (record.first, record.usable) == ("vgg16-64", ["vgg16-64"])


def test_a_contradiction_of_the_run_says_what_differs_and_what_to_type(tmp_path: Path) -> None:
    run = tmp_path / "flowers"
    run.mkdir()
    write_run(Shared(run=run))
    other = Shared(run=run, seed=3, dataset="elpv")
    check_agrees(other, read_run(run), {"image_size"})
    assert refusal(check_agrees, other, read_run(run), {"seed", "dataset"}) == (
        f"{run} was made with other settings: --dataset was digits and is now elpv; --seed was 0 and is now 3. Leave "
        f"the option out to continue with the run's, or start another run: --run {run}-2 --dataset elpv"
    )


def test_the_name_of_a_feature_set_that_has_other_settings_is_refused(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path, features="mine"))
    other = Shared(run=tmp_path, features="mine", image_size=64, resize="area")
    assert refusal(check_agrees, other, read_run(tmp_path), SET_FIELDS) == (
        f"--features mine of {tmp_path} was made with other settings: --image-size was 48 and is now 64; --resize was "
        "bilinear and is now area. Leave the option out to take what is there, or name a new feature set by --features"
    )


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"image_size": "large"}', "{}", '{"feature_sets": []}'),
        '{"dataset": "digits", "data": null, "target": null, "seed": 0, "skip_bad": false, "max_pixels": 9, '
        '"feature_sets": {"x": {}}}',
    ],
)
def test_a_damaged_run_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run.json is damaged .*; remove it and type the first command of the run"):
        read_run(tmp_path)


def test_a_run_of_the_former_form_is_refused_with_one_line(tmp_path: Path) -> None:
    flat = {"dataset": "digits", "seed": 0, "backbone": "vgg16", "image_size": 48}
    (tmp_path / "run.json").write_text(json.dumps(flat))
    assert refusal(read_run, tmp_path) == (
        f"{tmp_path / 'run.json'} is of a run without feature sets, which a former version made; begin another run "
        f"with --run {tmp_path}-2 --dataset digits"
    )


@pytest.mark.parametrize(("given", "expected"), [({"batch_size": 128}, 128), ({}, None)])
def test_the_batch_of_a_training_is_another_than_the_batch_of_the_extraction(
    tmp_path: Path, given: dict[str, int], expected: int | None
) -> None:
    write_run(Shared(run=tmp_path, batch_size=16))
    settings = Neural.model_validate({"run": tmp_path, "features": "vgg16-48", **given})
    assert settings.training_batch_size == expected
    assert shared_settings(settings).batch_size == 16


def test_another_run_is_of_the_same_data_read_in_the_same_way(tmp_path: Path) -> None:
    run = tmp_path / "a b"
    run.mkdir()
    assert another_run(run) == f"--run '{run}-2'"
    write_run(Shared(run=run, dataset=f"csv:{tmp_path}/it's.csv", label_column="kind", merge_classes=True))
    word = f"""'csv:{tmp_path}/it'"'"'s.csv'"""
    assert another_run(run) == f"--run '{run}-2' --dataset {word} --merge-classes --label-column kind"
    (run / "run.json").write_text("[")
    assert another_run(run) == f"--run '{run}-2'"


def test_a_run_that_was_begun_before_an_option_of_the_data_existed_is_read(tmp_path: Path) -> None:
    write_run(Shared(run=tmp_path))
    content = json.loads((tmp_path / "run.json").read_text())
    for name in DATA_FIELDS:
        del content[name]
    (tmp_path / "run.json").write_text(json.dumps(content))
    record = read_run(tmp_path)
    assert record is not None
    assert record.settings["no_splits"] is False
    assert record.settings["white"] is None
