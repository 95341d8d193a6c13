"""The words by which folders and tables name splits."""

import re

SPLIT_WORDS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
"""The plain words: a folder with such a name is a split unless --no-splits is given."""

_WORDS = {**SPLIT_WORDS, "training": "train", "testing": "test", "valid": "validation", "dev": "validation"}
_NO_MEANING = ("set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "split", "folder")


_UNLABELLED = ("pred", "predict", "prediction", "unlabeled", "unlabelled", "unsup", "unknown")


def is_unlabelled(name: str) -> bool:
    """Return whether a folder beside splits is, by its last word, of images without classes.

    >>> is_unlabelled("seg_pred"), is_unlabelled("dogs")
    (True, False)
    """
    return re.split(r"[\W_]+", name.lower())[-1] in _UNLABELLED


def is_plain(name: str) -> bool:
    """Return whether a folder's name is a split's and nothing else."""
    return name.lower() in SPLIT_WORDS


def split_named(name: str) -> str | None:
    """Return the split that the last word of a name means: train, validation or test; None if it means none.

    >>> [split_named(name) for name in ("Training", "seg_train", "test_set", "trainset", "trainer", "invalid")]
    ['train', 'train', 'test', 'train', None, None]
    """
    words = re.split(r"[\W_]+", name.strip().lower())
    while len(words) > 1 and words[-1] in (*_NO_MEANING, ""):
        words.pop()
    last = words[-1]
    for ending in _NO_MEANING:
        last = last.removesuffix(ending) or last
    return _WORDS.get(words[-1], _WORDS.get(last))
