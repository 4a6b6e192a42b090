"""satisfy: whether one of several access rules is enough. What it means for each is in `xds.nginx.access`.

The directive of that name in a configuration-snippet says the same. nginx refuses both together; here the annotation counts.
"""

from __future__ import annotations

from xds.nginx.access import SATISFY
from xds.nginx.feature import Annotation, Feature, Notes
from xds.nginx.features.configuration_snippet import CONFIGURATION_SNIPPET
from xds.nginx.snippets.gate import read_snippet
from xds.nginx.values import shown

ANY = "any"
ALL = "all"


def _satisfy(text: str) -> str:
    if text not in (ANY, ALL):
        raise ValueError(f"is {shown(text)}, which is none of {ANY}, {ALL}")
    return text


SATISFY_ANNOTATION = Annotation(
    SATISFY,
    _satisfy,
    "Whether one of address lists, auth-type and auth-url is enough (`any`), or each of them must let a client in (`all`).",
    ANY,
    ALL,
)


def _read(notes: Notes) -> str | None:
    snippet = read_snippet(notes, CONFIGURATION_SNIPPET)
    said = notes.own(SATISFY_ANNOTATION) or (ANY if snippet and snippet.satisfies_any else "")
    return ANY if said == ANY else None


FEATURE = Feature(read=_read, annotations=(SATISFY_ANNOTATION,))
