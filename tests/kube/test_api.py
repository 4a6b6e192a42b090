"""The connection to the API server, before anything is asked."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from xds.certificates import default_certificate
from xds.config import Failure, Flags
from xds.kube.apiserver.api import Api

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def kubeconfig(path: Path, certificate: bytes, key: bytes, server: str = "https://127.0.0.1:1") -> Path:
    """One that holds its certificates and its key in itself, as those of most clusters do."""
    encoded = {name: base64.b64encode(pem).decode() for name, pem in (("certificate", certificate), ("key", key))}
    user = {"client-certificate-data": encoded["certificate"], "client-key-data": encoded["key"]}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": encoded["certificate"]}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def test_no_key_of_a_kubeconfig_stays_in_a_file(tmp_path: Path, scratch: Path) -> None:
    """Whatever ends the process; and credentials are read again as often as they are renewed."""
    api = Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", *default_certificate.make())))
    try:
        await api.open()
        assert files(scratch) == []
        await api.renew(api.renewals)
        assert files(scratch) == []
    finally:
        await api.close()


async def test_no_key_of_a_kubeconfig_that_cannot_be_used_stays_either(tmp_path: Path, scratch: Path) -> None:
    certificate, _ = default_certificate.make()
    _, other = default_certificate.make()
    with pytest.raises(Failure, match=r"^The kubeconfig .* cannot be used: "):
        await Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", certificate, other))).open()
    assert files(scratch) == []


@pytest.fixture
async def plain() -> AsyncIterator[tuple[str, list[bytes]]]:
    """The URL of a server without TLS, and the heads of the requests that it was sent; it hangs up after each."""
    heads: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    server.close()
    await server.wait_closed()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One that names no proxy."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def ask(api: Api) -> None:
    """A request, which is not answered."""
    try:
        await api.open()
        with pytest.raises((aiohttp.ClientError, OSError)):
            async with api.get("/version", {}):
                pytest.fail("there is an answer")
    finally:
        await api.close()


async def test_the_proxy_of_the_environment_is_asked(
    tmp_path: Path, environment: pytest.MonkeyPatch, plain: tuple[str, list[bytes]]
) -> None:
    url, heads = plain
    environment.setenv("https_proxy", url)
    await ask(Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", *default_certificate.make(), "https://api.example.test:6443"))))
    assert {head.splitlines()[0] for head in heads} == {b"CONNECT api.example.test:6443 HTTP/1.1"}


async def test_without_one_no_request_costs_a_look_at_other_files(
    tmp_path: Path, environment: pytest.MonkeyPatch, plain: tuple[str, list[bytes]]
) -> None:
    url, heads = plain
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret")
    environment.setenv("NETRC", str(tmp_path / "netrc"))
    await ask(Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", *default_certificate.make(), url))))
    assert heads
    assert not any(b"authorization" in head.lower() for head in heads)
