"""The local page: its HTML, one file with everything in it, around the model that it tells of."""

from markupsafe import Markup

from thaw.pipeline.serving.api_schema import Model
from thaw.pipeline.templating import environment, source

MOST_NAMED = 40  # classes


def page(model: Model, address: str, nonce: str) -> str:
    """Return the page that talks to the API at `address`; only what carries `nonce` in it is meant to run."""
    style, look, script = (Markup(source(name)) for name in ("style.css", "serve.css", "serve.js"))  # noqa: S704 (ours)
    return (
        environment()
        .get_template("serve.html")
        .render(
            model=model,
            address=address,
            nonce=nonce,
            style=style + look,
            script=script,
            accuracy=_percent(model.accuracy, model.num_test),
            interval=[_percent(value, model.num_test) for value in model.accuracy_ci95],
            max_mb=f"{model.limits.max_bytes / 1e6:g}",
            most_named=MOST_NAMED,
        )
    )


def _percent(share: float, num_test: int) -> str:
    return f"{100 * share:.{2 if num_test >= 1000 else 1}f}"
