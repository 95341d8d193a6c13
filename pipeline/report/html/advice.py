"""The advice on the page: what `advise` measured and expected, and what was then measured."""

from typing import Any

from thaw.pipeline.comparison.advice_outcome import Judged
from thaw.pipeline.formatting import duration, in_points, percent, with_interval
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import Part, attempt, chart, plain_cells
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.advice_json import (
    Advice,
    Candidate,
    Configuration,
    FineTuningForecast,
    LayerProfile,
    NetworkTried,
)
from thaw.pipeline.run.report_json import NEURAL


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template advice.html shows."""
    advice = inputs.advice
    if advice is None:
        return {"advice": Part(missing=inputs.advice_missing)}
    return {"advice": attempt("The advice", lambda: _advice(inputs, advice))}


def _advice(inputs: ReportInputs, advice: Advice) -> dict[str, Any]:
    curve = advice.learning_curve
    by_layer = "; ".join(f"{layer.layer} {percent(layer.auto_accuracy)} %" for layer in advice.layers)
    by_number = "; ".join(f"{point.num_images:,}: {percent(point.accuracy)} %" for point in curve.points)
    layer_alt, curve_alt = f"Probe accuracy by layer: {by_layer}", f"Probe accuracy by number of images: {by_number}"
    configurations = sorted(advice.configurations, key=lambda tried: (tried.round, -tried.accuracy))
    return {
        "given": advice,
        "hindsight": inputs.hindsight,
        "judged": [_judged_row(inputs, judged) for judged in inputs.judged],
        "layer_chart": chart(inputs.folder, "layers", layer_alt, 3.8, charts.layer_profile, advice.layers),
        "curve_chart": chart(inputs.folder, "data-efficiency", curve_alt, 3.2, charts.data_efficiency, curve),
        "curve_caption": f"{curve.outlook.capitalize()}: a last doubling of the images gave "
        f"{100 * curve.slope_per_doubling:+.1f} points; twice as many would give about "
        f"{with_interval(curve.accuracy_at_double, curve.interval_at_double)} % ({curve.layer}). "
        "Bars are two standard errors.",
        "networks": [_network_row(tried) for tried in advice.networks],
        "layers": [_layer_row(layer) for layer in advice.layers],
        "configurations": [_configuration_row(tried) for tried in configurations],
        "pilots": [_pilot_row(pilot) for pilot in advice.pilots],
    }


def _judged_row(inputs: ReportInputs, judged: Judged) -> list[str]:
    """Return what was expected of an advised strategy, and what was measured."""
    candidate, report = judged.candidate, judged.report
    expected = with_interval(candidate.accuracy, candidate.accuracy_interval)
    time = duration(60 * candidate.minutes)
    remark = " (recommended)" if judged is inputs.judged[0] else ""
    cells = [f"{candidate.strategy}{remark}", _settings(candidate), expected]
    if report is None or judged.behind is None:
        return [*cells, "not run", "-", "-", time, "-"]
    measured, behind = percent(report.accuracy, report.num_test), percent(judged.behind, report.num_test)
    return [*cells, measured, "yes" if judged.inside else "no", behind, time, duration(report.total_seconds)]


def _settings(candidate: Candidate) -> str:
    if candidate.strategy in NEURAL:
        return f"{candidate.image_size} px" + (f", from {candidate.layer}" if candidate.strategy == "finetune" else "")
    return f"{candidate.image_size} px, {candidate.layer}, {candidate.pooling}, {candidate.transform}"


def _network_row(tried: NetworkTried) -> list[str]:
    numbers = [f"{tried.num_images:,}", percent(tried.accuracy), f"{tried.minutes:.1f}"]
    return [tried.backbone, str(tried.image_size), tried.layer, *numbers]


def _layer_row(layer: LayerProfile) -> list[str]:
    return [
        layer.layer,
        percent(layer.auto_accuracy),
        layer.auto_pooling,
        percent(layer.average_accuracy),
        percent(layer.random_accuracy),
        f"{100 * layer.gain:+.1f}",
        f"{layer.log_me:.3f}",
        f"{layer.num_rows:,}",
    ]


def _configuration_row(tried: Configuration) -> list[Any]:
    return [
        *plain_cells(
            tried.backbone, tried.layer, tried.pooling, tried.transform, tried.image_size, tried.strategy, tried.round
        ),
        (f"{tried.num_images:,}", tried.num_images),
        (percent(tried.accuracy), tried.accuracy),
        (f"{tried.seconds:.1f}", tried.seconds),
        *plain_cells("yes" if tried.kept else "no"),
    ]


def _pilot_row(pilot: FineTuningForecast) -> list[str]:
    return [
        pilot.unfreeze_from,
        f"{pilot.num_images:,}",
        f"{pilot.num_held_out:,}",
        str(pilot.epochs),
        percent(pilot.start_accuracy),
        f"{100 * pilot.gain:+.1f} {in_points(*pilot.gain_interval)}",
        with_interval(pilot.expected_accuracy, pilot.expected_interval),
        f"{pilot.minutes:.1f}",
    ]
