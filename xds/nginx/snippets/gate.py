"""Snippets of annotations: the key that allows them, and what is reported of one that is not wholly translated."""

from __future__ import annotations

from xds.nginx.feature import Annotation, Key, Notes, Unreadable
from xds.nginx.snippets.program import Program
from xds.nginx.values import boolean

ALLOW_SNIPPET_ANNOTATIONS = Key(
    "allow-snippet-annotations",
    boolean,
    "Whether annotations may hold nginx configuration; annotations-risk-level must be Critical as well.",
    "true",
    default=False,
)
SNIPPETS_REASON = "each directive has a verdict of its own, in snippets.md"


def read_snippet(notes: Notes, annotation: Annotation[Program]) -> Program | None:
    """The program of an annotation; each directive without effect is a complaint, but the one that closes all of it."""
    found = notes.own(annotation)
    for fault in (each for each in found.faults if each is not found.closed) if found else ():
        what = f"has `{fault.name}` in line {fault.line}, which has no effect: {fault.sentence}"
        notes.complain(annotation, what, Unreadable.PARTLY)
    return found
