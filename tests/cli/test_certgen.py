"""`xds certgen` against an API server that holds Secrets, and is sometimes in the way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509

from xds.cli import certgen
from xds.cli.arguments import parse
from xds.config import Failure

Json = dict[str, Any]
PATH = "/api/v1/namespaces/ingress-xds/secrets"


class Secrets:
    """As an API server has them: versions, AlreadyExists, Conflict. `before` is called before each request is answered."""

    def __init__(self) -> None:
        self.items: dict[str, Json] = {}
        self.asked: list[str] = []
        self.before: Callable[[str, str], web.Response | None] = lambda verb, name: None
        self._version = 0

    async def answer(self, request: web.Request) -> web.Response:
        verb = {"GET": "get", "POST": "create", "PUT": "update"}[request.method]
        body = await request.json() if verb != "get" else {}
        name = body.get("metadata", {}).get("name") or request.path.rpartition("/")[2]
        assert request.path == (PATH if verb == "create" else f"{PATH}/{name}")
        self.asked.append(f"{verb} {name}")
        if refused := self.before(verb, name):
            return refused
        if verb == "get":
            return web.json_response(self.items[name]) if name in self.items else status(404, "NotFound")
        if verb == "create" and name in self.items:
            return status(409, "AlreadyExists")
        if verb == "update" and body["metadata"]["resourceVersion"] != self.items[name]["metadata"]["resourceVersion"]:
            return status(409, "Conflict")
        return web.json_response(self.put(body))

    def put(self, body: Json) -> Json:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.items[body["metadata"]["name"]] = body
        return body

    def data(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in self.items[name]["data"].items()}


def status(code: int, reason: str, message: str = "no") -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}, status=code)


@pytest.fixture
async def secrets(tmp_path: Path) -> AsyncIterator[Secrets]:
    found = Secrets()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    clusters = [{"name": "here", "cluster": {"server": server}}]
    config = {"current-context": "here", "contexts": [context], "clusters": clusters, "users": [{"name": "me", "user": {}}]}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certgen, "_FIRST", 0.001)
    monkeypatch.setattr(certgen, "_LONGEST", 0.01)


async def run(tmp_path: Path, *words: str) -> None:
    """The command, in a thread of its own: it has its own event loop."""
    parsed = parse("certgen", [f"--kubeconfig={tmp_path / 'kubeconfig'}", *words], {})
    assert await asyncio.to_thread(certgen.run, parsed) == 0


async def test_three_secrets_are_made_and_each_is_told(secrets: Secrets, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await run(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "Secret ingress-xds/xds-ca is new.",
        "Secret ingress-xds/xds-server is new, or held nothing that can be used.",
        "Secret ingress-xds/xds-client is new, or held nothing that can be used.",
    ]
    assert list(secrets.items) == ["xds-ca", "xds-server", "xds-client"]
    assert {tuple(sorted(secrets.data(name))) for name in secrets.items} == {("ca.crt", "tls.crt", "tls.key")}
    assert {item["type"] for item in secrets.items.values()} == {"Opaque"}


async def test_a_second_run_writes_nothing(secrets: Secrets, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await run(tmp_path)
    secrets.asked.clear()
    capsys.readouterr()
    await run(tmp_path)
    assert secrets.asked == ["get xds-ca", "get xds-server", "get xds-client"]
    assert capsys.readouterr().out.splitlines()[0] == "Secret ingress-xds/xds-ca is up to date."


async def test_what_is_due_is_replaced_and_the_rest_of_the_secret_stays(secrets: Secrets, tmp_path: Path) -> None:
    await run(tmp_path)
    secrets.items["xds-client"]["metadata"]["annotations"] = {"mine": "1"}
    del secrets.items["xds-client"]["data"]["tls.crt"]
    secrets.asked.clear()
    await run(tmp_path)
    assert secrets.asked[3:] == ["update xds-client"]
    assert x509.load_pem_x509_certificates(secrets.data("xds-client")["tls.crt"])
    assert secrets.items["xds-client"]["metadata"]["annotations"] == {"mine": "1"}


async def test_names_are_those_of_the_flags(secrets: Secrets, tmp_path: Path) -> None:
    await run(
        tmp_path, "--authority-secret=a", "--server-secret=s", "--client-secret=c", "--xds-server-names=x,x.y", "--xds-client-names=e"
    )
    names = {}
    for name in ("s", "c"):
        made = x509.load_pem_x509_certificate(secrets.data(name)["tls.crt"])
        names[name] = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert list(secrets.items) == ["a", "s", "c"]
    assert names == {"s": ["x", "x.y"], "c": ["e"]}


async def test_a_secret_of_somebody_else_is_left_alone(secrets: Secrets, tmp_path: Path) -> None:
    secrets.put({"metadata": {"name": "xds-server"}, "type": "kubernetes.io/tls", "data": {}})
    with pytest.raises(Failure, match=r"^Secret ingress-xds/xds-server was not made by xds certgen, which would overwrite it"):
        await run(tmp_path)
    assert [asked for asked in secrets.asked if not asked.startswith("get")] == []


@pytest.mark.usefixtures("quick")
async def test_of_two_runs_at_once_the_slower_looks_again(secrets: Secrets, tmp_path: Path) -> None:
    """Both find nothing; the one that loses must not sign with an authority that nobody knows."""
    await asyncio.gather(*(run(tmp_path) for _ in range(4)))
    (authority,) = x509.load_pem_x509_certificates(secrets.data("xds-ca")["tls.crt"])
    for name in ("xds-server", "xds-client"):
        x509.load_pem_x509_certificate(secrets.data(name)["tls.crt"]).verify_directly_issued_by(authority)


@pytest.mark.usefixtures("quick")
async def test_a_secret_that_changes_meanwhile_is_looked_at_again(secrets: Secrets, tmp_path: Path) -> None:
    await run(tmp_path)
    del secrets.items["xds-client"]["data"]["tls.crt"]
    first = iter([True])

    def touch(verb: str, name: str) -> None:
        if verb == "update" and next(first, False):
            secrets.put({**secrets.items[name], "metadata": {**secrets.items[name]["metadata"]}})

    secrets.before = touch
    secrets.asked.clear()
    await run(tmp_path)
    assert [asked for asked in secrets.asked if asked.startswith("update")] == ["update xds-client"] * 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("code", [429, 500, 503])
async def test_an_api_server_that_is_busy_is_asked_again(secrets: Secrets, tmp_path: Path, code: int) -> None:
    busy = iter([True] * 3)
    secrets.before = lambda verb, name: status(code, "Busy") if next(busy, False) else None
    await run(tmp_path)
    assert len(secrets.items) == 3


async def test_what_the_role_does_not_allow_is_one_sentence(secrets: Secrets, tmp_path: Path) -> None:
    secrets.before = lambda verb, name: status(403, "Forbidden", "secrets is forbidden") if verb == "create" else None
    with pytest.raises(Failure) as caught:
        await run(tmp_path)
    assert str(caught.value) == f"The API server answers POST {PATH} with 403 Forbidden: secrets is forbidden."


async def test_an_api_server_that_is_not_there_is_one_sentence(secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certgen, "_PATIENCE", 0)
    config = json.loads((tmp_path / "kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with pytest.raises(Failure, match=r"^http://127\.0\.0\.1:1 does not answer "):
        await run(tmp_path)


async def test_no_key_is_ever_printed(secrets: Secrets, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await run(tmp_path)
    secrets.items["xds-client"]["data"] = {}
    await run(tmp_path)
    said = "".join(capfd.readouterr())
    lines = {line for name in secrets.items for line in secrets.data(name)["tls.key"].decode().splitlines() if "-----" not in line}
    assert lines
    assert not [line for line in lines if line in said]
