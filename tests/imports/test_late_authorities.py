"""TLS contexts that wait for the authorities of the system verify as others do, from their first connection."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.envoy.harness.process import ROOT, environment
from tests.envoy.harness.tls import make_certificate
from xds.imports.late_authorities import late

CLIENT = """
import asyncio, sys
import xds
import aiohttp
from aiohttp.connector import _SSL_CONTEXT_VERIFIED as context

async def ask():
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(sys.argv[1]) as response:
                return response.status
        except aiohttp.ClientConnectorCertificateError:
            return "unknown authority"

print(type(context).__name__, asyncio.run(ask()), type(context).__name__)
"""


def test_a_context_that_waits_is_an_ordinary_one_from_its_first_use() -> None:
    with late():
        waiting, unused = ssl.create_default_context(), ssl.create_default_context()
    ordinary = ssl.create_default_context()
    assert type(waiting) is type(unused) is not ssl.SSLContext
    assert isinstance(waiting, ssl.SSLContext)
    assert type(ordinary) is ssl.SSLContext
    assert waiting.verify_mode is ssl.CERT_REQUIRED
    assert waiting.check_hostname
    assert (waiting.cert_store_stats(), len(waiting.get_ca_certs())) == (ordinary.cert_store_stats(), len(ordinary.get_ca_certs()))
    assert type(waiting) is ssl.SSLContext
    unused.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.com")
    assert unused.cert_store_stats() == ordinary.cert_store_stats()


@pytest.mark.parametrize("is_known", [True, False])
async def test_aiohttp_verifies_by_the_authorities_of_the_system(is_known: bool, tmp_path: Path) -> None:
    made = make_certificate(["localhost"])
    (tmp_path / "chain.pem").write_bytes(made.cert_pem)
    (tmp_path / "key.pem").write_bytes(made.key_pem)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", ssl=served) as server:
        port = server.sockets[0].getsockname()[1]
        authorities = {"SSL_CERT_FILE": str(tmp_path / "chain.pem"), "SSL_CERT_DIR": str(tmp_path)} if is_known else {}
        child = [sys.executable, "-c", CLIENT, f"https://localhost:{port}/"]
        done = await asyncio.to_thread(
            subprocess.run, child, capture_output=True, text=True, cwd=ROOT, env=environment() | authorities, check=False
        )
    said = "204" if is_known else "unknown authority"
    assert done.stdout == f"_LateContext {said} SSLContext\n", done.stderr
