"""Snippets of annotations and of the ConfigMap: how they are declared, what they are together, and what is reported of them.

The ConfigMap's come behind those of annotations, as ingress-nginx writes them, and need no permission.
"""

from __future__ import annotations

from dataclasses import replace

from xds.nginx.feature import Annotation, Fidelity, Key, Notes, Risk, Scope, Unreadable
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.program import Program, Untranslated, both, program
from xds.nginx.values import boolean

ALLOW_SNIPPET_ANNOTATIONS = Key(
    "allow-snippet-annotations",
    boolean,
    "Whether annotations may hold nginx configuration; annotations-risk-level must be Critical as well.",
    "true",
    default=False,
)
_MOST_NAMED = 8
_VERDICT = "each directive has a verdict of its own, in snippets.md"


def _snippet_key(name: str, block: Block, doc: str, example: str) -> Key[Program]:
    """The key with a snippet for all. One that keeps somebody out, and is not translated, closes all paths."""

    def parse(text: str) -> Program:
        found = program(text, block)
        if closed := found.closed:
            raise ValueError(f"has `{closed.name}` in line {closed.line}, without which paths would be open: {closed.sentence}")
        return found

    return Key(
        name,
        parse,
        doc,
        example,
        Program(),
        Fidelity.APPROXIMATE,
        _VERDICT,
        lambda found, _paths: bool(found.remarks),
        unreadable=Unreadable.CLOSES_ALL,
        faults=lambda found: [_without_effect(fault) for fault in found.faults],
    )


LOCATION_SNIPPET = _snippet_key(
    "location-snippet",
    Block.LOCATION,
    "nginx configuration for all paths, behind configuration-snippet; the directives of [snippets.md](snippets.md) are translated.",
    'more_set_headers "X-Team: red";',
)
SERVER_SNIPPET = _snippet_key(
    "server-snippet",
    Block.SERVER,
    "nginx configuration for all hosts, behind the annotation's; the directives of [snippets.md](snippets.md) are translated.",
    "location = /healthy { return 204; }",
)
_OF_ALL = {"configuration-snippet": (LOCATION_SNIPPET, Block.LOCATION), "server-snippet": (SERVER_SNIPPET, Block.SERVER)}
"""The key, and the block, of what is for all beside an annotation."""


def snippet_annotation(name: str, block: Block, doc: str, example: str, scope: Scope) -> Annotation[Program]:
    """The annotation with a snippet that stands in a block of this kind."""
    return Annotation(
        name,
        lambda text: program(text, block),
        doc,
        example,
        Program(),
        Fidelity.APPROXIMATE,
        _VERDICT,
        lambda found, _paths: bool(found.remarks),
        scope=scope,
        risk=Risk.CRITICAL,
        switch=ALLOW_SNIPPET_ANNOTATIONS.name,
        unreadable=Unreadable.LEAVES_OUT,
        outlook=_outlook,
    )


def read_snippet(notes: Notes, annotation: Annotation[Program]) -> Program | None:
    """The program of an annotation, and of the ConfigMap behind it.

    Each directive of the annotation without effect is a complaint, but the one that closes all of it.
    """
    key, block = _OF_ALL[annotation.name]
    own, of_all = notes.own(annotation), notes.key(key)
    if own is None:
        return None if of_all is key.default else replace(of_all, of_all=True)
    found = own if of_all is key.default else both(own, of_all, block)
    for fault in found.faults:
        if fault is not found.closed and (fault in own.faults or fault not in of_all.faults):
            notes.complain(annotation, _without_effect(fault), Unreadable.PARTLY)
    return found


def _without_effect(fault: Untranslated) -> str:
    return f"has `{fault.name}` in line {fault.line}, which has no effect: {fault.sentence}"


def _outlook(found: Program) -> str:
    """What would become of a snippet if it were allowed."""
    if closed := found.closed:
        return f"If it were allowed, its paths would answer 503 because of `{closed.name}` in line {closed.line}: {closed.sentence}."
    if not found.faults:
        return "If it were allowed, all of it would be translated."
    named = [f"`{fault.name}` in line {fault.line}" for fault in found.faults[:_MOST_NAMED]]
    more = len(found.faults) - len(named)
    return f"If it were allowed, all of it would be translated but {', '.join(named)}{f' and {more} more' if more else ''}."
