"""The local page in headless Chromium, used as a person would; `make test-browser` sets up what it needs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.builders.server import serving
from tests.test_browser import SET_UP, TOOLS, VIEWS, problems_of_axe, problems_of_images, screenshots  # noqa: F401

HOSTILE = "<img src=x onerror=alert(1)>.png"

pytestmark = pytest.mark.skipif(not SET_UP.exists(), reason="needs a browser: make test-browser sets it up")


def surest_and_least_sure(run_folder: Path, paths: list[Path]) -> tuple[tuple[float, Path], tuple[float, Path]]:
    """Return the two pictures of the highest and the lowest probability, with these."""
    with serving(run_folder, "logreg") as one:
        answers = [one.predict(path.read_bytes()).json for path in paths]
    pairs = sorted(zip((answer["top"][0]["probability"] for answer in answers), paths, strict=True))
    return pairs[-1], pairs[0]


@pytest.fixture(scope="module")
def findings(
    pictures_run: Path,
    image_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    screenshots: Path,  # noqa: F811
) -> dict[str, Any]:
    """What the browser finds in every view: a sure picture, an unsure one, a text and a damaged picture."""
    folder = tmp_path_factory.mktemp("files")
    (high, sure), (low, unsure) = surest_and_least_sure(pictures_run, sorted(image_folder.glob("*/*.png")))
    made: dict[str, Callable[[], bytes]] = {
        HOSTILE: sure.read_bytes,
        "unclear.png": unsure.read_bytes,
        "notes.txt": lambda: b"no image",
        "broken.png": lambda: sure.read_bytes()[:-60],
    }
    for name, content in made.items():
        (folder / name).write_bytes(content())
    paths = [str(folder / name) for name in made]
    with serving(pictures_run, "logreg", reject=(high + low) / 2) as one:
        task = {
            "browser": SET_UP.read_text("utf-8").strip(),
            "url": f"http://127.0.0.1:{one.port}/",
            "files": {"images": paths[:2], "others": paths[2:]},
            "screenshots": str(screenshots),
        }
        command = ["node", TOOLS / "serve.mjs", json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return {"sure": sure.parent.name, "url": task["url"], **json.loads(done.stdout)}


@pytest.fixture(params=VIEWS)
def seen(request: pytest.FixtureRequest, findings: dict[str, Any]) -> dict[str, Any]:
    """What the browser finds in one theme at one width."""
    return findings[request.param]


def test_each_file_has_its_label_or_its_error(seen: dict[str, Any], findings: dict[str, Any]) -> None:
    by_file = {card["file"]: card for card in seen["cards"]}
    assert set(by_file) == {HOSTILE, "unclear.png", "notes.txt", "broken.png"}
    assert by_file[HOSTILE]["kind"] == "card ok"
    assert by_file[HOSTILE]["label"] == findings["sure"]
    assert by_file["unclear.png"]["kind"] == "card unsure"
    assert by_file["unclear.png"]["label"] == "unsure"
    for name in (HOSTILE, "unclear.png"):
        assert len(by_file[name]["top"]) == len(by_file[name]["near"]) == 3
        assert all(line.endswith(" %") for line in by_file[name]["top"])
    assert by_file["notes.txt"]["label"] == "No label: not an image, but text/plain"
    assert by_file["broken.png"]["label"].startswith("No label: the image is damaged")
    assert seen["status"] == "4 of 4 images done, 1 unsure, 2 without a label."


def test_results_go_and_others_come(seen: dict[str, Any]) -> None:
    assert seen["cleared"] == {"cards": [], "status": ""}
    assert seen["again"] == 1


def test_only_the_api_is_asked_and_only_for_images(seen: dict[str, Any], findings: dict[str, Any]) -> None:
    assert seen["requests"] == [f"{findings['url']}api/predict?top=3&neighbours=3"] * 4


def test_the_console_names_the_damaged_image_alone(seen: dict[str, Any]) -> None:
    assert [line for line in seen["console"] if "status of 400" not in line] == []
    assert len(seen["console"]) == 1


def test_no_name_is_executed(seen: dict[str, Any]) -> None:
    assert seen["dialogs"] == []
    assert HOSTILE in seen["text"]


def test_every_image_has_a_name(seen: dict[str, Any]) -> None:
    assert problems_of_images(seen["images"]) == []


def test_nothing_is_wider_than_the_window(seen: dict[str, Any]) -> None:
    assert seen["overflow"] == []


def test_axe_finds_no_violation(seen: dict[str, Any]) -> None:
    assert problems_of_axe(seen["axe"]) == []


def test_everything_is_reached_by_the_keyboard_and_shows_it(seen: dict[str, Any]) -> None:
    names = [stop["name"] for stop in seen["stops"]]
    assert names[0] == "skip"
    assert names.index("files") < names.index("clear")
    assert [stop for stop in seen["stops"] if stop["outline"] == "none"] == []


def test_the_page_follows_the_theme(findings: dict[str, Any]) -> None:
    light, dark = (findings[f"{theme}-375"]["theme"] for theme in ("light", "dark"))
    assert sum(light["background"]) > 600 > 200 > sum(light["text"])
    assert sum(dark["background"]) < 200 < 500 < sum(dark["text"])


def test_every_view_has_its_screenshots(findings: dict[str, Any], screenshots: Path) -> None:  # noqa: F811
    for view in VIEWS:
        for name in ("serve", "serve-empty"):
            with Image.open(screenshots / f"{name}-{view}.png") as picture:
                assert picture.width == int(view.rpartition("-")[2])
