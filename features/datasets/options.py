"""How a dataset is to be read, if its files or names do not say it by themselves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say of a dataset beside its name.

    Attributes:
        merge_classes: If classes whose names differ in blanks, case or spelling of a number alone are one class.
        skip_bad: If lines of a table without label or file are left out instead of being refused.
        no_splits: If folders called train or test are classes.
        follow_links: If links to files and folders of the same user are followed wherever they lead.
        zip_encoding: The encoding of names in a .zip that are not marked as UTF-8.
        encoding: The encoding of a table.
        image_column, label_column, split_column, group_column: The columns of a table.
        suffix: What is added to the names of images in a table that have no ending.
        white: The value that becomes white in images of more than 8 bits; None if it is the type's highest.
    """

    merge_classes: bool = False
    skip_bad: bool = False
    no_splits: bool = False
    follow_links: bool = False
    zip_encoding: str | None = None
    encoding: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    suffix: str | None = None
    white: float | None = None


DEFAULT = ReadOptions()
