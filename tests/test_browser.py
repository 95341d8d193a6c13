"""report.html in headless Chromium; `make test-browser` sets up what it needs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.models.metrics import evaluate
from thaw.pipeline.cli import run
from thaw.pipeline.run.advice_json import write_advice
from thaw.pipeline.run.predictions_csv import write_predictions
from thaw.pipeline.run.report_json import Report, write_report

from tests.builders.advice import advice
from tests.builders.results import CLASSES, IDS, LABELS, add, fields, probabilities_with

TOOLS = Path(__file__).resolve().parent / "browser"
SET_UP = TOOLS / "node_modules" / ".browser"
PAGES = ("pictures", "advised", "one", "tiny")
VIEWS = ("light-375", "light-1280", "dark-375", "dark-1280")
FAST = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool,block3_pool", "--pooling", "avg"]
HOSTILE = ["<img src=x onerror=alert(1)>", "<script>alert(2)<", "a&b \"c\" 'd'"]
# As JSON within a script element, or as an attribute, these would end it. A folder cannot have a slash in its name.
HOSTILE_WORDS = [*HOSTILE[:2], "</script><script>alert(3)</script>", '"><svg onload=alert(4)>']
BAD_PAGE = """<!doctype html><title>bad</title><script src="http://thaw.invalid/x.js"></script>
<body style="background: #fff; color: #eee"><script>alert("ran"); undefined.x</script>
<p>pale</p><img src="data:image/png;base64,AAAA"><svg role="img" width="9" height="9"></svg><svg></svg>
<table style="width: 2000px"><thead><tr><th><button>Name</button></th></tr></thead>
<tbody><tr><td>a</td></tr><tr><td>b</td></tr></tbody></table></body>"""

pytestmark = pytest.mark.skipif(not SET_UP.exists(), reason="needs a browser: make test-browser sets it up")


def pictures(folder: Path) -> Path:
    """Write 36 small random pictures of each hostile class, in files with hostile names, and return their folder.

    Each class has a colour of its own, but every eighth picture lies in the next class's folder: mistakes to show.
    """
    generator = np.random.default_rng(0)
    for channel, name in enumerate(HOSTILE):
        (folder / name).mkdir(parents=True)
        for number in range(36):
            pixels = generator.integers(0, 140, (40, 50, 3))
            pixels[..., (channel + (number % 8 == 0)) % 3] += generator.integers(60, 115)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{HOSTILE[1]}{number:02d}.png")
    return folder


def report_of_pictures(folder: Path) -> Path:
    """Run whole stages on pictures with hostile names and return the run's page."""
    where = ["--run", str(folder / "run")]
    for arguments in (
        ["features", "--dataset", f"folder:{pictures(folder / 'pictures')}", *FAST],
        ["svm"],
        ["logreg"],
        ["finetune", "--epochs", "2"],
        ["random"],
        ["report"],
    ):
        assert run([*arguments, *where]) == 0
    return folder / "run" / "report.html"


def report_with_advice(folder: Path) -> Path:
    """Return the page of a run with advice, hostile class names in it and two strategies."""
    names = HOSTILE_WORDS[1:]
    add(folder, "svm", [1, 2], names)
    add(folder, "logreg", [1], names, strategy="logreg", layer="block4_pool")
    write_advice(folder, advice(names))
    assert run(["report", "--run", str(folder)]) == 0
    return folder / "report.html"


def report_of_one_strategy(folder: Path) -> Path:
    """Return the page of a run with one strategy and hostile class names."""
    add(folder, "svm", [1, 2], HOSTILE_WORDS, dataset=f"folder:{HOSTILE[0]}", command=HOSTILE_WORDS[2])
    assert run(["report", "--run", str(folder)]) == 0
    return folder / "report.html"


def report_of_a_tiny_split(folder: Path) -> Path:
    """Return the page of a run whose test split has three images."""
    labels, ids = LABELS[:3], IDS[:3]
    for name, wrong in (("svm", [1]), ("logreg", [])):
        probabilities = probabilities_with(wrong)
        tiny = evaluate(labels, probabilities[:3], CLASSES) | {"num_test": 3, "strategy": name}
        write_report(folder / name, Report.model_validate(fields(name, probabilities, CLASSES, **tiny)))
        write_predictions(folder / name / "predictions.csv", ids, labels, probabilities[:3], CLASSES)
    assert run(["report", "--run", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that THAW_SCREENSHOTS names, else a temporary one; the path is printed."""
    named = os.environ.get("THAW_SCREENSHOTS")
    folder = Path(named).absolute() if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory, screenshots: Path) -> dict[str, Any]:
    """What the browser finds in every page and view."""
    makers = {
        "pictures": report_of_pictures,
        "advised": report_with_advice,
        "one": report_of_one_strategy,
        "tiny": report_of_a_tiny_split,
    }
    pages = {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}
    pages["bad"] = tmp_path_factory.mktemp("bad") / "report.html"
    pages["bad"].write_text(BAD_PAGE, encoding="utf-8")
    task = {
        "browser": SET_UP.read_text("utf-8").strip(),
        "pages": {name: str(path) for name, path in pages.items()},
        "screenshots": str(screenshots),
    }
    command = ["node", TOOLS / "check.mjs", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=[(page, view) for page in PAGES for view in VIEWS], ids="-".join)
def seen(request: pytest.FixtureRequest, findings: dict[str, Any]) -> dict[str, Any]:
    """What the browser finds in one page, in one theme at one width."""
    page, view = request.param
    return findings[page][view]


def problems_of_images(images: list[dict[str, Any]]) -> list[str]:
    """Name the pictures that a screen reader cannot name, and those that are no picture."""
    shown = [image for image in images if not image["decoration"]]
    unnamed = [f"no name: {image['html']}" for image in shown if not image["name"] or image["role"] != "img"]
    return unnamed + [f"broken: {image['html']}" for image in images if image["broken"]]


def problems_of_axe(violations: list[dict[str, Any]]) -> list[str]:
    """Name each rule and element once, whether found with the details closed or open."""
    found = [f"{v['id']}: {v['help']}: {node['target']} {node['html']}" for v in violations for node in v["nodes"]]
    return list(dict.fromkeys(found))


def rows(columns: list[dict[str, Any]]) -> list[str]:
    """Return what each row says, whatever the order of the rows."""
    return sorted(map(str, zip(*([cell["text"] for cell in column["cells"]] for column in columns), strict=True)))


def order_of(cell: dict[str, Any]) -> tuple[int, float, str]:
    """Return what a cell is sorted by: numbers before text."""
    text = cell["text"] if cell["value"] is None else cell["value"]
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0, text.casefold())


def problem_of_order(columns: list[dict[str, Any]], at: int, previous: str | None) -> str | None:
    """Say what is wrong with a table just sorted by column `at`, which said `previous` of its order before."""
    sort, cells = columns[at]["sort"], columns[at]["cells"]
    known = [order_of(cell) for cell in cells if cell["value"] != "" and cell["text"] != "-"]
    if sort == previous or sort not in ("ascending", "descending"):
        return f"aria-sort is {sort}, and was {previous}"
    if known != sorted(known, reverse=sort == "descending"):
        return f"not {sort}: {[cell['text'] for cell in cells]}"
    if sum(column["sort"] != "none" for column in columns) > 1:
        return "another column says that it is sorted too"
    return None


def problems_of_sorting(sorting: dict[str, Any] | None) -> list[str]:
    """Name the steps after which the rows are not in the order that the heading says, or that turn nothing round."""
    if sorting is None:
        return ["no table with buttons in its header cells"]
    problems: list[str] = []
    previous = None
    for step in sorting["steps"]:
        name = f"{step['heading']}, {step['by']}"
        if step["by"] == "Tab":
            problems += [] if step["shows"] else [f"{name}: the button is not reached, or the focus does not show"]
            continue
        problem = problem_of_order(step["columns"], step["at"], previous if step["by"] != "click" else None)
        if rows(step["columns"]) != rows(sorting["before"]):
            problem = "the rows are not those from before"
        problems += [f"{name}: {problem}"] if problem else []
        previous = step["columns"][step["at"]]["sort"]
    return problems


def test_nothing_is_asked_of_the_network(seen: dict[str, Any]) -> None:
    assert seen["requests"] == []


def test_the_console_stays_empty(seen: dict[str, Any]) -> None:
    assert seen["console"] == []


def test_no_name_is_executed(seen: dict[str, Any]) -> None:
    assert seen["dialogs"] == []


def test_every_picture_has_a_name(seen: dict[str, Any]) -> None:
    assert problems_of_images(seen["images"]) == []


def test_nothing_is_wider_than_the_window(seen: dict[str, Any]) -> None:
    assert seen["overflow"] == []


def test_axe_finds_no_violation(seen: dict[str, Any]) -> None:
    assert problems_of_axe(seen["axe"]) == []


@pytest.mark.parametrize("page", ["pictures", "advised", "tiny"])
@pytest.mark.parametrize("view", ["light-375", "light-1280"])
def test_the_table_sorts_by_mouse_and_keyboard(findings: dict[str, Any], page: str, view: str) -> None:
    assert problems_of_sorting(findings[page][view]["sorting"]) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_page_follows_the_theme(findings: dict[str, Any], page: str) -> None:
    light, dark = (findings[page][f"{theme}-1280"]["theme"] for theme in ("light", "dark"))
    assert sum(light["background"]) > 600 > 200 > sum(light["text"])
    assert sum(dark["background"]) < 200 < 500 < sum(dark["text"])


@pytest.mark.parametrize(
    ("page", "names"), [("pictures", HOSTILE), ("advised", HOSTILE_WORDS[1:]), ("one", HOSTILE_WORDS)]
)
def test_names_with_html_are_shown_as_text(findings: dict[str, Any], page: str, names: list[str]) -> None:
    text = findings[page]["light-375"]["text"]
    assert [name for name in names if name not in text] == []


def test_every_view_has_its_screenshot(findings: dict[str, Any], screenshots: Path) -> None:
    for page in PAGES:
        for view in VIEWS:
            with Image.open(screenshots / f"{page}-{view}.png") as picture:
                assert picture.width == int(view.rpartition("-")[2])


def test_each_check_fails_on_a_page_that_deserves_it(findings: dict[str, Any]) -> None:
    bad = findings["bad"]["light-375"]
    assert bad["requests"] == ["http://thaw.invalid/x.js"]
    assert any(line.startswith("exception: ") for line in bad["console"])
    assert bad["dialogs"] == ["ran"]
    assert [problem.split(":")[0] for problem in problems_of_images(bad["images"])] == ["no name"] * 3 + ["broken"]
    assert bad["overflow"][0].endswith(" px in a window of 375 px")
    assert {"color-contrast", "html-has-lang", "image-alt"} <= {violation["id"] for violation in bad["axe"]}
    assert "Name, click: aria-sort is none, and was None" in problems_of_sorting(bad["sorting"])
    assert findings["bad"]["dark-375"]["theme"] == bad["theme"]
