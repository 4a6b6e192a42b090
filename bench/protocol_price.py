"""What a request costs Envoy by the protocol that it comes with, in microseconds of its CPU: ours beside a bare Envoy.

    python -m bench.protocol_price           three minutes
    python -m bench.protocol_price gRPC      the rows with this word only

Measured as `bench.request_price` does it, with the access log. Both Envoys have the same certificate. HTTP/2 and gRPC need h2load
(Debian package nghttp2-client); a gRPC request has one message of no bytes, and the backend answers with trailers alone.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench import proxies
from bench.request_price import (
    LIKE_OURS,
    MARKS,
    OURS,
    Asking,
    Missing,
    beside,
    by_wrk,
    cores,
    envoy,
    in_turns,
    need_programs,
    nginx,
    show,
    times,
)
from bench.table import Table, marked, number
from tests.envoy.harness import Ports, make_certificate

_HOST = proxies.hosts(1)[0]
_SESSIONS, _STREAMS = 8, 4
"""Connections of HTTP/2, and the requests that are open on each."""
_LONGEST = 60
"""Seconds after which there must have been an answer."""
_EMPTY_MESSAGE = bytes(5)
"""gRPC's frame around a message of no bytes."""


def by_h2load(scheme: str, *, grpc: bool = False) -> Asking:
    """Requests over HTTP/2 connections that are kept."""

    def ask(port: int, seconds: int) -> int:
        with tempfile.NamedTemporaryFile() as message:
            message.write(_EMPTY_MESSAGE)
            message.flush()
            call = ["-d", message.name, "-H", "content-type: application/grpc", "-H", "te: trailers"] if grpc else []
            url = f"{scheme}://{_HOST}:{port}/{'bench.Service/Method' if grpc else ''}"
            host = [f"--connect-to=127.0.0.1:{port}", "-H", f":authority: {_HOST}"]
            load = ["h2load", f"-c{_SESSIONS}", f"-m{_STREAMS}", f"-D{seconds}", *host, *call, url]
            said = beside(load, seconds)
        found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
        assert found, said
        assert found.groups()[1:] == ("0", "0", "0"), said
        if found[1] == "0":  # a busy machine may take longer for the handshakes
            assert seconds < _LONGEST, said
            return ask(port, 2 * seconds)
        return int(found[1])

    return ask


def by_handshakes(*, resumed: bool) -> Asking:
    """A connection for each request, one after the other."""

    def ask(port: int, seconds: int) -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        session = _connected(context, port, None) if resumed else None
        count, end = int(resumed), time.monotonic() + seconds
        while time.monotonic() < end:
            _connected(context, port, session)
            count += 1
        return count

    return ask


def _connected(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """One request over a connection of its own, which resumes a session if there is one. Returns the session that the server offers."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_LONGEST) as plain,
        context.wrap_socket(plain, server_hostname=_HOST, session=session) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {_HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert connection.session_reused == (session is not None)
        return connection.session


@dataclass(frozen=True)
class Way:
    """A way by which requests come: who asks, over TLS or not, and the backend's protocol."""

    ask: Asking
    tls: bool = True
    grpc: bool = False


WAYS: Mapping[str, Way] = {
    "HTTP/1.1": Way(by_wrk(1), tls=False),
    "HTTP/1.1 over TLS, connections kept": Way(by_wrk(1, "https")),
    "HTTP/1.1 over TLS, a new connection each": Way(by_handshakes(resumed=False)),
    "HTTP/1.1 over TLS, a resumed session each": Way(by_handshakes(resumed=True)),
    "HTTP/2": Way(by_h2load("http"), tls=False),
    "HTTP/2 over TLS": Way(by_h2load("https")),
    "gRPC over TLS": Way(by_h2load("https", grpc=True), grpc=True),
}


def compared(way: Way, *, seconds: int, rounds: int) -> dict[str, list[float]]:
    """Prices of a bare Envoy and ours, round by round."""
    ports, names = Ports(), proxies.hosts(1)
    certificate = make_certificate([_HOST])
    with contextlib.ExitStack() as stack:
        stack.callback(ports.release)
        back = ports.take()
        write = proxies.answering_grpc if way.grpc else proxies.answering_nginx
        stack.enter_context(nginx(lambda folder: write(back, folder), back, cores()[1], answers=not way.grpc))
        running = {}
        for name in (LIKE_OURS, OURS):
            port, secure = ports.take(), ports.take()
            config = (
                proxies.ours(port, secure, back, names, {"backend-protocol": "GRPC"} if way.grpc else None, certificate=certificate)
                if name == OURS
                else proxies.with_tls(proxies.bare_envoy(port, back, names, as_ours=True, log=True, grpc=way.grpc), secure, certificate)
            )
            made = stack.enter_context(envoy(config, port, answers=not way.grpc))
            running[name] = replace(made, port=secure) if way.tls else made
        return in_turns(running, way.ask, seconds=seconds, rounds=rounds)


def measure(ways: Sequence[str] = tuple(WAYS), *, seconds: int = 1, rounds: int = 7) -> Table:
    """A row for each of these ways. Raises Missing."""
    need_programs()
    if shutil.which("h2load") is None:
        raise Missing("h2load cannot be found; on Debian: apt-get install nghttp2-client")
    table = Table(
        "A request by its protocol, µs of Envoy's CPU",
        ("protocol", "like ours, µs", "ours, µs", "more", "×", "mark", ""),
        note=f"Medians of {rounds} rounds of {seconds} s, in turns; one host, one worker, with the access log. "
        "The other Envoy is bare, but treats paths, ids and names of headers as ours does.",
    )
    for name in ways:
        found = compared(WAYS[name], seconds=seconds, rounds=rounds)
        bare, own = (statistics.median(found[each]) for each in (LIKE_OURS, OURS))
        ratio = times(found[OURS], found[LIKE_OURS])
        more = statistics.median(each - other for each, other in zip(found[OURS], found[LIKE_OURS], strict=True))
        table.add(name, number(bare), number(own), f"{more:+.1f}", f"{ratio:.2f}", *marked(ratio, "", MARKS[True])[1:])
    return table


def main(word: str = "") -> int:
    """Print the table, or a sentence where something is missing."""
    return show("protocol_price", lambda: measure([name for name in WAYS if word in name]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
