from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.listing import ImageArrays
from thaw.features.errors import InputError
from thaw.pipeline.run import split_csv

from tests.builders.features import features_of


def dataset(labels: list[int], given_split: list[str] | None = None, groups: list[str] | None = None) -> Dataset:
    return Dataset(
        name="here",
        ids=tuple(f"{i:03d}" for i in range(len(labels))),
        labels=np.array(labels, np.int64),
        class_names=tuple("abcdefgh"[: max(labels) + 1]),
        given_split=tuple(given_split or [""] * len(labels)),
        groups=tuple(groups) if groups else None,
        images=ImageArrays([np.zeros((2, 2, 3), np.uint8)] * len(labels)),
    )


@given(st.lists(st.integers(15, 60), min_size=2, max_size=5), st.integers(0, 99))
def test_a_drawn_split_is_stratified_and_depends_on_the_seed_alone(counts: list[int], seed: int) -> None:
    labels = np.repeat(range(len(counts)), counts).tolist()
    splits = split_csv.draw_split(dataset(labels), seed)
    np.testing.assert_array_equal(splits, split_csv.draw_split(dataset(labels), seed))
    for label, count in enumerate(counts):
        of_class = splits[np.array(labels) == label]
        # In whole numbers: 20 % of the images give or take one, 8 % give or take 1.2, without rounding.
        assert abs(100 * (of_class == 2).sum() - 20 * count) <= 100
        assert abs(100 * (of_class == 1).sum() - 8 * count) <= 120


def test_another_seed_draws_another_split() -> None:
    labels = [0, 1] * 100
    assert (split_csv.draw_split(dataset(labels), 0) != split_csv.draw_split(dataset(labels), 1)).any()


def test_splits_that_come_with_the_data_are_kept() -> None:
    given_split = ["train"] * 60 + ["test"] * 20 + ["validation"] * 10
    splits = split_csv.draw_split(dataset([0, 1] * 45, given_split), 0)
    assert splits.tolist() == [0] * 60 + [2] * 20 + [1] * 10


def test_validation_is_drawn_from_the_training_images_only() -> None:
    given_split = ["train"] * 60 + ["test"] * 30
    splits = split_csv.draw_split(dataset([0, 1] * 45, given_split), 0)
    assert (splits[60:] == 2).all()
    assert np.bincount(splits[:60]).tolist() == [54, 6]


@given(st.integers(0, 99))
def test_a_group_is_in_one_split_only(seed: int) -> None:
    groups = [f"patient {i // 4}" for i in range(120)]
    splits = split_csv.draw_split(dataset([0, 1] * 60, groups=groups), seed)
    for group in set(groups):
        assert len({index for index, name in zip(splits, groups, strict=True) if name == group}) == 1
    assert 15 <= (splits == 2).sum() <= 33


def test_too_few_images_of_a_class() -> None:
    with pytest.raises(InputError) as error:
        split_csv.draw_split(dataset([0] * 40 + [1]), 0)
    assert str(error.value) == (
        "class 'b' of here has 1 image(s) to draw 3 splits from; expected 3 or more: add images, or remove the class"
    )


def test_few_groups_are_one_in_each_split_at_least() -> None:
    groups = [f"g{i % 3}" for i in range(30)]
    splits = split_csv.draw_split(dataset([0, 1] * 15, groups=groups), 0)
    assert sorted(np.bincount(splits).tolist()) == [10, 10, 10]


def test_too_few_groups() -> None:
    with pytest.raises(InputError) as error:
        split_csv.draw_split(dataset([0, 1] * 10, groups=["a", "b"] * 10), 0)
    assert str(error.value) == (
        "here has 1 group(s) left to draw 10% from; expected 3 groups or more, or a split column that names the splits"
    )


def test_the_split_is_drawn_once_and_kept(tmp_path: Path) -> None:
    data = dataset([0, 1] * 50)
    first = split_csv.main(tmp_path, data, seed=0)
    digest = split_csv.digest(tmp_path)
    np.testing.assert_array_equal(split_csv.main(tmp_path, data, seed=5), first)
    assert split_csv.digest(tmp_path) == digest
    lines = (tmp_path / "split.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,label,split"
    assert lines[1:] == [f"{i:03d},{'ab'[i % 2]},{split_csv.SPLITS[index]}" for i, index in enumerate(first)]


def test_names_with_commas_quotes_and_line_breaks_survive(tmp_path: Path) -> None:
    data = dataset([0, 1] * 50)
    ids = (*data.ids[:-2], 'x,"y"', "line\nbreak")
    data = replace(data, ids=ids, class_names=("a,b", "ü"))
    np.testing.assert_array_equal(split_csv.main(tmp_path, data, 0), split_csv.read_split(tmp_path / "split.csv", data))


def test_images_that_changed_since_are_refused(tmp_path: Path) -> None:
    split_csv.main(tmp_path, dataset([0, 1] * 50), 0)
    path = features_of(tmp_path)
    path.parent.mkdir()
    path.touch()
    with pytest.raises(InputError) as error:
        split_csv.main(tmp_path, dataset([0, 1] * 51), 0)
    path = tmp_path / "split.csv"
    assert str(error.value) == (
        f"{path} lists other images than here has now; the data changed since the run began: start another run with "
        f"--run {tmp_path}-2, or put the images back"
    )


@pytest.mark.parametrize("count", [3, 5, 9, 10])
def test_ten_small_classes_have_an_image_of_each_in_every_split(count: int) -> None:
    labels = np.repeat(range(8), count)
    splits = split_csv.draw_split(dataset(labels.tolist()), 0)
    for index in range(3):
        assert set(labels[splits == index]) == set(range(8))


def test_a_group_in_two_splits_is_refused() -> None:
    given_split = ["train"] * 39 + ["test"]
    with pytest.raises(InputError) as error:
        split_csv.draw_split(dataset([0, 1] * 20, given_split, groups=[f"g{i % 20}" for i in range(40)]), 0)
    assert str(error.value) == (
        "group 'g19' of here is in train and in test; expected all images of a group in one split: fix the split "
        "column, or leave it out"
    )


def test_what_is_drawn_keeps_the_groups_of_given_splits_whole() -> None:
    given_split = ["validation" if i < 8 else "" for i in range(120)]
    groups = [f"g{i // 4 if i else 29}" for i in range(120)]
    splits = split_csv.draw_split(dataset([0, 1] * 60, given_split, groups), 0)
    for group in set(groups):
        assert len({index for index, name in zip(splits, groups, strict=True) if name == group}) == 1


def test_images_that_changed_before_anything_was_made_are_drawn_again(tmp_path: Path) -> None:
    split_csv.main(tmp_path, dataset([0, 1] * 50), 0)
    changed = dataset([0, 1] * 51)
    np.testing.assert_array_equal(split_csv.main(tmp_path, changed, 0), split_csv.draw_split(changed, 0))


def test_groups_of_small_classes_are_drawn_without_a_warning() -> None:
    """Scikit-learn warns of a class with fewer images than folds, and refuses where all classes have fewer."""
    labels = np.repeat(range(5), 7).tolist()
    splits = split_csv.draw_split(dataset(labels, groups=[f"g{i // 2}" for i in range(35)]), 0)
    assert set(splits.tolist()) == {0, 1, 2}


def test_groups_with_one_image_of_each_class() -> None:
    with pytest.raises(InputError) as error:
        split_csv.draw_split(dataset(list(range(8)), groups=[f"g{i}" for i in range(8)]), 0)
    assert str(error.value) == (
        "here has one image of each class left to draw 20% from; expected 3 groups or more, or a split column that "
        "names the splits"
    )


@st.composite
def any_datasets(draw: st.DrawFn) -> Dataset:
    """Classes of any sizes in any order, in groups or not, some images with the split that came with them."""
    counts, size = draw(st.lists(st.integers(8, 40), min_size=2, max_size=5)), draw(st.integers(0, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    labels = generator.permutation(np.repeat(range(len(counts)), counts)).tolist()
    groups = [f"g{i // size}" for i in range(len(labels))] if size else None
    splits = draw(st.sampled_from([("", ""), ("", "test"), ("", "validation"), ("train", "test")]))
    chosen = {name: splits[int(generator.integers(4) == 0)] for name in groups or map(str, range(len(labels)))}
    return dataset(labels, [chosen[name] for name in groups or map(str, range(len(labels)))], groups)


@settings(max_examples=40, deadline=None)
@given(any_datasets(), st.integers(0, 2**31))
def test_whatever_is_drawn_every_image_has_one_split_and_given_splits_and_groups_hold(data: Dataset, seed: int) -> None:
    try:
        splits = split_csv.draw_split(data, seed)
    except InputError:
        reject()  # too few groups, or images of a class, are left to draw from
    np.testing.assert_array_equal(splits, split_csv.draw_split(data, seed))
    assert splits.shape == (len(data.ids),)
    assert set(splits.tolist()) == {0, 1, 2}
    for index, came in zip(splits, data.given_split, strict=True):
        assert came in ("", "train") or split_csv.SPLITS[index] == came
    if data.groups is not None:
        assert len(set(zip(data.groups, splits.tolist(), strict=True))) == len(set(data.groups))
        return
    pool = np.array([index in ("", "train") for index in data.given_split])
    for index in (2, 1):
        if split_csv.SPLITS[index] in data.given_split:
            continue
        drawn = splits[pool] == index
        for label in np.unique(data.labels[pool]):
            of_class = data.labels[pool] == label
            assert abs(drawn[of_class].sum() - of_class.sum() * drawn.sum() / len(drawn)) <= 1
        pool &= splits != index


@settings(max_examples=15, deadline=None)
@given(any_datasets(), st.integers(0, 99))
def test_a_split_is_read_back_as_it_was_drawn(
    tmp_path_factory: pytest.TempPathFactory, data: Dataset, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    try:
        drawn = split_csv.main(folder, data, seed)
    except InputError:
        assert not (folder / "split.csv").exists()
        return
    np.testing.assert_array_equal(drawn, split_csv.draw_split(data, seed))
    np.testing.assert_array_equal(split_csv.main(folder, data, seed + 1), drawn)


def test_a_class_that_a_split_lacks_is_said_with_its_count() -> None:
    given_split = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
    data = dataset([0, 0, 0, 1, 1, 3, 0, 1, 0, 1, 2, 2], given_split)
    assert split_csv.gaps(data, split_csv.draw_split(data, 0)) == [
        "no training images of c (2): no model can learn what is in test or validation alone, and these images count "
        "as "
        "mistakes",
        "no validation images of d (1): the choice of settings cannot see them",
        "no test images of d (1): the accuracy says nothing of them",
    ]
    whole = dataset([0, 1] * 50)
    assert split_csv.gaps(whole, split_csv.draw_split(whole, 0)) == []


@pytest.mark.parametrize("name", ["Icon\r", "a\rb,c", 'quoted "\r"', " lead", "line\r\nbreak", "-x", "\tb"])
def test_any_name_survives(tmp_path: Path, name: str) -> None:
    data = dataset([0, 1] * 50)
    data = replace(data, ids=(*data.ids[:-1], f"b/{name}"), class_names=("a", name))
    np.testing.assert_array_equal(split_csv.main(tmp_path, data, 0), split_csv.read_split(tmp_path / "split.csv", data))


def test_test_images_of_classes_without_training_images_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    assert split_csv.unseen_classes(path) is None
    path.write_text("id,label,split\n1,a,train\n2,b,validation\n3,c,test\n4,c,test\n5,a,test\n")
    assert split_csv.unseen_classes(path) == (
        "2 test image(s) are of classes without training images, c (2): every strategy is wrong on them, and they "
        "count as "
        "mistakes."
    )
    path.write_text("id,label,split\n1,a,train\n2,a,test\n")
    assert split_csv.unseen_classes(path) is None


def test_a_split_follows_images_that_changed(tmp_path: Path) -> None:
    old = dataset([0, 1] * 50, groups=[f"g{i // 2}" for i in range(100)])
    split_csv.main(tmp_path, old, 0)
    before = {row[0]: row[2] for row in split_csv.read_table(tmp_path / "split.csv")}
    path = features_of(tmp_path)
    path.parent.mkdir()
    path.touch()
    in_test = next(name for name, split in before.items() if split == "test" and name > "001")
    assert old.groups is not None
    group = old.groups[int(in_test)]
    ids = (*old.ids[1:], "new", "newer")
    new = replace(
        old,
        ids=ids,
        labels=np.array([*old.labels[1:], 0, 1]),
        given_split=("",) * 101,
        groups=(*old.groups[1:], group, "another"),
    )
    split_csv.update(tmp_path, new)
    after = {row[0]: row[2] for row in split_csv.read_table(tmp_path / "split.csv")}
    assert after["new"] == "test"  # as its group
    assert after["newer"] == "train"
    assert "000" not in after
    assert all(after[name] == before[name] for name in ids[:-2])
    assert len(split_csv.main(tmp_path, new, 0)) == 101
