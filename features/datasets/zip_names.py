"""Names inside a .zip that are not marked as UTF-8: in which encoding they were written."""

import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence

from thaw.features.errors import InputError, shown

UTF8_FLAG = 0x800  # of a member, by the format's own specification
UNMARKED = "cp437"  # what zipfile, and the specification, take for names that are not marked
ENCODINGS = ("utf-8", UNMARKED, "gbk", "shift_jis", "euc_kr", "big5", "cp1251", "cp866", "cp1252")
"""Those that are tried, in this order if several fit as well."""
LEAST_FIT = 0.5  # the share of letters that are usual in the encoding's language

# Of the encodings with two bytes a letter, the first bytes of letters that are in everyday use.
_USUAL = {"gbk": (0xB0, 0xD7), "euc_kr": (0xB0, 0xC8), "big5": (0xA4, 0xC6), "shift_jis": (0x82, 0x97)}
_KOREAN_LETTERS = 6  # so many and all Korean: hardly Chinese


def decoded_names(
    members: Sequence[zipfile.ZipInfo], archive: str, encoding: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the name of each member, and a line that says which encoding was taken if one had to be found.

    Args:
        members: of the archive.
        archive: what errors call it.
        encoding: that of names that are not marked, if it is known.

    Raises:
        InputError: no encoding, or not the given one, fits all names.
    """
    unmarked = [member.filename for member in members if not member.flag_bits & UTF8_FLAG]
    beyond_ascii = [name for name in unmarked if not name.isascii()]
    # A name that this encoding lacks was taken by zipfile from a field of its own, which is UTF-8.
    written = {
        name: data for name in beyond_ascii if (data := name.encode(UNMARKED, "ignore")).decode(UNMARKED) == name
    }
    if not written:
        return [member.filename for member in members], []
    found = encoding or max(ENCODINGS, key=lambda name: _fit(written.values(), name))
    names = _decoded(written, found)
    if names is None or (encoding is None and _fit(written.values(), found) < LEAST_FIT):
        tried = f"which are not {shown(encoding)}" if encoding else f"which fit none of {', '.join(ENCODINGS)}"
        raise InputError(
            f"{archive} holds names that are not marked as UTF-8, such as {shown(min(written))}, {tried}; expected "
            "--zip-encoding with the encoding of the machine that made it, for example --zip-encoding gbk"
        )
    said = []
    if encoding is None:
        example = shown(names[min(written)])
        said.append(f"names in {archive} are read as {found}, one as {example} (--zip-encoding takes another)")
    return [names.get(member.filename, member.filename) for member in members], said


def _decoded(written: dict[str, bytes], encoding: str) -> dict[str, str] | None:
    try:
        return {name: data.decode(encoding) for name, data in written.items()}
    except (UnicodeDecodeError, LookupError):
        return None


def _fit(names: Iterable[bytes], encoding: str) -> float:
    """Return the share of letters beyond ASCII that are usual in an encoding, from 0; below 0 if it does not fit."""
    try:
        pairs = [(data, data.decode(encoding)) for data in names]
    except UnicodeDecodeError:
        return -1
    beyond_ascii = [letter for _, text in pairs for letter in text if not letter.isascii()]
    letters = [letter for letter in beyond_ascii if unicodedata.category(letter)[0] in "LMN"]
    if not letters or any(unicodedata.category(letter)[0] in "SC" for letter in beyond_ascii):
        return 2 if encoding == "utf-8" else -0.5
    if encoding == "utf-8":
        return 2  # other text is never UTF-8 by chance
    if encoding in ("cp437", "cp1252"):
        return 0.9 if all("LATIN" in unicodedata.name(letter, "") for letter in letters) else 0
    if encoding in ("cp1251", "cp866"):
        words = [word for _, text in pairs for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
        usual = [word for word in words if word in (word.lower(), word.title(), word.upper()) and _is_cyrillic(word)]
        return 0.95 * len(usual) / max(1, len(words))
    low, high = _USUAL[encoding]
    heads = [letter.encode(encoding)[0] for letter in letters]
    usual_share = sum(low <= head <= high for head in heads) / len(heads)
    if encoding == "big5" and all(letter.encode(encoding)[-1] >= 0xA1 for letter in letters):
        return 0.6 * usual_share  # a third of its letters end in a smaller byte
    if encoding == "euc_kr" and usual_share == 1 and len(letters) >= _KOREAN_LETTERS:
        return 1.1
    return usual_share


def _is_cyrillic(word: str) -> bool:
    return all("CYRILLIC" in unicodedata.name(letter, "") for letter in word)
