"""Paths, rewrites, redirects, limits and headers: what nginx does with the locations that ingress-nginx writes, and what our Envoy does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from examples.apps import Address, HttpApp
from tests.differential.controller import ANY, EXACT, HTTP, PREFIX_TYPE, Given, Path, Settings, servers, zones
from tests.differential.nginx import NGINX, Nginx
from tests.envoy.harness import Site, Tls, backend, config_map, ingress
from tests.envoy.harness.http1 import Response
from tests.envoy.harness.waiting import STEP, wait_until
from tests.exploring import examples

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not NGINX, reason="there is no nginx"),
    pytest.mark.timeout(0),
]
once = hypothesis_settings(
    max_examples=examples(2), deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
twice = hypothesis_settings(once, max_examples=examples(3))
"""How often, beside the least example, with which hypothesis begins."""
PATIENCE = 60
"""Seconds until both must answer alike: a worker of Envoy may have its new routes a little later than another one."""


@dataclass(frozen=True)
class Request:
    """A request; `{n}` in the host stands for the round."""

    host: str
    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False


Seen = Mapping[str, object]
Look = Callable[[Response], Seen]


@dataclass
class Both:
    """nginx and our Envoy before the same applications."""

    site: Site
    nginx: Nginx
    services: Mapping[str, Address]
    rounds: int = 0

    async def serve(
        self,
        made: Sequence[Given],
        *,
        keys: Mapping[str, object] | None = None,
        maps: Mapping[str, Mapping[str, str]] | None = None,
        **settings: Any,
    ) -> list[Given]:
        """Serve these Ingresses, under hosts of this round, and return them. `maps` are further ConfigMaps, `settings` those of nginx."""
        self.rounds += 1
        mine = [replace(each, host=self.host(each.host), name=f"r{self.rounds}-{each.name}") for each in made]
        await self.nginx.serve(servers(mine, Settings(self.services, self.nginx.address, **settings)), HTTP + zones(mine))
        all_keys = {"hsts": "false", **(keys or {})}
        mark = ingress("mark", "mark.test", {"/": ("a", 80)}, {"permanent-redirect": f"https://round/{self.rounds}"})
        self.site.folder.write(
            "all.yaml",
            config_map("controller", all_keys),
            *(config_map(name, data) for name, data in (maps or {}).items()),
            *(each.manifest(age) for age, each in enumerate(mine)),
            mark,
        )
        await wait_until(self._serves, "Envoy to serve")
        return mine

    def host(self, name: str) -> str:
        """The name of a host in this round."""
        return f"{name}.r{self.rounds}.test"

    async def ask(self, request: Request) -> tuple[Response, Response]:
        """What nginx answers, and what Envoy does."""
        host = self.host(request.host)
        tls = Tls(sni=host) if request.tls else None
        theirs = await self.nginx.get(request.target, host=host, method=request.method, headers=request.headers, tls=tls)
        return theirs, await self.site.get(request.target, host=host, method=request.method, headers=request.headers, tls=tls)

    async def compare(self, requests: Sequence[Request], made: Sequence[Given], look: Look) -> None:
        """Ask both for all; who answers otherwise is asked again until the time is over. All that stay different are the message."""
        found, end = await self._differing(requests, look), time.monotonic() + PATIENCE
        while found and time.monotonic() < end:
            await asyncio.sleep(STEP)
            found = await self._differing([each for each, *_ in found], look)
        assert not found, "\n".join(_described(*each, made) for each in found)

    async def _differing(self, requests: Sequence[Request], look: Look) -> list[tuple[Request, Seen, Seen]]:
        at_once = asyncio.Semaphore(8)

        async def one(request: Request) -> tuple[Request, Seen, Seen]:
            async with at_once:
                theirs, ours = map(look, await self.ask(request))
            return request, theirs, ours

        return [each for each in await asyncio.gather(*map(one, requests)) if each[1] != each[2]]

    async def _serves(self) -> bool:
        return (await self.site.get("/", host="mark.test")).header("location") == f"https://round/{self.rounds}"


def _described(request: Request, theirs: Seen, ours: Seen, made: Sequence[Given]) -> str:
    differs = {name: f"nginx {theirs[name]!r}, Envoy {ours.get(name)!r}" for name in theirs if theirs[name] != ours.get(name)}
    return f"{request}: {differs} with {[each for each in made if each.host == request.host]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    found = {name: await shared_site.run(HttpApp(name)) for name in "abc"}
    shared_site.folder.write("site.yaml", *(each for name, address in found.items() for each in backend(name, address)))
    await shared_site.start("--configmap", "default/controller")
    nginx = Nginx(shared_site, tmp_path_factory.mktemp("nginx"))
    yield Both(shared_site, nginx, found)
    await nginx.stop()


def _routed(both: Both) -> Look:
    """Where a request went, and with what path; or where it was sent. Neither is on the port 80, which would not be written."""
    ports = "|".join(str(address[1]) for address in (both.nginx.address, both.nginx.tls, both.site.http, both.site.https))

    def look(answer: Response) -> Seen:
        shown: dict[str, object] = {"status": answer.status, "app": answer.app}
        shown["location"] = [re.sub(f":({ports})(?=/|$)", "", value) for value in answer.all("location")]
        if answer.app:
            shown |= {"path": answer.json()["path"], "prefix": answer.received("x-forwarded-prefix")}
        return shown

    return look


SERVICES = st.sampled_from("abc")
PLAIN = ("/", "/a", "/a/", "/a/b", "/a/b/", "/A", "/ab", "/a.b", "/a/b/c", "/a-b", "/b", "/B/c", "/a b")
PATTERNS = ("/a.*", "/a/[a-z]+", "/a/b$", "/(a|b)/c", "/a|/b", "/a(/|$)(.*)", "/(.+)", r"/a/\d+", "/b(/[^/]*)?$", "/(a)/(b)?")
plain_path = st.builds(Path, st.sampled_from(PLAIN), st.sampled_from((PREFIX_TYPE, PREFIX_TYPE, EXACT, ANY)), SERVICES)
any_path = st.one_of(plain_path, st.builds(Path, st.sampled_from(PATTERNS), st.sampled_from((ANY, ANY, PREFIX_TYPE, EXACT)), SERVICES))
TARGETS = ("/", "/n", "/n/$1", "/$2", "/$1/x/$2", "/a/x", "https://e.test/$1")
rewriting = st.one_of(
    st.just({"use-regex": "true"}),
    st.sampled_from(TARGETS).map(lambda target: {"rewrite-target": target}),
    st.sampled_from(TARGETS).map(lambda target: {"rewrite-target": target, "x-forwarded-prefix": "/p"}),
    st.just({}),
)
segment = st.sampled_from(("a", "b", "c", "A", "ab", "a.b", "axb", "a-b", "7", "n", "a%20b", "xa"))
path = st.tuples(st.lists(segment, max_size=3), st.sampled_from(("", "", "/"))).map(lambda parts: "/" + "/".join(parts[0]) + parts[1])
target = st.tuples(path.map(lambda text: text.replace("//", "/")), st.sampled_from(("", "", "?x=1", "?x=/"))).map("".join)


def without_doubles(made: list[Given]) -> list[Given]:
    """Less a Prefix that another one has but for its last slash: ingress-nginx writes one location for both, and nginx refuses it."""
    seen: dict[str, str] = {}

    def kept(path: Path) -> bool:
        return path.kind == EXACT or seen.setdefault(path.path.rstrip("/"), path.path) == path.path

    return [each for each in (replace(one, paths=tuple(filter(kept, one.paths))) for one in made) if each.paths]


def without_twins(made: list[Given]) -> list[Given]:
    """Less an Exact path that is a Prefix of its host as well, which docs/differences.md lists for hosts with regular expressions."""
    prefixes = {(each.host, path.path) for each in made for path in each.paths if path.kind != EXACT}
    kept = [
        replace(each, paths=tuple(path for path in each.paths if path.kind != EXACT or (each.host, path.path) not in prefixes))
        for each in made
    ]
    return [each for each in kept if each.paths]


def hosts(paths: st.SearchStrategy[Path], notes: st.SearchStrategy[dict[str, str]], tls: st.SearchStrategy[bool], count: int) -> Any:
    """Ingresses of so many hosts, one to three each, in any order of age."""
    one = st.builds(lambda found, notes, tls: (tuple(found), notes, tls), st.lists(paths, min_size=1, max_size=4), notes, tls)
    host = st.lists(one, min_size=1, max_size=3)

    def named(all_hosts: list[list[tuple[tuple[Path, ...], dict[str, str], bool]]]) -> list[Given]:
        made = [[Given(f"h{n}-i{m}", f"h{n}", *each) for m, each in enumerate(found)] for n, found in enumerate(all_hosts)]
        return [each for found in made for each in without_doubles(found)]

    return st.lists(host, min_size=count, max_size=count).map(named)


def spread(targets: Sequence[str], made: Sequence[Given]) -> list[Request]:
    """Each host gets each target."""
    return [Request(host, target) for host in dict.fromkeys(each.host for each in made) for target in targets]


NO_TLS = st.just(value=False)
targets = st.lists(target, min_size=12, max_size=12, unique=True)


@given(hosts(plain_path, st.just({}), NO_TLS, 15), hosts(any_path, rewriting, NO_TLS, 25), targets)
@twice
async def test_a_path_leads_to_the_same_service_with_the_same_path(
    both: Both, plain: list[Given], patterns: list[Given], targets: list[str]
) -> None:
    made = plain + [replace(each, name=f"p{each.name}", host=f"p{each.host}") for each in without_twins(patterns)]
    made += [replace(each, name=f"w{each.name}", host=f"*.{each.host}") for each in made if each.host.endswith("3")]
    await both.serve(made)
    asked = [
        each for each in spread(targets, made) if not (each.host.startswith("p") and "%" in each.target)
    ]  # docs/differences.md has why
    await both.compare(asked, made, _routed(both))


codes = st.sampled_from(("300", "301", "302", "303", "304", "307", "308", "309", "200"))
addresses = st.sampled_from(("https://e.test", "https://e.test/new?x=1", "http://e.test:8080/a", "/local", "//e.test/x"))
BOOLEANS = ("ssl-redirect", "force-ssl-redirect", "preserve-trailing-slash", "use-port-in-redirects", "relative-redirects")
redirecting = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(BOOLEANS, st.sampled_from(("true", "true", "false"))),
        "from-to-www-redirect": st.just("true"),
        "app-root": st.sampled_from(("/app", "/app/", "/a/b?".rstrip("?"))),
        "permanent-redirect": addresses,
        "permanent-redirect-code": codes,
        "temporal-redirect": st.sampled_from(("https://t.test/now", "http://t.test")),
        "temporal-redirect-code": codes,
    },
)


def seldom(notes: dict[str, str]) -> dict[str, str]:
    """What answers everything stays in some of the Ingresses only, else it would be all that is seen."""
    return notes if len(notes) < 6 else {name: text for name, text in notes.items() if "-redirect" not in name or name in BOOLEANS}


@given(hosts(plain_path, redirecting.map(seldom), st.booleans(), 30), targets, st.sampled_from((301, 302, 307, 308)))
@once
async def test_a_redirect_leads_to_the_same_place(both: Both, made: list[Given], targets: list[str], code: int) -> None:
    await both.serve(made, keys={"http-redirect-code": code}, code=code)
    named = [replace(each, host=f"www.{each.host}") for each in made if each.host.endswith(("3", "7"))]
    every = spread(targets[:6], [*made, *named])
    await both.compare([*every, *(replace(each, tls=True) for each in every)], made, _routed(both))


VALUES = (
    "text",
    "50% of it",
    "a;b, c",
    "$host",
    "<$http_x_one>",
    "$request_method-$scheme",
    "$remote_addr",
    "$request_uri",
    "$arg_x",
    "$uri",
)
header_map = st.dictionaries(st.sampled_from(("X-A", "X-B", "x-low", "X-Under-Way")), st.sampled_from(VALUES), max_size=3)
added_map = header_map.map(lambda found: {name: text.replace("$host", "$scheme") for name, text in found.items()})
"""$host has a difference of its own, which docs/differences.md lists."""
ORIGINS = ("https://site.test", "http://*.site.test", "https://b.test:8443", "http://site.test, https://*.c.test:81", "*", "null")
cors = st.fixed_dictionaries(
    {"enable-cors": st.sampled_from(("true", "true", "false"))},
    optional={
        "cors-allow-origin": st.sampled_from(ORIGINS),
        "cors-allow-methods": st.sampled_from(("GET", "PUT, GET,OPTIONS")),
        "cors-allow-headers": st.sampled_from(("X-One", "X-One,X-Two")),
        "cors-allow-credentials": st.sampled_from(("true", "false")),
        "cors-expose-headers": st.sampled_from(("X-E", "X-E, X-F")),
        "cors-max-age": st.sampled_from(("0", "600")),
    },
)
further = st.fixed_dictionaries(
    {},
    optional={
        "custom-headers": st.sampled_from(("default/custom-0", "default/custom-1")),
        "upstream-vhost": st.sampled_from(("v.test", "v.test:81", "x-$host", "$http_x_one.test")),
        "connection-proxy-header": st.sampled_from(("close", "keep-alive")),
    },
)
asked = st.builds(
    lambda target, method, headers: Request("", target.replace("%20", "-"), method, tuple(headers)),
    target,
    st.sampled_from(("GET", "OPTIONS", "POST", "HEAD")),
    st.lists(
        st.sampled_from(
            (
                *(("Origin", text) for text in ("https://site.test", "http://a.site.test", "HTTPS://SITE.TEST", "https://x.c.test:81")),
                *(("Origin", text) for text in ("null", "http://a.b.site.test", "https://b.test:8443", "https://evil.test")),
                ("Access-Control-Request-Method", "PUT"),
                ("X-One", "1"),
                ("X-A", "client"),
                ("X-Forwarded-For", "192.0.2.1"),
                ("X-Forwarded-Host", "other.test"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Prefix", "/client"),
                ("X-Real-IP", "192.0.2.2"),
                ("X-Scheme", "https"),
                ("Proxy", "http://evil.test"),
                ("Accept", "*/*"),
                ("Authorization", "Basic YTpi"),
                ("Cookie", "a=b; c=d"),
            )
        ),
        max_size=4,
        unique_by=lambda header: header[0],
    ),
)
UNSEEN = {"x-request-id", "x-forwarded-port", "connection", "content-length", "transfer-encoding"}
"""Which are the proxy's own matter."""


def _headers(answer: Response) -> Seen:
    """The headers of an answer, and those that the application got; names without case, and in any order."""
    shown: dict[str, object] = {"status": answer.status}
    unseen = {"date", "server", "connection", "keep-alive", "content-length", "transfer-encoding"}
    if answer.status == 204:
        unseen.add("content-type")
    shown["headers"] = sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in unseen)
    if answer.app:
        received = [(name.lower(), value) for name, value in answer.json()["headers"]]
        shown["received"] = sorted(each for each in received if each[0] not in UNSEEN and not each[0].startswith("x-passages-"))
    return shown


@given(
    hosts(st.builds(Path, st.just("/"), st.just(PREFIX_TYPE), SERVICES), st.builds(lambda a, b: a | b, cors, further), NO_TLS, 25),
    st.lists(asked, min_size=12, max_size=12),
    st.tuples(header_map, added_map),
    st.tuples(header_map, header_map).map(lambda maps: [{name: text.replace("$", "S") for name, text in each.items()} for each in maps]),
)
@twice
async def test_headers_are_the_same(
    both: Both, made: list[Given], requests: list[Request], maps: tuple[dict[str, str], dict[str, str]], custom: list[dict[str, str]]
) -> None:
    sent, added = maps
    keys = {
        "proxy-set-headers": "default/sent",
        "add-headers": "default/added",
        "hide-headers": "X-A, X-Nothing",
        "global-allowed-response-headers": "X-A,X-B,x-low,X-Under-Way",
    }
    named = {f"custom-{n}": each for n, each in enumerate(custom)}
    await both.serve(made, keys=keys, maps={"sent": sent, "added": added, **named}, sent=sent, added=added, custom=named)
    every = [replace(each, host=host) for host in dict.fromkeys(item.host for item in made) for each in requests]
    await both.compare(every, made, _headers)


limiting = st.one_of(
    st.fixed_dictionaries(
        {"limit-rps": st.sampled_from(("1", "3", "10"))}, optional={"limit-burst-multiplier": st.sampled_from(("1", "2"))}
    ),
    st.fixed_dictionaries(
        {"limit-rpm": st.sampled_from(("1", "5", "60"))}, optional={"limit-burst-multiplier": st.sampled_from(("1", "3"))}
    ),
    st.fixed_dictionaries({"limit-rps": st.just("2"), "limit-rpm": st.sampled_from(("2", "30"))}),
)
pattern = st.lists(st.tuples(st.integers(1, 40), st.sampled_from((0.0, 0.3, 0.7))), min_size=1, max_size=3)


async def _burst(ask: Callable[[], Awaitable[Response]], pattern: Sequence[tuple[int, float]]) -> tuple[list[int], float]:
    """How many of each burst passed, and how long all took."""
    begun, passed = time.monotonic(), []
    for count, pause in pattern:
        statuses = [(await ask()).status for _ in range(count)]
        assert set(statuses) <= {200, 503}
        passed.append(statuses.count(200))
        await asyncio.sleep(pause)
    return passed, time.monotonic() - begun


@given(st.lists(st.tuples(limiting, pattern), min_size=10, max_size=10))
@once
async def test_as_many_requests_of_a_burst_pass(both: Both, drawn: list[tuple[dict[str, str], list[tuple[int, float]]]]) -> None:
    made = [Given(f"h{n}", f"h{n}", (Path("/", PREFIX_TYPE, "a"),), notes) for n, (notes, _) in enumerate(drawn)]
    served = await both.serve(made)

    async def one(given: Given, pattern: Sequence[tuple[int, float]]) -> None:
        theirs, their_time = await _burst(lambda: both.nginx.get("/", host=given.host), pattern)
        ours, our_time = await _burst(lambda: both.site.get("/", host=given.host), pattern)
        a_second = max(int(given.notes.get("limit-rps", 0)), int(given.notes.get("limit-rpm", 0)) / 60)
        slack = 2 + a_second * abs(their_time - our_time)
        assert abs(sum(theirs) - sum(ours)) <= slack, (given, pattern, theirs, their_time, ours, our_time)

    await asyncio.gather(*(one(each, pattern) for each, (_, pattern) in zip(served, drawn, strict=True)))
