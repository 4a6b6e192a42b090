"""Snippets of annotations: the key that allows them, how they are declared, and what is reported of one that is not wholly translated."""

from __future__ import annotations

from xds.nginx.feature import Annotation, Fidelity, Key, Notes, Risk, Scope, Unreadable
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.program import Program, program
from xds.nginx.values import boolean

ALLOW_SNIPPET_ANNOTATIONS = Key(
    "allow-snippet-annotations",
    boolean,
    "Whether annotations may hold nginx configuration; annotations-risk-level must be Critical as well.",
    "true",
    default=False,
)
_MOST_NAMED = 8


def snippet_annotation(name: str, block: Block, doc: str, example: str, scope: Scope) -> Annotation[Program]:
    """The annotation with a snippet that stands in a block of this kind."""
    return Annotation(
        name,
        lambda text: program(text, block),
        doc,
        example,
        Program(),
        Fidelity.APPROXIMATE,
        "each directive has a verdict of its own, in snippets.md",
        lambda found, _paths: bool(found.remarks),
        scope=scope,
        risk=Risk.CRITICAL,
        switch=ALLOW_SNIPPET_ANNOTATIONS.name,
        unreadable=Unreadable.LEAVES_OUT,
        outlook=_outlook,
    )


def read_snippet(notes: Notes, annotation: Annotation[Program]) -> Program | None:
    """The program of an annotation; each directive without effect is a complaint, but the one that closes all of it."""
    found = notes.own(annotation)
    for fault in (each for each in found.faults if each is not found.closed) if found else ():
        what = f"has `{fault.name}` in line {fault.line}, which has no effect: {fault.sentence}"
        notes.complain(annotation, what, Unreadable.PARTLY)
    return found


def _outlook(found: Program) -> str:
    """What would become of a snippet if it were allowed."""
    if closed := found.closed:
        return f"If it were allowed, its paths would answer 503 because of `{closed.name}` in line {closed.line}: {closed.sentence}."
    if not found.faults:
        return "If it were allowed, all of it would be translated."
    named = [f"`{fault.name}` in line {fault.line}" for fault in found.faults[:_MOST_NAMED]]
    more = len(found.faults) - len(named)
    return f"If it were allowed, all of it would be translated but {', '.join(named)}{f' and {more} more' if more else ''}."
