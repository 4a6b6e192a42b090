"""Parsers of values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from xds.nginx.values import LONGEST, boolean, choice, duration, matching, readable, seconds, shown, size, whole, words
from xds.problem import Problem, Ref, without_credentials


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (boolean, "t", True),
        (boolean, "FALSE", False),
        (seconds, "0", 0),
        (seconds, "+60", 60),
        (whole(1, 3), "3", 3),
        (size, "100", 100),
        (size, "8k", 8192),
        (size, "1M", 1 << 20),
        (size, "2g", 2 << 30),
        (size, "0", 0),
        (duration, "600", 600),
        (duration, "600s", 600),
        (duration, "1h 30m", 5400),
        (duration, "1h30m", 5400),
        (duration, "500ms", 1),
        (duration, "1d", 86400),
        (duration, "2w 3d 1h 1m 1s 1ms", 2 * 604800 + 3 * 86400 + 3662),
        (choice("ewma", "round_robin", any_case=True), "EWMA", "ewma"),
        (choice("ewma", "round_robin"), "ewma", "ewma"),
        (matching("[a-z]*", "word"), "abc", "abc"),
        (words, " a, b ,,", ("a", "b")),
    ],
)
def test_a_good_value_is_read(parse: Callable[[str], Any], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (boolean, "yes", 'is \'yes\', which is neither "true" nor "false"'),
        (boolean, "tRuE", 'is \'tRuE\', which is neither "true" nor "false"'),
        (seconds, "-1", "is -1, which is not between 0 and 2147483"),
        (seconds, "50k", "is '50k', which is no whole number"),
        (seconds, "2147484", "is 2147484, which is not between 0 and 2147483"),
        (size, "15r", "is '15r', which is no size such as 8m, 512k or 0"),
        (size, "10b", "is '10b', which is no size such as 8m, 512k or 0"),
        (choice("on", "off"), "Off", "is 'Off', which is none of on, off"),
        (size, "5t", "is '5t', which is no size such as 8m, 512k or 0"),
        (size, "1Mi", "is '1Mi', which is no size such as 8m, 512k or 0"),
        (size, "10 k", "is '10 k', which is no size such as 8m, 512k or 0"),
        (size, "٣m", "is '٣m', which is no size such as 8m, 512k or 0"),
        (size, "999999999999g", "is '999999999999g', which is more than 9223372036854775807 bytes"),
        (duration, "5x", "is '5x', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "s", "is 's', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "1234567890", "is '1234567890', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "0", "is '0', which is not between 1 and 2147483 seconds"),
        (duration, "1s 1h", "is '1s 1h', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "1m 1m", "is '1m 1m', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "5S", "is '5S', which is no time such as 600s, 10m or 1h 30m"),
        (duration, "1M", "is '1M', which is not between 1 and 2147483 seconds"),
        (duration, "4w", "is '4w', which is not between 1 and 2147483 seconds"),
        (choice("a", "b"), "c", "is 'c', which is none of a, b"),
        (matching("[a-z]*", "word"), "abc\n", "is 'abc\\n', which is no word"),
    ],
)
def test_a_bad_value_is_the_rest_of_a_sentence(parse: Callable[[str], Any], text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        parse(text)


def test_lines_are_trimmed_each() -> None:
    assert readable("  a \r\n\tb\n\n") == "a\nb"
    assert readable("# a\u2028b\x85c") == "# a\u2028b\x85c", "what nginx takes for one line"


def test_a_control_character_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^holds the control character '\\x1b'$"):
        readable("a\x1b[31m")


def test_a_value_has_a_greatest_length() -> None:
    assert readable("a" * LONGEST) == "a" * LONGEST
    with pytest.raises(ValueError, match=r"^has 8193 characters, which is more than 8192$"):
        readable("a" * (LONGEST + 1))


@pytest.mark.parametrize("text", ["https://user:secret@host/x y", "https://user:" + "secret" * 20 + "@host/", "http://secret@host"])
def test_the_credentials_of_a_url_are_in_no_sentence(text: str) -> None:
    problem = Problem(Ref("Ingress", "default", "a"), "f", "c", f"auth-url is {text!r}; it is left out")
    assert "secret" not in shown(text)
    assert "secret" not in str(problem)
    assert "…@host" in problem.sentence
    assert without_credentials("to a@b.example.com and http://h:80/@x") == "to a@b.example.com and http://h:80/@x"


def test_what_a_user_wrote_is_shown_short_and_quoted() -> None:
    assert shown("a'\n" + "b" * 100) == repr("a'\n" + "b" * 54 + "…")
