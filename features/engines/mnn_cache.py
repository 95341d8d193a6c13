"""Networks that were converted for an engine, kept in the user's cache folder: conversion takes a second each time."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.features.engines.agreement import verdicts_folder
from thaw.features.files.atomic import file_digest, whole_path

DIGITS = 32  # of a digest, in a file's name
MOST_KEPT = 4  # of some 60 MB each; the one that was used longest ago goes first


def kept_model(made_for: Mapping[str, Any]) -> Path | None:
    """Return the file of the model that was made for all of `made_for`, None if none is kept, or it is damaged.

    A file's name has the digest of its content, which is checked.
    """
    for path in verdicts_folder().glob(f"{_key(made_for)}-*.mnn"):
        if path.stem.rpartition("-")[2] == file_digest(path)[:DIGITS]:
            with contextlib.suppress(OSError):
                os.utime(path)
            return path
        path.unlink(missing_ok=True)
    return None


def keep_model(made_for: Mapping[str, Any], model: Path) -> None:
    """Keep a copy of the file `model`; if that fails, nothing is kept and it is made again each time."""
    folder = verdicts_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_path(folder / f"{_key(made_for)}-{file_digest(model)[:DIGITS]}.mnn") as temporary:
            temporary.write_bytes(model.read_bytes())
        kept = sorted(folder.glob("*.mnn"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MOST_KEPT]:
            path.unlink(missing_ok=True)
    except OSError:
        return


def _key(made_for: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()[:DIGITS]
