"""The counts of a harness, kept as JSON after every case, so that those of many calls add up."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

TOLD = 25  # after so many cases a line tells how far it is


class Ledger:
    """Counts by kind and what went wrong, under the name of one session; `number` is how many cases are done of it.

    Without a path they are kept in memory alone.
    """

    def __init__(self, path: Path | None, session: str):
        self.path, self.session = path, session
        self.content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
        self._own = self.content.setdefault(session, {"done": 0, "counts": {}, "faults": []})

    @property
    def number(self) -> int:
        """How many cases of the session are done."""
        return int(self._own["done"])

    def count(self, kind: str, name: str) -> None:
        """Add one to a count of the session."""
        counts = self._own["counts"].setdefault(kind, {})
        counts[name] = counts.get(name, 0) + 1

    def fault(self, said: str) -> None:
        """Note what went wrong, and say it."""
        self._own["faults"].append(said)
        print(said, flush=True)

    def done(self, number: int) -> None:
        """Note that the case of a number is done, and write the file."""
        self._own["done"] = number + 1
        if self.path:
            beside = self.path.with_suffix(".new")
            beside.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")
            beside.replace(self.path)
        if self.number % TOLD == 0:
            print(f"{self.session}: {self.number} done, {len(self._own['faults'])} faults", flush=True)

    def totals(self) -> dict[str, dict[str, int]]:
        """Return the counts of all sessions together, by kind and name."""
        totals: dict[str, Counter[str]] = {}
        for session in self.content.values():
            for kind, counts in session["counts"].items():
                totals.setdefault(kind, Counter()).update(counts)
        return {kind: dict(counter) for kind, counter in totals.items()}

    def faults(self) -> list[str]:
        """Return what went wrong in all sessions."""
        return [said for session in self.content.values() for said in session["faults"]]

    def say(self, kind: str) -> int:
        """Print the counts of all sessions together, by kind, and return 1 where anything went wrong, else 0."""
        totals = self.totals()
        for name, counts in totals.items():
            print(f"{sum(counts.values())} {name}: {counts}")
        print(f"{sum(totals.get(kind, {}).values())} {kind}, {len(self.faults())} faults", flush=True)
        return 1 if self.faults() else 0
