"""Pages for people: HTML that opens from disk, with nothing to load.

A package that makes a page has a folder `templates` with templates that extend `base.html`, and renders them with
`render`. Values are escaped. `charts.html` has a macro for charts, which Chart.js draws (`vendor/`), each with a table
beneath it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

_VENDORED = ("chart.umd.js",)  # in `vendor`, beside their licenses


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """The page that `template` of the package makes of the values.

    Raises:
      jinja2.TemplateError: the template names a value that is missing.
    """
    return environment(package).get_template(template).render(values)


def environment(package: str) -> jinja2.Environment:
    """Finds the templates of `package`, then those of this one."""
    loaders = [jinja2.PackageLoader(name, "templates") for name in (package, __name__)]
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"count": count, "share": share, "whole_percent": whole_percent}
    found.globals |= {"style": _style, "script": _script, "vendored": _vendored, "vendored_names": _VENDORED}
    return found


def count(value: int) -> str:
    """An integer with separators of thousands: 12,345."""
    return f"{value:,}"


def share(value: float) -> str:
    """A share in percent: 12.3%, 0.04%, 0%, and <0.01% for less that is not zero."""
    percent = 100 * value
    if percent < 0.01:
        return "<0.01%" if percent else "0%"
    return f"{percent:.1f}%" if percent >= 0.995 else f"{percent:.2f}%"


def whole_percent(value: float) -> str:
    """A share in percent, rounded; only none is 0 and only all is 100."""
    return str(min(99, max(1, round(100 * value))) if 0 < value < 1 else round(100 * value))


def _style(name: str, package: str = __name__) -> Markup:
    """The text of a style sheet for the inside of <style>."""
    return _inside("style", _read(package, "templates", name))


def _script(name: str, package: str = __name__) -> Markup:
    """The text of a script for the inside of <script>."""
    return _inside("script", _read(package, "templates", name))


def _vendored(name: str) -> Markup:
    """The same for a library. Without the line that names its source map, which a browser would try to load."""
    lines = _read(__name__, "vendor", name).splitlines()
    return _inside("script", "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL=")))


@functools.cache
def _read(package: str, folder: str, name: str) -> str:
    return resources.files(package).joinpath(folder, name).read_text(encoding="utf-8")


def _inside(tag: str, text: str) -> Markup:
    """`text` as it is. It must not end the element that it stands in."""
    if f"</{tag}" in text.lower():
        raise ValueError(f"a text for <{tag}> has </{tag}")
    return Markup(text)
