"""What is wrong with what was written, and about which object: a Problem, in words for the user who can fix it.

The lowest module: objects, the Model and everything that reports use it. What does not belong here: finding Problems, and showing them.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Ref(NamedTuple):
    """Which object: `Ref("Ingress", "default", "web")`. The namespace of a cluster-scoped object is ""."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Place(NamedTuple):
    """Where in a folder of manifests an object was read: its file, its position in the file (from 0) and its first line (from 1)."""

    file: str
    document: int
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def printable(text: str, most: int) -> str:
    """A user's text for people: one line, nothing that a terminal would obey, at most `most` characters."""
    if len(text) <= most and text.isprintable():
        return text
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:most])
    return line if max(len(text), len(line)) <= most else line[: most - 1] + "…"


_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def without_credentials(text: str) -> str:
    """A text without the user and the password of URLs in it, which logs, Events and pages would show to others."""
    return _CREDENTIALS.sub("…", text) if "@" in text else text


class Severity(Enum):
    """How bad a Problem is."""

    ERROR = "error"
    """It does not do what was written."""
    WARNING = "warning"
    """It works, but not quite as written, or not for long."""
    NOTE = "note"
    """Worth knowing."""

    @property
    def rank(self) -> int:
        """Where it stands in a list that begins with what is worst."""
        return _WORST_FIRST[self]


_WORST_FIRST = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something that a user wrote has no effect, or another one than they think.

    Identified by object, field and code (decision 17); the sentence may change. `field` is a path such as `spec.rules[0].host`
    or `metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]`. Both texts quote what users wrote, and are made printable here,
    without the credentials of URLs.
    """

    about: Ref
    field: str
    code: str
    sentence: str = dataclasses.field(compare=False)
    severity: Severity = dataclasses.field(default=Severity.ERROR, compare=False)
    place: Place | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", printable(self.field, 400))
        object.__setattr__(self, "sentence", printable(without_credentials(self.sentence), 800))

    def __str__(self) -> str:
        where = f"{printable(str(self.place), 300)}: " if self.place else ""
        what = f" {self.field}" if self.field else ""
        return f"{where}{printable(str(self.about), 400)}{what}: {self.sentence}"
