"""The templates of the HTML pages and of the model card, and the files beside them."""

import functools
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from thaw.pipeline.formatting import plain


@functools.cache
def environment(autoescape: bool = True) -> jinja2.Environment:
    """Return the environment of the templates; for HTML it escapes every text and makes it printable."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("thaw.pipeline"),
        autoescape=autoescape,  # noqa: S701 (without it for Markdown alone, whose filters escape)
        undefined=jinja2.StrictUndefined,
        finalize=_printable if autoescape else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(name: str) -> str:
    """Return the text of a file beside the templates."""
    return (files("thaw.pipeline") / "templates" / name).read_text(encoding="utf-8")


def _printable(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
