"""Regular expressions of users: bounded before they are compiled, compiled once, and paid for out of a budget."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import re2
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.units.test_any_order import Life
from xds.kube.objects import (
    Backend,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Namespace,
    Object,
    Path,
    Rule,
    Service,
    ServicePort,
    ref,
)
from xds.model import PathKind, PathMatch, Respond
from xds.nginx.features import rewrite_target, upstream_hash_by
from xds.patterns import regex, spelling
from xds.problem import Problem
from xds.translate import regexes
from xds.translate.hosts import virtual_host
from xds.units.memo import Recorder

PREFIX = "nginx.ingress.kubernetes.io/"
REGEX = {PREFIX + "use-regex": "true"}
HOST = "a.example.com"
BASE: tuple[Object, ...] = (
    Namespace(meta=Meta(namespace="", name="one", labels={"team": "web"})),
    Namespace(meta=Meta(namespace="", name="two", labels={"team": "web"})),
    Service(meta=Meta(namespace="one", name="a"), ports=(ServicePort(80, "", 8080),)),
    EndpointSlice(
        meta=Meta(namespace="one", name="a-1"), service="a", ports=(EndpointPort("", 8080),), endpoints=(Endpoint(("10.0.0.1",)),)
    ),
)
BOMB = "a{1,999}" * 9


def ingress(name: str, *paths: str, host: str = HOST, age: int = 1, **annotations: str) -> Ingress:
    notes = REGEX | {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
    meta = Meta(namespace="one", name=name, created=f"2026-01-{age:02}T00:00:00Z", annotations=notes)
    return Ingress(meta=meta, rules=(Rule(host, tuple(Path(path, "Prefix", Backend("a", 80)) for path in paths)),))


def routes_of(life: Life, host: str = HOST) -> list[EnvoyRoute]:
    [found] = RouteConfiguration.parse(life.tables.hosts.values[host].body).virtual_hosts
    return found.routes


def closures(life: Life) -> list[str]:
    """The beginnings of paths that are answered with 503, in the order in which they are tried."""
    found = virtual_host(Recorder(life.tables.build), HOST)
    return [re.sub(r"\\(.)", r"\1", route.match.path) for route in found.routes if route.action == Respond(503)] if found else []


def codes(life: Life, name: str) -> dict[str, Problem]:
    """What is wrong with an Ingress, but for the notes on its annotations: one Problem of each code."""
    return {p.code: p for p in life.tables.problems() if p.about.name == name and not p.code.startswith("annotation-")}


def expressions(message: Any) -> Iterator[str]:
    """Every expression in a message, wherever it is."""
    if isinstance(message, RegexMatcher):
        yield message.regex
    elif dataclasses.is_dataclass(message):
        for each in dataclasses.fields(message):
            yield from expressions(getattr(message, each.name))
    elif isinstance(message, (list, tuple)):
        for item in message:
            yield from expressions(item)
    elif isinstance(message, dict):
        for item in message.values():
            yield from expressions(item)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patterns that RE2 is asked to compile, from an empty cache on."""
    found: list[str] = []
    compile_ = regex.re2.compile

    def compiling(pattern: bytes, options: Any) -> Any:
        found.append(pattern.decode())
        return compile_(pattern, options)

    monkeypatch.setattr(regex.re2, "compile", compiling)
    for cached in (regex.verdict, regex.cost, rewrite_target.rewrite, upstream_hash_by.hash_policy):
        cached.cache_clear()
    return found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("/" + "x" * regex.LONGEST, "is too long a regular expression"),
        ("/a{1,501}", "repeats too much"),
        ("/a{501}", "repeats too much"),
        ("/a{501,}", "repeats too much"),
        ("/" + "a{1,99}" * 6, "repeats too much"),
        ("/((a{1,10}){1,10}){1,10}", "repeats too much"),
        (r"/\\{900}", "repeats too much"),
        ("/a{99999999999999999999}", "repeats too much"),
        ("/" + "(" * 101 + ")" * 101, "has too many groups"),
        (r"/\pL", r"has a class such as \pL"),
        (r"/[^\P{Greek}]", r"has a class such as \pL"),
    ],
)
def test_what_would_be_dear_is_refused_before_it_is_compiled(pattern: str, why: str, compiled: list[str]) -> None:
    assert regex.path_fault(pattern).startswith(why)
    assert compiled == []


@pytest.mark.parametrize(
    "pattern",
    [
        "/api/v1(/|$)(.*)",
        "/users/[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
        "/a{500}",
        r"/\x{41}{3}",
        r"/\{900\}",
        "/(?:[0-9]{1,3}\\.){3}[0-9]{1,3}",
        "/" + "x" * (regex.LONGEST - 1),
    ],
)
def test_what_people_write_is_not(pattern: str) -> None:
    assert regex.path_fault(pattern) == ""


def test_what_is_no_character_to_envoy_is_none_here() -> None:
    r"""Envoy compiles bytes (Latin-1): it refuses what RE2 takes for text, and our own opinion must be the same."""
    assert "invalid escape" in regex.path_fault(r"/\x{100}")


def test_an_ingress_of_dear_expressions_compiles_nothing_and_harms_nobody(compiled: list[str]) -> None:
    life = Life([*BASE, ingress("innocent", "/x", host="b.example.com")])
    before, state = len(compiled), life.tables.hosts.values["b.example.com"]
    life.take([ingress("dear", *(f"/{n}{BOMB}" for n in range(40)))])
    assert len(compiled) == before
    assert life.tables.hosts.values["b.example.com"] == state
    assert len({p.field for p in life.tables.problems() if p.about.name == "dear" and "repeats too much" in p.sentence}) == 40


@pytest.mark.parametrize("bad", ["/{n}(", "/{n}(?=x)", "/{n}[a-z]+(x"])
def test_thousands_of_refused_expressions_cost_no_more_than_the_budget(bad: str, compiled: list[str]) -> None:
    life = Life([*BASE, ingress("many", *(bad.replace("{n}", str(n)) for n in range(8_000)))])
    assert len(compiled) <= regexes.OF_INGRESS // regexes.REFUSED + 10
    assert codes(life, "many").keys() == {"path", f"regex-budget:{HOST}", f"too-many-paths:{HOST}"}


def test_each_expression_is_compiled_once(compiled: list[str]) -> None:
    written = [f"/{n}/(a|b)(.*)" for n in range(30)]
    life = Life([*BASE, ingress("one", *written, rewrite_target="/$2")])
    life.take([ingress("two", *written, host="b.example.com", rewrite_target="/$2", age=2)])
    life.take([ingress("one", *written, "/more", rewrite_target="/$1")])
    assert len(compiled) == len(set(compiled))


def test_what_comes_first_in_an_ingress_is_served_and_the_rest_is_one_problem() -> None:
    written = [f"/{n:04}/api/v1(/|$)(.*)" for n in range(1_000)]
    life = Life([*BASE, ingress("many", *written)])
    served = [route.match.safe_regex.regex for route in routes_of(life) if route.match and route.match.safe_regex]
    price = regex.cost(regex.nginx_location(written[0]))
    count = regexes.OF_INGRESS // price
    assert served[:count] == [regex.nginx_location(path) for path in reversed(written[:count])]
    assert all("/api/" not in pattern for pattern in served[count:])
    [(code, problem)] = codes(life, "many").items()
    assert (code, problem.field) == (f"regex-budget:{HOST}", f"spec.rules[0].http.paths[{count}].path")
    assert f"{1_000 - count - 1} after it" in problem.sentence


def test_older_ingresses_spend_the_budget_of_a_host_first() -> None:
    price = regex.cost(regex.nginx_location("/00-000/x(a|b)"))
    each = regexes.OF_INGRESS // price
    count = regexes.OF_HOST // (each * price) + 2
    many = [ingress(f"i{n}", *(f"/{n:02}-{k:03}/x(a|b)" for k in range(each)), age=n + 1) for n in range(count)]
    life = Life([*BASE, *reversed(many)])
    served = [route.match.safe_regex.regex for route in routes_of(life) if route.match and route.match.safe_regex]
    of = [sum(f"/{n:02}-" in pattern for pattern in served) for n in range(count)]
    full = regexes.OF_HOST // (each * price)
    assert of[:full] == [each] * full
    assert of[full] < each
    assert of[full + 1 :] == [0] * (count - full - 1)
    assert {p.about.name for p in life.tables.problems() if p.code == f"regex-budget-of-host:{HOST}"} == {f"i{full}", f"i{full + 1}"}
    life.take(drop=[ref(many[0])])
    fresh = Life([*BASE, *many[1:]])
    assert life.state() == fresh.state()


def in_every_spelling(path: str) -> str:
    """What Envoy is sent where the host has an access rule for some of its paths only."""
    return spelling.pattern(PathMatch(PathKind.REGEX, path, escaped=True))


def test_protected_paths_that_are_left_out_close_what_would_take_their_requests() -> None:
    protected = ingress("closed", *(f"/admin/{n:04}/[0-9]+" for n in range(1_000)), age=2, auth_url="http://auth.example.com")
    life = Life([*BASE, ingress("open", "/", "/admin/0999/public-and-longer", age=1), protected])
    found = routes_of(life)
    patterns = [route.match.safe_regex.regex for route in found if route.match and route.match.safe_regex]
    closure = len(patterns) - 1 - patterns[::-1].index(in_every_spelling(regex.literal("/admin/0")))
    assert found[closure].direct_response is not None
    assert found[closure].direct_response.status == 503
    assert patterns.index(in_every_spelling("/admin/0999/public-and-longer")) < closure < patterns.index(regex.nginx_location("/"))
    assert codes(life, "closed").keys() == {f"regex-budget:{HOST}", f"closed:{HOST}"}


def test_of_many_first_segments_the_later_ones_are_closed_together() -> None:
    written = [f"/{n:03}/x(?!y)" for n in range(100)]
    life = Life([*BASE, ingress("open", "/", age=1), ingress("closed", *written, age=2, auth_url="http://auth.example.com")])
    assert closures(life) == ["/0", *(f"/{n:03}/x" for n in reversed(range(regexes.MOST_CLOSURES)))]


def test_of_one_first_segment_all_are_closed_together_and_nothing_beside_it() -> None:
    written = [f"/admin/{n:03}/x(?!y)" for n in range(100)]
    life = Life([*BASE, ingress("open", "/", age=1), ingress("closed", *written, age=2, auth_url="http://auth.example.com")])
    assert closures(life) == ["/admin/0"]


@pytest.mark.parametrize(("opened", "first"), [("/x(.*)", 0), ("/xxxxxxxxxxxx(.*)", 2)], ids=["an open path after them", "before them"])
def test_paths_with_one_rule_are_tried_first_only_where_another_comes_before_them(opened: str, first: int) -> None:
    """A path with an escaped slash beside another may fit several expressions; of those with the same rule it does not matter which."""
    closed = ingress("closed", "/aaaaaa(.*)", "/bbbbbb(.*)", age=2, auth_url="http://auth.example.com")
    life = Life([*BASE, ingress("open", opened), closed])
    found = virtual_host(Recorder(life.tables.build), HOST)
    assert found is not None
    assert sum(any(header.value == spelling.ESCAPED_RUN for header in route.headers) for route in found.routes) == first


def test_an_expression_that_is_none_closes_as_well_where_it_was_protected() -> None:
    life = Life([*BASE, ingress("open", "/"), ingress("closed", "/admin(?!x)", age=2, auth_url="http://auth.example.com")])
    patterns = {route.match.safe_regex.regex: route for route in routes_of(life) if route.match and route.match.safe_regex}
    closure = patterns[in_every_spelling(regex.literal("/admin"))]
    assert closure.direct_response is not None
    assert closure.direct_response.status == 503


def test_unprotected_paths_that_are_left_out_are_absent() -> None:
    life = Life([*BASE, ingress("open", "/"), ingress("bad", "/admin(?!x)", age=2)])
    assert all(route.direct_response is None for route in routes_of(life))


LITERALS = st.sampled_from(
    [
        "/admin",
        "/Admin/",
        "/a.b",
        "/x*",
        "/x{2}",
        "/(a|b)",
        "/a|/b",
        "/x?y",
        "/[ab]c",
        r"/\x41",
        "/a+",
        r"/\Qa.b\Ec",
        "/(?i)Q",
        "/x(a|b)",
        "/x[(]|/b",
        "/x[]|(]a",
        "/x(|b)|",
        "/xA(?:0|b)?",
    ]
)


@given(LITERALS, st.text("aAdminxbQ./0|(]", max_size=8))
def test_all_that_an_expression_takes_begins_with_its_literal_start(pattern: str, tail: str) -> None:
    path = f"/{tail}"
    if regex.re2.fullmatch(regex.nginx_location(pattern), path):
        assert path.lower().startswith(regex.literal_start(pattern).lower())


PATHS = st.lists(strategies.paths() | st.sampled_from(["/x(a|b)", "/y/(.*)", "/" + "[^/]" * 200, "/z{1,300}"]), max_size=6)
NOTES = st.sampled_from(
    [
        {},
        {"rewrite_target": "/$1"},
        {"upstream_hash_by": "$uri$args"},
        {"force_ssl_redirect": "true"},
        {"auth_url": "http://x"},
        {"permanent_redirect": "https://example.org"},
    ]
)


OFFERS = st.sampled_from(
    [
        None,
        {"canary_weight": "5"},
        {"canary_by_cookie": "next", "canary_weight": "5"},
        {"canary_by_header": "x-canary", "canary_by_header_pattern": "(a|b)[0-9]+x{20}"},
        {"canary_by_header": "x-canary", "canary_by_header_pattern": "[[["},
    ]
)


def other_backend(item: Ingress) -> list[Object]:
    """The same Ingress with another Service, so that a canary of it has an effect."""
    paths = tuple(msgspec.structs.replace(path, backend=Backend("b", 80)) for path in item.rules[0].paths)
    of_b = Meta(namespace="one", name="b")
    slices = EndpointSlice(
        meta=Meta(namespace="one", name="b-1"), service="b", ports=(EndpointPort("", 8080),), endpoints=(Endpoint(("10.0.0.2",)),)
    )
    changed = msgspec.structs.replace(item, rules=(Rule(HOST, paths),))
    return [changed, Service(meta=of_b, ports=(ServicePort(80, "", 8080),)), slices]


@given(st.lists(st.tuples(PATHS, NOTES, st.integers(1, 40), OFFERS), max_size=3))
def test_envoy_compiles_nothing_that_was_not_paid_for(many: list[tuple[list[str], dict[str, str], int, dict[str, str] | None]]) -> None:
    """Each expression in what Envoy is sent counts, but for what takes the place of paths that are left out: few for each Ingress.

    Each has a route, that has one to https before it, and both may stand a second time before all others. Of a canary's routes some are its
    primary's by name, and its own by what they cost.
    """
    each = 4 * (regex.cost(in_every_spelling("/" + "x" * regexes.LONGEST_START)) + regex.cost(spelling.ESCAPED_RUN))
    closing = (regexes.MOST_CLOSURES + 1) * each
    items: list[Object] = []
    for n, (paths, notes, times, offer) in enumerate(many):
        all_paths = [f"{path}{k}" for k in range(times) for path in paths]
        items.append(ingress(f"i{n}", *all_paths, age=n + 1, **notes))
        if offer:
            items += other_backend(ingress(f"c{n}", *all_paths, age=n + 1, canary="true", **offer))
    life = Life([*BASE, *items])
    spent: dict[str, int] = {}
    for route in routes_of(life) if items else ():
        owner = route.name.partition(" ")[0]
        if route.match and route.match.safe_regex and route.match.safe_regex.regex == regex.nginx_location("/"):
            continue  # what no path takes: everybody's
        spent[owner] = spent.get(owner, 0) + sum(regex.cost(pattern) for pattern in expressions(route))
    offers = sum(offer is not None for *_, offer in many)
    for owner, cost in spent.items():
        assert cost <= regexes.OF_INGRESS * (1 if owner.startswith("one/c") else 1 + offers) + closing
    assert sum(spent.values()) <= regexes.OF_HOST + 3 * closing


WORDS = st.text("abws./3", min_size=2, max_size=4)


@given(
    words=st.sets(WORDS, min_size=1, max_size=4),
    text=st.text("abws./3", min_size=1, max_size=4) | st.sampled_from(["a b", "\n", "é", "wsx"]),
)
def test_every_text_that_begins_unlike_some_words_is_taken(words: set[str], text: str) -> None:
    pattern = regex.begins_unlike(words)
    assert bool(re2.fullmatch(pattern, text)) == (text[:2] not in {word[:2] for word in words})
    assert not any(re2.fullmatch(f"(?i){pattern}", word.upper()) for word in words)
