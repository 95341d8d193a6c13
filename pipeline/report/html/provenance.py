"""The page's record: settings, digests, versions and the command of every strategy."""

import json
from typing import Any

from thaw.pipeline.report.html.parts import Run
from thaw.pipeline.run.report_json import Report

SETTING_HEADINGS = (("Setting", "text"), ("Value", "code"))
VERSION_HEADINGS = (("Library", "text"), ("Version", "code"))


def context(run: Run) -> dict[str, Any]:
    """Return what the template made.html shows."""
    reports = [entry.report for entry in run.entries]
    made = [{"name": r.name, "command": r.command, "rows": _settings(r)} for r in reports]
    if run.advice is not None:
        made.append({"name": "advise", "command": run.advice.command, "rows": _advice_settings(run)})
    return {
        "split_sha256": reports[0].split_sha256,
        "made": made,
        "pair_of_headings": SETTING_HEADINGS,
        "version_headings": VERSION_HEADINGS,
        "versions": _versions(reports, run.advice.versions if run.advice else {}),
        "run_settings": [[name, _text(value)] for name, value in (run.settings or {}).items()],
    }


def _settings(report: Report) -> list[list[str]]:
    names = ("strategy", "backbone", "layer", "seed", "device", "features_sha256", "weights_sha256")
    rows = [[name, _text(getattr(report, name))] for name in names]
    rows.append(["images", f"{report.num_train:,} training, {report.num_validation:,} validation"])
    tried = report.hyperparameters.get("tried")
    rows += [[name, _text(value)] for name, value in report.hyperparameters.items() if name != "tried"]
    return [*rows, ["tried", f"{len(tried)} settings; report.json lists them"]] if isinstance(tried, list) else rows


def _advice_settings(run: Run) -> list[list[str]]:
    names = ("seed", "budget_minutes", "seconds", "features_sha256")
    return [[name, _text(getattr(run.advice, name))] for name in names]


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _versions(reports: list[Report], advised: dict[str, str]) -> list[list[str]]:
    """Return each library with its version, or its versions with who used which, where they differ."""
    users: dict[str, dict[str, list[str]]] = {}
    for who, versions in [*((r.name, r.versions) for r in reports), ("advise", advised)]:
        for library, version in versions.items():
            users.setdefault(library, {}).setdefault(version, []).append(who)
    return [
        [library, next(iter(by)) if len(by) == 1 else "; ".join(f"{v} ({', '.join(w)})" for v, w in by.items())]
        for library, by in sorted(users.items())
    ]
