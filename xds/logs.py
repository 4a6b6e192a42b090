"""The log: the form of a line, for people and for programs, and what must never be in one.

What belongs here: the form of a line, and where lines go. What does not: log messages. A log call names what an event is about in `extra`,
under the names in FIELDS; docs/logs.md is their manual.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from xds.problem import Problem, Ref, printable

FIELDS = (
    *("object", "field", "code", "severity", "place"),
    *("node", "peer", "wire", "type", "version", "error"),
    *("changed", "resources", "seconds", "traceback"),
)
"""The fields of a record beside its message: names for `extra`, and keys of the JSON object, in this order."""
MOST_NAMES = 20
"""The limit of names of one type of resource in a line."""
_LONGEST = 8_000
"""Characters of one text."""
_OURS = "xds"
_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_ENCODED = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*")
"""What begins with "-----BEGIN " in base64, as the data of a Secret does."""


def begin(form: str, level: str, stream: TextIO) -> None:
    """Send the log to `stream`. `form` is "text", "json", or "auto": text where the stream is a terminal.

    `level` is that of our own loggers. Libraries never log below INFO: at DEBUG the Kubernetes client logs whole Secrets. Does nothing
    where logging is set up already.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    text = stream.isatty() if form == "auto" else form == "text"
    if not text:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C library writes lines to standard error that are no JSON
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if text else JsonLines())
    least = logging.getLevelNamesMapping()[level.upper()]
    root.addHandler(handler)
    root.setLevel(max(least, logging.INFO))
    logging.getLogger(_OURS).setLevel(least)
    logging.getLogger("watchfiles").setLevel(
        max(least, logging.WARNING)
    )  # it logs the number of changed files; the publisher logs the result
    logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)
    logging.captureWarnings(capture=True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no form of a line has them


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """Whether a record is about something else than a request that is no HTTP: each of these would be an error with a traceback, and
    whoever reaches the port of the probes may send as many as they like."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__ != "aiohttp.http_exceptions"


def is_json() -> bool:
    """Whether the log, as `begin` has set it up, is JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def of_problem(problem: Problem) -> dict[str, Any]:
    """The fields of a Problem."""
    found = {"object": problem.about, "field": problem.field, "code": problem.code, "severity": problem.severity.value}
    return {**found, **({"place": str(problem.place)} if problem.place else {})}


def of_resources(changed: Mapping[str, frozenset[str]], types: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The fields of a publication: how many names of each type changed, the first of them, and how long it took.

    `types` maps type URLs to their short names.
    """
    counts = {types[type_url]: len(names) for type_url, names in changed.items()}
    named = {types[type_url]: heapq.nsmallest(MOST_NAMES, names) for type_url, names in changed.items()}
    return {"changed": counts, "resources": named, "seconds": round(seconds, 6)}


class JsonLines(logging.Formatter):
    """A record as one JSON object on one line, in ASCII: no character in it can do anything to a terminal or break the line."""

    def format(self, record: logging.LogRecord) -> str:
        """`ts` (RFC 3339, UTC, milliseconds), `level`, `logger` and `msg`, then those of FIELDS that the record has."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"ts": when, "level": record.levelname.lower(), "logger": record.name, "msg": record.getMessage()}
        return json.dumps({key: _safe(value) for key, value in (line | _fields(self, record)).items()}, separators=(",", ":"))


class TextLines(logging.Formatter):
    """A record for people: the time of the day, the level and the message; a traceback follows on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and those of a traceback. Control characters are escaped, so what was quoted looks like no other record."""
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname} {printable(without_keys(record.getMessage()), _LONGEST)}"
        lines = without_keys(_fields(self, record).get("traceback", "")).splitlines()
        return "\n".join([head, *(f"  {printable(line, 400)}" for line in lines)])


def without_keys(text: str) -> str:
    """The text with its private keys cut out, as PEM or as base64 of PEM. No call logs one; this is for what libraries quote."""
    if "PRIVATE KEY" in text:
        text = _KEY.sub("(private key)", text)
    return _ENCODED.sub("(PEM)", text)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record. An exception becomes its `traceback`."""
    found = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
    if record.exc_info and record.exc_info[1] is not None:
        found["traceback"] = formatter.formatException(record.exc_info)
    return found


def _safe(value: Any) -> Any:
    """A value for JSON, without keys. Texts are cut to a length that collectors accept."""
    match value:
        case Ref():
            return {name: _safe(part) for name, part in value._asdict().items() if part}
        case str():
            text = without_keys(value)
            return text if len(text) <= _LONGEST else text[: _LONGEST // 2] + " … " + text[-_LONGEST // 2 :]
        case Mapping():
            return {str(key): _safe(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_safe(each) for each in value]
        case bool() | int() | float() | None:
            return value
    return _safe(str(value))
