"""What our HTML pages are made by: the templates, with every text escaped, and the files that go into them whole."""

import functools

import jinja2
from markupsafe import Markup

from thaw.pipeline.formatting import plain


@functools.cache
def environment() -> jinja2.Environment:
    """Return where templates come from; every text is escaped, and freed of what could steer its reading direction."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("thaw.pipeline"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def source(name: str) -> str:
    """Return the text of one of the files beside the templates."""
    loader = environment().loader
    if loader is None:
        raise RuntimeError("the environment has no loader")
    return loader.get_source(environment(), name)[0]


def _printable(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
