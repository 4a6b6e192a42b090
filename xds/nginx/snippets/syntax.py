"""The syntax of nginx's configuration: text in, directives out, as nginx reads it (ngx_conf_file.c). Pure; it reads no file.

Words are separated by white space, a directive ends with ";" or has a block in braces. Quotes and backslashes are as in nginx: a backslash
keeps the character after it from having a meaning, and only `\\"`, `\\'`, `\\\\`, `\\t`, `\\r` and `\\n` are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xds.nginx.values import shown

MOST_DIRECTIVES = 200
"""Directives of one snippet, those in blocks too. The longest of some hundred published ones has 30."""
DEEPEST = 4
"""Blocks within each other; nginx itself knows no use for more in a server."""
_SPACE = frozenset(" \t\r\n")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "t": "\t", "r": "\r", "n": "\n"}


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its name and arguments without quotes, the directives of its block (None without one), and its line, from 1."""

    name: str
    args: tuple[str, ...]
    block: tuple[Directive, ...] | None
    line: int


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, or one of ";", "{", "}" as a `mark`."""

    text: str
    line: int
    mark: bool = False


def parse(text: str) -> tuple[Directive, ...]:
    """The directives of a snippet. Raises ValueError with the rest of the sentence "<annotation> …" for what nginx could not read."""
    tokens = _tokens(text)
    found, closed = _block(tokens, 0, [0])
    if closed:
        raise ValueError(f"has a }} in line {closed} that closes nothing")
    return found


def _block(tokens: Iterator[_Token], depth: int, count: list[int]) -> tuple[tuple[Directive, ...], int]:
    """The directives up to the end of a block, and the line of the brace that ended it; 0 for the end of the text."""
    found: list[Directive] = []
    words: list[_Token] = []
    for token in tokens:
        if not token.mark:
            words.append(token)
            continue
        if token.text == "}":
            if words:
                raise ValueError(f'has a }} in line {token.line} where nginx expects ";"')
            return tuple(found), token.line
        if not words:
            raise ValueError(f"has {shown(token.text)} in line {token.line} without a directive before it")
        count[0] += 1
        if count[0] > MOST_DIRECTIVES:
            raise ValueError(f"has more than {MOST_DIRECTIVES} directives")
        name, *args = words
        inner = _inner(tokens, token, depth, count) if token.text == "{" else None
        found.append(Directive(name.text, tuple(word.text for word in args), inner, name.line))
        words = []
    if words:
        raise ValueError(f'has no ";" after {shown(words[0].text)} in line {words[0].line}')
    return tuple(found), 0


def _inner(tokens: Iterator[_Token], opening: _Token, depth: int, count: list[int]) -> tuple[Directive, ...]:
    if depth == DEEPEST:
        raise ValueError(f"has more than {DEEPEST} blocks within each other, in line {opening.line}")
    inner, closed = _block(tokens, depth + 1, count)
    if not closed:
        raise ValueError(f"has a block in line {opening.line} that nothing closes")
    return inner


def _tokens(text: str) -> Iterator[_Token]:
    position, line, end = 0, 1, len(text)
    while position < end:
        character = text[position]
        if character in _SPACE:
            line += character == "\n"
            position += 1
        elif character in ";{}":
            yield _Token(character, line, mark=True)
            position += 1
        elif character == "#":
            newline = text.find("\n", position)
            position = end if newline < 0 else newline
        else:
            after = _quoted(text, position, line) if character in "\"'" else _word(text, position)
            quotes = 1 if character in "\"'" else 0
            yield _Token(_unescaped(text[position + quotes : after - quotes]), line)
            line += text.count("\n", position, after)
            position = after


def _quoted(text: str, start: int, line: int) -> int:
    """The position after a word in quotes. After the quote, nginx wants a space or the end of the directive; a ")" begins a new word."""
    position = start + 1
    while position < len(text) and text[position] != text[start]:
        position += 2 if text[position] == "\\" else 1
    if position >= len(text):
        raise ValueError(f"has a quote in line {line} that nothing closes")
    position += 1
    if position < len(text) and text[position] not in _SPACE and text[position] not in ";{)":
        raise ValueError(f"has {shown(text[position])} right after a quote in line {line}")
    return position


def _word(text: str, start: int) -> int:
    """The position after a word without quotes. A brace after "$" belongs to the word, as in `${name}`."""
    position = start
    while position < len(text) and text[position] not in _SPACE and text[position] != ";":
        if text[position] == "{" and text[position - 1 : position] != "$":
            break
        position += 2 if text[position] == "\\" else 1
    return min(position, len(text))


def _unescaped(word: str) -> str:
    if "\\" not in word:
        return word
    parts: list[str] = []
    position = 0
    while position < len(word):
        pair = word[position : position + 2]
        known = len(pair) == 2 and pair[0] == "\\" and pair[1] in _ESCAPES
        parts.append(_ESCAPES[pair[1]] if known else word[position])
        position += 2 if known else 1
    return "".join(parts)
