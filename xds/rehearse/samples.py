"""A text that a regular expression matches, for expressions as people write them in paths and headers. Pure.

A sample is a proposal: who asks for one compares it with the expression. No expression makes it long or slow: the work is linear in the
length of the expression and of the sample, and both are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import re2

LONGEST = 500
"""Characters of a sample."""
LONGEST_EXPRESSION = 5_000
_DEEPEST = 40
"""Groups within groups."""
_CANDIDATES = "a1x0AZz9-_.~b2/ :=@,;!$&'()*+%?#\"<>\\^`{|}[]"
"""Characters that stand for a class, the first that it takes; else one that is written in it."""
_QUIET = re2.Options()
_QUIET.log_errors = False
_TOKEN = re.compile(
    r"(?P<class>\.|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]|\\[dDsSwW]|\\[pP](?:[A-Z]|\{\^?\w+\}))"
    r"|(?P<nothing>\(\?[a-zA-Z]*(?:-[a-zA-Z]+)?\)|\^|\$|\\[AbBzZ])"
    r"|(?P<open>\((?:\?(?::|P?<\w+>|[a-zA-Z]*(?:-[a-zA-Z]+)?:))?)"
    r"|(?P<close>\))"
    r"|(?P<bar>\|)"
    r"|(?P<count>(?:[*+?]|\{[0-9]{1,4}(?:,[0-9]{0,4})?\})[?+]?)"
    r"|(?P<code>\\x(?:[0-9a-fA-F]{2}|\{[0-9a-fA-F]{1,6}\}))"
    r"|\\(?P<quoted>[^0-9A-Za-z])"
    r"|(?P<text>[^\\\[()^$|*+?.])",
    re.DOTALL,
)


class _NoSample(Exception):
    """Why there is none: the expression has something that is not understood, or needs too long a text."""


def samples(expression: str) -> tuple[str, ...]:
    """Texts for an expression, the shortest first: each count at its least, then one more, then the last of alternatives as well.

    None where the expression has something that is not understood here, or needs a text of more than LONGEST characters.
    """
    if len(expression) > LONGEST_EXPRESSION:
        return ()
    found: dict[str, None] = {}
    for more, last in ((False, False), (True, False), (True, True)):
        try:
            found[_Sampler(expression, more, last).sample()] = None
        except _NoSample:
            continue
    return tuple(found)


@dataclass
class _Sampler:
    """One pass over an expression. `more`: each count is one above its least. `last`: of alternatives the last one is taken."""

    expression: str
    more: bool
    last: bool
    position: int = 0

    def sample(self) -> str:
        """Raises _NoSample."""
        found = self._alternatives(0)
        if self.position < len(self.expression):
            raise _NoSample  # a parenthesis that nothing opens
        return found

    def _alternatives(self, depth: int) -> str:
        if depth > _DEEPEST:
            raise _NoSample
        branches = [self._sequence(depth)]
        while self._peek("bar"):
            branches.append(self._sequence(depth))
        return branches[-1 if self.last else 0]

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        length = 0
        for token in self._tokens():
            if token.lastgroup in ("bar", "close"):
                break
            self.position = token.end()
            if token.lastgroup == "count":
                raise _NoSample  # of nothing
            atom = self._atom(token, depth)
            parts.append(self._repeated(atom))
            length += len(parts[-1])
            if length > LONGEST:
                raise _NoSample
        return "".join(parts)

    def _atom(self, token: re.Match[str], depth: int) -> str:
        match token.lastgroup:
            case "open":
                inner = self._alternatives(depth + 1)
                if not self._peek("close"):
                    raise _NoSample
                return inner
            case "nothing":
                return ""
            case "class":
                return _one_of(token[0])
            case "code":
                return chr(min(int(token[0].strip("\\x{}"), 16), 0x10FFFF))
            case _:
                return token[token.lastgroup or 0]

    def _repeated(self, atom: str) -> str:
        token = _TOKEN.match(self.expression, self.position)
        if token is None or token.lastgroup != "count":
            return atom
        self.position = token.end()
        least, most = _bounds(token[0])
        count = min(least + self.more, most)
        if count * len(atom) > LONGEST:
            raise _NoSample
        return atom * count

    def _tokens(self) -> Iterator[re.Match[str]]:
        """From where the pass has come to; the caller moves on."""
        while self.position < len(self.expression):
            token = _TOKEN.match(self.expression, self.position)
            if token is None:
                raise _NoSample
            yield token

    def _peek(self, group: str) -> bool:
        """Whether a token of this group comes next, which is taken then."""
        token = _TOKEN.match(self.expression, self.position)
        if token is None or token.lastgroup != group:
            return False
        self.position = token.end()
        return True


def _bounds(count: str) -> tuple[int, int]:
    """The least and the most of a count."""
    many = LONGEST + 1
    if count[0] != "{":
        return {"*": (0, many), "+": (1, many), "?": (0, 1)}[count[0]]
    least, comma, most = count.rstrip("?+").strip("{}").partition(",")
    return int(least), int(most) if most else many if comma else int(least)


def _one_of(written: str) -> str:
    """A character that a class takes."""
    try:
        pattern = re2.compile(written, _QUIET)
    except re2.error:
        raise _NoSample from None
    for character in _CANDIDATES + written:
        if pattern.fullmatch(character):
            return character
    raise _NoSample
