"""Canaries on the model: which offer joins which path, who decides about a request, and that nothing is answered that its owner denies."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.explain.route_of import matches
from xds.kube.objects import (
    Backend,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Object,
    Path,
    Rule,
    Service,
    ServicePort,
    Tls,
    ref,
)
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.model import Forward, HeaderMatch, Respond, Route, Via
from xds.nginx.registry import rules, upstream_features
from xds.patterns import regex
from xds.problem import Problem
from xds.snapshot import TYPES, Snapshot
from xds.translate import regexes
from xds.translate.hosts import beyond_wildcard, virtual_host
from xds.units.memo import Recorder
from xds.units.tables import Tables

PREFIX = "nginx.ingress.kubernetes.io/"
HOST = "a.test"
NAMESPACES = ("one", "two")
SERVICES = ("web", "next", "later", "empty")
PATHS = (("/", "Prefix"), ("/x", "Prefix"), ("/x", "Exact"), ("/x/", "Prefix"), ("/é", "Prefix"), ("/a(b|c)", ""))
ASKED = ("/", "/x", "/x/y", "/%C3%A9", "/ab", "/x%2fy", "/%2fx")
CLAIMING: Sequence[Mapping[str, str]] = (
    {},
    {},
    {"auth-type": "basic"},
    {"permanent-redirect": "https://e.test"},
    {"proxy-read-timeout": "5", "load-balance": "ewma"},
    {"use-regex": "true"},
    {"rewrite-target": "/new/$1"},
    {"enable-cors": "true", "cors-allow-origin": "https://b.test", "upstream-hash-by": "$uri"},
    {"force-ssl-redirect": "true"},
)
OFFERING: Sequence[Mapping[str, str]] = (
    {"canary-weight": "100"},
    {"canary-weight": "30", "load-balance": "ip_hash"},
    {"canary-by-header": "X-Canary"},
    {"canary-by-header": "X-Canary", "canary-by-cookie": "next", "canary-weight": "7", "canary-weight-total": "1000"},
    {"canary-by-cookie": "next", "auth-type": "basic", "permanent-redirect": "https://mine.test"},
    {"canary-by-header": "X-Canary", "canary-by-header-pattern": "^d", "use-regex": "true", "service-upstream": "true"},
    {"canary-by-header": "X-Canary", "canary-by-header-pattern": "[[[", "canary-weight": "50"},
)


class Asked(NamedTuple):
    """A request: its scheme, its path as Envoy has it, the values of X-Canary, Cookie and Origin."""

    via: Via
    path: str
    header: str | None
    cookie: str | None
    origin: str | None = None

    def sends(self, wanted: HeaderMatch) -> bool:
        """Whether it has what a route wants."""
        own = {"x-canary": self.header, "cookie": self.cookie, "origin": self.origin}
        sent = {**own, ":path": self.path, ":method": "GET"}.get(wanted.name.lower())
        if sent is None:
            return wanted.inverted
        found = re2.fullmatch(wanted.value, sent) is not None if wanted.regex else sent == wanted.value
        return found is not wanted.inverted


def objects() -> list[Object]:
    found: list[Object] = []
    for namespace in NAMESPACES:
        for service in SERVICES:
            ready = () if service == "empty" else (Endpoint(("10.0.0.1",)),)
            found.append(
                Service(meta=Meta(namespace=namespace, name=service), ports=(ServicePort(80, "", 8080),), cluster_ips=("10.1.0.1",))
            )
            meta = Meta(namespace=namespace, name=f"{service}-1")
            found.append(EndpointSlice(meta=meta, service=service, ports=(EndpointPort("", 8080),), endpoints=ready))
    return found


def ingress(name: str, where: Sequence[tuple[str, str]], service: str, notes: Mapping[str, str], **more: object) -> Ingress:
    namespace, age, host = str(more.get("namespace", "one")), more.get("age", 1), str(more.get("host", HOST))
    annotations = {PREFIX + key: text for key, text in notes.items()}
    meta = Meta(namespace=namespace, name=name, created=f"2026-01-0{age}T00:00:00Z", annotations=annotations)
    rule = Rule(host, tuple(Path(path, kind, Backend(service, 80)) for path, kind in where))
    return Ingress(meta=meta, rules=(rule,), tls=(Tls((host,), ""),) if more.get("tls") else ())


def canary(name: str, where: Sequence[tuple[str, str]], service: str, notes: Mapping[str, str], **more: object) -> Ingress:
    return ingress(name, where, service, {"canary": "true", **notes}, **more)


def ingresses(kind: str, notes: Sequence[Mapping[str, str]]) -> st.SearchStrategy[list[Ingress]]:
    one = st.builds(
        lambda number, where, service, own, namespace, age, tls: (ingress if kind == "claims" else canary)(
            f"{kind}-{number}", where, service, own, namespace=namespace, age=age, tls=tls
        ),
        st.integers(0, 2),
        st.lists(st.sampled_from(PATHS), max_size=4, unique=True),
        st.sampled_from(SERVICES),
        st.sampled_from(notes),
        st.sampled_from(NAMESPACES),
        st.integers(1, 2),
        st.booleans(),
    )
    return st.lists(one, max_size=3, unique_by=ref)


class Served:
    """What becomes of a set of Ingresses."""

    def __init__(self, found: Sequence[Object], *, host_ownership: bool = False, batches: int = 1) -> None:
        flags = Flags(watch_ingress_without_class=True, host_ownership=host_ownership)
        world = World(flags, {DEFAULT_CERTIFICATE: (b"", b""), NOW: 0})
        self.tables, self.snapshot = Tables(world), Snapshot()
        for n in range(batches):
            self.tables.apply(world.apply(found[n::batches])).publish(self.snapshot)

    def routes(self, host: str = HOST) -> tuple[Route, ...]:
        found = virtual_host(Recorder(self.tables.build), host)
        return found.routes if found else (Route(PATH_OF_ALL, Respond(404)),)

    def problems(self, name: str) -> dict[str, Problem]:
        return {p.code.partition(":")[0]: p for p in self.tables.problems() if p.about.name == name}

    def state(self) -> tuple[object, ...]:
        bytes_ = [(t, name, self.snapshot[t][name].body) for t in TYPES for name in sorted(self.snapshot[t])]
        return (bytes_, sorted(map(str, self.tables.problems())))


PATH_OF_ALL = next(r.match for r in Served([ingress("all", [("/", "Prefix")], "web", {}), *objects()]).routes())


def possible(routes: Sequence[Route], asked: Asked) -> list[tuple[Route, Fraction]]:
    """The routes that may answer a request, each with how likely it is."""
    left, found = Fraction(1), []
    for route in routes:
        if route.via not in (Via.ANY, asked.via) or not matches(route.match, asked.path) or not all(map(asked.sends, route.headers)):
            continue
        part = left * Fraction(route.share.parts, route.share.of) if route.share else left
        found.append((route, part))
        left -= part
        if not left:
            return found
    return [*found, (Route(PATH_OF_ALL, Respond(404)), left)]


ALL_ASKED = [
    Asked(via, path, header, cookie)
    for via in (Via.HTTP, Via.HTTPS)
    for path in ASKED
    for header, cookie in (
        (None, None),
        ("always", None),
        ("never", "next=always"),
        ("de", "next=never"),
        (None, "next=always"),
        ("x", None),
    )
]
ALL_ASKED += [Asked(Via.HTTPS, "/", "always", None, origin) for origin in ("https://b.test", "https://c.test")]


def backend(route: Route) -> tuple[str, str] | None:
    return (route.action.cluster.namespace, route.action.cluster.service) if isinstance(route.action, Forward) else None


@given(ingresses("claims", CLAIMING), ingresses("offers", OFFERING), st.booleans())
@settings(max_examples=examples(60), deadline=None)
@example(
    claims=[ingress("claims-0", [("/", "Prefix")], "web", {"enable-cors": "true", "cors-allow-origin": "https://b.test"})],
    offers=[canary("offers-0", [("/", "Prefix")], "next", {"canary-by-header": "X-Canary"})],
    owned=False,
)
def test_what_its_owner_denies_no_canary_answers(claims: list[Ingress], offers: list[Ingress], owned: bool) -> None:
    alone = Served([*objects(), *claims], host_ownership=owned).routes()
    together = Served([*objects(), *claims, *offers], host_ownership=owned).routes()
    namespaces = {offer.meta.namespace for offer in offers}
    if owned and claims:
        oldest = min(claims, key=lambda item: (item.meta.created, [-ord(c) for c in f"{item.meta.namespace}/{item.meta.name}"]))
        namespaces &= {oldest.meta.namespace}
    offered = {(offer.meta.namespace, path.backend.service) for offer in offers for path in offer.rules[0].paths}
    for asked in ALL_ASKED:
        [(owner, _)] = possible(alone, asked)
        found = possible(together, asked)
        assert sum(part for _, part in found) == 1
        for route, _ in found:
            if not isinstance(owner.action, Forward):
                assert route.action == owner.action, asked
                continue
            assert rules(route.settings) == rules(owner.settings)
            assert without_upstream(route) == without_upstream(owner)
            if backend(route) != backend(owner):
                assert backend(route) in offered
                assert (backend(route) or ("",))[0] in namespaces


def without_upstream(route: Route) -> dict[str, object]:
    return {name: setting for name, setting in route.settings.items() if name not in upstream_features()}


@given(ingresses("claims", CLAIMING), ingresses("offers", OFFERING), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=examples(60), deadline=None)
def test_the_order_in_which_they_come_does_not_matter(
    claims: list[Ingress], offers: list[Ingress], some: random.Random, batches: int
) -> None:
    found = [*objects(), *claims, *offers]
    shuffled = some.sample(found, len(found))
    assert Served(shuffled, batches=batches).state() == Served(found).state()


@given(st.integers(0, 2000), st.none() | st.integers(100, 1500))
@settings(max_examples=examples(40), deadline=None)
@example(0, None)
@example(100, None)
def test_the_canary_and_its_primary_have_all_requests_between_them(weight: int, total: int | None) -> None:
    notes = {"canary-weight": str(weight)} | ({} if total is None else {"canary-weight-total": str(total)})
    routes = Served([*objects(), ingress("web", [("/", "Prefix")], "web", {}), canary("next", [("/", "Prefix")], "next", notes)]).routes()
    parts = {backend(route): part for route, part in possible(routes, Asked(Via.HTTP, "/", None, None))}
    assert parts.get(("one", "next"), 0) == min(Fraction(1), Fraction(weight, total or 100))
    assert sum(parts.values()) == 1


RULES = st.fixed_dictionaries(
    {},
    optional={
        "canary-by-header": st.sampled_from(["X-Canary", "x_canary", "X-Other"]),
        "canary-by-header-value": st.sampled_from(["beta", "always", "a b"]),
        "canary-by-header-pattern": st.sampled_from(["^b", "(?i)B", "a$|never", "[[[", "e{2}"]),
        "canary-by-cookie": st.sampled_from(["next", "ne", "n.x", "Next"]),
        "canary-weight": st.sampled_from(["0", "100"]),
    },
)
HEADERS = st.none() | st.sampled_from(["", "always", "never", "beta", "bee", "BETA", "a b"])
COOKIES = st.none() | st.lists(
    st.sampled_from(["next", "NEXT", "ne", "nextnext", "n.x", "nax", "a", "="]).flatmap(
        lambda name: st.sampled_from(["=always", "=never", "= never", " =always", "=x", "=", "=always,next=never"]).map(name.__add__)
    ),
    min_size=1,
    max_size=4,
).map("; ".join)


def nginx_cookie(name: str, header: str) -> str | None:
    """nginx's $cookie_<name>: the first one of this name in any case, up to a semicolon."""
    for part in re.split(r"; *|, *(?=[^;]*)", header):
        found = re.fullmatch(rf"(?i:{re.escape(name)}) *= *(.*)", part)
        if found:
            return header[header.index(part) + found.start(1) :].split(";")[0]
    return None


def nginx_leads(rules_: Mapping[str, str], header: str | None, cookie: str | None) -> bool:
    """Whether ingress-nginx would send a request to the canary, its weight being 0 or 100 (nginx 4.12)."""
    value, pattern = rules_.get("canary-by-header-value", ""), rules_.get("canary-by-header-pattern", "")
    if header is not None and rules_.get("canary-by-header", "").lower() in ("x-canary", "x_canary"):
        if value:
            if header == value:
                return True
        elif pattern:
            if pattern == "[[[":
                return False
            if re.search(pattern, header):
                return True
        elif header in ("always", "never"):
            return header == "always"
    if cookie is not None and "canary-by-cookie" in rules_:
        sent = nginx_cookie(rules_["canary-by-cookie"], cookie)
        if sent in ("always", "never"):
            return sent == "always"
    return rules_.get("canary-weight") == "100"


@given(RULES, HEADERS, COOKIES)
@settings(max_examples=examples(300), deadline=None)
def test_who_answers_is_decided_as_in_nginx(rules_: dict[str, str], header: str | None, cookie: str | None) -> None:
    routes = Served([*objects(), ingress("web", [("/", "Prefix")], "web", {}), canary("next", [("/", "Prefix")], "next", rules_)]).routes()
    [(route, part)] = possible(routes, Asked(Via.HTTP, "/", header, cookie))
    assert part == 1
    assert backend(route) == ("one", "next" if nginx_leads(rules_, header, cookie) else "web")


def sites(*found: Ingress, **flags: bool) -> Served:
    return Served([*objects(), *found], **flags)


ROOT = [("/", "Prefix")]
ALL = {"canary-weight": "100"}


@pytest.mark.parametrize(
    ("claimed", "offered", "code"),
    [
        ("/", "/x", "offer-unclaimed"),
        ("/x", "/", "offer-unclaimed"),
        ("/", "/", ""),
    ],
)
def test_an_offer_joins_the_same_path_alone(claimed: str, offered: str, code: str) -> None:
    served = sites(ingress("web", [(claimed, "Prefix")], "web", {}), canary("next", [(offered, "Prefix")], "next", ALL))
    assert set(served.problems("next")) == ({code} if code else set())
    assert any(backend(r) == ("one", "next") for r in served.routes()) is not bool(code)


@pytest.mark.parametrize(
    ("claimed", "offered", "joins"), [("", "Prefix", True), ("ImplementationSpecific", "", True), ("Exact", "", False)]
)
def test_a_path_without_a_type_is_a_prefix(claimed: str, offered: str, joins: bool) -> None:
    routes = sites(ingress("web", [("/x", claimed)], "web", {}), canary("next", [("/x", offered)], "next", ALL)).routes()
    assert any(backend(r) == ("one", "next") for r in routes) is joins


def test_of_two_canaries_the_older_counts_also_if_it_has_no_endpoints() -> None:
    served = sites(ingress("web", ROOT, "web", {}), canary("late", ROOT, "next", ALL, age=2), canary("early", ROOT, "empty", ALL))
    assert [backend(r) for r in served.routes()] == [("one", "web")]
    assert served.problems("early")["no-endpoints"].sentence.endswith("all requests stay with the path's own backend.")
    assert "Ingress one/early (spec.rules[0].http.paths[0]) is a canary of this path" in served.problems("late")["offer-conflict"].sentence


def test_a_canary_of_the_very_backend_makes_room_for_the_next() -> None:
    served = sites(ingress("web", ROOT, "web", {}), canary("same", ROOT, "web", ALL), canary("next", ROOT, "next", ALL, age=2))
    assert [backend(r) for r in served.routes()] == [("one", "next"), ("one", "web")]
    assert "offer-same" in served.problems("same")
    assert not served.problems("next")


def test_where_hosts_have_owners_nobody_else_has_a_canary_there() -> None:
    found = (ingress("web", ROOT, "web", {}, age=2), canary("next", ROOT, "next", ALL, namespace="two"))
    assert [backend(r) for r in sites(*found, host_ownership=True).routes()] == [("one", "web")]
    assert "belongs to namespace one" in sites(*found, host_ownership=True).problems("next")["foreign-host"].sentence
    assert [backend(r) for r in sites(*found).routes()] == [("two", "next"), ("one", "web")]
    assert "would have no effect with --host-ownership" in sites(*found).problems("next")["foreign-host"].sentence


def test_a_canary_makes_no_host_and_owns_none() -> None:
    served = sites(canary("next", ROOT, "next", ALL, tls=True))
    assert HOST not in served.tables.hosts.values
    assert "offer-unclaimed-host" in served.problems("next")
    found = (canary("early", ROOT, "next", ALL), ingress("web", ROOT, "web", {}, namespace="two", age=2))
    assert [backend(r) for r in sites(*found, host_ownership=True).routes()] == [("two", "web")]


def test_what_a_canary_asks_for_beside_its_service_has_no_effect_and_is_one_sentence() -> None:
    served = sites(ingress("web", ROOT, "web", {}), canary("next", ROOT, "next", ALL | {"auth-type": "basic", "proxy-body-size": "x"}))
    assert [backend(r) for r in served.routes()] == [("one", "next"), ("one", "web")]
    [problem] = served.problems("next").values()
    assert problem.code == "annotation-of-offer"
    assert "its auth-type and proxy-body-size have no effect" in problem.sentence
    assert "access rules included" in problem.sentence


def test_a_path_that_forwards_nothing_has_no_routes_for_a_canary() -> None:
    for notes in ({"auth-type": "basic"}, {"permanent-redirect": "https://e.test"}):
        alone = sites(ingress("web", ROOT, "web", notes)).routes()
        served = sites(ingress("web", ROOT, "web", notes), canary("next", ROOT, "next", ALL))
        assert served.routes() == alone
        assert "answers all requests of this path by itself" in served.problems("next")["offer-unasked"].sentence


def test_a_weight_of_none_is_worth_a_note() -> None:
    served = sites(ingress("web", ROOT, "web", {}), canary("next", ROOT, "next", {"canary-weight": "0"}))
    assert [(p.code, p.severity.value) for p in served.problems("next").values()] == [("offer-idle", "note")]


def test_the_default_backend_of_a_canary_is_for_what_nobody_claims() -> None:
    meta = Meta(namespace="one", name="bare", created="2026-01-01T00:00:00Z")
    bare = Ingress(meta=meta, default_backend=Backend("web", 80))
    notes = {PREFIX + "canary": "true", PREFIX + "canary-weight": "10"}
    offer = Ingress(meta=Meta(namespace="one", name="next", annotations=notes), default_backend=Backend("next", 80))
    assert [backend(r) for r in sites(bare, offer).routes("") if isinstance(r.action, Forward)] == [("one", "next"), ("one", "web")]
    assert "offer-unclaimed" in sites(offer).problems("next")


def test_what_is_beyond_a_wildcard_stays_where_it_is_when_its_canary_would_be_too_dear() -> None:
    wild = ingress("wild", [("/", "Prefix")], "later", {}, host="*.wild.test")
    bare = Ingress(meta=Meta(namespace="one", name="bare"), default_backend=Backend("web", 80))
    for rules_, repeated in (({"canary-weight": "10"}, ["next", "web"]), ({"canary-by-cookie": "next", "canary-weight": "1"}, ["web"])):
        notes = {PREFIX + name: text for name, text in {"canary": "true", **rules_}.items()}
        offer = Ingress(meta=Meta(namespace="one", name="next", annotations=notes), default_backend=Backend("next", 80))
        read = Recorder(sites(wild, bare, offer).tables.build)
        found = beyond_wildcard(read, "*.wild.test").routes
        assert [(backend(r) or ("", ""))[1] for r in found if isinstance(r.action, Forward)] == repeated


COSTLY = {"canary-by-header": "X-Canary", "canary-by-header-pattern": "(" + "|".join(f"[a-z{n}]+" for n in range(40)) + ")"}
MANY = [(f"/{n}", "Prefix") for n in range(60)]


def test_a_canary_pays_for_its_own_expressions() -> None:
    served = sites(ingress("web", MANY, "web", {}), canary("next", MANY, "next", COSTLY))
    taken = [r for r in served.routes() if backend(r) == ("one", "next")]
    assert 0 < len(taken) < len(MANY)
    assert sum(map(regexes.cost_of, taken)) <= regexes.OF_INGRESS
    assert "regex-budget" in served.problems("next")
    assert not served.problems("web")
    assert {r.rule for r in served.routes() if backend(r) == ("one", "web")} >= {f"spec.rules[0].http.paths[{n}]" for n in range(60)}


def test_the_paths_of_a_host_come_before_its_offers() -> None:
    claims = [ingress(f"web-{n}", [(f"/{n}/{k}(a|b)", "") for k in range(60)], "web", {"use-regex": "true"}, age=2) for n in range(5)]
    offers = [canary(f"next-{n}", [(f"/{n}/{k}(a|b)", "") for k in range(60)], "next", COSTLY) for n in range(5)]
    alone, together = sites(*claims), sites(*claims, *offers)
    kept = [(r.match, r.rule) for r in together.routes() if r.origin and r.origin.name.startswith("web") and not r.headers]
    assert kept == [(r.match, r.rule) for r in alone.routes() if r.origin]
    assert sum(map(regexes.cost_of, together.routes())) <= regexes.OF_HOST
    assert any("regex-budget-of-host" in together.problems(f"next-{n}") for n in range(5))


def routes_of(*found: Ingress) -> Iterator[Route]:
    yield from sites(*found).routes()


def test_the_settings_of_its_service_are_the_canarys_own() -> None:
    web = ingress("web", ROOT, "web", {"load-balance": "ewma", "proxy-connect-timeout": "3", "upstream-hash-by": "$uri"})
    first, second = routes_of(web, canary("next", ROOT, "next", ALL | {"load-balance": "ip_hash", "proxy-connect-timeout": "9"}))
    assert (first.settings["load_balance"], second.settings["load_balance"]) == ("ip_hash", "ewma")
    assert "upstream_hash_by" not in first.settings
    assert first.settings["proxy_connect_timeout"] == second.settings["proxy_connect_timeout"]


@pytest.mark.parametrize("name", ["x" * 64, "-._~/:" * 10 + "aA0z", "Ab" * 32])
def test_the_longest_name_of_a_cookie_is_an_expression_that_envoy_takes(name: str) -> None:
    served = sites(ingress("web", ROOT, "web", {}), canary("next", ROOT, "next", {"canary-by-cookie": name}))
    [header] = served.routes()[0].headers
    assert regex.verdict(header.value).fault == ""
    assert regex.cost(header.value) < regexes.OF_INGRESS
    assert re2.fullmatch(header.value, f"a=b; {name}=always; c=d")
    assert not re2.fullmatch(header.value, f"{name}=never; {name}=always")
    assert "annotation-value" in sites(canary("next", ROOT, "next", {"canary-by-cookie": name + "x"})).problems("next")
