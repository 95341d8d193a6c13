"""How the results were made, on the page: settings, digests, versions and commands."""

import json
from collections import defaultdict
from typing import Any

from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.report_json import Report
from thaw.pipeline.run.run_json import RunRecord

REPORT_FIELDS = (
    "strategy",
    "features",
    "backbone",
    "image_size",
    "layer",
    "seed",
    "device",
    "features_sha256",
    "weights_sha256",
)
ADVICE_FIELDS = ("seed", "budget_minutes", "seconds", "features_sha256")


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template made.html shows."""
    made = [{"name": r.name, "command": r.command, "rows": _settings(r)} for r in inputs.reports]
    versions = {report.name: report.versions for report in inputs.reports}
    if advice := inputs.advice:
        rows = [[name, _text(getattr(advice, name))] for name in ADVICE_FIELDS]
        made.append({"name": "advise", "command": advice.command, "rows": rows})
        versions["advise"] = advice.versions
    return {
        "split_sha256": inputs.reports[0].split_sha256,
        "made": made,
        "versions": _version_rows(versions),
        "run_settings": _run_rows(inputs.record),
    }


def _run_rows(record: RunRecord | None) -> list[list[str]]:
    """Return the settings of the run, and in a row for each feature set its own."""
    if record is None:
        return []
    rows = [[name, _text(value)] for name, value in record.settings.items()]
    sets = {f"features {name}": given for name, given in record.feature_sets.items()}
    return rows + [[name, ", ".join(f"{key} {value}" for key, value in given.items())] for name, given in sets.items()]


def _settings(report: Report) -> list[list[str]]:
    rows = [[name, _text(getattr(report, name))] for name in REPORT_FIELDS]
    rows.append(["images", f"{report.num_train:,} training, {report.num_validation:,} validation"])
    rows += [[name, _text(value)] for name, value in report.hyperparameters.items() if name != "tried"]
    if isinstance(tried := report.hyperparameters.get("tried"), list):
        rows.append(["tried", f"{len(tried)} settings; report.json lists them"])
    return rows


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _version_rows(versions: dict[str, dict[str, str]]) -> list[list[str]]:
    """Return each library with its version, or with its versions and their users if they differ.

    `versions` holds the versions of the libraries by the name of the user, a strategy or `advise`.
    """
    users: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for user, libraries in versions.items():
        for library, version in libraries.items():
            users[library][version].append(user)
    return [
        [library, next(iter(by)) if len(by) == 1 else "; ".join(f"{v} ({', '.join(names)})" for v, names in by.items())]
        for library, by in sorted(users.items())
    ]
