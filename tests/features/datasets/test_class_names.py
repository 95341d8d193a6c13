import pytest

from thaw.features.datasets.class_names import is_missing, merged_names, same_name
from thaw.features.errors import InputError


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("cat ", "cat"),
        ("Cat", "cAT"),
        ("0", "0.0"),
        ("01", "1"),
        ("-1", "-1.00"),
        ("caf\u00e9", "cafe\u0301"),
        ("ß", "SS"),
    ],
)
def test_spellings_of_one_class(one, two):
    assert same_name(one) == same_name(two)


@pytest.mark.parametrize(
    ("one", "two"), [("1", "10"), ("1e5", "100000"), ("1_0", "10"), ("a b", "ab"), ("1.1", "1.10 m")]
)
def test_names_of_two_classes(one, two):
    assert same_name(one) != same_name(two)


def test_the_spelling_of_most_images_is_taken():
    names = ["Cat", "cat", "cat", "dog"]
    spelling, notes = merged_names("here", names, merge=True)
    assert spelling == {"Cat": "cat", "cat": "cat"}
    assert notes == ["--merge-classes takes as one class each: 'Cat' (1) and 'cat' (2)"]
    assert merged_names("here", ["a", "b"], merge=False) == ({}, [])
    with pytest.raises(
        InputError, match=r"^here has classes whose names differ .*: 'Cat' \(1\) and 'cat' \(2\); expected"
    ):
        merged_names("here", names, merge=False)


def test_what_is_missing():
    assert [is_missing(text) for text in ("", " ", "nan", "NaN", "None", "NULL")] == [True] * 6
    assert [is_missing(text) for text in ("none", "0", "na", "nano")] == [False] * 4
