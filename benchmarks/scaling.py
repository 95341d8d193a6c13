"""How cost grows: each stage on 1, 4 and 16 times as much, and the exponent that fits."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.linear import FITS, OURS
from benchmarks.results import Figures, Row, Target
from benchmarks.runner import Contender, Result, take_turns
from benchmarks.samples import read_samples, write_subset
from benchmarks.settings import Settings

SECTION = "scaling"
NUM_IMAGES, NUM_ROWS = (256, 1024, 4096), (3125, 12500, 50000)
QUICK_IMAGES, QUICK_ROWS = (64, 128, 256), (100, 200, 400)
LINEAR = 1.1  # what still counts as linear


def main(settings: Settings) -> Iterator[Figures]:
    """Time the features stage by images, and one fit of each linear classifier by rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = QUICK_IMAGES if settings.quick else NUM_IMAGES
        stages = {"features": (images, [stage(settings, folder, number) for number in images])}
        numbers = QUICK_ROWS if settings.quick else NUM_ROWS
        for kind, layer, c, *_ in FITS:
            fits = [fit(settings, folder, (kind, layer, c), number) for number in numbers]
            stages[f"{kind}, {layer}, C x rows = {c * NUM_ROWS[-1]:g}"] = (numbers, fits)
        for task, (amounts, contenders) in stages.items():
            if not settings.wants(task):
                continue
            results = take_turns(contenders, 3, lambda *_: 0.0)
            rows, target = report(task, amounts, [results[contender.name] for contender in contenders])
            yield rows, [target]


def report(task: str, amounts: Sequence[int], results: Sequence[Result]) -> tuple[list[Row], Target]:
    """Return a row for each amount, the last with the exponent, and the target."""
    rows: list[Row] = []
    found = None if any(result.failed for result in results) else exponent(amounts, [r.median for r in results])
    for amount, result in zip(amounts, results, strict=True):
        given = {"section": SECTION, "task": task, "contender": f"{amount:,}", "unit": "s"}
        if result.failed:
            rows.append(Row(**given, failed=result.failed))
        else:
            low, high = min(result.seconds), max(result.seconds)
            rows.append(Row(**given, value=result.median, low=low, high=high, repeats=len(result.seconds)))
    if found is not None:
        rows[-1] = rows[-1].model_copy(update={"note": f"exponent {found:.2f}"})
    what = f"{task}: exponent of the cost"
    return rows, Target(section=SECTION, what=what, required=LINEAR, sense="at most", measured=found)


def exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of log seconds over log amounts by least squares: 1 is linear."""
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def stage(settings: Settings, folder: Path, number: int) -> Contender:
    """Return the features stage on `number` images, in a process where it has run before."""
    path = folder / f"images-{number}.npz"
    write_subset(settings.images, path, {"train": number // 10 * 8, "test": number // 10 * 2})
    return Contender(f"features {number}", "benchmarks.scaling:features", {"dataset": f"npz:{path}"})


def fit(settings: Settings, folder: Path, what: tuple[str, str, float], number: int) -> Contender:
    """Return one fit on `number` rows; the loss counts as much on few rows as on many."""
    kind, layer, c = what
    samples = read_samples(settings, layer, number).save(folder / f"{layer}-{number}")
    given = {"samples": samples, "estimator": OURS[kind], "settings": {"C": c * NUM_ROWS[-1] / number}}
    return Contender(f"{kind} {number}", "benchmarks.estimators:linear", given)


def features(dataset: str) -> Callable[[], dict[str, np.ndarray]]:
    """Return the features stage into a new run each time."""
    from thaw.pipeline.config import Shared
    from thaw.pipeline.extraction import extract

    def run() -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            path = extract.extract(Shared(dataset=dataset, run=Path(folder) / "run"))
            return {"bytes": np.asarray(path.stat().st_size)}

    return run
