"""A password file that an authorisation service rejects: it is reported against its Secret and left out, until it changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.envoy.harness import Site, backend, ingress, run, secret, wait_until
from tests.envoy.harness.control_plane import XDS
from xds import passwords
from xds.authz.messages import message
from xds.authz.subscription import METHOD

pytestmark = pytest.mark.envoy

NEEDED = {"auth-type": "basic"}
REFUSED = b"mallory"
"""The service rejects each response with a file that has this user."""


@contextlib.asynccontextmanager
async def choosy(site: Site) -> AsyncIterator[dict[str, bytes]]:
    """A service that rejects some files; the value has those that it has accepted, by name."""
    held: dict[str, bytes] = {}

    def request(**fields: Any) -> bytes:
        raw: bytes = message("DeltaDiscoveryRequest")(type_url=passwords.TYPE, **fields).SerializeToString()
        return raw

    async def follow(call: Any) -> None:
        await call.write(request(node={"id": "envoy-1/authz", "user_agent_name": "xds-authz"}, resource_names_subscribe=["*"]))
        while (raw := await call.read()) is not grpc.aio.EOF:
            response = message("DeltaDiscoveryResponse").FromString(raw)
            files = {each.name: each.resource.value for each in response.resources}
            if any(REFUSED in file for file in files.values()):
                await call.write(request(response_nonce=response.nonce, error_detail={"code": 3, "message": "it is no password file"}))
                continue
            held.update(files)
            for name in response.removed_resources:
                held.pop(name, None)
            await call.write(request(response_nonce=response.nonce))

    host, port = site.control_plane.xds
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        following = asyncio.create_task(follow(channel.stream_stream(METHOD)()))
        try:
            yield held
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def problems(site: Site) -> list[tuple[str, str]]:
    """What is reported live, as the object's name and the sentence."""
    host, port = site.control_plane.debug
    _, out, err = await run([*XDS, "check", "--live", "-o", "json", "--debug-address", f"{host}:{port}"])
    assert out, err
    found = [(each["object"], each["sentence"]) for each in json.loads(out)["problems"]]
    return [(f"{about['kind']} {about['namespace']}/{about['name']}", said) for about, said in found]


async def test_it_is_reported_against_its_secret_and_left_out_alone(site: Site) -> None:
    site.folder.write(
        "all.yaml",
        *backend("web", ("127.0.0.1", 9)),
        secret("good", {"auth": b"ada:{PLAIN}p"}),
        ingress("good", "good.test", {"/": ("web", 80)}, {**NEEDED, "auth-secret": "good"}),
        ingress("bad", "bad.test", {"/": ("web", 80)}, {**NEEDED, "auth-secret": "bad"}),
    )
    site.folder.write("bad.yaml", secret("bad", {"auth": REFUSED + b":{PLAIN}p"}))
    await site.start_control_plane()
    async with choosy(site) as held:

        async def reported() -> bool:
            return any(about == "Secret default/bad" and "it is no password file" in said for about, said in await problems(site))

        await wait_until(reported, "the refusal to be reported")
        assert held.keys() == {"default/good/auth-file"}
        assert [about for about, said in await problems(site) if "Envoy rejects" in said] == ["Secret default/bad"]
        site.folder.write("bad.yaml", secret("bad", {"auth": b"ada:{PLAIN}p"}))

        async def accepted() -> bool:
            return "default/bad/auth-file" in held and not await reported()

        await wait_until(accepted, "the changed file to be accepted")
