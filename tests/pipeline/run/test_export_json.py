"""export.json: written, read back, damaged; and its rows in the report."""

from pathlib import Path
from typing import Any

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.run.export_json import (
    EXPORT_HEADINGS,
    Exported,
    export_rows,
    read_exports,
    record_export,
    remove_exports,
)


def exported(**changed: Any) -> Exported:
    given = {
        "format": "onnx", "path": "model.onnx", "bytes": 2_500_000, "runtime": "ONNX Runtime 1.32.0", "cores": 2,
        "image_side": 256, "batch_size": 32, "milliseconds_one": 12.34, "milliseconds_batch": 1234.5, "command": "x",
    }  # fmt: skip
    return Exported.model_validate(given | changed)


def test_a_format_has_one_entry_its_last(tmp_path: Path) -> None:
    assert read_exports(tmp_path) == []
    record_export(tmp_path, exported(format="bundle", path="bundle.zip"))
    record_export(tmp_path, exported(bytes=1))
    record_export(tmp_path, exported(bytes=2))
    assert [(one.format, one.bytes) for one in read_exports(tmp_path)] == [("onnx", 2), ("bundle", 2_500_000)]


@pytest.mark.parametrize("content", ["", "{}", '{"exports": []}', '{"exports": [{"format": "onnx"}]}'])
def test_a_damaged_file_is_one_line_and_made_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(InputError, match=r"export.json is damaged .*; remove it and export again"):
        read_exports(tmp_path)
    record_export(tmp_path, exported())
    assert read_exports(tmp_path) == [exported()]


def test_the_rows_are_of_files_that_are_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("svm", "gone", "damaged"):
        (tmp_path / name).mkdir()
        record_export(tmp_path / name, exported(runtime="ONNX Runtime 1.32.0"))
    record_export(tmp_path / "svm", exported(format="bundle", path="b.zip", runtime=None, milliseconds_one=None))
    (tmp_path / "svm" / "model.onnx").touch()
    (tmp_path / "svm" / "b.zip").touch()
    (tmp_path / "damaged" / "export.json").write_text("{")
    rows = export_rows(tmp_path, ["svm", "gone", "damaged", "chance"])
    assert rows == [
        ["svm", "onnx", "2.5 MB", "12.3", "1,234", "ONNX Runtime 1.32.0, 2 cores"],
        ["svm", "bundle", "2.5 MB", "-", "1,234", "not measured"],
    ]
    assert all(len(row) == len(EXPORT_HEADINGS) for row in rows)
    assert "export.json is damaged" in caplog.text


def test_what_was_exported_goes_with_its_model(tmp_path: Path) -> None:
    record_export(tmp_path, exported())
    (tmp_path / "savedmodel").mkdir()
    for name in ("bundle.zip", "savedmodel/saved_model.pb", "report.json"):
        (tmp_path / name).touch()
    remove_exports(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
