import errno
import json
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.errors import InputError
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.parts import peek_part, write_part
from thaw.features.extraction.spec import StoredLayers
from thaw.features.images.decode import DECODING, KeptMiddle, LeastSide
from thaw.features.store import FeatureFile

from tests.builders.extraction import MeanColour, request, split_of
from tests.builders.images import read_by


class KilledError(Exception):
    """Stands for a process that ends at once."""


class Killing(MeanColour):
    """Ends the process in the middle of its `last`-th batch."""

    def __init__(self, last: int):
        super().__init__()
        self.last = last

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if len(self.sizes) == self.last:
            raise KilledError
        return super().__call__(images)


@pytest.fixture
def dataset(image_folder: Path) -> Dataset:
    return load_dataset(f"folder:{image_folder}")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 20)


def extract(path: Path, dataset: Dataset, engine: MeanColour | None = None, **changes: object) -> dict[str, str]:
    extraction = Extraction(request(path, dataset, **changes))
    extraction.run(engine or MeanColour())
    return extraction.join({"backbone": "none"})


def read(path: Path) -> dict[str, np.ndarray]:
    with FeatureFile(path) as features:
        everything = np.ones(len(features.ids), bool)
        return {
            **{name: features.read([name], everything) for name in features.layers},
            "ids": np.array(features.ids),
            "labels": features.labels,
            "split": features.split,
            "digest": np.array(features.attributes["values_sha256"]),
        }


def test_row_i_is_image_i_in_every_dataset(tmp_path: Path, dataset: Dataset) -> None:
    engine = MeanColour()
    extract(tmp_path / "features.h5", dataset, engine)
    content = read(tmp_path / "features.h5")
    assert content["ids"].tolist() == list(dataset.ids)
    np.testing.assert_array_equal(content["labels"], dataset.labels)
    np.testing.assert_array_equal(content["split"], split_of(dataset))
    preprocessing = request(tmp_path / "features.h5", dataset).preprocessing
    inputs = np.stack([preprocessing.load(dataset, row) for row in range(len(dataset.ids))])
    expected = MeanColour()(inputs)
    for name in ("colour", "ends"):
        np.testing.assert_allclose(content[name], expected[name].reshape(len(inputs), -1), rtol=1e-6)
    assert sum(engine.sizes) == len(dataset.ids) == 72
    assert engine.sizes == [10, 10, 10, 10, 10, 10, 10, 2]  # three parts of 10 + 10, one of 10 + 2
    assert not (tmp_path / "features.h5.parts").exists()


def test_the_digest_holds_whatever_the_order_of_the_layers(tmp_path: Path, dataset: Dataset) -> None:
    """InceptionV3's `mixed7,mixed10` come back from HDF5 the other way round."""
    for number, names in enumerate((("colour", "ends"), ("ends", "colour"))):
        extract(tmp_path / f"{number}.h5", dataset, shapes=dict.fromkeys(names, (12,)))
        with FeatureFile(tmp_path / f"{number}.h5") as features:
            features.check_digests()
    assert read(tmp_path / "0.h5")["digest"] == read(tmp_path / "1.h5")["digest"]


@pytest.mark.parametrize("last", [0, 1, 2, 3, 5, 7])
def test_a_broken_run_goes_on_and_ends_the_same(tmp_path: Path, dataset: Dataset, last: int) -> None:
    extract(tmp_path / "unbroken.h5", dataset)
    path = tmp_path / "features.h5"
    with pytest.raises(KilledError):
        extract(path, dataset, Killing(last))
    assert not path.exists()
    done = len(list((tmp_path / "features.h5.parts").glob("part-*.h5")))
    assert done == last // 2
    engine = MeanColour()
    extract(path, dataset, engine)
    assert sum(engine.sizes) == 72 - 20 * done
    for name, values in read(tmp_path / "unbroken.h5").items():
        np.testing.assert_array_equal(read(path)[name], values)


def test_parts_of_other_settings_are_not_mixed_in(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "features.h5"
    with pytest.raises(KilledError):
        extract(path, dataset, Killing(7), record={"weights_sha256": "other"})
    engine = MeanColour()
    extract(path, dataset, engine)
    assert sum(engine.sizes) == 72


def test_a_damaged_part_is_found_removed_and_made_again(tmp_path: Path, dataset: Dataset) -> None:
    extraction = Extraction(request(tmp_path / "features.h5", dataset))
    extraction.run(MeanColour())
    path = extraction.part_path(20)
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        values = file["colour"][...].tobytes()
    content[content.index(values) + 9] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        extraction.join({})
    assert str(error.value) == f"{path} was damaged and has been removed; type the command again"
    assert extraction.missing() == [20]
    assert not (tmp_path / "features.h5").exists()
    extraction.run(MeanColour())
    extraction.join({})
    assert len(read(tmp_path / "features.h5")["ids"]) == 72


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path, dataset: Dataset) -> None:
    parts = tmp_path / "features.h5.parts"
    parts.mkdir()
    (parts / ".part-000000000.h5.4711.tmp").write_bytes(b"half")
    extract(tmp_path / "features.h5", dataset)
    assert not parts.exists()


@pytest.mark.parametrize("late", [1, 99])
def test_a_part_that_a_lost_worker_writes_late_is_removed_or_named(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, late: int
) -> None:
    parts, rmdir, came = tmp_path / "features.h5.parts", Path.rmdir, []

    def rmdir_after_a_late_part(path: Path) -> None:
        if path == parts and len(came) < late:
            came.append((parts / "part-000000000.h5").write_bytes(b"late"))
        rmdir(path)

    monkeypatch.setattr("thaw.features.extraction.extraction.time.sleep", lambda seconds: None)
    monkeypatch.setattr(Path, "rmdir", rmdir_after_a_late_part)
    extract(tmp_path / "features.h5", dataset)
    assert len(read(tmp_path / "features.h5")["ids"]) == 72
    assert parts.exists() == (late == 99) == ("features.h5.parts is not needed any more" in caplog.text)


@pytest.mark.parametrize(
    ("method", "aspect", "asked"),
    [
        ("bilinear", "squash", 128),
        ("area", "squash", 256),
        ("article", "squash", None),
        ("bilinear", "crop", KeptMiddle(128)),
        ("area", "pad", KeptMiddle(256)),
    ],
)
def test_a_large_jpeg_may_be_decoded_at_a_reduced_size(
    tmp_path: Path, dataset: Dataset, method: str, aspect: str, asked: LeastSide | None
) -> None:
    sides = set()

    def read(row: int, least_side: LeastSide | None = None) -> np.ndarray:
        sides.add(least_side)
        return dataset.read(row)

    extract(tmp_path / "features.h5", read_by(dataset, read), resize=method, aspect=aspect)
    assert sides == {asked}


def test_parts_of_other_rules_of_decoding_are_not_mixed_in(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request(tmp_path / "features.h5", dataset)
    before = Extraction(wanted).settings_sha256
    assert Extraction(wanted).settings_sha256 == before
    monkeypatch.setattr("thaw.features.extraction.extraction.DECODING", 0)
    assert Extraction(wanted).settings_sha256 != before


def test_a_part_that_cannot_be_written_stops_the_run(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(path: Path, *arguments: object) -> None:
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write_part(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("thaw.features.extraction.parts.write_part", write)
    path, engine = tmp_path / "features.h5", MeanColour()
    extraction = Extraction(request(path, dataset))
    with pytest.raises(OSError, match="No space left on device") as error:
        extraction.run(engine)
    assert error.value.filename == str(extraction.part_path(20))
    assert extraction.missing() == [20, 40, 60]
    monkeypatch.undo()
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", 20)
    extraction.run(MeanColour())
    extraction.join({})
    extract(tmp_path / "unbroken.h5", dataset)
    for name, values in read(tmp_path / "unbroken.h5").items():
        np.testing.assert_array_equal(read(path)[name], values)


def test_images_are_decoded_across_the_borders_of_parts(tmp_path: Path, dataset: Dataset) -> None:
    """While the first part's last batch is in the network, images of the next part are read."""
    next_part_is_read = threading.Event()

    def read(row: int, least_side: int | None = None) -> np.ndarray:
        if row >= 20:
            next_part_is_read.set()
        return dataset.read(row)

    class Waiting(MeanColour):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            if len(self.sizes) == 1:
                assert next_part_is_read.wait(10)
            return super().__call__(images)

    Extraction(request(tmp_path / "features.h5", read_by(dataset, read))).run(Waiting())


def test_the_network_runs_on_while_a_part_is_written(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_batch_is_in = threading.Event()

    class Telling(MeanColour):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            if len(self.sizes) == 2:
                next_batch_is_in.set()
            return super().__call__(images)

    def write(path: Path, *arguments: object) -> None:
        assert next_batch_is_in.wait(10)
        write_part(path, *arguments)  # type: ignore[arg-type]

    engine = Telling()
    monkeypatch.setattr("thaw.features.extraction.parts.write_part", write)
    Extraction(request(tmp_path / "features.h5", dataset)).run(engine)
    assert sum(engine.sizes) == 72


def test_an_image_that_cannot_be_read_stops_or_is_skipped(tmp_path: Path, dataset: Dataset) -> None:
    def read_or_fail(row: int, least_side: int | None = None) -> np.ndarray:
        if row in (3, 41):
            raise InputError(f"{dataset.ids[row]} is damaged")
        return dataset.read(row, least_side)

    broken = read_by(dataset, read_or_fail)
    path = tmp_path / "features.h5"
    with pytest.raises(InputError, match=r"blue sky/03.png is damaged"):
        extract(path, broken)
    skipped = extract(path, broken, skip_bad=True)
    assert skipped == {dataset.ids[row]: f"{dataset.ids[row]} is damaged" for row in (3, 41)}
    content = read(path)
    keep = [row for row in range(72) if row not in (3, 41)]
    assert content["ids"].tolist() == [dataset.ids[row] for row in keep]
    np.testing.assert_array_equal(content["split"], split_of(dataset)[keep])


def test_values_that_are_not_finite_never_get_the_files_name(tmp_path: Path, dataset: Dataset) -> None:
    class Overflowing(MeanColour):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: values * np.inf for name, values in super().__call__(images).items()}

    with pytest.raises(InputError, match="layer colour holds values that are not finite; expected finite numbers"):
        extract(tmp_path / "features.h5", dataset, Overflowing())
    assert not (tmp_path / "features.h5").exists()


def test_a_part_records_what_made_it(tmp_path: Path, dataset: Dataset) -> None:
    extraction = Extraction(request(tmp_path / "features.h5", dataset))
    extraction.run(MeanColour())
    record = peek_part(extraction.part_path(0))
    assert record is not None
    assert record["settings_sha256"] == extraction.settings_sha256
    assert json.dumps(record)


def test_a_feature_file_records_the_rules_of_decoding(tmp_path: Path, dataset: Dataset) -> None:
    extract(tmp_path / "features.h5", dataset)
    with FeatureFile(tmp_path / "features.h5") as features:
        assert features.attributes["decoding"] == DECODING


def test_groups_are_kept(tmp_path: Path, dataset: Dataset) -> None:
    groups = tuple(f"patient {row % 7}" for row in range(72))
    extract(tmp_path / "features.h5", replace(dataset, groups=groups))
    with FeatureFile(tmp_path / "features.h5") as features:
        assert features.groups == list(groups)


def test_parts_are_whole_batches() -> None:
    """A part of a few rows less than a batch would be filled up with zeros and run for nothing."""
    large = StoredLayers({"block1_pool": (112, 112, 64)}, "auto")
    for batch_size in (1, 7, 16, 64, 1000):
        assert large.part_rows(batch_size) % batch_size == 0
        assert large.part_rows(batch_size) >= batch_size


def test_a_file_that_was_being_joined_by_a_killed_process_is_removed(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / ".features.h5.4711.tmp").write_bytes(b"half")
    extract(tmp_path / "features.h5", dataset)
    assert not list(tmp_path.glob(".*.tmp"))
