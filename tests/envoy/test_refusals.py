"""What a real Envoy says of each case of `tests/protocol/test_refusal.py`, whom that accuses, and what becomes of the innocent.

What Envoy 1.40 takes of a response with something bad in it, the same on both wires:

| what is bad                                           | clusters, listeners | endpoints, secrets | routes  |
|-------------------------------------------------------|---------------------|--------------------|---------|
| cannot be parsed, breaks a rule of its proto,         | nothing             | nothing            | nothing |
| or has a negative duration                            |                     |                    |         |
| can be read, but not be used: an unknown extension,   | all but the bad     | what Envoy came to | nothing |
| a regular expression, an address, a key, …            | ones, all named     | before the bad one |         |

The order in which Envoy comes to endpoints and secrets is its own. A secret that it has rejected it holds nevertheless: connections go on
with the certificate before it, but a listener that is changed meanwhile is rejected for it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import pytest
import pytest_asyncio
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as connections

from tests.envoy.harness import Envoy, Ports
from tests.envoy.harness.raw import Bodies, RawControlPlane
from tests.quarantine.test_refusal import CASES, OTHER_PAIR, Case, assignment, at, chain, cluster, host, listener, secret, without_noise
from xds.config import Flags
from xds.nginx.messages import ads
from xds.protocol.discovery import Wire
from xds.quarantine.refusal import Accused, accused
from xds.render.bootstrap import bootstrap
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.wire.encode import encode, field, pack

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

Parts = Mapping[Part, bytes]
CLUSTERS = ("default/app/80", "default/app/8080", "default/fine/80", "default/innocent/80")
CERTIFICATES = {f"default/{name}": f"{name}.example" for name in ("one", "two", "innocent")}
HOSTS = dict(map(host, ("a.example", "aa.example", "")))
CHAINS = dict(chain(*certificate) for certificate in CERTIFICATES.items())


def to_cluster(name: str) -> routes.Route:
    return routes.Route(match=routes.RouteMatch(prefix="/"), route=routes.RouteAction(cluster=name))


INNOCENT: Mapping[str, Parts] = {
    CLUSTER: dict([cluster("default/innocent/80", alt_stat_name="innocent")]),
    ENDPOINT: dict([assignment("default/innocent/80", "10.0.0.99")]),
    LISTENER: dict([listener("tcp/7004")]),
    ROUTE: dict([host("innocent.example")]),
    SECRET: dict([secret("default/innocent", OTHER_PAIR.cert_pem, OTHER_PAIR.key_pem)]),
}
"""What is good, and new or different, in every response with something bad in it."""


def http() -> bytes:
    """The listener that asks for the route table."""
    manager = connections.HttpConnectionManager(
        stat_prefix="http",
        rds=connections.Rds(config_source=ads(), route_config_name="ingress"),
        http_filters=[connections.HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))],
    )
    filters = [listeners.Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))]
    return encode(listeners.Listener(name="http", address=at(7080), filter_chains=[listeners.FilterChain(filters=filters)]))


def https(chains: Parts) -> bytes:
    inspector = listeners.ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
    frame = listeners.Listener(name="https", address=at(7443), listener_filters=[inspector])
    return encode(frame) + b"".join(field(3, body) for body in chains.values())


def table(hosts: Parts) -> bytes:
    """The route table; what is no host stands for itself."""
    parts = (body if part.piece is None else field(2, body) for part, body in hosts.items())
    return encode(routes.RouteConfiguration(name="ingress")) + b"".join(parts)


def response(parts: Parts) -> dict[str, bytes]:
    """The resources in which these parts are."""
    hosts = {part: body for part, body in parts.items() if part.type_url == ROUTE}
    chains = {part: body for part, body in parts.items() if part.resource == "https"}
    whole = {part.resource: body for part, body in parts.items() if part not in hosts and part not in chains}
    if hosts:
        whole["ingress"] = table({**HOSTS, **hosts})
    return whole | ({"https": https({**CHAINS, **chains})} if chains else {})


HELD: Mapping[str, Bodies] = {
    CLUSTER: response(dict(map(cluster, CLUSTERS))),
    ENDPOINT: response(dict(map(assignment, CLUSTERS))),
    LISTENER: response(dict([listener("tcp/7001")]) | CHAINS) | {"http": http()},
    ROUTE: response(HOSTS),
    SECRET: response(dict(map(secret, CERTIFICATES))),
}


class Pair(NamedTuple):
    """An Envoy that holds HELD, and its control plane."""

    control_plane: RawControlPlane
    envoy: Envoy

    async def say(self, type_url: str, parts: Parts) -> str | None:
        """Tell Envoy of these parts in one response; its error."""
        return await self.control_plane.say(type_url, self.told(type_url, parts))

    def told(self, type_url: str, parts: Parts) -> Bodies:
        """The resources of a response with these parts in it, by name as the management server sorts them."""
        whole = self.control_plane.wire is Wire.SOTW and type_url in (CLUSTER, LISTENER)
        return dict(sorted({**(HELD[type_url] if whole else {}), **response(parts)}.items()))

    async def takes(self, type_url: str) -> bool:
        """Whether Envoy has what is in INNOCENT."""
        if type_url == ROUTE:
            return "innocent.example" in await self.envoy.ask("/config_dump?resource=dynamic_route_configs")
        if type_url == SECRET:
            certificate = base64.b64encode(OTHER_PAIR.cert_pem).decode()
            return certificate in await self.envoy.ask("/config_dump?resource=dynamic_active_secrets")
        if type_url == LISTENER:
            return "tcp/7004" in await self.envoy.listeners()
        if type_url == ENDPOINT:
            return (await self.envoy.clusters())["default/innocent/80"] == ["10.0.0.99:80"]
        found = json.loads(await self.envoy.ask("/clusters?format=json"))["cluster_statuses"]
        return any(status["observability_name"] == "innocent" for status in found)

    async def restore(self) -> None:
        """Give Envoy everything of HELD, and nothing else."""
        added = {part.resource for parts in (*INNOCENT.values(), *(case.suspects for case in CASES)) for part in parts}
        for type_url, bodies in HELD.items():
            gone = added - bodies.keys() if type_url in (CLUSTER, LISTENER) else ()
            assert await self.control_plane.say(type_url, bodies, tuple(sorted(gone))) is None
        await self.control_plane.settled()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[Wire.DELTA, Wire.SOTW], ids=["delta", "sotw"])
async def settled_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    ports = Ports()
    async with RawControlPlane(request.param, HELD) as control_plane:
        flags = Flags(xds_address=control_plane.address, node_id="envoy-1", delta=request.param is Wire.DELTA)
        async with Envoy(bootstrap(flags), tmp_path_factory.mktemp("refusals"), ports) as envoy:
            assert await control_plane.settled() == []
            yield Pair(control_plane, envoy)
    ports.release()


@pytest_asyncio.fixture(loop_scope="module")
async def pair(settled_pair: Pair) -> AsyncIterator[Pair]:
    """One that holds HELD again after the test."""
    yield settled_pair
    await settled_pair.restore()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_envoy_names_whom_it_refuses(pair: Pair, case: Case) -> None:
    suspects = {**case.suspects, **INNOCENT[case.type_url]}
    error = await pair.say(case.type_url, suspects)
    assert error is not None
    found = accused(error, suspects)
    assert found == Accused(case.certain, case.likely), error
    assert without_noise(error) == case.says
    if case.innocent is not None:
        assert await pair.takes(case.type_url) is case.innocent


async def test_of_a_large_table_that_breaks_a_rule_envoy_says_the_beginning(pair: Pair) -> None:
    hosts = dict([*(host(f"{n}.example") for n in range(50)), host("last.example", domains=[])])
    error = await pair.say(ROUTE, hosts)
    assert error is not None
    assert "0.example" in error
    assert accused(error, hosts) == Accused(likely=frozenset(hosts))


async def test_envoy_holds_a_secret_that_it_has_rejected(pair: Pair) -> None:
    """So the one before it has to be sent again, before any certificate is added."""
    added = dict([chain("default/one", "added.example")])
    rejected = await pair.say(SECRET, dict([secret("default/one", key=OTHER_PAIR.key_pem)]))
    assert rejected is not None
    assert await pair.say(LISTENER, added) == f"Error adding/updating listener(s) https: {rejected}\n"
    assert await pair.say(SECRET, dict([secret("default/one")])) is None
    assert await pair.say(LISTENER, added) is None


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(host("b.example", name="a.example"), id="a host with the name of another one"),
        pytest.param(host("b.example", domains=["b.*.example"]), id="a wildcard within a domain"),
        pytest.param(host("b.example", to_cluster("default/nowhere/80")), id="a route to a cluster that there is not"),
        pytest.param(assignment("default/app/80", priority=1), id="a priority without those before it"),
        pytest.param(listener("tcp/7002", filter_chains=[listeners.FilterChain()]), id="a filter chain without filters"),
    ],
)
async def test_envoy_takes(pair: Pair, part: tuple[Part, bytes]) -> None:
    assert await pair.say(part[0].type_url, dict([part])) is None
