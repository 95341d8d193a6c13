"""What every section is given."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`images` is a zipped image folder (CIFAR-10's), `run` a run with its features, made where none is given.

    `limits` are the machine's: `sgemm` in operations a second, `disk` in bytes a second. `quick` makes every section
    tiny, to see that it works; `only` leaves out tasks whose name does not hold that text; `long` takes the article's
    experiments with all their epochs.
    """

    images: Path
    run: Path | None = None
    quick: bool = False
    long: bool = False
    only: str = ""
    limits: dict[str, float] = field(default_factory=dict)

    def wants(self, task: str) -> bool:
        """Return whether a task is to be run."""
        return self.only in task
