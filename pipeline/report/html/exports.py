"""The exported files on the page: size and latency."""

from typing import Any

from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.export_json import EXPORT_HEADINGS, EXPORT_NOTE

TEXT_COLUMNS = ("Name", "Format", "Measured by")


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template exports.html shows."""
    return {
        "export_headings": [(name, "text" if name in TEXT_COLUMNS else "number") for name in EXPORT_HEADINGS],
        "exports": inputs.exports,
        "export_note": EXPORT_NOTE,
    }
