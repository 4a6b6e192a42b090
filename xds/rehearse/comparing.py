"""What of two answers is compared, and what is not, with reasons; and what of it stays different when both are asked again. Pure.

What does not belong here: why answers differ (`known`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOT_COMPARED = {
    "connection": "it is about the connection to the proxy",
    "keep-alive": "it is about the connection to the proxy",
    "transfer-encoding": "it is about the connection to the proxy",
    "date": "the time of the answer",
    "server": "the name of the proxy, where the application gives none",
    "alt-svc": "it names the port of the proxy",
}
"""Headers that are not compared, each with the reason."""
ONLY_PRESENT = {
    "age": "it counts seconds",
    "etag": "applications make it of the time, or of the process",
    "expires": "a time that follows the answer's",
    "last-modified": "of pages that are made for the answer it is the answer's time",
    "request-id": "a new one for each request",
    "traceparent": "a new one for each request",
    "tracestate": "a new one for each request",
    "x-amzn-trace-id": "a new one for each request",
    "x-b3-traceid": "a new one for each request",
    "x-correlation-id": "a new one for each request",
    "x-request-id": "a new one for each request",
    "x-runtime": "how long the application took",
    "x-response-time": "how long the application took",
}
"""Headers of which it is compared whether they are there, each with the reason why the value is not."""
IN_NO_ORDER = ("vary", "allow", "access-control-allow-methods", "access-control-allow-headers", "access-control-expose-headers")
"""Headers that are lists in which neither order nor case counts."""
_TIMED = {"expires"}
"""Attributes of a cookie of which it is compared whether they are there."""
_LENGTH = "header content-length"
_LONGEST = 8_192
"""Characters of a value that are compared."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a status and headers (names in lower case, in their order), or the `error` in place of both."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    error: str = ""

    def all(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for each, value in self.headers if each == name]


@dataclass(frozen=True)
class Terms:
    """How answers of one side are read: its own ports, by scheme, which stand in its redirects, and the header that names the backend."""

    ports: Mapping[str, int]
    backend_header: str = ""


Seen = Mapping[str, str]
"""What is compared of an answer: field → value. A field that is not there was not in the answer."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which answers differ: `status`, `location`, `backend`, `error`, `certificate` or `header NAME`. None: it is missing."""

    field: str
    theirs: str | None
    ours: str | None


def seen(reply: Reply, terms: Terms, *, is_head: bool) -> Seen:
    """What is compared of an answer."""
    if reply.error:
        return {"error": reply.error}
    found = {"status": str(reply.status)}
    if locations := reply.all("location"):
        found["location"] = ", ".join(_location(value, terms.ports) for value in locations)
    if backend := _backend(reply, terms.backend_header):
        found["backend"] = backend
    apart = {"location", "content-length", "server-timing", terms.backend_header.lower(), *NOT_COMPARED}
    for name in sorted({name for name, _ in reply.headers} - apart):
        found[f"header {name}"] = _value(name, reply.all(name))
    if (length := reply.all("content-length")) and _length_counts(reply, is_head=is_head):
        found[_LENGTH] = length[0]
    return {name: value[:_LONGEST] for name, value in found.items()}


def _length_counts(reply: Reply, *, is_head: bool) -> bool:
    """Pages of errors and redirects are each proxy's own, and a compressed body is as long as the library makes it."""
    return reply.status in range(200, 300) and not reply.all("content-encoding") and not is_head


def _location(value: str, ports: Mapping[str, int]) -> str:
    """A Location without a port that is the scheme's own, or the one at which this side was asked."""
    found = re.match(r"(https?)://([^/?#:\[\]]+|\[[^\]]*\]):([0-9]{1,5})(?=[/?#]|$)", value)
    if not found or int(found[3]) not in (443 if found[1] == "https" else 80, ports.get(found[1])):
        return value
    return f"{found[1]}://{found[2]}{value[found.end() :]}"


def _backend(reply: Reply, header: str) -> str:
    """The backend as the application names it: in the header, else in Server-Timing, without how long it took."""
    if header:
        return ", ".join(reply.all(header.lower()))
    entries = (entry for value in reply.all("server-timing") for entry in value.split(","))
    return ", ".join(re.sub(r"\s*;\s*dur\s*=\s*[^;]*", "", entry).strip() for entry in entries)


def _value(name: str, values: Sequence[str]) -> str:
    if name in ONLY_PRESENT:
        return "(present)"
    if name == "set-cookie":
        return "\n".join(map(_cookie, values))
    if name in IN_NO_ORDER:
        parts = {part.strip().lower() for value in values for part in value.split(",")}
        return ", ".join(sorted(parts - {""}))
    return ", ".join(values)


def _cookie(value: str) -> str:
    """A cookie by name and attributes, without its value, which is most often random, and without times."""
    first, *attributes = value.split(";")
    name = first.partition("=")[0].strip()
    return "; ".join([f"{name}=…", *sorted(map(_attribute, attributes))])


def _attribute(text: str) -> str:
    name, equals, value = text.strip().partition("=")
    return f"{name.lower()}{equals}{'…' if name.lower() in _TIMED else value}"


def differences(theirs: Seen, ours: Seen) -> list[Difference]:
    """The fields in which two answers differ. Of answers of different status nothing is compared that follows from it."""
    names = sorted(theirs.keys() | ours.keys(), key=lambda name: (name.startswith("header "), name))
    found = (Difference(name, theirs.get(name), ours.get(name)) for name in names)
    return [each for each in found if each.theirs != each.ours and _counts(each, theirs, ours)]


def _counts(found: Difference, theirs: Seen, ours: Seen) -> bool:
    """Whether a difference is one by itself."""
    in_both = found.theirs is not None and found.ours is not None
    if found.field in (_LENGTH, "backend"):
        return in_both or (found.field == "backend" and theirs.get("status") == ours.get("status"))  # chunks have no length
    if found.field == "status":
        return in_both  # else there is an error
    return found.field == "error" or theirs.get("status") == ours.get("status")


def steady(theirs: Sequence[Seen], ours: Sequence[Seen], *, by_chance: bool) -> tuple[list[Difference], list[str]]:
    """What differs between the first answers and stays different over all; and the fields that a side itself answers in several ways.

    A field is unsteady if both sides have given the same value at some time, or if both change: a random part, chance, a limit. A status
    may only be so where chance decides who answers: an error now and then is a difference.
    """
    kept, unsteady = [], []
    for each in differences(theirs[0], ours[0]):
        left, right = ({answer.get(each.field) for answer in side} for side in (theirs, ours))
        may_change = by_chance or each.field not in ("status", "error")
        if may_change and (left & right or (len(left) > 1 and len(right) > 1)):
            unsteady.append(each.field)
        else:
            kept.append(each)
    return kept, unsteady
