"""What cannot be read leaves before the split is drawn, and stays out."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.extract import begin_run
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.data.dataset import dataset_of, readable_dataset
from thaw.pipeline.run.data.skipped_csv import read_skipped, write_skipped

from tests.builders.images import folder


def settings_of(root: Path, **changes) -> Shared:
    return Shared(run=root / "run", dataset=f"folder:{root}/data", skip_bad=True, **changes)


def with_junk(root: Path) -> Shared:
    """Twelve images and twelve sidecar files without an ending in two classes, and a class of junk alone."""
    folder(root / "data", *(f"{kind}/{i}.png" for kind in "ab" for i in range(12)))
    for kind in "ab":
        for i in range(12):
            (root / "data" / kind / f"_{i}.jpg").write_bytes(b"sidecar")
    (root / "data" / "junk").mkdir()
    (root / "data" / "junk" / "x.jpg").write_bytes(b"no image")
    return settings_of(root)


def test_junk_leaves_before_the_split_and_with_it_a_class(tmp_path, caplog):
    settings = with_junk(tmp_path)
    with caplog.at_level(logging.INFO, "thaw"):
        split = begin_run(settings, readable_dataset(settings))
    assert np.bincount(split).tolist() == [17, 2, 5]
    assert "without images that can be read, and left out: junk" in caplog.messages
    assert [row[1] for row in split_csv.read_table(tmp_path / "run/split.csv")] == ["a"] * 12 + ["b"] * 12
    skipped = read_skipped(tmp_path / "run/skipped.csv")
    assert len(skipped) == 25
    assert skipped[0][1].startswith("a/_0.jpg is not an image that can be read")
    later = dataset_of(settings)
    assert later.class_names == ("a", "b")
    np.testing.assert_array_equal(split_csv.main(tmp_path / "run", later, 0), split)


def test_what_is_left_needs_two_classes(tmp_path):
    folder(tmp_path / "data", "a/1.png", "b/1.png")
    (tmp_path / "data/b/1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"without the 1 image\(s\) that cannot be read 1 class\(es\) have"):
        readable_dataset(settings_of(tmp_path))


def test_without_skip_bad_nothing_is_read(tmp_path):
    settings = with_junk(tmp_path).model_copy(update={"skip_bad": False})
    assert len(readable_dataset(settings).ids) == 49


def test_what_is_skipped_later_is_added_and_any_name_survives(tmp_path):
    path = tmp_path / "skipped.csv"
    write_skipped(path, {"a,\r.png": 'a "reason"'})
    write_skipped(path, {"b\n.png": "another"})
    assert read_skipped(path) == [("a,\r.png", 'a "reason"'), ("b\n.png", "another")]
    path.write_text("id\nx\n")
    with pytest.raises(InputError, match="is damaged; remove it"):
        read_skipped(path)


def test_junk_leaves_too_if_the_first_command_did_not_say_so(tmp_path):
    settings = with_junk(tmp_path)
    shutil.rmtree(tmp_path / "data" / "junk")  # too few to draw from
    careless = settings.model_copy(update={"skip_bad": False})
    begin_run(careless, readable_dataset(careless))
    assert len(split_csv.read_table(tmp_path / "run/split.csv")) == 48
    split = begin_run(settings, readable_dataset(settings))
    assert np.bincount(split).tolist() == [17, 2, 5]
    assert len(read_skipped(tmp_path / "run/skipped.csv")) == 24
