"""Whatever a user writes becomes a setting or a Complaint, never an exception; and what is drawn from it can be sent."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from xds import model
from xds.nginx.feature import Annotation, Key, Unreadable
from xds.nginx.known import KEYS
from xds.nginx.registry import features, known_keys, read_keys, read_settings, with_hook
from xds.nginx.values import LONGEST_IN_ROUTE, Untrimmed
from xds.wire.encode import encode

from .drawing import cluster, complaints, connection, envoy_route, filters, host_routes, resolved, rewritten, routes

ANNOTATIONS: list[Annotation[Any]] = [a for feature in features().values() for a in feature.annotations]
BY_NAME = {a.name: a for a in ANNOTATIONS}
FEATURE_KEYS: list[Key[Any]] = [k for k in known_keys().values() if k not in KEYS]
HOSTILE = [
    "\x00",
    "a\x1bb",
    "x\x7f",
    "a\r\nset-cookie: x",
    "%REQ(authorization)%",
    "%",
    "$",
    "${",
    "$0",
    '"; return 200 "',
    "'",
    "\\1",
    "a b",
    "a\u2028b",
    "x" * 100_000,
    "(" * 50,
]
NO_NUMBERS = ["٣", "９", "-1", "1e3", "0x10", "9" * 20, "9" * 5000]
ANY_TEXT = (
    "no-tls-redirect-locations",
    "global-allowed-response-headers",
    "custom-headers",
    "auth-proxy-set-headers",
    "no-auth-locations",
    "annotation-value-word-blocklist",
    "annotations-risk-level",
    "log-format-upstream",
    "block-user-agents",
    "block-referers",
    "log-format-stream",
    "auth-secret",
    "no-auth-locations",
)
"""What may be a list of anything, or is judged where other objects can be read (`test_references`)."""
UNHURRIED = hypothesis_settings(deadline=None)
PATHS = ("app-root", "permanent-redirect", "rewrite-target", "upstream-vhost", "x-forwarded-prefix")
TEXT = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="$%{}\"'\\()|/:.?=&,;-_ \t\r\n\x00\x7f0123456789abkmgs", max_size=40),
    st.lists(st.sampled_from([a.example for a in ANNOTATIONS] + HOSTILE[:12])).map(" ".join),
)


SECRETS = ("auth-tls-secret", "proxy-ssl-secret")
"""Without one of these the annotations beside it are not read."""
WORDS = {"-1", "1e3", "0x10", "9" * 20}
NAMES = WORDS | {"a b"}
HARMLESS: Mapping[str, Collection[str]] = {
    "auth-cache-key": WORDS | {"$", "${", "$0"},
    "auth-request-redirect": WORDS,
    "auth-response-headers": WORDS,
    "auth-signin": WORDS,
    "auth-signin-redirect-param": WORDS,
    "canary-by-header": WORDS,
    "canary-by-header-value": NAMES,
    "canary-by-header-pattern": WORDS | {"$", "${", "$0"},
    "auth-realm": NAMES,
    "canary-by-cookie": WORDS,
    "cors-allow-methods": {"a b"},
    "cors-allow-headers": NAMES,
    "cors-expose-headers": NAMES,
    "cors-max-age": {"-1"},
    "hide-headers": WORDS,
    "limit-rps": {"-1"},
    "limit-connections": {"-1"},
    "limit-rate": {"-1"},
    "limit-rate-after": {"-1"},
    "limit-rpm": {"-1"},
    "mirror-host": WORDS,
    "session-cookie-name": NAMES,
    "session-cookie-path": NAMES,
    "session-cookie-domain": NAMES,
    "session-cookie-max-age": {"-1"},
    "session-cookie-expires": {"-1"},
    "upstream-hash-by": NAMES,
    "upstream-hash-by-subset-size": {"-1"},
    "default-backend": {"1e3", "0x10", "9" * 20},
    "server-alias": {"1e3", "0x10", "9" * 20},
    "x-forwarded-prefix": {"a b"},
    "auth-tls-secret": WORDS,
    "auth-tls-error-page": WORDS | {"$", "$0"},
    "proxy-ssl-secret": WORDS,
    "proxy-ssl-name": WORDS,
    "proxy-ssl-ciphers": {"-1"},
    "opentelemetry-operation-name": NAMES,
    "upstream-vhost": {"(" * 50},
    "otlp-collector-host": WORDS,
    "proxy-redirect-from": WORDS,
    "proxy-redirect-to": WORDS,
    "proxy-cookie-domain": {"a b"},
    "proxy-cookie-path": {"a b"},
    "ssl-ciphers": {"-1"},
}
"""What is no fault in some annotations: names, also in lists that spaces separate, regular expressions, and numbers of either sign."""

ANY_WORD = {'"; return 200 "', "%REQ(authorization)%", "%", "\\1", "a\u2028b", "(" * 50, "٣", "９"}
ANY_LINE = {text for text in HOSTILE + NO_NUMBERS if text.isprintable() and len(text) < 1000} | {"a\u2028b"}
NO_VARIABLE = {text for text in ANY_LINE if "$" not in text}
HARMLESS_IN_KEYS: Mapping[str, Collection[str]] = {
    "hsts-max-age": ("99999999999999999999",),
    "otel-service-name": ANY_LINE,
    "opentelemetry-operation-name": NO_VARIABLE,
    "proxy-redirect-from": ANY_WORD,
    "proxy-redirect-to": ANY_WORD,
}
"""What ingress-nginx lets a key hold, and not an annotation; it goes to no format, no pattern and no script."""


def hostile_to(name: str) -> list[str]:
    return [
        text for text in (HOSTILE if name in PATHS else HOSTILE + NO_NUMBERS) if text not in HARMLESS.get(name.removeprefix("global-"), ())
    ]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("app-root", "/"),
        ("permanent-redirect", "http://a.example.org/"),
        ("temporal-redirect", "http://a.example.org/"),
        ("rewrite-target", "/"),
        ("upstream-hash-by", "$uri"),
    ],
)
def test_a_text_that_each_path_repeats_has_a_length(name: str, start: str) -> None:
    assert not complaints({name: start.ljust(LONGEST_IN_ROUTE, "a" if start != "$uri" else "-")})
    assert [(which, "each path repeats" in said) for which, said in complaints({name: start.ljust(LONGEST_IN_ROUTE + 1, "a")})] == [
        (name, True)
    ]


@pytest.mark.parametrize("annotation", [a for a in ANNOTATIONS if a.name not in ANY_TEXT], ids=lambda a: a.name)
def test_a_hostile_value_is_a_complaint_in_one_short_sentence(annotation: Annotation[Any]) -> None:
    for text in hostile_to(annotation.name):
        beside = {annotation.beside: BY_NAME[annotation.beside].example} if annotation.beside in (*SECRETS, "auth-type") else {}
        found = complaints({**beside, annotation.name: text})
        assert [name for name, _ in found] == [annotation.name], text
        assert_sentence(found[0][1])


@pytest.mark.parametrize("annotation", [a for a in ANNOTATIONS if isinstance(a.parse, Untrimmed)], ids=lambda a: a.name)
@pytest.mark.parametrize("form", [" {}", "{} ", "{}\n", "\t{}\r\n"])
def test_a_boolean_or_number_with_blanks_around_it_is_no_value_as_for_go(annotation: Annotation[Any], form: str) -> None:
    beside = {annotation.beside: BY_NAME[annotation.beside].example} if annotation.beside in SECRETS else {}
    text = form.format(annotation.example)
    ((name, said),) = complaints({**beside, annotation.name: text})
    assert name == annotation.name
    assert "with blanks around it" in said
    found, _ = read_settings({**beside, annotation.name: text}, {})
    without, _ = read_settings(beside, {})
    assert {**found, model.CLOSED: "", model.LEFT_OUT: ""} == {**without, model.CLOSED: "", model.LEFT_OUT: ""}


@pytest.mark.parametrize("key", [k for k in FEATURE_KEYS if k.name not in ANY_TEXT], ids=lambda k: k.name)
def test_a_hostile_value_of_a_key_is_a_complaint_in_one_short_sentence(key: Key[Any]) -> None:
    for text in (text for text in hostile_to(key.name) if text not in HARMLESS_IN_KEYS.get(key.name, ())):
        found = complaints(keys={key.name: text})
        assert [name for name, _ in found] == [key.name], text
        assert_sentence(found[0][1])


@UNHURRIED
@given(st.sampled_from(ANNOTATIONS), TEXT)
def test_any_text_is_a_setting_that_can_be_drawn_or_a_complaint(annotation: Annotation[Any], text: str) -> None:
    found, unreadable = read_settings({annotation.name: text}, {})
    assert [c.name for c in unreadable] in ([], [annotation.name])
    for complaint in unreadable:
        assert_sentence(complaint.sentence)
    assert_drawable(found)


@UNHURRIED
@given(st.dictionaries(st.sampled_from([k.name for k in FEATURE_KEYS]), TEXT, max_size=4))
def test_any_configmap_is_read(data: dict[str, str]) -> None:
    values, unreadable = read_keys(data)
    closing = {k.name for k in FEATURE_KEYS if k.unreadable in (Unreadable.CLOSES, Unreadable.CLOSES_ALL)}
    counts = (Unreadable.AS_WRITTEN, Unreadable.PARTLY)
    assert {c.name for c in unreadable if c.then not in counts}.isdisjoint(values.keys() - closing)
    assert_drawable(read_settings({}, values)[0])


@UNHURRIED
@given(st.dictionaries(st.sampled_from([a.name for a in ANNOTATIONS]), TEXT, max_size=6))
def test_any_mixture_of_annotations_is_read(annotations: dict[str, str]) -> None:
    assert_drawable(read_settings(annotations, {})[0])


def assert_sentence(text: str) -> None:
    """The end of a sentence "<name> …"; nothing of what it quotes can act on a terminal or a log."""
    assert re.match(r"is |has |holds ", text)
    assert len(text) < 300
    assert text.isprintable()


def assert_drawable(found: model.Settings) -> None:
    found = resolved(found)
    regex = model.PathMatch(model.PathKind.REGEX, "/a(/|$)(.*)")
    for match in (regex, model.PathMatch(model.PathKind.EXACT, "/a%20b"), model.PathMatch(model.PathKind.RAW_PREFIX, "/")):
        made = envoy_route(found, match)
        encode(made)
        if made.route and made.route.regex_rewrite:
            assert re.fullmatch(r"[-._~a-zA-Z0-9/:]+", rewritten(made.route.regex_rewrite, "/a/b"))
    for name, makes_regex in with_hook("regex"):
        if name in found:
            assert makes_regex(found[name], "/", bool(found)) in (True, False)
    encode(cluster(found))
    encode(connection(found, model.Via.HTTPS))
    for made_filter in filters(found):
        encode(made_filter)
    for route in (*routes(found, "/a", tls=True), *host_routes(found)):
        if isinstance(route.action, model.Redirect):
            assert route.action.location.isprintable()
            assert not set(route.action.location) & set("%\"'\\ ")
