import importlib.util

import numpy as np

from thaw.features.datasets.dataset import load_dataset

from tests.builders.images import folder, refusal


def test_elpv_without_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal("elpv") == (
        "the package elpv_dataset is not installed; expected it for --dataset elpv (its images are CC BY-NC-SA 4.0); "
        "type make setup EXTRA=elpv, or pip install elpv-dataset"
    )


def test_elpv(tmp_path, monkeypatch):
    data = folder(tmp_path / "elpv_dataset" / "data", *(f"images/cell000{i}.png" for i in range(1, 5)))
    (tmp_path / "elpv_dataset" / "__init__.py").write_text("raise RuntimeError('imported')")
    degrees = ["0.0", "0.3333333333333333", "0.6666666666666666", "1.0"]
    lines = [f"images/cell000{i + 1}.png  {degree}   mono\n" for i, degree in enumerate(degrees)]
    (data / "labels.csv").write_text("".join(lines))
    spec = importlib.util.spec_from_file_location(
        "elpv_dataset", data.parent / "__init__.py", submodule_search_locations=[str(data.parent)]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    binary = load_dataset("elpv")
    assert binary.ids[0] == "images/cell0001.png"
    assert binary.class_names == ("functional", "defective")
    np.testing.assert_array_equal(binary.labels, [0, 0, 1, 1])
    assert binary.read(3).shape == (2, 3, 3)
    four = load_dataset("elpv", target="four")
    assert four.class_names == ("functional", "possibly_defective", "likely_defective", "defective")
    np.testing.assert_array_equal(four.labels, [0, 1, 2, 3])
    assert four.digest() != binary.digest()
