"""Whatever anybody writes: what comes out of it is something that a real Envoy accepts, and the innocent go on being served."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from prometheus_client import CollectorRegistry

from examples.apps import Address, HttpApp
from tests import strategies
from tests.envoy.harness import Envoy, Ports, Tls, fetch, make_certificate, wait_until
from xds.config import Flags
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Object,
    Rule,
    Secret,
    Service,
    ServicePort,
    ref,
)
from xds.kube.objects import (
    Path as IngressPath,
)
from xds.kube.objects import (
    Tls as IngressTls,
)
from xds.kube.world import DEFAULT_CERTIFICATE, World
from xds.problem import Ref
from xds.protocol.session import Session
from xds.render.bootstrap import bootstrap
from xds.server.fleet import Fleet
from xds.server.metrics import SHORT
from xds.server.server import Server
from xds.snapshot import TYPES, Snapshot
from xds.units.tables import Tables

pytestmark = pytest.mark.envoy

T = TypeVar("T")
EXAMPLES = 150
LISTEN = "127.83.0.1"
"""An address of its own, where no port of a wild ConfigMap is anybody else's."""


class Accepting:
    """A control plane in this process and one Envoy, which both live on while objects come and go."""

    def __init__(self, folder: Path) -> None:
        self.ports = Ports()
        self._folder = folder
        self._runner = asyncio.Runner()
        self._registry = CollectorRegistry()
        self._snapshot = Snapshot()
        self._fleet = Fleet(self._snapshot, self._registry, identifier="xds")
        self._server = Server(self._fleet, "127.0.0.1:0")
        self._app = HttpApp("innocent")
        self._flags = dataclasses.replace(
            strategies.FLAGS,
            listen_address=LISTEN,
            http_port=self.ports.take(),
            https_port=self.ports.take(),
            allowed_endpoints=("127.0.0.0/8",),  # the innocent application is there
        )
        made = make_certificate(["ingress.local"])
        self._world = World(self._flags, {DEFAULT_CERTIFICATE: (made.cert_pem, made.key_pem)})
        self._tables = Tables(self._world)
        self._envoy: Envoy | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let everything run until this is done."""
        return self._runner.run(coroutine)

    @property
    def envoy(self) -> Envoy:
        assert self._envoy is not None
        return self._envoy

    async def start(self) -> None:
        self._apply(strategies.innocent(*await self._app.start()))
        self._snapshot.ready = True
        self._fleet.publish()
        await self._server.start()
        config = bootstrap(Flags(xds_address=self._server.address, node_id="envoy-1"))
        self._envoy = await Envoy(config, self._folder, self.ports).start()
        await self._settled()

    async def stop(self) -> None:
        if self._envoy is not None:
            await self._envoy.stop()
        await self._server.stop(0)
        await self._app.stop()

    def close(self) -> None:
        self.run(self.stop())
        self._runner.close()
        self.ports.release()

    def take(self, items: Sequence[Object], *, ask: bool = False) -> list[str]:
        """Give Envoy these objects until it has accepted all that they are made into, and take them away again.

        Returns the codes of their Problems. With `ask`, the innocent site must answer meanwhile. Raises AssertionError with what Envoy
        said.
        """
        return self.run(self._take(items, ask=ask))

    async def _take(self, items: Sequence[Object], *, ask: bool) -> list[str]:
        try:
            self._apply(items)
            await self._settled()
            if ask:
                await self._ask_the_innocent()
            about = {ref(item) for item in items}
            return [problem.code for problem in self._tables.problems() if problem.about in about]
        finally:
            self._apply((), {ref(item) for item in items})
            await self._settled()

    def _apply(self, put: Sequence[Object], drop: Collection[Ref] = ()) -> None:
        self._tables.apply(self._world.apply(put, drop)).publish(self._snapshot)
        assert not self._tables.build.faults
        self._fleet.publish()

    async def _ask_the_innocent(self) -> None:
        address: Address = (LISTEN, self._flags.https_port)
        answer = await fetch(address, host=strategies.INNOCENT, tls=Tls(strategies.INNOCENT))
        assert (answer.status, answer.app) == (200, "innocent")

    async def _settled(self) -> None:
        """Envoy has answered to everything, and accepted it."""
        before = self._rejections()

        async def look() -> bool:
            sessions = [stream.session for stream in self._fleet.connected()]
            return self._rejections() != before or (len(sessions) == 1 and self._holds_all(sessions[0]))

        await wait_until(look, "Envoy to accept")
        said = [text for stream in self._fleet.connected() for text in stream.session.rejections.values()]
        assert self._rejections() == before, f"Envoy rejected: {said}"

    def _holds_all(self, session: Session) -> bool:
        if any(standing.nonces for standing in session.summaries.values()):
            return False
        return all(session.accepted(type_url, name) for type_url in TYPES for name in self._snapshot[type_url])

    def _rejections(self) -> float:
        counts = (self._registry.get_sample_value("xds_nacks_total", {"type": short}) for short in SHORT.values())
        return sum(count or 0 for count in counts)


@pytest.fixture(scope="module")
def accepting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accepting]:
    made = Accepting(tmp_path_factory.mktemp("accepting"))
    try:
        made.run(made.start())
        yield made
    finally:
        made.close()


def test_envoy_accepts_what_becomes_of_any_objects(accepting: Accepting) -> None:
    @hypothesis_settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(strategies.objects())
    def every(items: list[Object]) -> None:
        accepting.take(items)

    every()
    rejected = accepting.run(accepting.envoy.stats("update_rejected$"))
    assert "listener_manager.lds.update_rejected" in rejected
    assert not any(rejected.values())


SITE = Meta(namespace="wild", name="a")


def site(
    host: str = "a.wild.test",
    path: str = "/",
    *,
    external_name: str = "",
    address: str = "10.0.0.1",
    port: int = 8080,
    secret: str = "",
    cluster_ip: str = "10.96.0.1",
    **annotations: str,
) -> list[Object]:
    """An Ingress, its Service, and an endpoint; annotations are written with underscores."""
    given_ = {strategies.PREFIX + name.replace("_", "-"): value for name, value in annotations.items()}
    meta = Meta(namespace="wild", name="a", annotations=given_)
    tls = (IngressTls((host,), secret),) if secret else ()
    return [
        Ingress(meta=meta, rules=(Rule(host, (IngressPath(path, "Prefix", Backend("a", 80)),)),), tls=tls),
        Service(
            meta=SITE,
            type="ExternalName" if external_name else "ClusterIP",
            ports=(ServicePort(80, "http"),),
            external_name=external_name,
            cluster_ips=(cluster_ip,),
        ),
        EndpointSlice(meta=SITE, service="a", ports=(EndpointPort("http", port),), endpoints=(Endpoint((address,)),)),
    ]


def regular(path: str) -> list[Object]:
    return site(path=path, use_regex="true", rewrite_target="/$1")


def configured(**data: str) -> list[Object]:
    name = next((name for name in ("tcp", "udp") if name in data), "config")
    found = dict(line.split("=", 1) for line in data[name].split()) if name in data else {k.replace("_", "-"): v for k, v in data.items()}
    return [*site(), ConfigMap(meta=Meta(namespace="wild", name=name), data=found)]


def certified(chain: bytes, key: bytes) -> list[Object]:
    return [*site(secret="first"), Secret(meta=Meta(namespace="wild", name="first"), data={"tls.crt": chain, "tls.key": key})]


INJECTED = "/app\r\nSet-Cookie: stolen=yes"
FORMAT = "/%REQ(authorization)%"
BAD: dict[str, tuple[str, list[Object]]] = {
    "header in app-root": ("annotation-value", site(app_root=INJECTED)),
    "format in app-root": ("annotation-value", site(app_root=FORMAT)),
    "header in permanent-redirect": ("annotation-forbidden", site(permanent_redirect="http://x" + INJECTED)),
    "format in permanent-redirect": ("annotation-forbidden", site(permanent_redirect="http://x" + FORMAT)),
    "header in rewrite-target": ("annotation-value", site(rewrite_target=INJECTED)),
    "format in rewrite-target": ("annotation-value", site(rewrite_target=FORMAT)),
    "redirect target as rewrite": ("annotation-approximate", site(rewrite_target="https://x:99999//")),
    "tenth group in rewrite-target": ("annotation-approximate", site(path="/(.*)", rewrite_target="/$10$2")),
    "header in upstream-hash-by": ("annotation-forbidden", site(upstream_hash_by="$http_x\r\ny")),
    "all kinds of variables in upstream-hash-by": (
        "",
        site(upstream_hash_by="$http_X_1$arg_x${cookie__}$uri$args$remote_addr$host"),
    ),
    "format in cors-allow-headers": ("annotation-value", site(enable_cors="true", cors_allow_headers=FORMAT)),
    "header in cors-expose-headers": ("annotation-value", site(enable_cors="true", cors_expose_headers=INJECTED)),
    "expression in cors-allow-origin": ("annotation-value", site(enable_cors="true", cors_allow_origin="https://(a|b).test")),
    "odd origins": ("", site(enable_cors="true", cors_allow_origin="null, https://, https://*., a://-.:1, http://*.:99999999999")),
    "as many origins as there can be": ("", site(enable_cors="true", cors_allow_origin=",".join(f"a://*.{n}" for n in range(100)))),
    "as long an origin as there can be": ("", site(enable_cors="true", cors_allow_origin="https://*." + "a." * 990)),
    "format in upstream-vhost": ("annotation-forbidden", site(upstream_vhost=FORMAT)),
    "odd hosts for the backend": ("", site(upstream_vhost="]:[/.~_:99999")),
    "all kinds of variables in upstream-vhost": (
        "annotation-approximate",
        site(upstream_vhost="$host$http_a_b$uri$args$service_name/${scheme}"),
    ),
    "format in x-forwarded-prefix": ("annotation-forbidden", site(rewrite_target="/", x_forwarded_prefix=FORMAT)),
    "captures of a path that could end an expression": (
        "annotation-approximate",
        site(path="/(a|'|\\)%|\"|{|\\Q)')%", use_regex="true", rewrite_target="/$2", x_forwarded_prefix="/$1$2$9"),
    ),
    "header in hsts-max-age": ("key-value", configured(hsts_max_age="1\r\nSet-Cookie: a=b")),
    "format in hsts-max-age": ("key-value", configured(hsts_max_age=FORMAT)),
    "largest hsts-max-age": ("", configured(hsts_max_age="9" * 12)),
    "largest body size": ("", site(proxy_body_size="9223372036854775807")),
    "too large a body size": ("annotation-value", site(proxy_body_size="9999999999g")),
    "largest time-outs": ("", site(proxy_connect_timeout="2147483", proxy_next_upstream_tries="1000")),
    "too large a time-out": ("annotation-value", site(proxy_read_timeout="2147484")),
    "time-out of 10 kB": ("annotation-value", site(proxy_read_timeout="9" * 10_000)),
    "unclosed group": ("path", regular("/(")),
    "closed group that was not open": ("path", regular("/a)|(b")),
    "trailing backslash": ("path", regular("/a\\")),
    "open quotation": ("annotation-approximate", regular("/(a)\\Q+)")),
    "lookahead": ("path", regular("/(?!a)")),
    "lookbehind": ("path", regular("/(?<=a)")),
    "backreference": ("path", regular("/(a)\\1")),
    "possessive": ("path", regular("/a++")),
    "repetition of a repetition": ("path", regular("/((a{100}){100}){100}")),
    "too many repetitions": ("path", regular("/a{1001}")),
    "many repetitions": ("annotation-approximate", regular("/([a-z]{1000})")),
    "10 kB of letters": ("annotation-approximate", regular("/" + "x" * 10_000)),
    "10 kB of choices": ("path", regular("/(" + "|".join(["ab*c"] * 2_000) + "){9}")),
    "10 kB of groups": ("annotation-approximate", regular("/" + "()" * 5_000)),
    "10 kB of nested groups": ("annotation-approximate", regular("/" + "(" * 5_000 + ")" * 5_000)),
    "path of 10 kB": ("path", site(path="/" + "x" * 10_000)),
    "path with a control character": ("path", site(path="/a\x00b")),
    "path without a slash": ("path", site(path="a")),
    "path with a bad escape": ("", site(path="/%zz%")),
    "path with everything else": ("", site(path="/ é\u2028#?\"'{}|<>^`[]\\")),
    "space in host": ("host", site("a b.test")),
    "control character in host": ("host", site("a\x00.test")),
    "slash in host": ("host", site("a/b.test")),
    "star as host": ("host", site("*")),
    "star in host": ("host", site("a*.test")),
    "two stars in host": ("host", site("*.*.test")),
    "empty label in host": ("host", site("a..test")),
    "long host": ("host", site("a." * 127 + "test")),
    "long label in host": ("host", site("a" * 64 + ".test")),
    "host that is not in ASCII": ("host", site("é.test")),
    "host with a port": ("host", site("a.test:80")),
    "IPv6 host": ("host", site("[::1]")),
    "10 kB of host": ("host", site("a" * 10_000)),
    "external name that is no name": ("", site(external_name="a b\r\n/%")),
    "external name of 10 kB": ("", site(external_name="x" * 10_000)),
    "external name that is an address": ("", site(external_name="192.0.2.1")),
    "endpoint that is no address": ("address", site(address="localhost")),
    "endpoint with a zone": ("address", site(address="fe80::1%lo")),
    "endpoint with a leading zero": ("address", site(address="010.0.0.1")),
    "address of a Service that is none": ("", site(cluster_ip="here", service_upstream="true")),
    "endpoint port out of range": ("port", site(port=65536)),
    "certificate that is none": ("certificate-unreadable:a.wild.test", certified(b"x", b"y")),
    "key of another certificate": ("key-mismatch:a.wild.test", certified(strategies.pems()[0][0], strategies.pems()[1][1])),
    "certificate without its end": (
        "certificate-unreadable:a.wild.test",
        certified(strategies.pems()[0][0][:-60], strategies.pems()[0][1]),
    ),
    "key before the certificate": ("certificate-unreadable:a.wild.test", certified(*reversed(strategies.pems()[0]))),
    "TCP ports that are none": ("stream", configured(tcp="0=wild/a:80 65536=wild/a:80 -1=wild/a:80 x=wild/a:80 ٣=wild/a:80")),
    "one TCP port twice": ("stream", configured(tcp="21000=wild/a:80 021000=wild/a:80")),
    "UDP port of a TCP Service": ("stream", configured(udp="21000=wild/a:80")),
}
"""What the words stand for: the code of a Problem that it must be ("": none need be), and the objects."""


@pytest.mark.parametrize(("code", "items"), BAD.values(), ids=list(BAD))
def test_envoy_accepts_what_becomes_of_bad_input_and_the_innocent_are_served(accepting: Accepting, code: str, items: list[Object]) -> None:
    found = accepting.take(items, ask=True)
    assert not code or code in found
