"""`SHA256SUMS`: the digests of a result's files, in the form of `sha256sum --check`, to find a changed byte."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest, write_whole

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")


def write_sums(folder: Path, paths: Iterable[Path], coming: Mapping[str, str]) -> None:
    """Write `folder`/SHA256SUMS.

    Args:
        folder: a result's folder.
        paths: files in it.
        coming: name -> text of files that are written next; the digests are there before them.
    """
    digests = {path.name: file_digest(path) for path in paths}
    digests |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in coming.items()}
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    with write_whole(folder / NAME) as file:
        file.writelines(lines)


def changed_files(folder: Path) -> list[str]:
    """Return the names of the files in `folder` that are missing or have another digest than SHA256SUMS lists.

    Raises InputError if SHA256SUMS itself is missing or has another form than `write_sums` gives it.
    """
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except PermissionError:  # the command line says what to do
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    parsed = [_LINE.fullmatch(line) for line in lines]
    if not parsed or not all(parsed):
        raise InputError(f"{path} is damaged: expected lines of a digest, two spaces and a file's name")
    expected = {match[2]: match[1] for match in parsed if match}
    return [
        name
        for name, digest in expected.items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]
