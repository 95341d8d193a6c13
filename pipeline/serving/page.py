"""The local page: its HTML, one file with everything in it, for one model."""

from markupsafe import Markup

from thaw.pipeline.formatting import percent
from thaw.pipeline.serving.api_schema import Model
from thaw.pipeline.templating import environment, source

MAX_NAMED = 40  # classes


def page(model: Model, address: str, nonce: str) -> str:
    """Return the page that talks to the API at `address`; only scripts and styles with the `nonce` run."""
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
            accuracy=percent(model.accuracy, model.num_test),
            interval=[percent(value, model.num_test) for value in model.accuracy_ci95],
            max_mb=f"{model.limits.max_bytes / 1e6:g}",
            most_named=MAX_NAMED,
        )
    )
