"""`python -m benchmarks.cost_model`: time and cost of features for many images on many workers, from measured rates.

The table goes into docs/scaling.md, between its marks. Constants, each with the command or the source that it is from,
are in cost_constants.json.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cost_measurements import CONSTANTS, SHAPES
from benchmarks.scheduler import Cluster, simulate
from thaw.features.backbones.registry import BACKBONES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- {} -->\n", "<!-- end of {} -->\n"
IMAGES, WORKERS, KINDS = (10**6, 10**8, 10**10), (1, 10, 1000), ("cpu", "gpu")
PART = 512  # images
FEATURE_BYTES = 4 * sum(shape[0] for shape in SHAPES.values())
SIMULATED = 100  # parts for each worker; of more, the time of as many is taken in proportion

Constants = Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """Seconds of each resource, of the parts together with losses and stragglers, of all, and the price in dollars.

    `busy` are the seconds that each resource alone would take: those in SPREAD at the same time as one another, the
    others before or after.
    """

    images: int
    workers: int
    kind: str
    busy: dict[str, float]
    spread: float
    seconds: float
    dollars: float

    @property
    def bottleneck(self) -> str:
        """The resource that takes longest."""
        return max(self.busy, key=self.busy.__getitem__)


SPREAD = ("computing", "decoding", "reading images", "writing parts", "scheduler")


def read_constants(path: Path = CONSTANTS) -> dict[str, float]:
    """Return the constants by name."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: float(constant["value"]) for name, constant in content["constants"].items()}


def gpu_rate(constants: Constants) -> float:
    """Return images a second of VGG16 at 48 pixels on a GPU: its peak rate, times the share of it that is reached."""
    operations = 2 * BACKBONES["vgg16"].cost("block5_pool", 48)[1]
    return constants["gpu_peak"] * constants["gpu_share"] / operations


def spread_seconds(constants: Constants, images: int, workers: int, kind: str) -> dict[str, float]:
    """Return the seconds that each resource alone would take for the parts.

    A CPU worker's cores share their time between network and decoding, so that each takes as many of them as both
    end together; a GPU worker's cores only decode.
    """
    cores = constants[f"{kind}_cores"]
    decode, mnn = constants["decode_photo"], constants["engine_mnn"]
    if kind == "gpu":
        compute, decoding = 1 / gpu_rate(constants), 1 / (cores * decode)
    else:
        compute, decoding = 1 / (cores * mnn), 1 / (cores * decode)
    moving = max(1 / workers / constants["network"], 1 / constants["storage"])
    return {
        "computing": images * compute / workers,
        "decoding": images * decoding / workers,
        "reading images": images * constants["image_bytes"] * moving,
        "writing parts": images * FEATURE_BYTES * moving,
        "scheduler": math.ceil(images / PART) * constants["dispatch"],
    }


def serial_seconds(constants: Constants, images: int) -> dict[str, float]:
    """Return what one process does before the parts, telling the images from others, and after, joining the parts.

    Each is bound by its processor and by the network, through which the join goes three times: read, written, and read
    back to be checked.
    """
    size, joined = images * constants["image_bytes"], images * FEATURE_BYTES
    return {
        "digest by one process": size * (1 / constants["digest"] + 1 / constants["network"]),
        "join by one process": joined * (1 / constants["join"] + 3 / constants["network"]),
    }


def part_seconds(constants: Constants, workers: int, kind: str) -> float:
    """Return the seconds of one part on a worker: its slowest resource, or the sum of those that share the cores."""
    busy = spread_seconds(constants, PART * workers, workers, kind)
    cores = busy["computing"] + busy["decoding"] if kind == "cpu" else max(busy["computing"], busy["decoding"])
    return max(cores, busy["reading images"], busy["writing parts"])


def cluster(constants: Constants, workers: int) -> Cluster:
    """Return the workers with their scheduler, losses and stragglers."""
    names = ("dispatch", "hours_to_loss", "restart", "stragglers", "slowdown")
    return Cluster(workers, **{name: constants[name] for name in names})


def estimate(constants: Constants, images: int, workers: int, kind: str) -> Estimate:
    """Return the estimate; the parts' time is simulated, that of the one process before and after is added."""
    parts = math.ceil(images / PART)
    simulated = min(parts, SIMULATED * workers)
    outcome = simulate(cluster(constants, workers), [part_seconds(constants, workers, kind)] * simulated)
    spread, serial = outcome.seconds * parts / simulated, serial_seconds(constants, images)
    price = constants[f"{kind}_price"] / 3600
    seconds = spread + sum(serial.values())
    # While one process works the others are given back.
    dollars = price * workers * spread + constants["cpu_price"] / 3600 * sum(serial.values())
    busy = spread_seconds(constants, images, workers, kind) | serial
    return Estimate(images, workers, kind, busy, spread, seconds, dollars)


def retry(constants: Constants, kind: str) -> tuple[float, float]:
    """Return the seconds and the dollars that a part lost at its end costs."""
    seconds = part_seconds(constants, 1, kind)
    return seconds, seconds * constants[f"{kind}_price"] / 3600


def table(constants: Constants) -> Iterator[str]:
    """Yield the lines of the table of estimates."""
    yield "| images | workers | kind | features | parts | one process | all | bottleneck | dollars |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: | --- | ---: |"
    for images in IMAGES:
        for workers in WORKERS:
            for kind in KINDS:
                one = estimate(constants, images, workers, kind)
                yield (
                    f"| 10^{round(math.log10(images))} | {workers:,} | {kind} | {_size(images * FEATURE_BYTES)} "
                    f"| {_time(one.spread)} | {_time(one.seconds - one.spread)} | {_time(one.seconds)} "
                    f"| {one.bottleneck} | {one.dollars:,.2f} |"
                )


def constants_table() -> Iterator[str]:
    """Yield the lines of the table of constants with their sources."""
    content = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    yield "| constant | value | unit | from |"
    yield "| --- | ---: | --- | --- |"
    for name, constant in content["constants"].items():
        source = constant["source"]
        shown = f"`{source}`" if source.startswith("python ") else source
        yield f"| `{name}` | {constant['value']:g} | {constant['unit']} | {shown} |"


def _size(amount: float) -> str:
    return f"{amount / 1e12:.1f} TB" if amount >= 1e12 else f"{amount / 1e9:.1f} GB"


def _time(seconds: float) -> str:
    for unit, length in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


def put(text: str, what: str, lines: Iterator[str]) -> str:
    """Return the document with the lines between the marks of `what`."""
    begin, end = BEGIN.format(what), END.format(what)
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def document(text: str) -> str:
    """Return docs/scaling.md's text with its tables made again."""
    constants = read_constants()
    return put(put(text, "estimates", table(constants)), "constants", constants_table())


def main() -> None:
    """Make the tables again, and show what a retry costs."""
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    constants = read_constants()
    print("\n".join(table(constants)))
    for kind in KINDS:
        seconds, dollars = retry(constants, kind)
        print(f"a part of {PART} images made again, {kind}: {seconds:.1f} s, {dollars:.2g} dollars")


if __name__ == "__main__":
    main()
