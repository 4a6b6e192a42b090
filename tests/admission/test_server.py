"""The HTTPS server of a running control plane: what a client of the webhook gets."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from tests.envoy.harness import wait_until
from tests.envoy.harness.tls import Certificate, make_certificate
from tests.web.site import LOOPBACK, SETTINGS, Site, ingress
from xds.admission.server import LARGEST, Judge
from xds.config import Failure
from xds.kube.objects import Ingress

PREFIX = "nginx.ingress.kubernetes.io/"


class Webhook:
    """A site with a webhook, and a client that trusts its certificate."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "tls.crt", folder / "tls.key"
        self.certificate = self.renew()
        certificate, key = self.files
        self.site = Site(
            dataclasses.replace(
                SETTINGS, validating_webhook=f"{LOOPBACK}:0", validating_webhook_certificate=certificate, validating_webhook_key=key
            )
        )

    def renew(self) -> Certificate:
        made = make_certificate(["localhost"])
        for file, content in zip(self.files, (made.cert_pem, made.key_pem), strict=True):
            file.write_bytes(content)
        return made

    @property
    def port(self) -> int:
        assert self.site.control_plane.webhook_address is not None
        return self.site.control_plane.webhook_address.port

    async def post(self, data: bytes | io.BytesIO, *, trusted: Certificate | None = None) -> tuple[int, bytes]:
        context = ssl.create_default_context(cadata=(trusted or self.certificate).cert_pem.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"https://localhost:{self.port}/networking/v1/ingresses", data=data, ssl=context) as response,
        ):
            return response.status, await response.read()

    async def review(
        self, name: str, host: str, *, annotations: dict[str, str] | None = None, operation: str = "CREATE", tls: Sequence[str] = ()
    ) -> dict[str, Any]:
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
        meta = {"namespace": "default", "name": name, "creationTimestamp": "2026-11-01T00:00:00Z", "annotations": annotations or {}}
        item = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta}
        item["spec"] = {"rules": [{"host": host, "http": {"paths": [path]}}], "tls": [{"hosts": list(tls)}] if tls else []}
        request = {"uid": "1", "operation": operation, "object": item}
        status, body = await self.post(json.dumps({"apiVersion": "admission.k8s.io/v1", "request": request}).encode())
        assert status == 200
        response: dict[str, Any] = json.loads(body)["response"]
        return response


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[Webhook]:
    made = Webhook(tmp_path)
    older = ingress("taken")
    async with made.site.started(msgspec.structs.replace(older, meta=msgspec.structs.replace(older.meta, created="2026-01-01T00:00:00Z"))):
        yield made


async def test_a_host_and_path_of_another_ingress_is_refused_and_nothing_changes(webhook: Webhook) -> None:
    before = await webhook.site.control_plane.problems()
    response = await webhook.review("second", "taken.test")
    assert not response["allowed"]
    assert "The path '/' of host \"taken.test\" already belongs to Ingress" in response["status"]["message"]
    assert await webhook.site.control_plane.problems() == before
    assert (await webhook.review("second", "free.test"))["allowed"]
    assert webhook.site.values("xds_admission_reviews_total") == {("admitted",): 1, ("refused",): 1, ("unreadable",): 0}


async def test_an_annotation_that_leaves_the_ingress_out_is_refused(webhook: Webhook) -> None:
    response = await webhook.review("new", "new.test", annotations={PREFIX + "load-balance": "nope"})
    assert "load-balance is 'nope'" in response["status"]["message"]


async def test_an_ingress_that_keeps_its_last_valid_form_may_be_changed_otherwise(webhook: Webhook) -> None:
    def item(**annotations: str) -> Ingress:
        made = ingress("kept", annotations={PREFIX + "load-balance": "round_robin", **annotations})
        return msgspec.structs.replace(made, uid="1")

    bad = {PREFIX + "load-balance": "nope"}
    await webhook.site.put(item())
    await webhook.site.put(item(**bad))
    assert "edit-refused" in [p.code for p in await webhook.site.control_plane.problems()]
    assert (await webhook.review("kept", "kept.test", annotations={**bad, "team": "web"}, operation="UPDATE"))["allowed"]
    assert not (await webhook.review("kept", "kept.test", annotations={**bad, PREFIX + "upstream-hash-by": "$a;b"}))["allowed"]
    assert "edit-refused" in [p.code for p in await webhook.site.control_plane.problems()]


async def test_what_is_not_there_yet_is_a_warning(webhook: Webhook) -> None:
    response = await webhook.review("new", "new.test")
    assert response["allowed"]
    assert any("Service default/web does not exist" in line for line in response["warnings"])


async def test_an_ingress_that_is_too_large_is_stored_with_a_warning_that_it_was_not_judged(webhook: Webhook) -> None:
    response = await webhook.review("large", "taken.test", tls=[f"{number}.test" for number in range(5_000)])
    assert response["allowed"]
    (warning,) = response["warnings"]
    assert warning.startswith("It has 5,003 rules, paths, names and annotations, more than 5,000")


async def test_what_is_no_review_is_a_bad_request(webhook: Webhook) -> None:
    assert (await webhook.post(b"{}"))[0] == 400
    assert (await webhook.post(io.BytesIO(b"x" * (LARGEST + 1))))[0] == 413
    assert (await webhook.review("new", "new.test"))["allowed"]


async def test_clients_that_say_nothing_cost_the_others_nothing(webhook: Webhook) -> None:
    context = ssl.create_default_context(cadata=webhook.certificate.cert_pem.decode())
    idle = [await asyncio.open_connection(LOOPBACK, webhook.port, ssl=context, server_hostname="localhost") for _ in range(200)]
    bare = [await asyncio.open_connection(LOOPBACK, webhook.port) for _ in range(50)]
    try:
        assert (await webhook.review("new", "new.test"))["allowed"]
    finally:
        for _, writer in (*idle, *bare):
            writer.transport.abort()


class _Request:
    """The review of an Ingress of this name."""

    def __init__(self, name: str) -> None:
        item = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "default", "name": name}}
        request = {"uid": "1", "operation": "CREATE", "object": item}
        self._body = json.dumps({"apiVersion": "admission.k8s.io/v1", "request": request}).encode()

    async def read(self) -> bytes:
        return self._body


async def test_however_many_ask_a_change_waits_for_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, order = asyncio.Lock(), list[str]()
    publisher, snapshot = SimpleNamespace(lock=lock), SimpleNamespace(ready=True)
    tables = SimpleNamespace(world=None, build=SimpleNamespace(problems={}))
    monkeypatch.setattr("xds.admission.server.problems_with", lambda _world, _build, item: order.append(item.meta.name) or [])
    doubles: Any = (tables, snapshot, publisher)
    judge = Judge(*doubles, CollectorRegistry())

    async def step() -> None:
        async with lock:
            order.append("step")

    requests: Any = [_Request(f"web{number}") for number in range(20)]
    await lock.acquire()
    asked = [asyncio.create_task(judge.review(request)) for request in requests]
    for _ in range(3):
        await asyncio.sleep(0)
    stepping = asyncio.create_task(step())
    await asyncio.sleep(0)
    lock.release()
    await asyncio.gather(stepping, *asked)
    assert order.index("step") <= 1
    assert len(order) == 21


async def test_a_renewed_certificate_is_shown_to_who_comes_next(webhook: Webhook) -> None:
    renewed = webhook.renew()

    async def shown() -> bool:
        return (await webhook.post(b"{}", trusted=renewed))[0] == 400

    await wait_until(shown, "the new certificate")


async def test_a_renewal_that_cannot_be_used_leaves_the_previous_certificate(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate may be there before its key is, and OpenSSL drops a key that does not belong to a certificate."""
    previous = webhook.certificate
    webhook.files[0].write_bytes(make_certificate(["localhost"]).cert_pem)

    async def reported() -> bool:
        return "cannot be used: " in caplog.text and "new connections get the previous one" in caplog.text

    await wait_until(reported, "the certificate that has another key")
    assert (await webhook.post(b"{}", trusted=previous))[0] == 400


@pytest.mark.parametrize("content", [b"", b"no PEM"])
async def test_files_that_cannot_be_used_are_a_sentence(tmp_path: Path, content: bytes) -> None:
    made = Webhook(tmp_path)
    made.files[1].write_bytes(content)
    with pytest.raises(Failure, match=r"^the certificate of the validating webhook, .*tls.crt with .*tls.key, cannot be used: "):
        async with made.site.started():
            pass
