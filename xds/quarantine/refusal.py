"""What Envoy names when it rejects a response: from the text of a NACK to the Parts of the response that it accuses.

What belongs here: reading the text. What does not: what is done about an accused Part (`xds.quarantine.quarantine`). Envoy writes texts of
four kinds, and cuts each after 4,096 characters:

1. *A list* of clusters or listeners, each with its error: `Error adding/updating cluster(s) a: …, b: …`. Envoy has applied what is not in
   the list, unless the list is cut.
2. *A dump* of one whole resource as text, followed by the path of the field that breaks a rule of the proto. Of a large route table
   nothing but the beginning of the dump arrives: the hosts in it are just the first ones.
3. *Bytes* that it cannot parse, escaped.
4. *A sentence*, which may quote a value: a domain, a part of a regular expression, the type of an extension. It does not name the resource,
   so the value is searched for in the bytes of the suspects.

Of secrets, and of endpoints with a bad address, the text has the error and not the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from xds.snapshot import Part
from xds.wire.encode import varint

_LONGEST = 4096
"""Characters of a text that are read: as many as Envoy writes."""
_MOST_QUOTES = 8
"""Quoted values of one text that are searched for in the suspects."""
_MOST_LOOKS = 64
"""Occurrences of one value that are examined in each suspect."""


class Accused(NamedTuple):
    """The Parts that a text accuses: Envoy rejects each of `certain`, and at least one of `likely`."""

    certain: frozenset[Part] = frozenset()
    likely: frozenset[Part] = frozenset()


Suspects = Mapping[Part, bytes]
"""The Parts that may be meant → their serialised bytes, with or without the tag of their field."""


def accused(error: str, suspects: Suspects) -> Accused:
    """The suspects that the text of a NACK accuses; none where it names or quotes nothing that they have.

    `suspects` are the unproven Parts of the rejected response. Never raises, whatever the text is. Users choose the names and values in it,
    so it may accuse the wrong suspect, but never a Part that is no suspect.
    """
    text = error[:_LONGEST].encode(errors="replace").decode()
    head = _LIST.match(text)
    if head is None:
        return _judge(text, suspects)
    resources: dict[str, dict[Part, bytes]] = {}
    for part, body in suspects.items():
        resources.setdefault(part.resource, {})[part] = body
    verdicts = [_judge_entry(sentence, resources[name]) for name, sentence in _entries(text, head.end(), resources)]
    return Accused(frozenset().union(*(v.certain for v in verdicts)), frozenset().union(*(v.likely for v in verdicts)))


def _verdict(meant: frozenset[Part]) -> Accused:
    """Envoy rejects one of these."""
    return Accused(certain=meant) if len(meant) == 1 else Accused(likely=meant)


def _name(part: Part) -> str:
    """The name that Envoy knows it by."""
    return part.resource if part.piece is None else part.piece or "*"


# Lists

_LIST = re.compile(r"Error adding/updating (?:cluster|listener)\(s\) ")
_BETWEEN = re.compile(r", |\n")


def _entries(text: str, start: int, names: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The entries of a list: the name of each, which is one of these, and the text about it."""
    longest = max(map(len, names), default=0)
    found = [
        (at, name) for at in (start, *(m.end() for m in _BETWEEN.finditer(text, start))) if (name := _name_at(text, at, names, longest))
    ]
    ends = [*(at for at, _ in found[1:]), len(text)]
    for (at, name), end in zip(found, ends, strict=False):
        yield name, text[at + len(name) + 2 : end]


def _name_at(text: str, start: int, names: Mapping[str, object], longest: int) -> str:
    """The longest of the names that is found there, followed by a colon; "" for none."""
    end = start + longest
    while (end := text.rfind(": ", start, end + 2)) > start:
        if text[start:end] in names:
            return text[start:end]
        end -= 2
    return ""


def _judge_entry(sentence: str, parts: Suspects) -> Accused:
    """The verdict of a list's entry about one resource, of which these Parts are suspects."""
    if len(parts) == 1:
        return Accused(certain=frozenset(parts))
    found = _judge(sentence, parts)
    return found if any(found) else Accused(likely=frozenset(parts))


# Everything else

_DUMP = re.compile(r"goo\.gle/debug\w* *\n")
_PACKED = re.compile(
    r'Unable to unpack as ([\w.]+): goo\.gle/debug\w* *\ntype_url: "[^"\n]*"\nvalue: "((?:[^"\\\n\[]|\\.|\[(?!hidden\]))*)("?)', re.DOTALL
)


def _judge(text: str, suspects: Suspects) -> Accused:
    """The verdict of a text that is no list."""
    if _DUMP.match(text):
        return _verdict(_dumped(text, suspects))
    if packed := _PACKED.match(text):
        return _verdict(_packed(packed[1], packed[2], suspects, whole=bool(packed[3])))
    found = [having for quote in _quotes(text) if (having := frozenset(part for part, body in suspects.items() if quote.is_in(part, body)))]
    if not found:
        return Accused()
    return _verdict(frozenset.intersection(*found) or frozenset().union(*found))


_NAME = re.compile(r'^(?:cluster_)?name: "((?:[^"\\\n]|\\.)*)"$', re.MULTILINE)
_CAUSE = re.compile(r"^: Proto constraint validation failed \(\w+\.(?:(?:VirtualHosts|FilterChains)\[(\d{1,6})\])?", re.MULTILINE)
_PIECE = re.compile(r"^(?:virtual_hosts|filter_chains) \{$", re.MULTILINE)
_PIECE_NAME = re.compile(r'^  name: "((?:[^"\\\n]|\\.)*)"$', re.MULTILINE)


def _dumped(text: str, suspects: Suspects) -> frozenset[Part]:
    """The Part that breaks a rule of the proto. Only lines without indentation belong to the resource itself."""
    name = _NAME.search(text)
    if name is None:
        return frozenset()
    resource = _unescaped(name[1]).decode(errors="replace")
    parts = frozenset(part for part in suspects if part.resource == resource)
    cause = _CAUSE.search(text)
    if len(parts) < 2 or cause is None:
        return parts
    if cause[1] is None:
        return frozenset(part for part in parts if part.piece is None)
    begins = [piece.end() for piece in _PIECE.finditer(text, 0, cause.start())]
    at = int(cause[1])
    named = _PIECE_NAME.search(text, begins[at]) if at < len(begins) else None
    if named is None:
        return frozenset()
    piece = _unescaped(named[1]).decode(errors="replace")
    return frozenset(part for part in parts if part.piece is not None and _name(part) == piece)


_HALF_AN_ESCAPE = re.compile(r"\\[0-7]{0,2}\Z")


def _packed(message: str, text: str, suspects: Suspects, *, whole: bool) -> frozenset[Part]:
    """The Parts that are these bytes, or contain them in an Any. `whole`: the text is not cut within them."""
    value = _unescaped(text if whole else _HALF_AN_ESCAPE.sub("", text))

    def has(part: Part, body: bytes) -> bool:
        if part.type_url.endswith(f"/{message}"):
            return body == value if whole else body.startswith(value)
        return _has_field(body, field) if whole else value in body

    field = varint(len(value)) + value
    return frozenset(part for part, body in suspects.items() if has(part, body)) if value else frozenset()


_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(text: str) -> bytes:
    """The bytes that protobuf's text format escapes like this."""

    def byte(escape: re.Match[bytes]) -> bytes:
        return bytes((int(escape[1], 8) & 255,)) if escape[1] else _LETTERS.get(escape[2], escape[2])

    return _ESCAPE.sub(byte, text.encode())


# Quoted values

_HIDDEN = "[hidden]"
"""What the server writes in place of what could be a private key."""
_FRAGMENT = (
    re.compile(
        r"(?:invalid (?:escape sequence|character class(?: range)?|repetition size|perl operator|named capture group)"
        r"|missing [\])]|unexpected \)|no argument for repetition operator|bad repetition operator): (.+)",
        re.DOTALL,
    ),
    re.compile(r"Not supported field in StreamInfo: (.+)", re.DOTALL),
)
_DOMAIN = re.compile(r"Duplicate entry of domain (.+) in route ", re.DOTALL)
_WILDCARD = "Only a single wildcard domain is permitted"
_FIELD = (
    re.compile(r"regex '(.+)' RE2 program size", re.DOTALL),
    re.compile(r"Incorrect configuration: (.+)\. Couldn't", re.DOTALL),
    re.compile(r"'([^'\n]+)'(?!\w)"),
    re.compile(r'"([^"\n]+)"'),
    re.compile(r": ([^\n]+?)(?:\. |\n|\Z)"),
)


class _Quote(NamedTuple):
    """A value that a sentence quotes.

    `fields` are the encodings that it has as a whole field, from the length on; without any it may be a part of one. `folded`: Envoy quotes
    it in lower case, whatever it was.
    """

    value: bytes
    fields: tuple[bytes, ...] = ()
    folded: bool = False

    @classmethod
    def whole(cls, text: str, *, folded: bool = False) -> _Quote:
        """The text is a whole field, perhaps without the prefix of a type URL."""
        value = text.encode()
        url = b"type.googleapis.com/" + value
        return cls(value, (varint(len(value)) + value, varint(len(url)) + url), folded)

    def is_in(self, part: Part, body: bytes) -> bool:
        """Whether a Part contains it, or has it as its name. Values with capitals are rare, so they count anywhere in the bytes."""
        if not self.fields:
            return self.value in body
        if self.folded and body.lower().count(self.value) > body.count(self.value):
            return True
        if not self.folded and self.value == _name(part).encode(errors="replace"):
            return True
        return any(_has_field(body, field) for field in self.fields)


def _quotes(text: str) -> list[_Quote]:
    """The values that a sentence quotes."""
    for pattern in _FRAGMENT:
        if match := pattern.match(text):
            longest = max(match[1].strip("\n").split(_HIDDEN), key=len)
            return [_Quote(longest.encode())] if longest else []
    if domain := _DOMAIN.search(text):
        return [_Quote.whole(domain[1], folded=True)]
    if text.startswith(_WILDCARD):
        return [_Quote.whole("*")]
    values = dict.fromkeys(match[1] for pattern in _FIELD for match in pattern.finditer(text))
    return [_Quote.whole(value) for value in [*values][:_MOST_QUOTES]]


def _has_field(body: bytes, field: bytes) -> bool:
    """Whether a message has this field (length and content) at any depth, and not just the same bytes within another value."""
    start = -1
    for _ in range(_MOST_LOOKS):
        start = body.find(field, start + 1)
        if start < 0:
            return False
        if _is_length(body, start):
            return True
    return False


def _is_length(body: bytes, start: int) -> bool:
    """Whether the length of a field begins at `start`: walks the fields before it, and into those around it."""
    at = 0
    try:
        while at < start:
            tag, at = _read_varint(body, at)
            match tag & 7:
                case 0:
                    _, at = _read_varint(body, at)
                case 1:
                    at += 8
                case 2 if at == start:
                    return True
                case 2:
                    size, at = _read_varint(body, at)
                    at += size if at + size <= start else 0
                case 5:
                    at += 4
                case _:
                    return False
    except ValueError:
        return False
    return False


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends. Raises ValueError if it is longer than ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (body[at] & 127) << shift
        at += 1
        if body[at - 1] < 128:
            return value, at
    raise ValueError("no varint")
