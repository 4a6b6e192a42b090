"""Hostile clients: whatever they do, Envoy's memory and files are bounded, and others are answered meanwhile, each one.

Attacks are bounded in count and time, and run in a thread. No figure about time is asserted: those are in `python -m bench.abuse`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import HttpApp, UdpApp
from tests.envoy.harness import (
    Http1,
    Site,
    Traffic,
    Udp,
    WebSocket,
    attacks,
    backend,
    config_map,
    endpoint_slices,
    fetch,
    ingress,
    make_certificate,
    secret_tls,
    service,
    wait_until,
)
from tests.envoy.harness.process import raise_file_limit
from xds.render.bootstrap import EARLY_RESETS
from xds.render.clusters import UDP_SESSIONS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("abuse")]

HOST = "a.test"
PATIENT = 1
"""Seconds that a header may take."""
ATTACK = 60.0
"""Seconds after which an attack gives up; those that Envoy ends take less."""
IDLE = 15_000
MANY = 128
"""Streams that a connection of HTTP/2 may have at a time."""
DOWNLOAD = 8 << 20
"""Bytes of a download; 128 of them are a gigabyte."""
LARGEST = 256 << 20
"""Bytes by which Envoy's memory may grow in any test here. Unread downloads over one connection took 2.3 GB once."""

Attack = Callable[[], attacks.Outcome]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(shared_site: Site) -> Site:
    """An Envoy with a limit of its own for headers, and a host whose paths have short time-outs."""
    short = {f"nginx.ingress.kubernetes.io/proxy-{name}": "2" for name in ("read-timeout", "send-timeout", "connect-timeout")}
    short["nginx.ingress.kubernetes.io/proxy-next-upstream"] = "off"
    web, dns = await shared_site.run(HttpApp("web")), await shared_site.run(UdpApp("dns"))
    shared_site.folder.write("web.yaml", *backend("web", web), ingress("web", HOST, {"/": ("web", 80)}))
    shared_site.folder.write("short.yaml", ingress("short", "short.test", {"/": ("web", 80)}, short))
    shared_site.folder.write("tls.yaml", ingress("tls", "tls.test", {"/": ("web", 80)}, tls={"a": ["tls.test"]}))
    shared_site.folder.write("secret.yaml", secret_tls("a", make_certificate(["tls.test"])))
    shared_site.folder.write("dns.yaml", service("dns", 5300, protocol="UDP"), *endpoint_slices("dns", [dns], protocol="UDP"))
    shared_site.folder.write("udp.yaml", config_map("udp", {str(shared_site.ports.take()): "default/dns:5300"}))
    shared_site.folder.write("keys.yaml", config_map("keys", {"client-header-timeout": str(PATIENT), "proxy-stream-timeout": "20s"}))
    await shared_site.start_control_plane("--configmap", "default/keys", "--udp-services-configmap", "default/udp")
    await shared_site.start_envoy(bootstrap=["--max-connections", str(IDLE + 100)])
    return shared_site


def memory(site: Site) -> int:
    """Bytes of Envoy that are in memory."""
    (line,) = [each for each in Path(f"/proc/{site.envoy.process.pid}/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) << 10


async def served(site: Site, *each: Attack) -> list[attacks.Outcome]:
    """Attack, by all of these at once, while others ask. Each of them is answered, and Envoy does not grow by more than LARGEST."""
    before = memory(site)
    async with Traffic(site.http, host=HOST, clients=2) as others:
        outcomes = await asyncio.gather(*(asyncio.to_thread(attack) for attack in each))
        assert memory(site) < before + LARGEST
        await others.flows(20)
    assert set(others.answers()) == {(200, "web")}
    return outcomes


def flooding(
    site: Site,
    pieces: Iterator[bytes],
    *,
    seconds: float = ATTACK,
    deaf: bool = False,
    enough: Callable[[bytes], bool] = lambda _: False,
) -> Attack:
    return lambda: attacks.flood(attacks.connected(site.http), pieces, seconds=seconds, deaf=deaf, enough=enough)


def crowding(crowd: attacks.Crowd, seconds: float = ATTACK, *, answers: int = 0) -> Attack:
    """They go after so many seconds, when the other side has closed all, or when so many answers have come."""

    def attack() -> attacks.Outcome:
        with crowd:
            return crowd.last(seconds, lambda: 0 < answers <= crowd.outcome.answers.total())

    return attack


async def test_a_flood_of_http2_frames_ends_its_own_connection(attacked: Site) -> None:
    floods = {
        "rapid resets": attacks.resets(HOST, 50_000),
        "headers without an end": attacks.continuations(HOST, 20_000),
        "headers without content": attacks.empty_continuations(HOST, 50_000),
        "settings": attacks.settings(500_000),
        "pings": attacks.pings(500_000),
        "priorities": attacks.priorities(500_000),
        "window updates": attacks.window_updates(500_000),
        "empty data": attacks.empty_data(HOST, 50_000),
    }
    deaf = ("settings", "pings")  # who reads the answers has to wait for them
    outcomes = await served(attacked, *(flooding(attacked, floods[name], deaf=name in deaf) for name in floods))
    assert {name: outcome.closed for name, outcome in zip(floods, outcomes, strict=True)} == dict.fromkeys(floods, 1)


async def test_rapid_resets_end_the_connection_sooner_than_it_costs_others_much(attacked: Site) -> None:
    name = "http.http.downstream_rq_rx_reset"
    before = (await attacked.envoy.stats(f"^{name}$"))[name]
    (outcome,) = await served(attacked, flooding(attacked, attacks.resets(HOST, 50_000)))
    assert outcome.closed == 1
    assert MANY < (await attacked.envoy.stats(f"^{name}$"))[name] - before <= EARLY_RESETS


async def test_who_stops_all_requests_of_a_page_keeps_the_connection(attacked: Site) -> None:
    last = attacks.headers_frame(2 * MANY + 1, attacks.request_block(HOST), "END_HEADERS", "END_STREAM")
    pieces = iter([*attacks.resets(HOST, MANY), last])
    (stopped,) = await served(attacked, flooding(attacked, pieces, enough=lambda heard: 2 * MANY + 1 in attacks.answered(heard)))
    assert (stopped.closed, stopped.goaway) == (0, None)
    assert stopped.streams == {2 * MANY + 1}


@pytest.mark.parametrize("at_once", [1, 7, 40])
async def test_requests_in_a_row_that_envoy_answers_itself_are_all_answered(attacked: Site, at_once: int) -> None:
    """Envoy ends a connection for which three answers wait to be sent, and sends none before it has looked at all connections."""
    kinds = [("Host: nobody.test", 404), ("Host: tls.test", 308)]
    asked = [f"GET / HTTP/1.1\r\n{line}\r\n\r\n".encode() for line, _ in kinds] * 20
    async with await Http1.open(attacked.http) as client:
        for first in range(0, len(asked), at_once):
            await client.send(b"".join(asked[first : first + at_once]))
        assert [(await client.receive()).status for _ in asked] == [status for _, status in kinds] * 20


async def test_headers_without_measure_are_refused(attacked: Site) -> None:
    headers = [attacks.many_headers(HOST, 100_000), attacks.many_headers(HOST, 1, 1 << 20)]
    outcomes = await served(attacked, *(flooding(attacked, each) for each in headers))
    assert [(outcome.closed, dict(outcome.answers)) for outcome in outcomes] == [(1, {"400": 1})] * 2


async def test_what_is_read_and_not_kept_takes_little_memory(attacked: Site) -> None:
    many = flooding(attacked, attacks.bombs(HOST, MANY), seconds=2)
    chunks = flooding(attacked, attacks.chunk_extensions(HOST, 1, 64 << 20), seconds=2)
    requests = flooding(attacked, attacks.pipelined(HOST, 50_000, "/big/100000"), seconds=2, deaf=True)
    outcomes = await served(attacked, many, chunks, requests)
    assert [outcome.opened for outcome in outcomes] == [1, 1, 1]


async def test_downloads_that_nobody_reads_take_little_memory(attacked: Site) -> None:
    asked = f"GET /big/{DOWNLOAD} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    deaf = crowding(attacks.Crowd(attacked.http, 200, asked, deaf=True, receive_buffer=4096), seconds=3)
    windows = (flooding(attacked, attacks.downloads(HOST, f"/big/{size}", MANY), seconds=3) for size in (100_000, DOWNLOAD))
    outcomes = await served(attacked, deaf, *windows)
    assert [outcome.opened for outcome in outcomes] == [200, 1, 1]


async def test_headers_and_handshakes_that_trickle_in_are_not_waited_for(attacked: Site) -> None:
    http1 = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX: ".encode()
    outcomes = await served(
        attacked,
        crowding(attacks.Crowd(attacked.http, 300, http1, trickle=b"y" * 1_000)),
        crowding(attacks.Crowd(attacked.https, 300, hello())),
    )
    assert [(outcome.opened, outcome.closed) for outcome in outcomes] == [(300, 300)] * 2


async def test_headers_over_http2_that_do_not_end_are_not_waited_for(attacked: Site) -> None:
    name = "http.http.downstream_rq_header_timeout"
    before = (await attacked.envoy.stats(f"^{name}$"))[name]
    half = attacks.opening() + attacks.headers_frame(1, attacks.request_block(HOST))
    with attacks.Crowd(attacked.http, 300, half):

        async def given_up() -> bool:
            return (await attacked.envoy.stats(f"^{name}$"))[name] == before + 300

        assert await wait_until(given_up, "Envoy to give the requests up")


def hello(name: str = "tls.test", protocols: int = 0) -> bytes:
    """The first message of TLS, to whose answer there will be none; with so many protocols of 250 bytes each."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols([f"{number:0250}" for number in range(protocols)])
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


async def test_first_messages_of_tls_that_are_large_or_nonsense_or_name_everything_take_little(attacked: Site) -> None:
    def crowd(*messages: bytes) -> Attack:
        return lambda: attacks.one_each(attacked.https, messages, seconds=ATTACK)

    large, nonsense, names = await served(
        attacked,
        crowd(*[hello(protocols=240)] * 20),
        crowd(*(b"\x16\x03\x01\x40\x00" + os.urandom(16_384) for _ in range(200))),
        crowd(*(hello(f"{number}.test") for number in range(1_000))),
    )
    assert [(each.opened, each.closed) for each in (large, nonsense)] == [(20, 20), (200, 200)]
    assert (names.opened, names.answers["handshake"]) == (1_000, 1_000)


async def test_a_body_that_pauses_ends_with_the_time_of_its_path_and_one_that_trickles_does_not(attacked: Site) -> None:
    asked = b"POST / HTTP/1.1\r\nHost: short.test\r\nContent-Length: 60\r\n\r\n"
    silent, slow = await served(
        attacked,
        crowding(attacks.Crowd(attacked.http, 100, asked)),
        crowding(attacks.Crowd(attacked.http, 100, asked, trickle=b"y" * 60, pause=0.06), answers=100),
    )
    assert silent.closed == 100
    assert (slow.closed, dict(slow.answers)) == (0, {"HTTP/1.1 200": 100})


async def test_requests_that_are_odd_to_read_take_little_and_keep_nobody_waiting(attacked: Site) -> None:
    post = f"POST / HTTP/1.1\r\nHost: {HOST}\r\n"
    get = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n"
    bytewise = [f"{post}Transfer-Encoding: chunked\r\n\r\n".encode(), *[b"1\r\nz\r\n" * 2_000] * 500, b"0\r\n\r\n"]
    ranges = f"{get}Range: bytes={','.join(f'{each}-{each}' for each in range(2_000))}\r\n\r\n".encode()
    forwarded = get.encode() + b"X-Forwarded-For: 192.0.2.1\r\n" * 900 + b"\r\n"
    dots = f"GET /{'a/../' * 5_000} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    expecting = attacks.Crowd(attacked.http, 500, f"{post}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
    once = [flooding(attacked, iter([each] * 50), seconds=3) for each in (ranges, forwarded, dots)]
    in_chunks = flooding(attacked, iter(bytewise), enough=lambda heard: b"HTTP/1.1 200" in heard)
    chunked, waiting, *others = await served(attacked, in_chunks, crowding(expecting, answers=500), *once)
    assert (chunked.closed, dict(chunked.answers)) == (0, {"200": 1})
    assert dict(waiting.answers) == {"HTTP/1.1 100": 500}
    assert [each.opened for each in others] == [1, 1, 1]


@pytest.mark.parametrize("ending", ["\r", "\n", "%0d%0a", "\0", "%00"])
async def test_no_line_that_a_client_smuggles_in_becomes_a_header(attacked: Site, ending: str) -> None:
    """Neither of an answer, by a path that a redirect repeats, nor of the request to the backend, by another header."""
    moved = await fetch(attacked.http, f"/x{ending}Smuggled:1", host="tls.test")
    assert moved.status == {"%0d%0a": 308, "\n": 404}.get(ending, 400)  # what follows a line feed is another header, and of HTTP/1.0
    assert moved.all("smuggled") == []
    if "%" not in ending:
        async with await Http1.open(attacked.http) as client:
            answer = await client.request(host=HOST, headers=[("a", f"b{ending}X-Real-IP: 192.0.2.9")])
        assert answer.status == (400 if ending == "\0" else 200)
        assert answer.status == 400 or answer.received("x-real-ip") == ["127.0.0.1"]


async def test_a_thousand_idle_websockets_take_little(attacked: Site) -> None:
    asked = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    crowd = attacks.Crowd(attacked.http, 1_000, f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\n{asked}".encode())

    def attack() -> attacks.Outcome:
        with crowd:
            return crowd.last(3 * ATTACK, lambda: crowd.outcome.answers["HTTP/1.1 101"] == crowd.count)

    (outcome,) = await served(attacked, attack)
    assert (outcome.opened, outcome.closed, dict(outcome.answers)) == (1_000, 0, {"HTTP/1.1 101": 1_000})


async def test_an_idle_websocket_ends_with_the_time_of_its_path(attacked: Site) -> None:
    async with await WebSocket.open(attacked.http, host="short.test") as idle, await WebSocket.open(attacked.http, host=HOST) as patient:
        with pytest.raises((EOFError, ConnectionError)):
            await idle.receive()
        assert await patient.ask(b"still here") == b"still here"


async def test_idle_connections_keep_nobody_out(attacked: Site) -> None:
    assert raise_file_limit() > IDLE + 1_000, "this machine allows too few open files"
    (outcome,) = await served(attacked, crowding(attacks.Crowd(attacked.http, IDLE), seconds=2))
    assert (outcome.opened, outcome.closed) == (IDLE, 0)


async def test_datagrams_from_everywhere_take_no_more_files_than_one_entry_may(attacked: Site) -> None:
    (name,) = [name for name in await attacked.envoy.listeners() if name.startswith("udp/")]
    address = ("127.0.0.1", int(name.removeprefix("udp/")))

    most: list[int] = []

    def files() -> int:
        return len(os.listdir(f"/proc/{attacked.envoy.process.pid}/fd"))

    def attack() -> attacks.Outcome:
        """Until all sessions are there, however many datagrams the kernel drops, and then as many as would double them."""
        outcome, end = attacks.Outcome(), time.monotonic() + 3 * ATTACK
        while files() <= UDP_SESSIONS and time.monotonic() < end:
            outcome.opened += attacks.datagrams(address, 500)
        for _ in range(UDP_SESSIONS // 500):
            outcome.opened += attacks.datagrams(address, 500)
            most.append(files())
        return outcome

    await served(attacked, attack)
    assert UDP_SESSIONS < max(most) < UDP_SESSIONS + 500

    async def answered() -> bool:
        async with await Udp.open(address) as client:
            return (await client.ask(b"hello")).startswith(b"dns")

    assert await wait_until(answered, "the sessions to end, and one more to begin")


@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
async def test_a_client_that_pauses_gets_a_download_whole(attacked: Site, headers: str) -> None:
    """What it has not read is in Envoy's buffer and the kernel's, in other shares each time, when Envoy has the whole answer."""
    size = 500_000
    asked = f"GET /big/{size} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode()

    def read(pause_at: int) -> int:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            client.settimeout(30)
            client.connect(attacked.http)
            client.sendall(asked)
            got, paused = 0, False
            while got < size and (data := client.recv(4_096)):
                got += len(data)
                if got > pause_at and not paused:
                    time.sleep(2)  # what this client does, not what this test waits for
                    paused = True
            return got

    found = await asyncio.gather(*(asyncio.to_thread(read, size - left) for left in range(100_000, 300_000, 20_000)))
    assert min(found) >= size
