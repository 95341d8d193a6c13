import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thaw.features.datasets.dataset import DATASETS, load_dataset

from tests.builders.images import SPLIT, folder, png, refusal, zipped

NAMES = "digits, elpv, cifar10, cifar100, folder:PATH, csv:PATH, npz:PATH"


# ---- names


def test_an_unknown_name_lists_the_names_and_suggests_the_closest():
    assert ", ".join(DATASETS) == NAMES
    assert refusal("cifr10") == f"no data set 'cifr10'; expected one of {NAMES}; type --dataset cifar10"
    assert refusal("foldr:x") == f"no data set 'foldr:x'; expected one of {NAMES}; type --dataset folder:PATH"
    assert refusal("zzz") == f"no data set 'zzz'; expected one of {NAMES}; type --dataset digits"


def test_a_path_without_its_kind_is_recognised(tmp_path):
    (tmp_path / "t.csv").touch()
    assert refusal(str(tmp_path)).endswith(f"type --dataset folder:{tmp_path}")
    assert refusal(f"{tmp_path}/t.csv").endswith(f"type --dataset csv:{tmp_path}/t.csv")


@pytest.mark.parametrize("name", ["x" * 5000, "folder:" + "x" * 5000, "csv:~nobody-of-that-name/x", "npz:a\0b", ""])
def test_names_that_no_file_system_takes(name):
    assert refusal(name)


@pytest.mark.parametrize(
    ("kind", "what"), [("folder", "a folder or a .zip"), ("csv", "a .csv file"), ("npz", "a .npz file")]
)
def test_a_path_that_does_not_exist(kind, what):
    expected = f"--dataset {kind}:no/such does not exist; expected {what}; type --dataset {kind}:PATH"
    assert refusal(f"{kind}:no/such") == expected
    assert refusal(f"{kind}:") == f"--dataset {kind}: does not exist; expected {what}; type --dataset {kind}:PATH"


def test_options_of_other_datasets_are_refused():
    assert refusal("digits", data=Path("x")) == (
        "--data x with --dataset digits: expected --data only with cifar10 or cifar100; leave --data out"
    )
    assert refusal("digits", target="four") == (
        "--target four with --dataset digits: expected --target only with elpv; leave --target out"
    )
    assert refusal("elpv", target="five") == "--target five: expected binary or four; type --target binary"


def test_cifar_from_an_image_folder(tmp_path):
    folder(tmp_path / "f", *SPLIT)
    dataset = load_dataset("cifar10", data=tmp_path / "f")
    assert dataset.name == "cifar10"
    assert dataset.ids == tuple(sorted(SPLIT))
    assert load_dataset("cifar100", data=zipped(tmp_path / "a.zip", *SPLIT)).ids == dataset.ids


def test_cifar_data_that_does_not_exist():
    assert refusal("cifar10", data=Path("no/such")) == (
        "--data no/such does not exist; expected the archive of cifar10, an image folder or a .zip; type --data PATH"
    )


# ---- digits


def test_digits():
    dataset = load_dataset("digits")
    assert len(dataset.ids) == 1797
    assert (dataset.ids[0], dataset.ids[-1]) == ("train/00000", "train/01796")
    assert dataset.class_names == tuple("0123456789")
    assert dataset.labels.dtype == np.int64
    assert set(dataset.given_split) == {""}
    assert dataset.groups is None
    image = dataset.read(0)
    assert image.dtype == np.uint8
    assert image.shape == (8, 8, 3)
    np.testing.assert_array_equal(image[0, 2:6], np.repeat([[80], [207], [143], [16]], 3, axis=1))


def test_listing_imports_neither_tensorflow_nor_scikit_learn():
    code = (
        "import sys, thaw.features.datasets.dataset, thaw.features.images.decode; "
        "print(sorted(name for name in sys.modules if name in ('sklearn', 'tensorflow', 'keras')))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- digest


def test_the_digest_covers_all_that_it_should(tmp_path):
    folder(tmp_path / "f", *SPLIT)

    def digest() -> str:
        return load_dataset(f"folder:{tmp_path}/f").digest()

    seen = {digest()}
    assert digest() in seen
    for old, new in [
        ("train/cats/a.png", "train/cats/z.png"),
        ("train/dogs/a.png", "train/cats/a.png"),
        ("val/cats", "test/cats"),
        ("test/emus", "test/gnus"),
    ]:
        (tmp_path / "f" / old).rename(tmp_path / "f" / new)
        seen.add(digest())
    (tmp_path / "f/train/cats/a.png").write_bytes(png(200))
    seen.add(digest())
    assert len(seen) == 6


def test_the_digest_is_not_ambiguous():
    dataset = load_dataset("digits")
    one = dataclasses.replace(dataset, ids=("ab", "c"), labels=np.array([0, 1]), given_split=("", ""))
    two = dataclasses.replace(one, ids=("a", "bc"))
    grouped = dataclasses.replace(one, groups=("", ""))
    assert len({one.digest(), two.digest(), grouped.digest()}) == 3
