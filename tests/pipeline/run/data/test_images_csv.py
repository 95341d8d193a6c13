"""What changed of a run's images is said at the next stage, after a look at names, sizes, times and classes."""

import logging
import os
import zipfile

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.extract import begin_run
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.data.images_csv import changes, read_images, record_images, warn_of_changes

from tests.builders.images import folder, png


@pytest.fixture
def begun(tmp_path):
    """A run of twelve images in two classes."""
    folder(tmp_path / "data", *(f"{kind}/{i}.png" for kind in "ab" for i in range(6)))
    settings = Shared(run=tmp_path / "run", dataset=f"folder:{tmp_path}/data")
    begin_run(settings, dataset_of(settings))
    return settings


def said(settings, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "thaw"):
        warn_of_changes(settings)
    return caplog.messages


def test_nothing_is_said_if_nothing_changed(begun, caplog):
    assert said(begun, caplog) == []


def test_added_removed_changed_and_moved_images_are_named(begun, tmp_path, caplog):
    data = tmp_path / "data"
    (data / "a/new.png").write_bytes(png(9))
    (data / "b/0.png").unlink()
    (data / "a/1.png").rename(data / "b/moved.png")
    (data / "a/2.png").write_bytes(png(77))
    os.utime(data / "a/2.png", (1, 1))
    assert said(begun, caplog) == [
        f"the data changed since {tmp_path}/run was made: 2 added (a/new.png, b/moved.png), 2 removed (a/1.png, "
        "b/0.png), 1 "
        f"changed (a/2.png); what was extracted before is used: type make features RUN={tmp_path}/run, which extracts "
        "the new "
        "ones alone, or put the images back"
    ]


def test_data_that_is_gone_is_said(begun, tmp_path, caplog):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    [line] = said(begun, caplog)
    assert line.startswith(f"the images of {tmp_path}/run cannot be looked at (--dataset folder:")


def test_another_label_in_a_table_is_said(tmp_path, caplog):
    folder(tmp_path, *(f"{i}.png" for i in range(12)))
    table = tmp_path / "t.csv"
    table.write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(12)))
    settings = Shared(run=tmp_path / "run", dataset=f"csv:{table}")
    begin_run(settings, dataset_of(settings))
    table.write_text(table.read_text().replace("3.png,b", "3.png,a"))
    [line] = said(settings, caplog)
    assert "made: 1 of another class (3.png); what" in line


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_arrays_and_members_that_changed_are_said(tmp_path, caplog, kind):
    def write(value):
        if kind == "npz":
            images = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
            images[5] = value
            np.savez(tmp_path / "a.npz", x=images, y=np.arange(12) % 2)
            return
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for number in range(12):
                archive.writestr(f"{'ab'[number % 2]}/{number:02d}.png", png(value if number == 5 else number))

    write(5)
    settings = Shared(run=tmp_path / "run", dataset=f"{'npz' if kind == 'npz' else 'folder'}:{tmp_path}/a.{kind}")
    begin_run(settings, dataset_of(settings))
    write(5)
    assert said(settings, caplog) == []
    write(200)
    [line] = said(settings, caplog)
    assert f"1 changed ({'train/00005' if kind == 'npz' else 'b/05.png'});" in line


def test_changes_in_words():
    seen = {"a": ("x", "1"), "b": ("x", "1"), "c": ("y", "1"), "d": ("y", "1")}
    assert changes(seen, seen) == ""
    assert changes({}, seen) == "4 added (a, b and so on)"


def test_each_change_is_kept_so_that_every_feature_set_can_follow(begun, tmp_path):
    path, data = tmp_path / "run/images.csv", tmp_path / "data"
    first = read_images(path)
    assert first is not None
    (data / "a/1.png").write_bytes(png(91))
    record_images(tmp_path / "run", dataset_of(begun))
    (data / "b/2.png").write_bytes(png(92))
    record_images(tmp_path / "run", dataset_of(begun))
    last = read_images(path)
    assert last is not None
    assert len(last.digests) == 3
    assert last.changed_since(first.digests[0]) == {"a/1.png", "b/2.png"}
    assert last.changed_since(last.digests[1]) == {"b/2.png"}
    assert last.changed_since(last.digests[2]) == set()
    assert last.changed_since("another") is None
    os.utime(data / "a/3.png", (1, 1))
    record_images(tmp_path / "run", dataset_of(begun))
    touched = read_images(path)
    assert touched is not None
    assert (touched.digests, touched.since) == (last.digests, last.since)


def test_a_damaged_record_is_refused(begun, tmp_path):
    (tmp_path / "run/images.csv").write_text("id,label\n")
    with pytest.raises(InputError, match="images.csv is damaged"):
        warn_of_changes(begun)
