"""What gets past our own checks and Envoy rejects: the culprit is found and held, everything else goes on. Through the real Envoy.

`XDS_RAW_PARTS` replaces what is made of objects with a marker in them by bytes that Envoy will not take.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Address as EnvoyAddress
from envoy_data_plane.envoy.config.core.v3 import DataSource, SocketAddress
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret, TlsCertificate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher

from examples.apps import Address, HttpApp, TcpApp
from tests.envoy.harness import (
    PATIENCE,
    Http1,
    Site,
    Tcp,
    Tls,
    Traffic,
    backend,
    config_map,
    ingress,
    make_certificate,
    secret,
    secret_tls,
    wait_until,
)
from tests.envoy.harness.manifests import Manifest
from tests.envoy.harness.tls import server_context
from tests.server.client import Client
from xds.protocol.discovery import Wire
from xds.snapshot import CLUSTER, LISTENER, ROUTE, SECRET
from xds.wire.encode import encode, field

pytestmark = pytest.mark.envoy

Raw = Callable[..., None]
N = 400
REFUSED = "/refuse-me"


def host(n: int) -> str:
    return f"h{n}.test"


def bad_host(name: str, *, quoted: bool = True) -> bytes:
    """A virtual host as it stands in a route table; Envoy quotes what is wrong with it, or nothing."""
    if quoted:
        route = Route(match=RouteMatch(safe_regex=RegexMatcher(regex=f"(refused-{name}")), direct_response=DirectResponseAction(status=200))
    else:
        twice = RegexMatchAndSubstitute(pattern=RegexMatcher(regex="^/x"), substitution="/y")
        route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="any", prefix_rewrite="/y", regex_rewrite=twice))
    return field(2, encode(VirtualHost(name=name, domains=[name], routes=[route])))


def bad_cluster(name: str) -> bytes:
    """A cluster without a name."""
    return encode(Cluster(alt_stat_name=name))


def bad_secret(name: str) -> bytes:
    """A certificate with the key of another one: BoringSSL compares them."""
    chain, key = make_certificate(["chain.test"]), make_certificate(["key.test"])
    pair = TlsCertificate(certificate_chain=DataSource(inline_bytes=chain.cert_pem), private_key=DataSource(inline_bytes=key.key_pem))
    return encode(Secret(name=name, tls_certificate=pair))


def bad_listener(name: str, port: int) -> bytes:
    """A listener on a port of another one."""
    address = EnvoyAddress(socket_address=SocketAddress(address="127.0.0.1", port_value=port))
    return encode(Listener(name=name, address=address, filter_chains=[FilterChain(filters=[Filter(name="none")])]))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Raw:
    """Has parts replaced in control planes that are started later: (type, marker, body)."""

    def write(*raws: tuple[str, str, bytes]) -> None:
        lines = [[type_url, *(base64.b64encode(each).decode() for each in (marker.encode(), body))] for type_url, marker, body in raws]
        path = tmp_path / "raw.json"
        path.write_text(json.dumps(lines))
        monkeypatch.setenv("XDS_RAW_PARTS", str(path))

    return write


@pytest.fixture
async def app(site: Site) -> Address:
    return await site.run(HttpApp("app"))


async def nacks(site: Site, kind: str) -> int:
    """How many responses of a type were rejected."""
    metrics = (await site.control_plane.get("/metrics")).text
    return sum(int(float(n)) for t, n in re.findall(r'^xds_nacks_total\{type="(\w+)"\} (\S+)$', metrics, re.M) if t == kind)


async def held(site: Site, kind: str) -> int:
    """How many parts of a type are held."""
    metrics = (await site.control_plane.get("/metrics")).text
    return int(float(re.findall(rf'^xds_held_parts\{{type="{kind}"\}} (\S+)$', metrics, re.M)[0]))


def log(site: Site) -> list[str]:
    return [*site.control_plane.process.stderr, *site.control_plane.process.stdout]


async def until_accepted(site: Site) -> None:
    """Wait until Envoy has accepted all that was published."""

    async def look() -> bool:
        return "\nxds_programmed_slowest_seconds 0.0\n" in (await site.control_plane.get("/metrics")).text

    await wait_until(look, "Envoy to have accepted what was published")


async def until_logged(site: Site, *words: str, since: int = 0, deadline: float = PATIENCE) -> str:
    """The first line of the control plane's log with all these words."""

    async def look() -> str | None:
        return next((line for line in log(site)[since:] if all(word in line for word in words)), None)

    found = await wait_until(look, f"a line of the log with {words}", deadline=deadline)
    assert found is not None
    return found


def site_of(app: Address, numbers: Iterable[int], more: dict[int, str] | None = None) -> list[Manifest]:
    """One application behind many hosts; some of them have one more path."""
    paths = {n: {"/": ("app", 80)} | ({path: ("app", 80)} if (path := (more or {}).get(n)) else {}) for n in numbers}
    return [*backend("app", app), *(ingress(f"h{n}", host(n), found) for n, found in paths.items())]


async def subject(address: Address, name: str) -> str:
    """Whose certificate is served for a server name."""
    async with await Http1.open(address, tls=Tls(name)) as client:
        return client.certificate.subject.rfc4514_string()


async def until_served_under(site: Site, name: str, common_name: str) -> None:
    async def look() -> bool:
        return common_name in await subject(site.https, name)

    await wait_until(look, f"{name} to be served under the certificate of {common_name}")


@asynccontextmanager
async def undisturbed(site: Site, *names: str) -> AsyncIterator[None]:
    """While this goes on, each request to these hosts is answered by the application."""
    flows = [Traffic(site.http, host=name, clients=2) for name in names]
    for flow in flows:
        await flow.__aenter__()
    try:
        yield
        for flow in flows:
            await flow.flows()
    finally:
        for flow in flows:
            await flow.__aexit__()
    for flow in flows:
        assert flow.answers().keys() == {(200, "app")}


@pytest.mark.parametrize(
    ("count", "quoted", "wire"),
    [(1, True, Wire.DELTA), (1, False, Wire.DELTA), (10, True, Wire.DELTA), (10, False, Wire.DELTA), (10, False, Wire.SOTW)],
)
async def test_bad_hosts_among_hundreds_are_found_while_all_traffic_flows(
    site: Site, app: Address, raw: Raw, count: int, quoted: bool, wire: Wire
) -> None:
    """All hosts change at once, some for the worse: these answer as before, all others have their new path."""
    bad = [7 + 37 * k for k in range(count)]
    raw(*((ROUTE, f"{REFUSED}-{n}-", bad_host(host(n), quoted=quoted)) for n in bad))
    site.folder.write("all.yaml", *site_of(app, range(N)))
    await site.start_control_plane()
    bootstrap = await site.control_plane.bootstrap()
    await site.static_envoy(bootstrap if wire is Wire.DELTA else bootstrap.replace("DELTA_GRPC", "GRPC"))
    assert await nacks(site, "rds") == 0
    async with undisturbed(site, host(bad[-1]), host(8)):
        site.folder.write("all.yaml", *site_of(app, range(N), {n: f"{REFUSED}-{n}-" if n in bad else "/new" for n in range(N)}))
        for n in bad:
            assert "Envoy's error: " in await until_logged(site, f"Ingress default/h{n}:", "What it accepted before stays in place")
        for n in (8, N - 1):
            await site.until_answered("/new", "app", host=host(n))
    rounds = count * (9 + 1)  # log2 of N
    assert count <= await nacks(site, "rds") <= (count if quoted else rounds)
    assert await held(site, "rds") == count
    assert (await site.envoy.stats("update_rejected"))["http.http.rds.ingress.update_rejected"] == await nacks(site, "rds")


async def test_what_is_mended_is_served_and_the_problem_is_gone(site: Site, app: Address, raw: Raw) -> None:
    raw((ROUTE, REFUSED, bad_host(host(3))))
    site.folder.write("all.yaml", *site_of(app, range(10), {3: REFUSED}))
    await site.start()
    await until_logged(site, "Ingress default/h3:", "It is left out")
    await site.until_answered("/", "app", host=host(4))  # the table without the host comes after the line of the log
    assert (await site.get("/", host=host(3))).status == 404
    site.folder.write("all.yaml", *site_of(app, range(10), {3: "/mended"}))
    await site.until_answered("/mended", "app", host=host(3))
    await until_logged(site, "no longer: ", "Ingress default/h3:")
    assert await nacks(site, "rds") == 1
    assert await held(site, "rds") == 0


async def test_what_is_deleted_is_held_no_longer(site: Site, app: Address, raw: Raw) -> None:
    raw((ROUTE, REFUSED, bad_host(host(3))))
    site.folder.write("all.yaml", *site_of(app, range(10), {3: REFUSED}))
    await site.start()
    await until_logged(site, "Ingress default/h3:", "It is left out")
    site.folder.write("all.yaml", *site_of(app, range(3)))
    await until_logged(site, "no longer: ", "Ingress default/h3:")
    assert await held(site, "rds") == 0


async def test_the_ingress_that_was_changed_is_to_blame_where_two_share_a_host(site: Site, app: Address, raw: Raw) -> None:
    raw((ROUTE, REFUSED, bad_host("shared.test")))
    site.folder.write("one.yaml", *backend("app", app), ingress("one", "shared.test", {"/one": ("app", 80)}))
    site.folder.write("two.yaml", ingress("two", "shared.test", {"/two": ("app", 80)}))
    await site.start()
    site.folder.write("two.yaml", ingress("two", "shared.test", {"/two": ("app", 80), REFUSED: ("app", 80)}))
    await until_logged(site, "Ingress default/two:", "Envoy rejects")
    assert not [line for line in log(site) if "Ingress default/one:" in line]
    assert (await site.get("/one", host="shared.test")).status == (await site.get("/two", host="shared.test")).status == 200


async def test_a_bad_cluster_takes_nobody_else_along(site: Site, app: Address, raw: Raw) -> None:
    raw((CLUSTER, "default/bad/80", bad_cluster("default/bad/80")))
    site.folder.write("app.yaml", *site_of(app, range(3)))
    await site.start()
    async with undisturbed(site, host(0)):
        site.folder.write("bad.yaml", *backend("bad", app), ingress("bad", "bad.test", {"/": ("bad", 80)}))
        site.folder.write("good.yaml", *backend("good", app), ingress("good", "good.test", {"/": ("good", 80)}))
        await until_logged(site, "Service default/bad:", "It is left out")
        await site.until_answered("/", "app", host="good.test")
        await site.until_status("/", 503, host="bad.test")
    assert await held(site, "cds") == 1
    await until_logged(site, "Ingress default/bad:")


async def test_a_bad_cluster_that_tls_passes_to_closes_its_host_and_nothing_else(site: Site, app: Address, raw: Raw) -> None:
    """The clients of the host are not given to the default certificate: what they send is for the backend."""
    name = "default/passed/80~ad56966b"
    raw((CLUSTER, name, bad_cluster(name)))
    own = make_certificate(["passed.test"])
    passed = await site.run(HttpApp("passed", tls=server_context(own)))
    site.folder.write("app.yaml", *backend("app", app), ingress("app", "app.test", {"/": ("app", 80)}), *backend("passed", passed))
    await site.start("--enable-ssl-passthrough")
    site.folder.write("passed.yaml", ingress("passed", "passed.test", {"/": ("passed", 80)}, {"ssl-passthrough": "true"}))
    await until_logged(site, "Ingress default/passed", f'Envoy rejects the cluster "{name}"', "It is left out")

    async def closed() -> bool:
        try:
            await site.get("/", host="passed.test", tls=Tls("passed.test"))
        except ConnectionResetError:
            return True
        return False

    await wait_until(closed, "the host to be closed, by the listener that follows the refused cluster")
    assert (await site.get("/", host="app.test", tls=Tls("app.test"))).app == "app"
    site.folder.write("passed.yaml", ingress("passed", "passed.test", {"/": ("app", 80)}))
    assert (await site.until_answered("/", "app", host="passed.test", tls=Tls("passed.test"))).status == 200

    async def free() -> bool:
        return not await held(site, "cds")

    await wait_until(free, "nothing to be held any more")


async def test_a_cluster_that_was_good_before_goes_on_as_it_was(site: Site, app: Address, raw: Raw) -> None:
    """Its new settings are refused; so the old ones stay, for as long as the routes ask for them."""
    raw((CLUSTER, NEW_TIME_OUT, bad_cluster("default/app/80")))
    site.folder.write("app.yaml", *site_of(app, range(3)))
    site.folder.write("config.yaml", config_map("config", {}))
    await site.start("--configmap", "default/config")
    async with undisturbed(site, host(0)):
        site.folder.write("config.yaml", config_map("config", {"proxy-connect-timeout": "55"}))
        await until_logged(site, "Service default/app:", "What it accepted before stays in place")
    assert await held(site, "cds") == 1


NEW_TIME_OUT = '"\x02\x087'  # connect_timeout: 55 s


def slow_to_connect(n: int, seconds: int) -> Manifest:
    return ingress(f"h{n}", host(n), {"/": ("app", 80)}, annotations={"proxy-connect-timeout": str(seconds)})


@pytest.mark.parametrize("wire", Wire)
async def test_a_host_whose_new_cluster_is_refused_stays_with_the_cluster_that_it_had(
    site: Site, app: Address, raw: Raw, wire: Wire
) -> None:
    """Its time-out gives it a cluster of its own. Its neighbour, which changes at the same time for the better, is served by a new one."""
    raw((CLUSTER, NEW_TIME_OUT, bad_cluster("refused")))
    site.folder.write("app.yaml", *backend("app", app), *(ingress(f"h{n}", host(n), {"/": ("app", 80)}) for n in range(2)))
    await site.start_control_plane("--state-dir", str(site.path / "state"))
    bootstrap = await site.control_plane.bootstrap()
    await site.static_envoy(bootstrap if wire is Wire.DELTA else bootstrap.replace("DELTA_GRPC", "GRPC"))
    async with undisturbed(site, host(0), host(1)):
        site.folder.write("app.yaml", *backend("app", app), slow_to_connect(0, 55), slow_to_connect(1, 7))
        await until_logged(site, "Ingress default/h0:", f'the virtual host "{host(0)}"', "What it accepted before stays in place")
        assert (await held(site, "cds"), await held(site, "rds")) == (1, 1)
        rejected = await refused(site)
        await site.control_plane.kill()
        since = len(log(site))
        await site.control_plane.start()
        await until_logged(site, "Ingress default/h0:", f'the virtual host "{host(0)}"', since=since)
        assert await refused(site) == rejected
        site.folder.write("app.yaml", *backend("app", app), slow_to_connect(0, 8), slow_to_connect(1, 7))
        await until_logged(site, "no longer: ", "Ingress default/h0:")
        site.folder.write("new.yaml", ingress("new", "new.test", {"/": ("app", 80)}))
        await site.until_answered("/", "app", host="new.test")
    assert (await held(site, "cds"), await held(site, "rds")) == (0, 0)


async def refuse_clusters_like(client: Client, like: bytes, serving: asyncio.Event) -> None:
    """Goes on as an Envoy that takes everything but clusters with these bytes; `serving` is set once it has routes."""
    await client.subscribe(CLUSTER, ["*"])
    await client.subscribe(ROUTE, ["ingress"])
    while True:
        response = await client.read()
        bad = [r.name for r in response.resources if response.type_url == CLUSTER and like in bytes(r)]
        await client.answer(response, error=f"Error adding/updating cluster(s) {', '.join(f'{n}: too new' for n in bad)}" if bad else None)
        if response.type_url == ROUTE:
            serving.set()


async def test_a_new_cluster_that_one_of_two_envoys_refuses_takes_its_host_from_neither(site: Site, app: Address) -> None:
    """The host goes back for both, and forward when the one that refuses has left."""
    site.folder.write("app.yaml", *backend("app", app), ingress("h0", host(0), {"/": ("app", 80)}))
    await site.start()
    async with grpc.aio.insecure_channel("{}:{}".format(*site.control_plane.xds)) as channel, undisturbed(site, host(0)):
        client, serving = Client(channel, Wire.DELTA, node="old-envoy"), asyncio.Event()
        old = asyncio.create_task(refuse_clusters_like(client, NEW_TIME_OUT.encode(), serving))
        await asyncio.wait_for(serving.wait(), 30)
        site.folder.write("app.yaml", *backend("app", app), slow_to_connect(0, 55))
        await until_logged(site, "Ingress default/h0:", f'the virtual host "{host(0)}"', "too new")
        old.cancel()
    async with undisturbed(site, host(0)):

        async def all_forward() -> bool:
            return (await held(site, "cds"), await held(site, "rds")) == (0, 0)

        await wait_until(all_forward, "the host to go forward again")
        await until_logged(site, "no longer: ", "Ingress default/h0:")


async def test_of_two_listeners_on_one_port_the_first_stays(site: Site, raw: Raw) -> None:
    tcp = await site.run(TcpApp("tcp"))
    ports = [site.ports.take() for _ in range(3)]
    first, second, third = ports
    entries = {str(port): "default/tcp:80" for port in ports}
    raw((LISTENER, f"tcp/{second}", bad_listener(f"tcp/{second}", first)))
    site.folder.write("tcp.yaml", *backend("tcp", tcp), config_map("tcp", {str(first): "default/tcp:80"}))
    await site.start("--tcp-services-configmap", "default/tcp")
    async with await Tcp.open(("127.0.0.1", first)) as before:
        site.folder.write("tcp.yaml", *backend("tcp", tcp), config_map("tcp", entries))
        await until_logged(site, "ConfigMap default/tcp:", f'listener "tcp/{second}"', "It is left out")

        async def answered() -> bool:
            async with await Tcp.open(("127.0.0.1", third)) as client:
                return await client.ask("hello") == "tcp: hello"

        await wait_until(answered, "the third listener to answer")
        assert await before.ask("still here") == "tcp: still here"
    assert await held(site, "lds") == 1
    assert {f"tcp/{first}", f"tcp/{third}"} <= (await site.envoy.listeners()).keys()


def tls_site(app: Address, count: int) -> dict[str, list[Manifest]]:
    """File → an Ingress and the certificate of its host."""
    found = {"app.yaml": backend("app", app)}
    for n in range(count):
        pair = secret_tls(f"s{n}", make_certificate([host(n)]))
        found[f"h{n}.yaml"] = [ingress(f"h{n}", host(n), {"/": ("app", 80)}, tls={f"s{n}": [host(n)]}), pair]
    return found


async def test_a_certificate_that_is_refused_at_the_start_leaves_twenty_others_served(site: Site, app: Address, raw: Raw) -> None:
    """Its host is served with the default certificate."""
    raw((SECRET, "default/s7", bad_secret("default/s7")))
    for name, objects in tls_site(app, 21).items():
        site.folder.write(name, *objects)
    await site.start()
    for n in range(21):
        await until_served_under(site, host(n), "Fake" if n == 7 else host(n))
    await until_logged(site, "Secret default/s7:", "It is left out")
    answer = await site.get("/", host=host(7), tls=Tls(host(7)))
    assert (answer.status, answer.app) == (200, "app")
    assert await held(site, "sds") == 1


async def test_a_renewal_that_is_refused_leaves_the_old_certificate(site: Site, app: Address, raw: Raw) -> None:
    files = tls_site(app, 21)
    new = make_certificate([host(7)])
    raw((SECRET, new.cert_pem.decode().splitlines()[-3], bad_secret("default/s7")))  # of its signature
    for name, objects in files.items():
        site.folder.write(name, *objects)
    await site.start()
    for n in range(21):
        await until_served_under(site, host(n), host(n))
    async with await Http1.open(site.https, tls=Tls(host(7))) as client:
        old = client.certificate.serial_number
    site.folder.write("h7.yaml", files["h7.yaml"][0], secret_tls("s7", new))
    await until_logged(site, "Secret default/s7:", "What it accepted before stays in place")
    async with await Http1.open(site.https, tls=Tls(host(7))) as client:
        assert client.certificate.serial_number == old
    site.folder.write("h8.yaml", files["h8.yaml"][0], secret_tls("s8", make_certificate([host(8), "new.test"])))
    await until_served_under(site, host(8), host(8))
    assert await held(site, "sds") == 1


@pytest.mark.parametrize("ended", ["stopped", "killed"])
@pytest.mark.parametrize("kept", [True, False], ids=["with --state-dir", "without"])
async def test_what_is_held_outlives_the_control_plane(site: Site, app: Address, raw: Raw, ended: str, kept: bool) -> None:
    """With a state folder Envoy hears nothing of it: same versions, no second rejection. Without one it is found again, and nobody knows
    what was accepted before, so that is gone."""
    raw((ROUTE, REFUSED, bad_host(host(3))), (CLUSTER, "default/bad/80", bad_cluster("default/bad/80")))
    site.folder.write("all.yaml", *site_of(app, range(10)))
    state = site.path / "state"
    await site.start(*(("--state-dir", str(state)) if kept else ()))
    site.folder.write("all.yaml", *site_of(app, range(10), {3: REFUSED}))
    site.folder.write("bad.yaml", *backend("bad", app), ingress("bad", "bad.test", {"/": ("bad", 80)}))
    await until_logged(site, "Ingress default/h3:", "What it accepted before stays in place")
    await until_logged(site, "Service default/bad:", "It is left out")
    await until_accepted(site)
    before = await site.envoy.versions()
    rejected = await refused(site)
    async with undisturbed(site, host(4), *([host(3)] if kept else [])):
        await (site.control_plane.stop() if ended == "stopped" else site.control_plane.kill())
        since = len(log(site))
        await site.control_plane.start()
        await until_logged(site, "Ingress default/h3:", "Envoy rejects", since=since)
        await until_logged(site, "Service default/bad:", "Envoy rejects", since=since)
        site.folder.write("new.yaml", ingress("new", "new.test", {"/": ("app", 80)}))
        await site.until_answered("/", "app", host="new.test")
        site.folder.remove("new.yaml")
        await site.until_status("/", 404, host="new.test")
    if kept:
        assert await site.envoy.versions() == before
        assert await refused(site) == rejected
        assert stat.S_IMODE((state / "held.json").stat().st_mode) == 0o600
    else:
        assert await refused(site) > rejected
        assert (await site.get("/", host=host(3))).status == 404


async def refused(site: Site) -> int:
    """How many updates Envoy has rejected since it was started."""
    return sum((await site.envoy.stats("update_rejected$")).values())


async def test_an_envoy_that_refuses_alone_holds_nothing(site: Site, app: Address) -> None:
    site.folder.write("all.yaml", *site_of(app, range(3)))
    await site.start()
    at = "{}:{}".format(*site.control_plane.xds)
    async with grpc.aio.insecure_channel(at) as channel:
        client = Client(channel, Wire.DELTA, node="old-envoy")
        await client.subscribe(ROUTE, ["ingress"])
        await client.answer(await client.read())
        site.folder.write("all.yaml", *site_of(app, range(3), {0: "/new"}))
        await client.answer(await client.read(), error="I am too old for this")
        await until_logged(site, "old-envoy rejected", "I am too old for this")
        await site.until_answered("/new", "app", host=host(0))
        site.folder.write("all.yaml", *site_of(app, range(4), {0: "/new"}))
        await client.answer(await client.read(), error="still too old")
        await until_logged(site, "old-envoy rejected", "still too old")
        await site.until_answered("/", "app", host=host(3))
        assert await nacks(site, "rds") == 2
        assert await held(site, "rds") == 0
        assert not [line for line in log(site) if "Envoy rejects" in line]


async def test_a_secret_that_is_overwritten_with_rubbish_keeps_its_certificate(site: Site, app: Address) -> None:
    """Also after a restart; a Secret that is deleted does not."""
    pair = make_certificate([host(0)])
    site.folder.write("h.yaml", *backend("app", app), ingress("h", host(0), {"/": ("app", 80)}, tls={"s": [host(0)]}))
    site.folder.write("s.yaml", secret_tls("s", pair))
    await site.start("--state-dir", str(site.path / "state"))
    await until_served_under(site, host(0), host(0))
    site.folder.write("s.yaml", secret("s", {"tls.crt": b"rubbish", "tls.key": b"rubbish"}, kind="kubernetes.io/tls"))
    await until_logged(site, "Secret default/s data:", "the certificate that it held before stays in place")
    assert host(0) in await subject(site.https, host(0))
    await site.control_plane.kill()
    since = len(log(site))
    await site.control_plane.start()
    await until_logged(site, "Secret default/s data:", "stays in place", since=since)
    assert host(0) in await subject(site.https, host(0))
    kept = site.path / "state" / "held.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    secrets = pair.key_pem.decode().splitlines()[1:-1]
    assert not [line for line in log(site) if any(key in line for key in (*secrets, base64.b64encode(pair.key_pem).decode()))]
    site.folder.remove("s.yaml")
    await until_served_under(site, host(0), "Fake")
    assert base64.b64encode(pair.key_pem) not in kept.read_bytes()
