"""YAML and JSON text as plain documents that know their lines.

What belongs here: text → dicts, lists and scalars, read as Kubernetes reads them. What does not: files (`xds.kube.manifests`) and what
a document means (`xds.kube.parse`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 200
"""Mappings and lists within each other; a CustomResourceDefinition reaches about 60."""

MAX_COPIES = 100_000
"""Values that the aliases of one file may stand for, all together; a few lines of aliases of aliases could stand for billions."""

MAX_VALUES = 200_000
"""Values in one object of a YAML file. What an API server stores of an object (some 1.5 MB of JSON) cannot hold more."""

Step = str | int
"""One step of the way to a value: the key in a mapping, or the position in a list."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML is also built without libyaml

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("0123456789+-.")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_BASED = re.compile(r"([-+]?)0(b[01_]+|x[0-9a-fA-F_]+|o?[0-7_]+)")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 400

_TAG = "tag:yaml.org,2002:"
_RESOLVED_TAGS = frozenset(_TAG + name for name in ("int", "float", "bool", "null"))
_TEXTUAL = ("data", "stringData")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")


class UnreadableText(Exception):
    """The text is not YAML or JSON. `line` counts from 1; the sentence never quotes the text, which may hold a key."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(f"line {line}: {sentence}")
        self.line = line
        self.sentence = sentence


class Repeat(NamedTuple):
    """A key that a mapping has twice, of which the last one counts: its path from the top of the document, and its line."""

    path: tuple[Step, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its value, and its first line, from 1. `item_lines` are the first lines of the entries of a list."""

    value: Any
    line: int
    item_lines: tuple[int, ...] = ()
    repeats: tuple[Repeat, ...] = ()


def read(raw: bytes, *, only_json: bool = False) -> list[Document]:
    """All documents of a file that are not empty; UnreadableText if one cannot be read.

    Text that starts with `{` is read as JSON first (as kubectl does: YAML has no surrogate pairs), then as YAML unless `only_json`.
    A byte order mark and CRLF are fine. JSON documents follow each other with or without space in between.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableText(line, "This is not UTF-8 text; save the file as UTF-8.") from None
    if not only_json and not text.lstrip().startswith("{"):
        return list(_yaml_documents(text))
    try:
        return list(_json_documents(text))
    except UnreadableText:
        if only_json:
            raise
    return list(_yaml_documents(text))


def _yaml_documents(text: str) -> Iterator[Document]:
    builder = _Builder(iter(yaml.parse(text, Loader=_LOADER)))
    try:
        while (document := builder.document()) is not None:
            if document.value is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        raise _malformed_yaml(text, error) from None
    except yaml.reader.ReaderError as error:
        line = text.encode(errors="replace").count(b"\n", 0, error.position) + 1
        raise UnreadableText(line, "This is not YAML: there is a control character in it.") from None


def _malformed_yaml(text: str, error: yaml.MarkedYAMLError) -> UnreadableText:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.splitlines()
    advice = "; indent with spaces, not with tabs" if 0 < line <= len(lines) and lines[line - 1].lstrip(" ").startswith("\t") else ""
    return UnreadableText(line, f"This is not YAML: {reason}{advice}.")


class _Anchor(NamedTuple):
    value: Any
    text: str | None
    size: int


class _Builder:
    """Makes documents from the events of a YAML parser.

    Plain scalars have the types that Kubernetes gives them, with one exception that authors expect: `yes`, `no`, `on` and `off` are text.
    Times are text as well. Directly under `data` and `stringData`, all scalars but null are their text: nothing else is valid there, and
    `1.10` is not `1.1`.
    """

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._path: list[Step] = []
        self._anchors: dict[str, _Anchor | None] = {}
        self._size = 0
        self._begun = 0  # the size when the object began
        self._copies = 0
        self._item_lines: list[int] = []
        self._repeats: list[Repeat] = []

    def document(self) -> Document | None:
        """The next document; None at the end of the stream."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                break
        else:
            return None
        self._anchors, self._item_lines, self._repeats = {}, [], []
        first = next(self._events)
        self._begun = self._size
        value = self._node(first)
        return Document(value, first.start_mark.line + 1, tuple(self._item_lines), tuple(self._repeats))

    def _node(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event).value
        self._size += 1
        if self._size - self._begun > MAX_VALUES:
            sentence = f"An object has more than {MAX_VALUES:,} values here, which is more than an API server would store."
            raise UnreadableText(event.start_mark.line + 1, sentence)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = _Anchor(value, None if value is None else event.value, 1)
            return value
        if len(self._path) > MAX_DEPTH:
            raise UnreadableText(event.start_mark.line + 1, f"Lists and mappings are more than {MAX_DEPTH} deep within each other.")
        before = self._size
        if event.anchor:
            self._anchors[event.anchor] = None
        value = self._mapping() if isinstance(event, yaml.MappingStartEvent) else self._sequence()
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(value, None, 1 + self._size - before)
        return value

    def _alias(self, event: Any) -> _Anchor:
        line = event.start_mark.line + 1
        if event.anchor not in self._anchors:
            raise UnreadableText(line, f"The alias *{event.anchor} has no anchor &{event.anchor} before it.")
        anchor = self._anchors[event.anchor]
        if anchor is None:
            raise UnreadableText(line, f"The alias *{event.anchor} stands within its own anchor.")
        self._size += anchor.size
        self._copies += anchor.size
        if self._copies > MAX_COPIES:
            raise UnreadableText(line, f"The aliases of this file stand for more than {MAX_COPIES:,} values; write them out.")
        return anchor

    def _sequence(self) -> list[Any]:
        values: list[Any] = []
        if of_items := self._path == ["items"]:
            self._item_lines.clear()
        self._path.append(0)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            if of_items:
                self._begun = self._size
                self._item_lines.append(event.start_mark.line + 1)
            self._path[-1] = len(values)
            values.append(self._node(event))
        self._path.pop()
        return values

    def _mapping(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        textual = self._is_textual()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if _is_merge(event):
                merged += self._merge(event)
                continue
            key = self._key(event)
            self._path.append(key)
            if key in values:
                self._repeats.append(Repeat(tuple(self._path), event.start_mark.line + 1))
            content = next(self._events)
            values[key] = self._textual(content) if textual else self._node(content)
            self._path.pop()
        for source in merged:
            for key, value in source.items():
                values.setdefault(key, value)
        return values

    def _is_textual(self) -> bool:
        match self._path:
            case [str(key)] | ["items", int(), str(key)]:
                return key in _TEXTUAL
        return False

    def _textual(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            anchor = self._alias(event)
            return anchor.value if anchor.text is None else anchor.text
        value = self._node(event)
        return event.value if isinstance(value, bool | int | float) else value

    def _key(self, event: Any) -> str:
        text = event.value if isinstance(event, yaml.ScalarEvent) else None
        if isinstance(event, yaml.AliasEvent):
            text = self._alias(event).text
        elif text is not None and event.anchor:
            self._anchors[event.anchor] = _Anchor(_scalar(event), text, 1)
        if text is None:
            raise UnreadableText(event.start_mark.line + 1, "A list or a mapping cannot be a key; write text before the colon.")
        return str(text)

    def _merge(self, event: Any) -> list[dict[str, Any]]:
        self._path.append("<<")
        source = self._node(next(self._events))
        self._path.pop()
        sources = source if isinstance(source, list) else [source]
        if not all(isinstance(each, dict) for each in sources):
            raise UnreadableText(event.start_mark.line + 1, "What << merges must be a mapping, or a list of mappings.")
        return sources


def _is_merge(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and (event.implicit[0] or event.tag == _TAG + "merge")


def _scalar(event: Any) -> Any:
    if event.style == '"' and _SURROGATE.search(event.value):
        raise UnreadableText(event.start_mark.line + 1, "There is half a surrogate pair (such as \\ud83d) in this text.")
    if event.tag in _RESOLVED_TAGS or (event.tag is None and event.implicit[0]):
        return plain(event.value)
    return event.value


def plain(text: str) -> bool | int | float | str | None:
    """What a plain scalar stands for: null, true or false, a number (0x1f, 0o17, 017, 0b1, 1_000, 1e3), or else the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _MAX_DIGITS:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text.replace("_", ""))
    if based := _BASED.fullmatch(text):
        sign, digits = based[1], based[2].replace("_", "")
        return _based(sign, digits, text)
    if _FRACTION.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


def _based(sign: str, digits: str, text: str) -> int | str:
    octal = digits if digits[:1] in ("b", "x", "o") else "o" + digits
    return int(f"{sign}0{octal}", 0) if len(octal) > 1 else text


def _json_documents(text: str) -> Iterator[Document]:
    reader = _JsonReader(text)
    try:
        while (document := reader.document()) is not None:
            if document.value is not None:
                yield document
    except json.JSONDecodeError as error:
        raise UnreadableText(error.lineno, f"This is not JSON: {error.msg.lower()}.") from None
    except RecursionError:
        raise UnreadableText(reader.line, "Lists and mappings are too deep within each other.") from None
    except ValueError as error:
        raise UnreadableText(reader.line, str(error)) from None


class _JsonReader:
    """Reads one JSON document after the other, and walks the top of each by itself, so that entries of `items` have lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = 0
        self._doubled: list[str] = []
        self._has_surrogates = _SURROGATE_ESCAPE.search(text) is not None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._pairs, parse_int=_json_int, parse_constant=_no_constant)
        self.line = 1

    def document(self) -> Document | None:
        """The next document; None at the end of the text."""
        self._skip()
        if self._at == len(self._text):
            return None
        line, repeats, item_lines = self._here(), list[Repeat](), list[int]()
        value = self._object(repeats, item_lines) if self._text[self._at] == "{" else self._value((), repeats)
        if self._has_surrogates:
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise ValueError("There is half a surrogate pair (such as \\ud83d) in this text.") from None
        return Document(value, line, tuple(item_lines), tuple(repeats))

    def _object(self, repeats: list[Repeat], item_lines: list[int]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while self._next("{" if not values else ",", "}"):
            if self._peek() != '"':
                raise json.JSONDecodeError("expecting property name enclosed in double quotes", self._text, self._at)
            line, key = self._here(), self._value((), repeats)
            if key in values:
                repeats.append(Repeat((key,), line))
            self._expect(":")
            in_items = key == "items" and self._peek() == "["
            values[key] = self._items(repeats, item_lines) if in_items else self._value((key,), repeats)
        return values

    def _items(self, repeats: list[Repeat], item_lines: list[int]) -> list[Any]:
        values: list[Any] = []
        item_lines.clear()
        while self._next("[" if not values else ",", "]"):
            self._skip()
            item_lines.append(self._here())
            values.append(self._value(("items", len(values)), repeats))
        return values

    def _value(self, path: tuple[Step, ...], repeats: list[Repeat]) -> Any:
        self._skip()
        line = self._here()
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        repeats += [Repeat((*path, key), line) for key in self._doubled]
        self._doubled.clear()
        return value

    def _next(self, start: str, end: str) -> bool:
        """Step over what starts an entry; False, and stepped over the end, where there is none."""
        if self._peek() == end and start == ",":
            self._at += 1
            return False
        self._expect(start)
        if start != "," and self._peek() == end:
            self._at += 1
            return False
        return True

    def _expect(self, mark: str) -> None:
        if self._peek() != mark:
            raise json.JSONDecodeError(f"expecting {mark!r}", self._text, self._at)
        self._at += 1

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _here(self) -> int:
        self.line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self.line

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            self._doubled += [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        return values


def _json_int(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"This is not JSON: {text} is not a value.")
