from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.features.errors import InputError
from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile, FeatureRows

from tests.builders.features import COLUMNS, flip_byte, make_file


def test_what_was_written_is_read_row_by_row(tmp_path: Path) -> None:
    layers = make_file(tmp_path / "features.h5")
    with FeatureFile(tmp_path / "features.h5") as features:
        assert features.ids == COLUMNS["ids"]
        assert features.class_names == ("a", "bé")
        assert features.groups is None
        assert features.attributes["image_size"] == 48
        mask = np.array([True, False, True, True])
        together = np.concatenate([layers["y"].reshape(4, -1), layers["x"]], axis=1)
        np.testing.assert_array_equal(features.read(["y", "x"], mask), together[mask])


def test_reading_in_blocks_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = make_file(tmp_path / "features.h5")
    monkeypatch.setattr("thaw.features.schema.BLOCK_BYTES", 1)
    with FeatureFile(tmp_path / "features.h5") as features:
        mask = np.array([False, True, True, False])
        np.testing.assert_array_equal(features.read(["x"], mask), layers["x"][mask])


@given(rows=st.sets(st.integers(0, 3)).map(sorted), block_bytes=st.sampled_from([1, 50, 2**25]))
def test_chosen_rows_keep_their_shape_and_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], block_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "features.h5"
    layers = make_file(path)
    with pytest.MonkeyPatch.context() as patch, FeatureFile(path) as features:
        patch.setattr("thaw.features.schema.BLOCK_BYTES", block_bytes)
        for name, values in layers.items():
            np.testing.assert_array_equal(features.read_rows(name, np.array(rows, int)), values[rows])


def test_no_file_and_no_feature_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no feature file .*; type: make features"):
        FeatureFile(tmp_path / "features.h5")
    (tmp_path / "features.h5").write_bytes(b"something else")
    with pytest.raises(InputError, match="is not a whole feature file .*; remove it and type: make features"):
        FeatureFile(tmp_path / "features.h5")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    make_file(tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        file.attrs["schema_version"] = 9
    with pytest.raises(InputError, match="its schema version is 9, expected 2"):
        FeatureFile(tmp_path / "features.h5")


def test_a_flipped_bit_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    layers = make_file(path)
    whole = path.read_bytes()
    for column in (COLUMNS["labels"].tobytes(), COLUMNS["split"].tobytes(), b"a/1.png"):  # type: ignore[attr-defined]
        flip_byte(path, whole.index(column))
        with pytest.raises(InputError, match="is not a whole feature file"):
            FeatureFile(path)
        path.write_bytes(whole)
    flip_byte(path, whole.index(layers["x"].tobytes()) + 3)
    with (
        FeatureFile(path) as features,
        pytest.raises(InputError, match=r"is damaged in /features/x .*; remove it, then:"),
    ):
        features.read(["x"], np.ones(4, bool))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(1, 5)) | st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=3),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([1, 64, 2**18]),
    st.sampled_from([1, 100, 2**25]),
    st.integers(0, 2**31),
)
def test_any_chunks_and_blocks_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    num_rows: int,
    shapes: list[tuple[int, ...]],
    dtype: str,
    chunk_bytes: int,
    block_bytes: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    layers = {f"layer{i}": generator.standard_normal((num_rows, *s)).astype(dtype) for i, s in enumerate(shapes)}
    names, mask = list(layers), generator.random(num_rows) < 0.6
    columns = {
        "labels": generator.integers(0, 2, num_rows),
        "ids": [f"{'é' * (i % 4)}{i}" for i in range(num_rows)],
        "split": generator.integers(0, 3, num_rows).astype(np.uint8),
        "class_names": ["a", "b"],
    }
    path = tmp_path_factory.mktemp("store") / "features.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thaw.features.schema.CHUNK_BYTES", chunk_bytes)
        patch.setattr("thaw.features.schema.BLOCK_BYTES", block_bytes)
        with create_feature_file(path, {n: v.shape for n, v in layers.items()}, dtype, columns, {}) as file:
            for name, values in layers.items():
                file[f"features/{name}"][...] = values
        with FeatureFile(path) as features:
            assert features.ids == columns["ids"]
            np.testing.assert_array_equal(features.split, columns["split"])
            flat = np.hstack([values.reshape(num_rows, -1).astype(np.float32) for values in layers.values()])
            np.testing.assert_array_equal(features.read(names, mask), flat[mask])
            rows = FeatureRows(features, names, mask)
            assert rows.shape == flat[mask].shape
            start = int(generator.integers(0, num_rows))
            np.testing.assert_array_equal(rows.read(slice(start, None)), flat[mask][start:])
