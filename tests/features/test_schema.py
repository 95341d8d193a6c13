from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.features.schema import row_blocks, values_digest

from tests.builders.features import make_file


def test_the_file_has_the_contracts_schema(tmp_path: Path) -> None:
    make_file(tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5") as file:
        assert set(file) == {"features", "labels", "ids", "split", "class_names"}
        assert file["labels"].dtype == np.int64
        assert file["split"].dtype == np.uint8
        for name in ("ids", "class_names"):
            text = h5py.check_string_dtype(file[name].dtype)
            assert text.encoding == "utf-8"
            assert text.length is not None
        assert file["features/x"].chunks is not None
        assert file["features/x"].fletcher32
        assert file.attrs["schema_version"] == 2


@given(st.integers(0, 200), st.integers(1, 2**26))
def test_blocks_cover_every_row_once(num_rows: int, row_bytes: int) -> None:
    rows = [row for block in row_blocks(num_rows, row_bytes) for row in range(block.start, block.stop)]
    assert rows == list(range(num_rows))


def test_the_digest_follows_every_value_and_refuses_what_is_not_finite(tmp_path: Path) -> None:
    make_file(tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        before = values_digest(file, ["x", "y"])
        file["features/y"][3, 1, 1, 4] += 1
        assert values_digest(file, ["x", "y"]) != before
        file["features/y"][3, 1, 1, 4] = np.inf
        with pytest.raises(ValueError, match="layer y holds values that are not finite"):
            values_digest(file, ["x", "y"])
