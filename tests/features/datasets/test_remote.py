import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.datasets.remote import RemotePath, is_url, path_or_url
from thaw.features.errors import InputError
from thaw.features.extraction.extraction import Extraction, parts_folder
from thaw.features.extraction.parts import peek_part, read_part, write_part
from thaw.features.store import FeatureFile

from tests.builders.extraction import MeanColour, request


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's file system in memory, empty before and after."""
    system = fsspec.filesystem("memory")
    yield system
    for path in system.find("/"):
        system.rm_file(path)


def put(system: fsspec.AbstractFileSystem, folder: Path, root: str) -> None:
    for path in folder.rglob("*.png"):
        system.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.png"):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("text", ["s3://bucket/folder", "memory://x", "file:///x", "simplecache::file:///x"])
def test_urls_are_told_from_paths(text: str) -> None:
    assert is_url(text)
    assert not any(is_url(path) for path in ("flowers", "/data/flowers", "a:b", "C:\\flowers", ""))


def test_a_file_url_is_a_path_and_another_is_not() -> None:
    assert path_or_url("file:///some%20where/x") == Path("/some where/x")
    assert path_or_url("s3://bucket/x") == RemotePath("s3://bucket/x")
    assert path_or_url("relative") == Path("relative").absolute()


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize("scheme", ["file", "local", "memory"])
def test_a_dataset_at_a_url_equals_the_dataset_at_the_path(
    image_folder: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem, scheme: str, ending: str
) -> None:
    source = zipped(image_folder, tmp_path / "images.zip") if ending else image_folder
    url = f"{scheme}://{source}"
    if scheme == "memory" and ending:
        memory.pipe_file("/images.zip", source.read_bytes())
        url = "memory://images.zip"
    elif scheme == "memory":
        put(memory, image_folder, "/images")
        url = "memory://images"
    here, there = load_dataset(f"folder:{source}"), load_dataset(f"folder:{url}")
    assert there.ids == here.ids
    assert there.digest() == here.digest()
    np.testing.assert_array_equal(there.read(40), here.read(40))


def test_the_error_of_a_url_names_the_reason(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    for url, message in (
        (f"file://{tmp_path}/none", "does not exist; expected a folder or a .zip"),
        ("memory://none", "memory://none (cannot be listed|holds no files)"),
        ("nosuch://bucket/x", "nosuch://bucket/x cannot be used .*expected a URL of fsspec"),
        ("memory://none.zip", "none.zip"),
    ):
        with pytest.raises(InputError, match=message):
            load_dataset(f"folder:{url}")


def test_an_image_that_went_away_is_named(image_folder: Path, memory: fsspec.AbstractFileSystem) -> None:
    put(memory, image_folder, "/images")
    dataset = load_dataset("folder:memory://images")
    memory.rm_file("/images/grass/03.png")
    row = dataset.ids.index("grass/03.png")
    with pytest.raises(InputError, match="grass/03.png cannot be read from memory://images .*--skip-bad"):
        dataset.read(row)
    assert dataset.content(row) == b"cannot be opened"


@pytest.mark.parametrize("kind", ["folder", "zip", "local", "digits"])
def test_some_images_can_be_sent_elsewhere_without_the_others(image_folder: Path, tmp_path: Path, kind: str) -> None:
    words = {
        "folder": lambda: f"folder:{image_folder}",
        "zip": lambda: f"folder:{zipped(image_folder, tmp_path / 'images.zip')}",
        "local": lambda: f"folder:local://{image_folder}",
        "digits": lambda: "digits",
    }
    dataset = load_dataset(words[kind]())
    rows = [5, 3, 60]
    sent = pickle.dumps(dataset.take(rows))
    assert len(sent) < 5000
    received = pickle.loads(sent)  # noqa: S301
    assert received.ids == tuple(dataset.ids[row] for row in rows)
    for i, row in enumerate(rows):
        assert received.content(i) == dataset.content(row)
        np.testing.assert_array_equal(received.read(i), dataset.read(row))
        np.testing.assert_array_equal(received.take([i]).read(0), dataset.read(row))


def test_parts_at_a_url_give_the_file_of_parts_beside_it(
    image_folder: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 20)
    dataset = load_dataset(f"folder:{image_folder}")
    for name, parts in (("here", None), ("there", "memory://parts"), ("path", str(tmp_path / "shared"))):
        path = tmp_path / f"{name}.h5"
        extraction = Extraction(request(path, dataset, parts))
        extraction.run(MeanColour())
        assert extraction.missing() == []
        lies = [str(found) for found in extraction.folder.iterdir()]
        assert len(lies) == 4
        assert all(parts is None or parts in where for where in lies)
        extraction.join({"backbone": "none"})
    assert memory.find("/parts") == []
    digests = {FeatureFile(tmp_path / f"{name}.h5").attributes["values_sha256"] for name in ("here", "there", "path")}
    assert len(digests) == 1


def test_files_of_one_name_in_two_runs_have_parts_of_their_own(tmp_path: Path) -> None:
    one, two = (parts_folder(tmp_path / run / "features.h5", "memory://p") for run in ("a", "b"))
    assert one != two
    assert str(one).startswith("memory://p/features.h5.")


def test_a_torn_part_at_a_url_is_none(memory: fsspec.AbstractFileSystem) -> None:
    path = RemotePath("memory://p/part.h5")
    assert peek_part(path) is None
    write_part(path, {"a": np.ones((3, 2), np.float32)}, np.arange(3), {"seconds": 1})
    found = read_part(path, ["a"])
    assert found is not None
    assert found[2]["seconds"] == 1
    data = memory.cat_file("/p/part.h5")
    memory.pipe_file("/p/part.h5", data[: len(data) // 2])
    assert peek_part(path) is None


def test_the_parts_that_are_made_elsewhere_are_the_parts(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 20)
    dataset = load_dataset(f"folder:{image_folder}")
    whole = Extraction(request(tmp_path / "a.h5", dataset))
    whole.run(MeanColour())
    apart = Extraction(request(tmp_path / "b.h5", dataset))
    for start in apart.begin():
        maker = pickle.loads(pickle.dumps(apart.maker_of(start)))  # noqa: S301
        maker.make({apart.rows(start): apart.part_path(start)}, MeanColour())
    for start in whole.starts:
        records = [read_part(one.part_path(start), ["colour", "ends"]) for one in (whole, apart)]
        assert records[0] is not None
        assert records[1] is not None
        assert records[0][2]["values_sha256"] == records[1][2]["values_sha256"]
