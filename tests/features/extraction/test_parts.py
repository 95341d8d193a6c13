from pathlib import Path

import numpy as np

from thaw.features.extraction.parts import peek_part, read_part, write_part

from tests.builders.features import flip_byte


def test_a_part_reads_back_and_any_damage_to_its_values_is_found(tmp_path: Path) -> None:
    path, rows = tmp_path / "part.h5", np.array([4, 5, 7])
    values = np.random.default_rng(0).random((3, 8), np.float32)
    write_part(path, {"x": values}, rows, {"settings_sha256": "s"})
    part = read_part(path, ["x"])
    assert part is not None
    np.testing.assert_array_equal(part[0]["x"], values)
    np.testing.assert_array_equal(part[1], rows)
    assert peek_part(path)["settings_sha256"] == "s"  # type: ignore[index]
    flip_byte(path, path.read_bytes().index(values.tobytes()) + 5)
    assert read_part(path, ["x"]) is None
    path.write_bytes(path.read_bytes()[:100])
    assert read_part(path, ["x"]) is None
    assert peek_part(path) is None
