"""Each annotation and ConfigMap key that has an effect, seen by who asks and who answers (nginx 4.2).

What other modules here look at is left to them: redirects to https, time-outs and tries that are everybody's, paths, classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from examples.apps import HttpApp, StreamServer, TcpApp
from tests.envoy.harness import (
    GrpcEcho,
    Http1,
    Http2,
    RawHttp,
    Resetting,
    Response,
    Silent,
    Site,
    Tcp,
    Tls,
    backend,
    config_map,
    endpoint_slice,
    grpc_call,
    ingress,
    make_certificate,
    secret_tls,
    server_context,
    service,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

Annotations = Mapping[str, object]

OLD, NEW = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
WEB = {"/": ("web", 80)}
PODS = ("pod-1", "pod-2", "pod-3")
ELSEWHERE = "https://elsewhere.test:8443/new/?a=b&c=d,e~f"
CERTIFICATE = make_certificate(["tls.test"])
CONFIG: Mapping[str, object] = {"proxy-stream-timeout": "1s"}
SHORT: Annotations = {"proxy-connect-timeout": 1, "proxy-read-timeout": 1, "proxy-send-timeout": 1}


class NotReading:
    """A backend that takes connections and leaves everything in them."""

    def __init__(self) -> None:
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()


class Hanging:
    """An HTTP/1 backend that never answers; `came` gets an item for each request."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.came.put_nowait(await reader.readuntil(b"\r\n\r\n"))


def rewriting() -> list[dict[str, Any]]:
    """A host for each thing that rewrite-target and use-regex do."""

    def one(name: str, path: str, target: str, **more: Any) -> dict[str, Any]:
        return ingress(name, f"{name}.test", {path: ("web", 80)}, {"rewrite-target": target}, path_type="ImplementationSpecific", **more)

    return [
        one("captures", "/something(/|$)(.*)", "/$2"),
        one("swapped", "/([a-z]+)/([0-9]+)", "/$2/$1"),
        one("missing-group", "/m/(.*)", "/$2/$1/$3"),
        one("whole", "/plain", "/new"),
        one("same", "/same", "/same"),
        one("bare-capture", "/x(/.*)", "$1"),
        one("no-slash", "/x", "new"),
        one("variables", "/v(/|$)(.*)", "of/$host/$scheme/$server_name/$2$3"),
        one("absolute", "/gone", "https://elsewhere.test/new"),
        one("absolute-captures", "/go/(.*)", "https://elsewhere.test:8443/to/$1"),
        one("absolute-host", "/bare", "https://elsewhere.test"),
        one("shared", "/api/(.*)", "/$1"),
        ingress("shared-too", "shared.test", {"/file.txt": ("other", 80)}, path_type="Exact"),
        ingress(
            "lengths",
            "lengths.test",
            {"/a/.*": ("web", 80), "/a/b/[0-9]{3}": ("other", 80)},
            {"use-regex": "true"},
            path_type="ImplementationSpecific",
        ),
        one("not-disabled", "/x(.*)", "/y$1"),
        ingress("not-disabled-too", "not-disabled.test", {"/z.z": ("other", 80)}, {"use-regex": "false"}),
    ]


def redirecting() -> list[dict[str, Any]]:
    """Hosts that send one elsewhere, with and without tls, and with rules of which a redirect knows nothing."""
    tls = {"cert": ["tls.test"]}
    wanted: Mapping[str, Annotations] = {
        "permanent": {"permanent-redirect": ELSEWHERE},
        "permanent-308": {"permanent-redirect": ELSEWHERE, "permanent-redirect-code": 308},
        "permanent-999": {"permanent-redirect": ELSEWHERE, "permanent-redirect-code": 999},
        "temporal": {"temporal-redirect": ELSEWHERE},
        "temporal-307": {"temporal-redirect": ELSEWHERE, "temporal-redirect-code": 307},
        "temporal-308": {"temporal-redirect": ELSEWHERE, "temporal-redirect-code": 308},
        "both": {"temporal-redirect": ELSEWHERE, "permanent-redirect": "https://never.test"},
        "closed-redirect": {"permanent-redirect": ELSEWHERE, "auth-url": "http://auth.invalid/check"},
        "redirect-format": {"permanent-redirect": "https://elsewhere.test/%REQ(host)%"},
    }
    return [
        *(ingress(name, f"{name}.test", WEB, annotations) for name, annotations in wanted.items()),
        ingress("unreachable", "unreachable.test", {"/": ("nobody", 80)}, {"permanent-redirect": ELSEWHERE}),
        ingress("tls", "tls.test", WEB, {"permanent-redirect": ELSEWHERE}, tls=tls),
        ingress("here", "here.test", WEB, {"permanent-redirect": "/local"}),
        ingress("root", "root.test", {"/other": ("web", 80)}, {"app-root": "/app"}, created=NEW),
        ingress("root-too", "root.test", {"/app": ("web", 80)}, {"app-root": "/never"}, created=OLD),
        ingress("root-no-slash", "root-no-slash.test", WEB, {"app-root": "app"}),
    ]


def limiting() -> list[dict[str, Any]]:
    """Sizes, times and tries."""
    wanted: Mapping[str, tuple[str, Annotations]] = {
        "small": ("web", {"proxy-body-size": "8k"}),
        "unlimited": ("web", {"proxy-body-size": 0}),
        "no-size": ("web", {"proxy-body-size": "15r"}),
        "read-timeout": ("silent", {"proxy-read-timeout": 1, "proxy-next-upstream-tries": 1}),
        "send-timeout": ("not-reading", {**SHORT, "proxy-next-upstream-tries": 1, "proxy-body-size": 0}),
        "status": ("unavailable-or-web", {"proxy-next-upstream": "http_503"}),
        "no-status": ("unavailable-or-web", {}),
        "off": ("resetting-or-web", {"proxy-next-upstream": "off"}),
        "post": ("resetting-or-web", {"proxy-next-upstream": "error non_idempotent"}),
        "by-default": ("resetting-or-web", {}),
        "another": ("resetting-or-web", {"proxy-next-upstream": "error http_503"}),
        "unbuffered": ("resetting-or-web", {"proxy-request-buffering": "off"}),
        "only-status": ("resetting-or-web", {"proxy-next-upstream": "http_503"}),
    }
    return [ingress(name, f"{name}.test", {"/": (to, 80)}, annotations) for name, (to, annotations) in wanted.items()]


def protocols() -> list[dict[str, Any]]:
    """What backends speak: host by service and protocol."""
    wanted = {
        "https": ("web-tls", "HTTPS"),
        "https-lower": ("web-tls", "https"),
        "grpc": ("grpc", "GRPC"),
        "grpcs": ("grpc-tls", "GRPCS"),
        "auto-plain": ("web", "AUTO_HTTP"),
        "auto-tls": ("web-tls", "AUTO_HTTP"),
        "no-protocol": ("web", "SPDY"),
        "fcgi": ("web", "FCGI"),
    }
    return [ingress(name, f"{name}.test", {"/": (to, 80)}, {"backend-protocol": kind}) for name, (to, kind) in wanted.items()]


def balancing() -> list[dict[str, Any]]:
    """Three pods behind a host for each way to choose one."""
    wanted: Mapping[str, Annotations] = {
        "round-robin": {"load-balance": "round_robin"},
        "ip-hash": {"load-balance": "ip_hash"},
        "by-uri": {"upstream-hash-by": "$request_uri"},
        "by-header": {"upstream-hash-by": "$http_x_user"},
        "by-argument": {"upstream-hash-by": "$arg_user"},
        "by-cookie": {"upstream-hash-by": "${cookie_user}"},
        "by-type": {"upstream-hash-by": "$content_type $server_protocol"},
    }
    uneven: Mapping[str, Annotations] = {"ewma": {"load-balance": "ewma"}, "least-conn": {"load-balance": "least_conn"}, "neither": {}}
    return [
        *(ingress(name, f"{name}.test", {"/": ("pods", 80)}, annotations) for name, annotations in wanted.items()),
        *(ingress(name, f"{name}.test", {"/": ("uneven", 80)}, annotations) for name, annotations in uneven.items()),
    ]


def closing() -> list[dict[str, Any]]:
    """A host with an access rule that cannot be kept, and canaries."""
    canary = {"canary": "true", "canary-weight": 100}
    return [
        ingress("closed", "closed.test", WEB, {"auth-url": "http:///check"}),
        ingress("canary-alone", "canary-alone.test", WEB, canary),
        ingress("canary", "primary.test", {"/more": ("other", 80)}, canary, created=OLD),
        ingress("primary", "primary.test", WEB, created=NEW),
        ingress("no-canary", "no-canary.test", WEB, {"canary": "false"}),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resetting() -> Resetting:
    return Resetting()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unavailable() -> RawHttp:
    return RawHttp(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hanging() -> Hanging:
    return Hanging()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tcp_port(shared_site: Site) -> int:
    return shared_site.ports.take()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, resetting: Resetting, unavailable: RawHttp, hanging: Hanging, tcp_port: int) -> Site:
    """Every object of this module at once: what one does must not show in another."""
    run, write = shared_site.run, shared_site.folder.write
    web, other = await run(HttpApp("web")), await run(HttpApp("other"))
    tls = HttpApp("web-tls", tls=server_context(CERTIFICATE))
    endpoints = {
        "web": [web],
        "other": [other],
        "web-tls": [await run(tls)],
        "grpc": [await run(GrpcEcho("plain"))],
        "grpc-tls": [await run(GrpcEcho("tls", CERTIFICATE))],
        "silent": [await run(Silent())],
        "unavailable-or-web": [await run(unavailable), web],
        "resetting-or-web": [await run(resetting), web],
        "not-reading": [await run(NotReading())],
        "uneven": [await run(hanging), web, other],
        "pods": [await run(HttpApp(name)) for name in PODS],
        "tcp": [await run(TcpApp("tcp"))],
    }
    for name, addresses in endpoints.items():
        write(f"app-{name}.yaml", *backend(name, *addresses))
    write(
        "ingresses.yaml", *rewriting(), *redirecting(), *limiting(), *protocols(), *balancing(), *closing(), secret_tls("cert", CERTIFICATE)
    )
    at = {name: service(name, other[1], cluster_ip=other[0]) for name in ("at-address", "no-pods")} | {
        "headless": service("headless", web[1], cluster_ip="None")
    }
    slices = [endpoint_slice(name, [web]) for name in ("at-address", "headless")]
    paths = {f"/{name}": (name, web[1] if name == "headless" else other[1]) for name in at}
    by_address = [ingress("by-address", "by-address.test", paths, {"service-upstream": "true"})]
    write("by-address.yaml", *at.values(), *slices, *by_address, ingress("by-pod", "by-pod.test", paths))
    write("tcp.yaml", config_map("tcp", {str(tcp_port): "default/tcp:80"}))
    write("config.yaml", config_map("config", CONFIG))
    await shared_site.start("--configmap", "default/config", "--tcp-services-configmap", "default/tcp")
    return shared_site


async def ask(site: Site, host: str, target: str = "/", **more: Any) -> Response:
    return await site.get(target, host=f"{host}.test", **more)


async def whoever(site: Site, host: str, target: str = "/", **more: Any) -> str | int:
    """The name of the application that answers, or the status where none does."""
    response = await ask(site, host, target, **more)
    return response.app or response.status


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("host", "sent", "received"),
    [
        ("captures", "/something", "/"),
        ("captures", "/something/", "/"),
        ("captures", "/something/a/b", "/a/b"),
        ("captures", "/SomeThing/A", "/A"),
        ("captures", "/something/a?q=/something/x&r", "/a?q=/something/x&r"),
        ("captures", "/somethingelse", 404),
        ("captures", "/other", 404),
        ("swapped", "/abc/42/rest", "/42/abc"),
        ("swapped", "/abc/x42", 404),
        ("missing-group", "/m/x", "//x/"),
        ("whole", "/plain", "/new"),
        ("whole", "/plain/more?q", "/new?q"),
        ("whole", "/plainer", "/new"),
        ("same", "/same", "/same"),
        ("same", "/same/more", "/same"),
        ("same", "/samex", "/same"),
        ("same", "/SAME", "/same"),
        ("same", "/other", 404),
        ("bare-capture", "/x/y", "/y"),
        ("no-slash", "/x", "/new"),
        ("variables", "/v/a%20b/c?q=/v/x", "/of/variables.test/http/variables.test/a%20b/c?q=/v/x"),
        ("variables", "/v", "/of/variables.test/http/variables.test/"),
        ("shared", "/api/v1", "/v1"),
        ("shared", "/file.txt", "/file.txt"),
        ("shared", "/FILE-txt-old", "/FILE-txt-old"),
        ("lengths", "/a/b/12", "/a/b/12"),
        ("not-disabled", "/xa", "/ya"),
        ("not-disabled", "/zzz/more", "/zzz/more"),
    ],
)
async def test_a_backend_gets_the_path_that_rewrite_target_makes(site: Site, host: str, sent: str, received: str | int) -> None:
    response = await ask(site, host, sent)
    assert (response.json()["path"] if response.app else response.status) == received


@pytest.mark.usefixtures("steady")
async def test_of_two_expressions_the_longer_text_is_tried_first(site: Site) -> None:
    assert [await whoever(site, "lengths", target) for target in ("/a/b/123", "/a/b/12", "/a/b")] == ["other", "web", "web"]


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("host", "sent", "location"),
    [
        ("absolute", "/gone/forever?q=1", "https://elsewhere.test/new?q=1"),
        ("absolute", "/GONE", "https://elsewhere.test/new"),
        ("absolute-captures", "/go/x/y", "https://elsewhere.test:8443/to/x/y"),
        ("absolute-captures", "/go/a%20b?c", "https://elsewhere.test:8443/to/a%20b?c"),
        ("absolute-captures", "/go/", "https://elsewhere.test:8443/to/"),
        ("absolute-host", "/bare?q", "https://elsewhere.test/?q"),
    ],
)
async def test_a_rewrite_to_a_whole_address_is_a_redirect(site: Site, host: str, sent: str, location: str) -> None:
    response = await ask(site, host, sent)
    assert (response.status, response.header("location")) == (302, location)
    assert "<h1>302 Found</h1>" in response.text


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("permanent", 301),
        ("permanent-308", 308),
        ("permanent-999", 301),
        ("temporal", 302),
        ("temporal-307", 307),
        ("temporal-308", 302),
        ("both", 302),
        ("closed-redirect", 301),
        ("unreachable", 301),
        ("tls", 301),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_a_redirect_comes_before_all_else_and_names_the_address_as_it_was_written(
    site: Site, host: str, status: int, method: str
) -> None:
    response = await ask(site, host, "/any/path?q=1", method=method)
    assert (response.status, response.header("location")) == (status, ELSEWHERE)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("tls", [None, Tls("here.test")], ids=["http", "https"])
async def test_a_redirect_to_a_path_names_the_host_without_a_port(site: Site, tls: Tls | None) -> None:
    response = await site.get("/x?q=1", host="Here.test:8081", tls=tls)
    assert (response.status, response.header("location")) == (301, f"{'https' if tls else 'http'}://here.test/local")


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        *(("/", None), ("/?q=1", None), ("//", None), ("///?q", None), ("/%2F", None), ("/%2f/", None), ("/.", None)),
        *(("/app", "web"), ("/app/x", "web"), ("/other", "web"), ("/x", 404)),
    ],
)
async def test_app_root_is_where_the_bare_host_leads_and_nothing_else(site: Site, target: str, expected: str | int | None) -> None:
    response = await site.get(target, host="root.test:8081")
    if expected is None:
        assert (response.status, response.header("location")) == (302, "http://root.test:8081/app")
    else:
        assert (response.app or response.status) == expected


@pytest.mark.usefixtures("steady")
async def test_app_root_keeps_the_scheme_and_has_no_hsts(site: Site) -> None:
    response = await site.get("/", host="root.test", tls=Tls("root.test"))
    assert (response.status, response.header("location")) == (302, "https://root.test/app")
    assert response.header("strict-transport-security") is None
    assert (await site.get("/app", host="root.test", tls=Tls("root.test"))).header("strict-transport-security")


@pytest.mark.usefixtures("steady")
async def test_an_app_root_that_is_no_absolute_path_has_no_effect(site: Site) -> None:
    assert await whoever(site, "root-no-slash", "/") == "web"


async def upload(site: Site, host: str, size: int, *, chunked: bool) -> int | str:
    """Send a body of so many bytes; the status, or the name of the application where it read them all."""
    body = b"x" * size
    async with await Http1.open(site.http) as connection:
        if chunked:
            head = f"POST / HTTP/1.1\r\nHost: {host}.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            await connection.send(head.encode() + f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
            response = await connection.receive("POST")
        else:
            response = await connection.request("POST", host=f"{host}.test", body=body)
    return response.app if response.app and response.json()["body_length"] == size else response.status


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(
    ("host", "size", "expected"),
    [
        ("small", 8 << 10, "web"),
        ("small", (8 << 10) + 1, 413),
        ("unlimited", 3 << 20, "web"),
        ("no-size", 1 << 20, "web"),
        ("no-size", (1 << 20) + 1, 413),
    ],
)
async def test_a_body_is_as_large_as_it_may_be(site: Site, host: str, size: int, expected: str | int, *, chunked: bool) -> None:
    assert await upload(site, host, size, chunked=chunked) == expected


@pytest.mark.usefixtures("steady")
async def test_a_backend_that_says_nothing_for_the_read_timeout_is_504(site: Site) -> None:
    assert await whoever(site, "read-timeout") == 504


@pytest.mark.usefixtures("steady")
async def test_a_request_whose_body_the_backend_does_not_take_ends_after_the_send_timeout(site: Site) -> None:
    """The body is more than all buffers on the way can hold. nginx says 504."""
    async with await Http1.open(site.http) as connection:
        size = 32 << 20
        await connection.send(f"POST / HTTP/1.1\r\nHost: send-timeout.test\r\nContent-Length: {size}\r\n\r\n".encode())
        sending = asyncio.create_task(connection.send(b"x" * size))
        response = await connection.receive("POST")
        assert not sending.done()
        sending.cancel()
    assert response.status == 408


@pytest.mark.usefixtures("steady")
async def test_the_next_endpoint_is_tried_after_the_statuses_that_are_named(site: Site, unavailable: RawHttp) -> None:
    assert [await whoever(site, "status") for _ in range(6)] == ["web"] * 6
    assert unavailable.heads
    assert {await whoever(site, "no-status") for _ in range(6)} == {"web", 503}


@pytest.mark.usefixtures("steady")
async def test_no_endpoint_is_tried_after_a_failure_where_that_is_off(site: Site) -> None:
    assert {await whoever(site, "off") for _ in range(6)} == {"web", 502}


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("host", "method", "body", "again"),
    [
        ("by-default", "GET", b"", True),
        ("by-default", "PUT", b"x", True),
        ("by-default", "POST", b"", False),
        ("by-default", "PATCH", b"x", False),
        ("another", "PUT", b"x", True),
        ("another", "POST", b"", False),
        ("unbuffered", "GET", b"", True),
        ("unbuffered", "PUT", b"x", False),
        ("unbuffered", "POST", b"x", False),
        ("only-status", "GET", b"", False),
    ],
)
async def test_who_is_tried_again_after_a_failure(site: Site, host: str, method: str, body: bytes, again: bool) -> None:
    """The header of a route stands against that of the table, also where it says nothing."""
    assert {await whoever(site, host, method=method, body=body) for _ in range(6)} == ({"web"} if again else {"web", 502})


@pytest.mark.usefixtures("steady")
async def test_a_post_is_repeated_where_that_is_allowed(site: Site, resetting: Resetting) -> None:
    before = resetting.hits
    assert [await whoever(site, "post", method="POST", body=b"x") for _ in range(6)] == ["web"] * 6
    assert resetting.hits > before


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("host", "over_http", "over_https"),
    [
        ("https", "web-tls", "web-tls"),
        ("https-lower", "web-tls", "web-tls"),
        ("auto-plain", "web", 502),
        ("auto-tls", 502, "web-tls"),
        ("no-protocol", "web", "web"),
        ("fcgi", "web", "web"),
    ],
)
async def test_a_backend_is_spoken_to_as_it_wants(site: Site, host: str, over_http: str | int, over_https: str | int) -> None:
    assert await whoever(site, host) == over_http
    assert await whoever(site, host, tls=Tls(f"{host}.test")) == over_https


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(("host", "name"), [("grpc", "plain"), ("grpcs", "tls")])
async def test_grpc_reaches_its_backend_from_either_port(site: Site, host: str, name: str) -> None:
    assert await grpc_call(site.http, b"hello", host=f"{host}.test") == f"{name}: hello".encode()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await grpc_call(site.http, b"hello", host=f"{host}.test", metadata=(("x-status", "5"),))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    async with await Http2.open(site.https, tls=Tls(f"{host}.test")) as h2:
        headers = [("content-type", "application/grpc"), ("te", "trailers")]
        answer = await h2.request(
            "POST", "/any.Service/Method", host=f"{host}.test", headers=headers, body=b"\0\0\0\0\5hello", scheme="https"
        )
    assert answer.body[5:] == f"{name}: hello".encode()
    assert ("grpc-status", "0") in answer.trailers


async def pods(site: Site, host: str, targets: list[str], **more: Any) -> list[str]:
    """Who answers each of these, one after the other."""
    return [(await ask(site, host, target, **more)).app for target in targets]


@pytest.mark.usefixtures("steady")
async def test_round_robin_gives_everybody_the_same(site: Site) -> None:
    found = await pods(site, "round-robin", ["/"] * 12)
    assert {pod: found.count(pod) for pod in PODS} == dict.fromkeys(PODS, 4)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(("host", "least", "most"), [("ewma", 1, 25), ("least-conn", 1, 25), ("neither", 33, 34)])
async def test_who_has_much_to_do_is_given_less_where_that_is_asked_for(
    site: Site, hanging: Hanging, host: str, least: int, most: int
) -> None:
    """Of two endpoints taken at random the better one gets the request: one in three that never answers, every ninth request."""
    hung: list[asyncio.Task[str | int]] = []
    answered: list[asyncio.Task[str | int]] = []
    for _ in range(100):
        came = asyncio.create_task(hanging.came.get())
        asked = asyncio.create_task(whoever(site, host))
        await asyncio.wait([came, asked], return_when=asyncio.FIRST_COMPLETED)
        (hung if came.done() else answered).append(asked)
        came.cancel()
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    assert {task.result() for task in answered} == {"web", "other"}
    assert least <= len(hung) <= most


async def whom(site: Site, client: str, host: str) -> str:
    """Who answers a client of this address."""
    reader, writer = await asyncio.open_connection(*site.http, local_addr=(client, 0))
    async with Http1(reader, writer) as connection:
        return (await connection.request(host=host)).app


@pytest.mark.usefixtures("steady")
async def test_a_client_stays_with_its_pod_and_clients_are_spread(site: Site) -> None:
    clients = [f"127.0.0.{last}" for last in range(1, 25)]
    first = {client: await whom(site, client, "ip-hash.test") for client in clients}
    assert {client: await whom(site, client, "ip-hash.test") for client in reversed(clients)} == first
    assert set(first.values()) == set(PODS)


HASHED: Mapping[str, Any] = {
    "by-uri": lambda value: (f"/{value}?q={value}", []),
    "by-header": lambda value: ("/", [("X-User", value)]),
    "by-argument": lambda value: (f"/{len(value)}?a=b&user={value}", []),
    "by-cookie": lambda value: ("/", [("Cookie", f"a=b; user={value}")]),
    "by-type": lambda value: ("/", [("Content-Type", f"text/{value}")]),
}


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("host", HASHED)
async def test_what_is_hashed_by_decides_which_pod_answers(site: Site, host: str) -> None:
    async def who(value: str) -> str:
        target, headers = HASHED[host](value)
        return (await ask(site, host, target, headers=headers)).app

    values = [f"value-{number * number}" for number in range(24)]
    first = {value: await who(value) for value in values}
    assert {value: await who(value) for value in reversed(values)} == first
    assert set(first.values()) == set(PODS)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("name", "by_address", "by_pod"), [("at-address", "other", "web"), ("no-pods", "other", 503), ("headless", "web", "web")]
)
async def test_service_upstream_leads_to_the_address_of_the_service(site: Site, name: str, by_address: str, by_pod: str | int) -> None:
    assert await whoever(site, "by-address", f"/{name}") == by_address
    assert await whoever(site, "by-pod", f"/{name}") == by_pod


@pytest.mark.usefixtures("steady")
async def test_what_an_access_rule_protects_is_closed_where_the_rule_cannot_be_kept(site: Site) -> None:
    assert await whoever(site, "closed") == 503


@pytest.mark.usefixtures("steady")
async def test_a_canary_claims_nothing(site: Site) -> None:
    assert await whoever(site, "canary-alone") == 404
    assert [await whoever(site, "primary", target) for target in ("/", "/more")] == ["web", "web"]
    assert await whoever(site, "no-canary") == "web"


UNREADABLE = {
    "no-size": "proxy-body-size is '15r'",
    "no-protocol": "backend-protocol is 'SPDY'",
    "fcgi": "backend-protocol is FCGI",
    "permanent-999": "permanent-redirect-code is 999",
    "root-no-slash": "app-root is 'app', which is no absolute path such as /app",
}


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_value_that_cannot_be_read_is_told_with_object_and_place(site: Site, name: str) -> None:
    line = await site.control_plane.process.line(UNREADABLE[name])
    assert "ingresses.yaml:" in line
    assert f"Ingress default/{name} metadata.annotations[nginx.ingress.kubernetes.io/" in line
    assert "has no effect." in line


@pytest.mark.usefixtures("steady")
async def test_an_address_with_a_format_in_it_leaves_its_ingress_out(site: Site) -> None:
    line = await site.control_plane.process.line("permanent-redirect is 'https://elsewhere.test/%REQ(host)%'")
    assert "Ingress default/redirect-format metadata.annotations[nginx.ingress.kubernetes.io/permanent-redirect]" in line
    assert "the Ingress is left out" in line
    assert await whoever(site, "redirect-format") == 404


@pytest.mark.usefixtures("steady")
async def test_a_tcp_connection_ends_when_it_was_idle_for_as_long_as_the_config_map_says(site: Site, tcp_port: int) -> None:
    async with await Tcp.open(("127.0.0.1", tcp_port)) as client:
        assert await client.ask("hello") == "tcp: hello"
        assert await client.line() == ""


async def until(site: Site, expected: object, host: str, **more: Any) -> None:
    """Ask until status and Location are these."""

    async def look() -> bool:
        response = await ask(site, host, "/a?b", **more)
        return (response.status, response.header("location")) == expected

    await wait_until(look, f"{host} to answer {expected}")


@pytest.mark.usefixtures("steady")
async def test_the_config_map_is_the_default_of_all_and_changes_no_listener(site: Site) -> None:
    site.folder.write("live.yaml", ingress("live", "live.test", {"/": ("web", 80), "/exempt": ("web", 80)}, tls={"cert": ["tls.test"]}))
    await until(site, (308, "https://live.test/a?b"), "live")
    before = await site.envoy.versions()
    exempt = {"http-redirect-code": 302, "no-tls-redirect-locations": "/exempt"}
    site.folder.write("config.yaml", config_map("config", {**CONFIG, **exempt, "proxy-body-size": 10, "load-balance": "least_conn"}))
    await until(site, (302, "https://live.test/a?b"), "live")
    assert await whoever(site, "live", "/exempt/x") == "web"
    assert await whoever(site, "primary", method="POST", body=b"x" * 11) == 413
    assert await upload(site, "small", 8 << 10, chunked=False) == "web"
    assert await whoever(site, "by-pod", "/at-address") == "web"
    site.folder.write(
        "config.yaml", config_map("config", {**CONFIG, "ssl-redirect": "false", "proxy-body-size": "huge", "service-upstream": "true"})
    )
    await until(site, (200, None), "live")
    assert await whoever(site, "by-pod", "/at-address") == "other"
    assert await upload(site, "primary", 11, chunked=False) == "web"
    assert "ConfigMap default/config data[proxy-body-size]" in await site.control_plane.process.line("proxy-body-size is 'huge'")
    site.folder.write("config.yaml", config_map("config", CONFIG))
    site.folder.remove("live.yaml")
    after = await site.envoy.settled(lambda versions: versions["route"] != before["route"], "the routes of the beginning")
    assert after["listener"] == before["listener"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "max-age=31536000; includeSubDomains"),
        ({"hsts-max-age": 100, "hsts-include-subdomains": "false", "hsts-preload": "true"}, "max-age=100; preload"),
        ({"hsts": "false"}, None),
    ],
    ids=["default", "other", "off"],
)
async def test_hsts_is_as_the_config_map_says_on_all_that_comes_by_https(site: Site, keys: dict[str, object], expected: str | None) -> None:
    """It stands in the https listener, which is changed for it; the http one is not."""
    listener = (await site.envoy.versions())["listener"]["http"]
    site.folder.write("config.yaml", config_map("config", {**CONFIG, **keys}))

    async def look() -> bool:
        answers = [await ask(site, host, tls=Tls(f"{host}.test")) for host in ("primary", "nobody", "permanent", "closed")]
        return [answer.header("strict-transport-security") for answer in answers] == [expected] * len(answers)

    await wait_until(look, f"all responses to have {expected}")
    assert (await ask(site, "primary")).header("strict-transport-security") is None
    assert (await site.envoy.versions())["listener"]["http"] == listener
