"""No spelling of a path leads around an access rule: what nginx sends to a closed path reaches no other one here."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.envoy.harness.manifests import endpoint_slice, service
from tests.exploring import examples
from tests.spellings import Claim, Host, a_host, a_request, nginx_choice, nginx_path
from xds.config import Flags
from xds.explain.route_of import HttpRequest, answer, normalised
from xds.kube.parse import from_document
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.model import Forward, PathKind, PathMatch, Respond, Route, Via
from xds.patterns import spelling
from xds.problem import Problem
from xds.translate.guards import rules
from xds.translate.hosts import virtual_host
from xds.units.memo import Recorder
from xds.units.tables import Tables

SERVICES = tuple(f"s{n}" for n in range(5))
CAN_BE_READ_OTHERWISE = re.compile(r"\\|/\.\.?;|//|%2f.*/\.\.(?:[/%]|$)")
"""Where Envoy has made another path of it before anything looks: a backslash, dots with a semicolon, ".." after an empty segment or after
one with an escaped slash. The backend gets that other path, so it is the one that rules have to be kept for."""


class Site:
    """A host as it is served."""

    def __init__(self, host: Host) -> None:
        backends = [m for name in SERVICES for m in (service(name), endpoint_slice(name, [("10.0.0.1", 80)]))]
        objects = [o for m in (*backends, *host.manifests()) for o in from_document(m)]
        world = World(Flags(watch_ingress_without_class=True), {DEFAULT_CERTIFICATE: (b"", b""), NOW: 0})
        self.host = host
        self.tables = Tables(world)
        self.tables.apply(world.apply([o for o in objects if not isinstance(o, Problem)]))

    def route(self, path: str) -> Route:
        """What answers a path as Envoy normalised it."""
        request = HttpRequest(Via.HTTP, self.host.name, 80, path, "")
        return answer(partial(virtual_host, Recorder(self.tables.build)), self.tables.hosts.values, request).route

    def routes(self) -> tuple[Route, ...]:
        """All routes of the host."""
        found = virtual_host(Recorder(self.tables.build), self.host.name)
        assert found is not None
        return found.routes

    def owner(self, route: Route) -> int | None:
        """The number of the path that a route is of."""
        if route.origin is None or not (rule := re.fullmatch(r"spec\.rules\[0\]\.http\.paths\[(\d+)\]", route.rule)):
            return None
        closed = route.origin.name.endswith("-true")
        return [n for n, claim in enumerate(self.host.claims) if claim.closed is closed][int(rule[1])]


SOME = st.integers(0, 1 << 32).map(random.Random)
"""What chooses a host and requests. Numbers that hypothesis draws one by one are too much alike to find what is rare."""


@given(SOME)
@settings(max_examples=examples(60))
def test_what_nginx_sends_to_a_closed_path_reaches_no_other(some: random.Random) -> None:
    site = Site(a_host(some.choice, "a.test"))
    for target in [a_request(some.choice, site.host) for _ in range(40)]:
        path = normalised(target)
        sent, wanted = nginx_path(target), nginx_path(path)
        assert sent == wanted or sent is None or CAN_BE_READ_OTHERWISE.search(target.lower().replace("%2e", "."))
        number = None if wanted is None else nginx_choice(site.host, wanted)
        if number is not None and site.host.claims[number].closed:
            assert is_kept(site, path), f"{site.host}: {target}"


def is_kept(site: Site, path: str) -> bool:
    """Whether what answers a path has an access rule, or refuses it."""
    route = site.route(path)
    reached = site.owner(route)
    closed = reached is not None and site.host.claims[reached].closed
    return (closed or bool(rules(route.settings)) or route.action == Respond(400)) and not isinstance(route.action, Forward)


@given(SOME)
@settings(max_examples=examples(60))
def test_what_nginx_sends_to_an_open_path_reaches_it(some: random.Random) -> None:
    site = Site(a_host(some.choice, "a.test"))
    for target in [a_request(some.choice, site.host) for _ in range(40)]:
        path = normalised(target)
        wanted = nginx_path(path)
        number = None if wanted is None else nginx_choice(site.host, wanted)
        if number is not None and not site.host.claims[number].closed:
            assert is_reached(site, path, number), f"{site.host}: {target}"


def is_reached(site: Site, path: str, number: int) -> bool:
    """Whether an open path answers; with an escaped slash it may be another, or none, and on hosts with rules it may be refused."""
    route = site.route(path)
    reached = site.owner(route)
    if "%2f" in path.lower():
        closed = reached is not None and site.host.claims[reached].closed
        return route.action == Respond(400) or reached == number or site.host.as_regex or not closed
    unread = site.host.as_regex and r"/admin\b" in {claim.path for claim in site.host.claims}
    return reached == number or (unread and "%" in path) or path == "//" or path.lower().endswith("%0a")


def host(*claims: tuple[str, str, bool], as_regex: bool = False) -> Site:
    return Site(Host("a.test", tuple(Claim(*claim) for claim in claims), as_regex))


@pytest.mark.parametrize(
    ("closed", "kind", "target"),
    [
        *(
            ("/admin", "Prefix", t)
            for t in ("/admin%2Fx", "/admin%2fx", "/%2fadmin", "/%2Fadmin/x", "//%2fadmin", "/x/..%2fadmin", "/%61dmin")
        ),
        *(("/admin", "Prefix", t) for t in ("/x%2f../admin", "/admin%2f.", "/./%2fadmin", "/%2f%2fadmin", "/%2e%2fadmin", "/admin/%2f;x")),
        *(("/admin", "Exact", t) for t in ("/%2fadmin", "/%61dmin", "/x%2F..%2Fadmin", "/.%2fadmin")),
        *(("/admin/", "Prefix", t) for t in ("/admin%2f", "/admin%2Fx", "/%2fadmin/", "/%2fadmin")),
        *(("/admin/", "Exact", t) for t in ("/admin%2f", "/admin/%2f", "/%2fadmin")),
        *(("/café", "Exact", t) for t in ("/caf%c3%a9", "/caf%C3%a9", "/caf%c3%A9", "/%63af%C3%A9", "/%2fcaf%c3%a9")),
        *((f"/user{c}home", "Exact", f"/user%{ord(c):02x}home") for c in "@:+,()=&'!*$;[] \"<>^`{|}"),
        *((f"/user{c}home", "Prefix", f"/user%{ord(c):02X}home/x") for c in "@:+,()=&'!*$;[]%#?\\"),
        *((f"/user{c}home", "Prefix", f"/user{c}home/x") for c in "@:+,()=&'!*$;[]"),
    ],
)
def test_every_spelling_of_a_closed_path_is_closed_beside_an_open_root(closed: str, kind: str, target: str) -> None:
    site = host(("/", "Prefix", False), (closed, kind, True))
    assert is_kept(site, normalised(target))


@pytest.mark.parametrize(
    ("opened", "closed", "target"),
    [
        *(("/", "/admin", t) for t in ("/admin%2fx", "/%2fadmin", "/x/..%2fadmin", "/ADMIN%2F", "/admin%0a")),
        ("/[^/]+/admin", "/b", "/b%2fx/admin"),
        ("/.*/admin", "/admin", "/%2fadmin"),
        ("/[^a-z]", "/x", "/%2fx"),
        ("/admin", "/admin/x$", "/admin/x%0a"),
        ("/", "/a.c", "/a%40c"),
        ("/", "/[@:]", "/%3A"),
        ("/", r"/admin\b", "/%2fadmin"),
        ("/", "/admin{3,300}", "/%2fadminnn"),
    ],
)
def test_every_spelling_of_a_closed_expression_is_closed(opened: str, closed: str, target: str) -> None:
    assert is_kept(host((opened, "Prefix", False), (closed, "Prefix", True), as_regex=True), normalised(target))


@pytest.mark.parametrize(
    ("opened", "target"),
    [
        *(("/user@home", t) for t in ("/user@home", "/user%40home", "/user%40home/x")),
        *(("/[x]", t) for t in ("/[x]", "/%5bx%5D/y")),
        *(("/café", t) for t in ("/caf%C3%A9", "/caf%c3%a9/x")),
        *(("/a%20b", t) for t in ("/a%2520b",)),
        *(("/admin/public", t) for t in ("/admin/public", "/admin%2fpublic/x", "/admin/public%2Fx", "/%2fadmin/public")),
    ],
)
@pytest.mark.parametrize("guarded", [False, True])
def test_an_open_path_answers_in_all_spellings_of_its_characters(opened: str, target: str, guarded: bool) -> None:
    """An escaped slash is one only beside access rules."""
    site = host((opened, "Prefix", False), ("/admin", "Prefix", guarded))
    assert (site.owner(site.route(normalised(target))) == 0) is (guarded or "%2f" not in target.lower())


def test_paths_without_rules_are_compared_as_text() -> None:
    site = host(("/", "Prefix", False), ("/admin", "Prefix", False), ("/a.b-c_~", "Exact", False))
    assert [spelling.pattern(r.match) for r in site.routes()] == ["", "", ""]
    same = host(("/", "Prefix", True), ("/admin", "Prefix", True), ("/a.b-c_~", "Exact", True))
    assert [spelling.pattern(r.match) for r in same.routes()] == ["", "", ""]


@pytest.mark.parametrize("escaped", [True, False])
def test_a_count_is_one_of_characters_not_of_the_digits_that_spell_them(escaped: bool) -> None:
    found = re.compile(spelling.expression(PathMatch(PathKind.REGEX, "/a +b", escaped=escaped)))
    assert found.fullmatch("/a%20%20b")
    assert not found.fullmatch("/a%200b")


@pytest.mark.parametrize("written", ["/a.b", "/[^/]+", r"/\S+"])
def test_an_expression_that_takes_every_escape_as_it_is_stays_as_short_as_it_is(written: str) -> None:
    """Each is compiled by every Envoy at each change; where there are access rules it has to be exact."""
    assert spelling.expression(PathMatch(PathKind.REGEX, written)) == written
    assert spelling.expression(PathMatch(PathKind.REGEX, written, escaped=True)) != written
