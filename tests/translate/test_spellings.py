"""No spelling of a path leads around an access rule: what nginx sends to a closed path reaches no other one here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.envoy.harness.manifests import endpoint_slice, service
from tests.spellings import Host, a_host, a_request, nginx_choice, nginx_path
from xds.build.memo import Recorder
from xds.build.tables import Tables
from xds.config import Settings
from xds.kube.parse import from_document
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.model import Forward, Problem, Respond, Route, Via
from xds.translate.explain import Request, answer, normalised
from xds.translate.guards import rules

SERVICES = tuple(f"s{n}" for n in range(5))
CAN_BE_READ_OTHERWISE = re.compile(r"\\|/\.\.?;|//|%2f.*/\.\.(?:[/%]|$)")
"""Where Envoy has made another path of it before anything looks: a backslash, dots with a semicolon, ".." after an empty segment or after
one with an escaped slash. The backend gets that other path, so it is the one that rules have to be kept for."""


class Site:
    """A host as it is served."""

    def __init__(self, host: Host) -> None:
        backends = [m for name in SERVICES for m in (service(name), endpoint_slice(name, [("10.0.0.1", 80)]))]
        objects = [o for m in (*backends, *host.manifests()) for o in from_document(m)]
        world = World(Settings(watch_ingress_without_class=True), {DEFAULT_CERTIFICATE: (b"", b""), NOW: 0})
        self.host = host
        self.tables = Tables(world)
        self.tables.apply(world.apply([o for o in objects if not isinstance(o, Problem)]))

    def route(self, path: str) -> Route:
        """What answers a path as Envoy normalised it."""
        request = Request(Via.HTTP, self.host.name, 80, path, "")
        return answer(Recorder(self.tables.build), self.tables.hosts.values, request).route

    def owner(self, route: Route) -> int | None:
        """The number of the path that a route is of."""
        if route.origin is None or not (rule := re.fullmatch(r"spec\.rules\[0\]\.http\.paths\[(\d+)\]", route.rule)):
            return None
        closed = route.origin.name.endswith("-true")
        return [n for n, claim in enumerate(self.host.claims) if claim.closed is closed][int(rule[1])]


@st.composite
def spellings(draw: st.DrawFn) -> tuple[Site, str]:
    def choose(options: Sequence[object]) -> object:
        return draw(st.sampled_from(options))

    host = a_host(choose, "a.test")
    return Site(host), a_request(choose, host)


@given(spellings())
def test_what_nginx_sends_to_a_closed_path_reaches_no_other(case: tuple[Site, str]) -> None:
    site, target = case
    path = normalised(target)
    sent, wanted = nginx_path(target), nginx_path(path)
    assert sent == wanted or sent is None or CAN_BE_READ_OTHERWISE.search(target.lower().replace("%2e", "."))
    number = None if wanted is None else nginx_choice(site.host, wanted)
    route = site.route(path)
    if number is not None and site.host.claims[number].closed:
        reached = site.owner(route)
        closed = reached is not None and site.host.claims[reached].closed
        assert closed or rules(route.settings) or route.action == Respond(400)
        assert not isinstance(route.action, Forward)


@given(spellings())
def test_what_nginx_sends_to_an_open_path_reaches_it(case: tuple[Site, str]) -> None:
    site, target = case
    path = normalised(target)
    wanted = nginx_path(path)
    number = None if wanted is None else nginx_choice(site.host, wanted)
    if number is None or site.host.claims[number].closed:
        return
    route = site.route(path)
    if "%2f" not in path.lower() and path != "//" and not path.lower().endswith("%0a"):
        unread = site.host.as_regex and r"/admin\b" in {c.path for c in site.host.claims}
        assert site.owner(route) == number or (unread and "%" in path)
    elif route.action != Respond(400):
        reached = site.owner(route)
        assert reached == number or reached is None or not site.host.claims[reached].closed or site.host.as_regex
