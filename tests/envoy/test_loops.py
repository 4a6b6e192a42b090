"""Requests that lead back to the Envoy that they come from: how often they may, and what others notice of it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests import quick_yaml
from tests.envoy.harness import (
    Http2,
    NameServer,
    RawHttp,
    Response,
    Site,
    Tls,
    WebSocket,
    backend,
    config_map,
    endpoint_slice,
    fetch,
    ingress,
    resolving,
    run,
    service,
)
from tests.envoy.harness.control_plane import XDS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

AGAIN = "/again(/|$)(.*)"
"""A path that leads back, one segment shorter: so a request passes once more for each of them."""
PASSED = [("X-Scheme", "https"), ("X-Forwarded-Scheme", "https")]
"""What every passage writes, and another ingress-nginx in front."""
KINDS = {"plain": {}, "h2": {"backend-protocol": "GRPC"}, "tls": {"backend-protocol": "HTTPS"}, "named": {}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> AsyncIterator[Site]:
    """Hosts whose paths lead back to Envoy itself, by each protocol and by a name, and hosts that do so without an end."""
    app = await shared_site.run(HttpApp("app"))
    shared_site.folder.write("app.yaml", *backend("app", app))
    await shared_site.start_control_plane()
    (_, http), (_, https) = shared_site.http, shared_site.https
    itself: dict[str, Address] = {"plain": ("127.0.0.1", http), "h2": ("127.0.0.1", http), "tls": ("127.0.0.1", https)}
    for kind, protocol in KINDS.items():
        back = ("itself-named", http) if kind == "named" else (f"itself-{kind}", 80)
        objects = [service("itself-named", 0, external_name="itself.example")]
        if kind != "named":
            objects = [service(back[0]), endpoint_slice(back[0], [itself[kind]])]
        counted = {**protocol, "use-regex": "true", "rewrite-target": "/$2"}
        shared_site.folder.write(
            f"{kind}.yaml",
            *objects,
            ingress(f"{kind}-again", f"{kind}.test", {AGAIN: back}, counted, path_type="ImplementationSpecific"),
            ingress(f"{kind}-app", f"{kind}.test", {"/": ("app", 80)}),
            ingress(f"{kind}-endless", f"endless-{kind}.test", {"/": back}, protocol),
        )
    bootstrap = quick_yaml.safe_load(await shared_site.control_plane.bootstrap())
    await shared_site.static_envoy(resolving(bootstrap, await shared_site.run(NameServer({"itself.example": ["127.0.0.1"]}))))
    for kind in KINDS:
        await shared_site.until_answered("/again/", "app", host=f"{kind}.test")
    yield shared_site


def path(passages: int) -> str:
    """What leads back so often that the application is reached at this passage."""
    return "/again" * (passages - 1) + "/end"


async def requests(site: Site) -> int:
    """How many requests the Envoy has seen."""
    stats = await site.envoy.stats("http.https?.downstream_rq_total")
    return sum(stats.values())


@pytest.mark.parametrize("kind", KINDS)
async def test_nine_passages_are_allowed_and_the_tenth_is_refused(site: Site, kind: str) -> None:
    for passages in (1, 2, 3, 9):
        answer = await site.get(path(passages), host=f"{kind}.test")
        assert (answer.status, answer.json()["path"]) == (200, "/end"), passages
    answer = await site.get(path(10), host=f"{kind}.test")
    assert answer.status == 508
    assert b"<center><h1>508 Loop Detected</h1></center>" in answer.body


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_without_an_end_passes_ten_times(site: Site, kind: str) -> None:
    before = await requests(site)
    assert (await site.get("/", host=f"endless-{kind}.test")).status == 508
    assert await requests(site) - before == 10


SAYING = (
    [("X-Scheme", "ftp")],
    [("X-Scheme", ""), ("X-Forwarded-Scheme", "")],
    [("X-Forwarded-Scheme", "ftp"), ("X-Forwarded-Proto", "ftp")],
    [("X-Sent-From", "me")],
    [("X-Xds-Arrived", "")],
)
"""What a client might say so that its requests are not counted."""


@pytest.mark.parametrize("headers", SAYING)
async def test_no_client_can_have_its_requests_left_uncounted(site: Site, headers: list[tuple[str, str]]) -> None:
    before = await requests(site)
    assert (await site.get("/", host="endless-plain.test", headers=headers)).status == 508
    assert await requests(site) - before <= 10


async def test_nor_where_proxies_may_say_the_scheme(tmp_path: Path) -> None:
    async with Site(tmp_path) as once:
        once.folder.write("keys.yaml", config_map("controller", {"use-forwarded-headers": "true", "ssl-redirect": "false"}))
        await once.start_control_plane("--configmap", "default/controller")
        objects = service("itself"), endpoint_slice("itself", [once.http]), *backend("app", await once.run(HttpApp("app")))
        once.folder.write("all.yaml", *objects, ingress("endless", "endless.test", {"/": ("itself", 80), "/end": ("app", 80)}))
        await once.start_envoy()
        await once.until_answered("/end", "app", host="endless.test")
        for headers in SAYING:
            before = await requests(once)
            assert (await once.get("/", host="endless.test", headers=headers)).status == 508, headers
            assert await requests(once) - before <= 10, headers


async def test_a_client_of_http_2_and_one_over_tls_are_counted_alike(site: Site) -> None:
    for address, tls in ((site.http, None), (site.https, Tls(sni="plain.test"))):
        async with await Http2.open(address, tls=tls) as client:
            assert [(await client.request(target=path(n), host="plain.test")).status for n in (9, 10)] == [200, 508]


async def test_a_websocket_that_leads_back_is_refused_too(site: Site) -> None:
    async with await WebSocket.open(site.http, "/again" * 8 + "/ws", host="plain.test") as websocket:
        assert await websocket.ask(b"x") == b"x"
    with pytest.raises(AssertionError, match="508"):
        await WebSocket.open(site.http, "/again" * 9 + "/ws", host="plain.test")


def marks(answer: Response) -> list[str]:
    """The headers by which fleets count, as the application received them."""
    return [name.lower() for name, _ in answer.json()["headers"] if re.fullmatch("x-passages-[0-9a-f]{16}", name.lower())]


async def test_a_backend_sees_the_mark_on_what_has_come_back_only(site: Site) -> None:
    first, second, third = [await site.get(path(n), host="plain.test") for n in (1, 2, 3)]
    (mark,) = marks(second)
    assert [marks(answer) for answer in (first, third)] == [[], [mark]]
    assert (second.received(mark), third.received(mark)) == (["h"], ["hh"])
    assert not [name for name, _ in (*first.json()["headers"], *third.json()["headers"]) if name.lower().startswith("x-xds")]


@pytest.mark.parametrize("name", ["X-Scheme", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Real-IP"])
async def test_a_backend_sees_no_mark_where_a_client_says_something_of_its_scheme(site: Site, name: str) -> None:
    assert marks(await site.get("/end", host="plain.test", headers=[(name, "https")])) == []


async def test_what_a_client_says_of_passages_counts_for_itself_alone(site: Site) -> None:
    """Whoever has learnt the mark from a backend can have its own requests refused, and nothing else."""
    answer = await site.get("/end", host="plain.test", headers=[("X-Xds-Arrived", "h")] * 3)
    assert (answer.status, marks(answer), answer.received("x-xds-arrived")) == (200, [], [])
    (mark,) = marks(await site.get(path(2), host="plain.test"))
    for values, status in ((["h" * 7], 200), (["h" * 8], 508), (["h" * 5000], 508), (["é" * 8], 508), (["h"] * 9, 200)):
        assert (await site.get("/end", host="plain.test", headers=[(mark, value) for value in values])).status == status
    assert (await site.get("/end", host="plain.test", headers=[("x-passages-0123456789abcdef", "h" * 20)])).status == 200
    assert (await site.get("/end", host="plain.test")).status == 200


async def test_two_fleets_in_a_row_count_each_for_itself(site: Site, tmp_path: Path) -> None:
    """Seven passages of the first, the last of which leads through another fleet."""
    async with Site(tmp_path) as second:
        where = await second.run(HttpApp("behind"))
        second.folder.write("behind.yaml", *backend("behind", where), ingress("behind", "rows.test", {"/": ("behind", 80)}))
        await second.start()
        await second.until_answered("/", "behind", host="rows.test")
        itself = service("rows"), endpoint_slice("rows", [site.http])
        again = ingress("rows-again", "rows.test", {AGAIN: ("rows", 80)}, {"rewrite-target": "/$2"}, path_type="ImplementationSpecific")
        site.folder.write("rows.yaml", *itself, again, *backend("other", second.http), ingress("rows", "rows.test", {"/": ("other", 80)}))
        await site.until_answered("/again/", "behind", host="rows.test")
        answer = await site.get(path(9), host="rows.test")
        assert (answer.status, answer.app) == (200, "behind")
        assert sorted(value for mark in marks(answer) for value in answer.received(mark)) == ["h", "h" * 8]


async def test_a_restart_with_a_state_folder_keeps_the_mark_and_without_one_makes_another(tmp_path: Path) -> None:
    async def mark_of(*flags: str) -> tuple[str, str]:
        """The mark, and the version of the listener."""
        async with AsyncExitStack() as stack:
            once = await stack.enter_async_context(Site(tmp_path))
            await once.start(*flags)
            dump = await once.envoy.config_dump()
            (found,) = set(re.findall("x-passages-[0-9a-f]{16}", json.dumps(dump)))
            return found, json.dumps(dump["ListenersConfigDump"]).count(found)  # type: ignore[return-value]

    kept = [await mark_of("--state-dir", str(tmp_path / "state")) for _ in range(2)]
    other = await mark_of()
    assert kept[0] == kept[1] != other
    assert {in_listeners for _, in_listeners in (*kept, other)} == {0}


async def test_an_internal_redirect_is_no_passage(site: Site, tmp_path: Path) -> None:
    """Envoy follows a backend's redirect by itself: its route and headers are looked at again, and the request has not come back."""
    app = await site.run(HttpApp("target"))
    ports = [site.ports.take(), site.ports.take()]
    bouncing = RawHttp(b"HTTP/1.1 302 Found\r\nLocation: http://bounce.test:%d/end\r\nContent-Length: 0\r\n\r\n" % ports[0])
    folder = tmp_path / "manifests"
    async with Site(tmp_path) as once:
        once.folder.write("app.yaml", *backend("target", app), *backend("bouncing", await site.run(bouncing)))
        once.folder.write("ingress.yaml", ingress("bounce", "bounce.test", {"/": ("target", 80), "/bounce": ("bouncing", 80)}))
        flags = ("--http-port", str(ports[0]), "--https-port", str(ports[1]), "--listen-address", "127.0.0.1", "-o", "json")
        code, out, err = await run([*XDS, "translate", str(folder), "--static", *flags])
        assert code == 0, err
        config = json.loads(out)
        redirected = 0
        for route in _routes(config):
            if "bouncing" in json.dumps(route.get("route", {})):
                route["route"]["internal_redirect_policy"] = {"max_internal_redirects": 5, "redirect_response_codes": [302]}
                redirected += 1
        assert redirected
        await once.static_envoy(config)
        for target, headers, expected in (
            ("/bounce", [], 0),
            ("/end", PASSED, 1),
            ("/bounce", PASSED, 1),
        ):
            answer = await fetch(("127.0.0.1", ports[0]), target, host=f"bounce.test:{ports[0]}", headers=headers)
            assert (answer.status, answer.app) == (200, "target")
            assert [answer.received(mark) for mark in marks(answer)] == [["h"]] * expected, target
        assert len(bouncing.heads) == 2


def _routes(config: object) -> list[dict[str, dict[str, object]]]:
    """Every route of a configuration."""
    if isinstance(config, list):
        return [found for item in config for found in _routes(item)]
    if not isinstance(config, dict):
        return []
    here = config.get("routes", []) if isinstance(config.get("routes"), list) else []
    return [*here, *(found for key, value in config.items() if key != "routes" for found in _routes(value))]
