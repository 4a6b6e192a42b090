"""nginx's syntax: words, quotes, escapes and blocks as nginx reads them; everything else is a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.nginx.snippets.syntax import DEEPEST, MOST_DIRECTIVES, Directive, parse


def words(text: str) -> list[tuple[str, ...]]:
    return [(each.name, *each.args) for each in parse(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("# nothing", []),
        ("a b c;", [("a", "b", "c")]),
        ("a\tb\r\n  c ;d;", [("a", "b", "c"), ("d",)]),
        ("a \"b c\" 'd;e';", [("a", "b c", "d;e")]),
        (r'a "say \"x\"" \n "\t" \d "\d";', [("a", 'say "x"', "\n", "\t", r"\d", r"\d")]),
        ("a b#c; # d;\ne;", [("a", "b#c"), ("e",)]),
        ("a ${x}y {b;}", [("a", "${x}y")]),
        ('a ("b")c;', [("a", '("b")c')]),
        ('if ($x ~ "b") {c;}', [("if", "($x", "~", "b", ")")]),
        (r"a \; b;", [("a", r"\;", "b")]),
    ],
)
def test_words_are_those_of_nginx(text: str, found: list[tuple[str, ...]]) -> None:
    assert words(text) == found


def test_a_directive_knows_its_line_and_its_block() -> None:
    text = 'a\n  "x\ny" {\n  b;\n}\nc;'
    assert parse(text) == (Directive("a", ("x\ny",), (Directive("b", (), None, 4),), 1), Directive("c", (), None, 6))


@pytest.mark.parametrize(
    "text",
    ["a", "a b", "a {", "}", "a; }", ";", "{", "a {b}", 'a "b', "a 'b", 'a "b"c;', "a { b; } }", "a {{b;}}", "x " * 5],
)
def test_what_nginx_could_not_read_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^has "):
        parse(text)


def test_there_is_a_limit_to_directives_and_to_depth() -> None:
    assert len(parse("a;" * MOST_DIRECTIVES)) == MOST_DIRECTIVES
    with pytest.raises(ValueError, match=f"more than {MOST_DIRECTIVES} directives"):
        parse("a;" * (MOST_DIRECTIVES + 1))
    parse("a {" * DEEPEST + "b;" + "}" * DEEPEST)
    for deep in (DEEPEST + 1, 4000):
        with pytest.raises(ValueError, match="within each other"):
            parse("a {" * deep)


@given(st.text(st.sampled_from("ab \n;{}\"'\\$#")))
def test_any_text_is_directives_or_a_sentence(text: str) -> None:
    sentence = ""
    found: tuple[Directive, ...] = ()
    try:
        found = parse(text)
    except ValueError as error:
        sentence = str(error)
    assert sentence == "" or sentence.startswith("has ")
    assert len(all_of(found)) <= text.count(";") + text.count("{")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_words_in_quotes_come_back(texts: list[str]) -> None:
    quoted = " ".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    assert words(f"{quoted};") == [tuple(texts)]


def all_of(found: tuple[Directive, ...]) -> list[Directive]:
    return [each for one in found for each in (one, *all_of(one.block or ()))]
