"""A recorded controller: a server that answers requests as ingress-nginx was recorded to answer them, and the endpoints of its sets."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from examples.apps import Address
from tests import quick_yaml
from tests.envoy.harness.tls import make_certificate, server_context
from tests.oracle.playing import ORACLE
from xds.rehearse.asking import AGENT

BY = "x-echo-by"
"""The header by which endpoints name themselves."""
OWN = {"host", "accept", "connection"}
"""Headers that every client sends."""
Exchange = dict[str, Any]


def read_set(name: str) -> dict[str, Any]:
    """A set of recorded exchanges, with endpoints on loopback: one for each Service, so that the Service is known by it."""
    text = (ORACLE / "given" / f"{name}.yaml").read_text().replace("10.77.", "127.77.").replace("10.96.", "127.96.")
    found: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for thing in found["manifests"]:
        if thing["kind"] == "EndpointSlice":
            thing["endpoints"] = thing["endpoints"][:1]
            for point in thing["endpoints"]:
                point["addresses"] = point["addresses"][:1]
    return found


def endpoints_of(found: Mapping[str, Any]) -> dict[str, Address]:
    """Service → where its endpoint listens."""
    slices = [thing for thing in found["manifests"] if thing["kind"] == "EndpointSlice"]
    return {
        thing["metadata"]["labels"]["kubernetes.io/service-name"]: (point["addresses"][0], thing["ports"][0]["port"])
        for thing in slices
        for point in thing["endpoints"]
    }


def listen(places: Sequence[Address], folder: Path) -> None:
    """Start the player's endpoints there, in threads that end with the process."""
    sys.path.insert(0, str(ORACLE))
    try:
        spec = importlib.util.spec_from_file_location("oracle_asking", ORACLE / "asking.py")
        assert spec
        assert spec.loader
        asking = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(asking)
    finally:
        sys.path.remove(str(ORACLE))
    certificates = quick_yaml.safe_load((ORACLE / "certificates.yaml").read_text())
    echo = asking.Echo(lambda _: None, folder, certificates)
    for address, port in places:
        if port != 9:  # where nothing listens
            echo.listen(address, port)


def simple(exchange: Exchange) -> bool:
    """Whether `xds rehearse` could ask it: one GET or HEAD without a body, of which the answer was recorded whole."""
    asked, answer = exchange["request"], exchange["answer"]
    names = [name.lower() for name, _ in asked.get("headers", [])]
    if len(set(names)) < len(names) or "host" in names or not asked.get("path", "/").isascii():
        return False
    odd = {"body", "source", "version", "preface", "pause", "client_certificate", "tls_version", "sni"} & asked.keys()
    plain = asked.get("method", "GET") in ("GET", "HEAD") and re.fullmatch(r"[^:]+", asked.get("host") or "") and not odd
    return bool(plain) and "repeat" not in exchange and isinstance(answer.get("status"), int) and not exchange.get("timed")


def _key(method: str, scheme: str, host: str, path: str, headers: Sequence[Sequence[str]]) -> str:
    kept = sorted((name.lower(), value) for name, value in headers if name.lower() not in OWN and value != AGENT)
    return json.dumps([method, scheme, host.lower(), path, kept])


class Recorded:
    """Answers what was recorded; other requests with 599."""

    def __init__(self, sets: Sequence[Mapping[str, Any]]) -> None:
        self._known: dict[str, tuple[Exchange, Mapping[str, Address]]] = {}
        self.asked: list[str] = []
        for one in sets:
            for each in filter(simple, one["exchanges"]):
                asked = each["request"]
                path, headers = asked.get("path", "/"), asked.get("headers", [])
                key = _key(asked.get("method", "GET"), asked.get("scheme", "http"), asked["host"], path, headers)
                self._known.setdefault(key, (each, endpoints_of(one)))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Address, Address]]:
        """Listen for http and https for the length of a block."""
        context = server_context(make_certificate(["recorded.test"]))
        http = await asyncio.start_server(lambda r, w: self._serve("http", r, w), "127.0.0.1", 0)
        https = await asyncio.start_server(lambda r, w: self._serve("https", r, w), "127.0.0.1", 0, ssl=context)
        async with http, https:
            yield http.sockets[0].getsockname()[:2], https.sockets[0].getsockname()[:2]

    async def _serve(self, scheme: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
            host = {name.lower(): value for name, value in headers}["host"]
            self.asked.append(f"{method} {scheme}://{host}{target}")
            writer.write(self._answer(method, self._known.get(_key(method, scheme, host, target, headers))))
            await writer.drain()
        writer.close()

    def _answer(self, method: str, found: tuple[Exchange, Mapping[str, Address]] | None) -> bytes:
        if found is None:
            return b"HTTP/1.1 599 Not Recorded\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answer, places = found[0]["answer"], found[1]
        lines = [f"HTTP/1.1 {answer['status']} {HTTPStatus(answer['status']).phrase}"]
        for name, values in answer.get("headers", {}).items():
            lines += [f"{name}: {value}" for value in (values if isinstance(values, list) else [values])]
        if backend := answer.get("backend"):
            lines.append(f"{BY}: {places[backend['service']][0]}")
        bare = method == "HEAD" or answer["status"] in (204, 304)
        lines += ["Connection: close"] + ([] if bare else ["Transfer-Encoding: chunked"])
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (b"" if bare else b"0\r\n\r\n")
