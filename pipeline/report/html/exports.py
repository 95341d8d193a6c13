"""The page's exported files: size and latency."""

from typing import Any

from thaw.pipeline.report.html.parts import Run
from thaw.pipeline.run.export_json import EXPORT_HEADINGS, EXPORT_NOTE, export_rows

TEXTS = (0, 1, 5)  # the columns that are no numbers


def context(run: Run) -> dict[str, Any]:
    """Return what the template exports.html shows."""
    kinds = ["text" if number in TEXTS else "number" for number in range(len(EXPORT_HEADINGS))]
    return {
        "export_headings": list(zip(EXPORT_HEADINGS, kinds, strict=True)),
        "exports": export_rows(run.folder, [entry.report.name for entry in run.entries]),
        "export_note": EXPORT_NOTE,
    }
