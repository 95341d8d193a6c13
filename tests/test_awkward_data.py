"""A hundred awkward inputs: each is right, refused with its line, or warned of. None is wrong without a word."""

from collections import Counter
from pathlib import Path

import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError

from tests.builders.awkward import Awkward, all_awkward

CASES = all_awkward()


def test_there_are_a_hundred() -> None:
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_awkward_input(tmp_path: Path, case: Awkward) -> None:
    word = case.make(tmp_path)
    if case.classes is None:
        with pytest.raises(InputError) as refused:
            load_dataset(word, options=case.options)
        assert case.said in str(refused.value)
        assert "\n" not in str(refused.value)
        return
    dataset = load_dataset(word, options=case.options)
    assert Counter(dataset.class_names[label] for label in dataset.labels) == case.classes
    if case.splits is not None:
        assert Counter(dataset.given_split) == case.splits
    if case.said:
        assert any(case.said in note for note in dataset.notes), dataset.notes
    else:
        assert dataset.notes == ()
    for row in range(len(dataset.ids)):
        assert dataset.read(row).shape[2] == 3
