"""From a document to HTML: the templates, and the forms of values in them. Everything is escaped, for users and Envoys wrote most of it.

The module that imports Jinja: it is imported at the first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xds.json_forms import Json
from xds.nginx.feature import Annotation, Risk
from xds.nginx.registry import known_annotations
from xds.problem import printable, without_credentials

_LONGEST = 1_000
"""Characters of one text on a page."""


class Markings:
    """The templates, each compiled when it is first needed."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("xds.dashboard"),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_plain,
        )
        self._environment.filters |= {"ago": ago, "days": days, "segment": segment, "discreet": discreet, "seconds": seconds}
        self._environment.globals |= {"query": query}

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """A whole page."""
        return self._environment.get_template(f"{name}.html").render(values)


def _plain(value: Any) -> Any:
    """What is printed of a value: of a text one line, without what turns the direction of a line or hides, and without a URL's password."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return without_credentials(printable(value, _LONGEST))


def segment(text: str) -> str:
    """A text as one segment of a path of a URL."""
    return quote(text, safe="")


def query(**values: Any) -> str:
    """The query of a URL from what is not empty."""
    given = {name: value for name, value in values.items() if value not in ("", None, 1)}
    return f"?{urlencode(given)}" if given else "?"


def ago(text: str | None, now: datetime) -> str:
    """How long ago a time of a document was: "12 s", "3 min", "5 h", "9 d"."""
    return seconds((now - datetime.fromisoformat(text)).total_seconds()) if text else "–"


def seconds(passed: float) -> str:
    """Seconds in the unit that people would use."""
    passed = max(0.0, passed)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if passed >= 2 * size:
            return f"{passed // size:.0f} {unit}"
    return f"{passed:.0f} s" if passed >= 2 else f"{passed:.1f} s"


def days(text: str, now: datetime) -> int:
    """Whole days from now until a time of a document; negative once it is over."""
    return int((datetime.fromisoformat(text).astimezone(UTC) - now).total_seconds() // 86_400)


def discreet(annotation: Json) -> str:
    """The value of an annotation; of a snippet, and of what nobody knows, only its size: there may be a credential in it."""
    value = str(annotation["value"])
    known = known_annotations().get(str(annotation["name"]))
    if known is None or (isinstance(known, Annotation) and known.risk is Risk.CRITICAL):
        return f"({len(value)} characters)" if len(value) < 200 else "(200 characters or more)"  # as much as a document has of it
    return value
