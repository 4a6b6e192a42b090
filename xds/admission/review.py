"""AdmissionReview in, AdmissionReview out: the documents of the API server, and which Problems refuse an Ingress.

What is refused can only be an error, and is one in ingress-nginx as well: the Ingress would be left out, or two Ingresses have one path,
whichever would win. All else may become right by a change of other objects, so it is a warning. What stands already refuses no update:
somebody who changes a label must be able to.

What does not belong here: how Problems are found (`xds.units.rehearsal`), and sockets (`server.py`).
Source: Kubernetes, Dynamic Admission Control (admission.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from xds.kube.objects import Ingress, ref
from xds.kube.parse import from_json
from xds.problem import Problem, Ref, Severity

VERSION = "admission.k8s.io/v1"
REFUSED = frozenset(("annotation-forbidden", "conflict", "host", "path"))
"""Codes (up to a colon) of Problems that refuse an Ingress, where they are errors of its own."""
CONFLICT = "conflict"
"""The code that refuses it where it is an error of another Ingress as well, which would lose a path."""
_JUDGED = ("CREATE", "UPDATE")
_LONGEST = 256
"""Characters of a warning: kubectl shows more, but the API server may cut it."""
_MOST_WARNINGS = 12
"""So many keep within the 4,096 characters that the API server passes on."""
_MOST_REASONS = 20


class NoReview(ValueError):
    """A request that is no AdmissionReview of this version."""


class Judgement(NamedTuple):
    """The Problems that an Ingress and others on its hosts would have, and those that there are now."""

    then: Collection[Problem]
    now: Collection[Problem]


class _Request(msgspec.Struct, rename="camel"):
    uid: str
    operation: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    request: _Request


_DECODER = msgspec.json.Decoder(_Review)


class Submission(NamedTuple):
    """What the API server asks about. `item` is None where there is nothing to judge; `problem` is why it could not be read."""

    uid: str
    item: Ingress | None = None
    problem: Problem | None = None


def asked(body: bytes) -> Submission:
    """The question in the body of a request. Raises NoReview."""
    try:
        review = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NoReview("the body is no AdmissionReview") from None
    if review.api_version != VERSION:
        raise NoReview(f"the AdmissionReview is none of {VERSION}")
    uid = review.request.uid
    if review.request.operation not in _JUDGED:
        return Submission(uid)
    found = from_json(bytes(review.request.object))
    return Submission(uid, found if isinstance(found, Ingress) else None, found if isinstance(found, Problem) else None)


def answer(question: Submission, find: Callable[[Ingress], Judgement]) -> tuple[bytes, bool]:
    """The body of the response, and whether the Ingress is admitted."""
    if question.item is None:
        return _response(question.uid, (), [question.problem] if question.problem else []), True
    found, about = find(question.item), ref(question.item)
    standing = frozenset(found.now)
    refused = {p: None for p in found.then if _refuses(p, about) and p not in standing}
    others = [p for p in found.then if p.about == about and p not in refused and p.severity is not Severity.NOTE]
    return _response(question.uid, [_line(p, about) for p in refused], others), not refused


def _refuses(problem: Problem, about: Ref) -> bool:
    code = problem.code.partition(":")[0]
    return problem.severity is Severity.ERROR and (code in REFUSED if problem.about == about else code == CONFLICT)


def _response(uid: str, refused: Collection[str], others: Iterable[Problem]) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": not refused}
    if refused:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": _message(refused)}
    if warnings := [_warning(problem) for problem in others]:
        more = len(warnings) - _MOST_WARNINGS
        kept = warnings if more <= 0 else [*warnings[:_MOST_WARNINGS], f"{more} more; `xds check` lists them"]
        response["warnings"] = kept
    return msgspec.json.encode({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response})


def _message(refused: Collection[str]) -> str:
    lines, more = list(refused), len(refused) - _MOST_REASONS
    return "\n".join(lines if more <= 0 else [*lines[:_MOST_REASONS], f"{more} more."])


def _line(problem: Problem, about: Ref) -> str:
    """A Problem; the object is named where it is another one."""
    return f"{problem.field}: {problem.sentence}" if problem.about == about else str(problem)


def _warning(problem: Problem) -> str:
    line = f"{problem.field}: {problem.sentence}" if problem.field else problem.sentence
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
