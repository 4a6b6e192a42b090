"""Passwords, through a real Envoy and the authorisation service beside it: who comes in, what fails closed, and what nobody sees."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Process, Response, Site, backend, disturbances, ingress, run, secret, wait_until
from tests.envoy.harness.control_plane import XDS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

NEEDED = {"auth-type": "basic", "auth-secret": "users", "auth-realm": "Members only"}
APR1 = "$apr1$saltsalt$HIDXe7D36X22w1CH4M1cQ."
SESAME = "open sesame"
ADA = f"ada:{APR1}\n"
STALE = {"1": "ada:{PLAIN}first\n", "2": "ada:{PLAIN}second\n"}


def basic(user: str, password: str) -> list[tuple[str, str]]:
    return [("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())]


def users(text: str) -> dict[str, Any]:
    return secret("users", {"auth": text.encode()})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authz(shared_site: Site) -> Process:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        ingress("shut", "shut.test", {"/": ("web", 80)}, NEEDED),
        ingress("open", "open.test", {"/": ("web", 80)}),
    )
    shared_site.folder.write("users.yaml", users(ADA))
    await shared_site.start_control_plane()
    found = await shared_site.start_beside_authz()
    await shared_site.until_answered("/", "web", host="open.test")
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared_site: Site, authz: Process) -> AsyncIterator[Site]:
    """Everything is as at the beginning; nothing that a test does changes a listener."""
    if not authz.running:
        await authz.start()
    shared_site.folder.write("users.yaml", users(ADA))
    await until(shared_site, 200, "ada", SESAME)
    yield shared_site
    assert await disturbances(shared_site.envoy) == {}


async def ask(site: Site, user: str = "", password: str = "", host: str = "shut.test") -> Response:
    return await site.get("/", host=host, headers=basic(user, password) if user else [])


async def until(site: Site, status: int, user: str, password: str) -> None:
    async def look() -> bool:
        return (await ask(site, user, password)).status == status

    await wait_until(look, f"{user} to get {status}")


async def test_who_has_the_password_comes_in_and_nobody_else(site: Site) -> None:
    answer = await ask(site, "ada", SESAME)
    assert (answer.status, answer.app, answer.received("Authorization")) == (200, "web", [])
    for user, password in (("", ""), ("ada", "x"), ("ada", ""), ("bob", SESAME)):
        refused = await ask(site, user, password)
        assert (refused.status, refused.header("WWW-Authenticate")) == (401, 'Basic realm="Members only"')
        assert b"<h1>401 Authorization Required</h1>" in refused.body
    assert (await ask(site, host="open.test")).app == "web"


async def test_a_changed_secret_holds_at_once_and_no_request_fails_for_it(site: Site) -> None:
    kept = "{PLAIN}kept"
    site.folder.write("users.yaml", users(f"eve:{kept}\n{STALE['1']}"))
    await until(site, 200, "ada", "first")
    done, failed = asyncio.Event(), []

    async def come_again() -> int:
        asked = 0
        while not done.is_set():
            if (status := (await ask(site, "eve", "kept")).status) != 200:
                failed.append(status)
            asked += 1
        return asked

    coming = asyncio.create_task(come_again())
    for turn in ("2", "1", "2"):
        site.folder.write("users.yaml", users(f"eve:{kept}\n{STALE[turn]}"))
        await until(site, 200, "ada", {"1": "first", "2": "second"}[turn])
        await until(site, 401, "ada", {"1": "second", "2": "first"}[turn])
    done.set()
    assert await coming > 3
    assert failed == []


async def test_a_new_route_waits_for_its_password_file(site: Site) -> None:
    """Whichever of the two is first, the first request that finds the new host is answered as all later ones."""
    for number in range(5):
        host, named = f"new{number}.test", f"new{number}"
        site.folder.write(
            f"{named}.yaml",
            secret(named, {"auth": b"ada:{PLAIN}p"}),
            ingress(named, host, {"/": ("web", 80)}, {**NEEDED, "auth-secret": named}),
        )

        async def found(host: str = host) -> int:
            status = (await ask(site, "ada", "p", host)).status
            return 0 if status == 404 else status

        assert await wait_until(found, host) == 200


async def test_without_the_service_what_it_protects_is_503_and_nothing_else_is(site: Site, authz: Process) -> None:
    await authz.kill()
    assert (await ask(site, "ada", SESAME)).status == 503
    assert (await ask(site)).status == 503
    assert (await ask(site, host="open.test")).status == 200
    await authz.start()
    await until(site, 200, "ada", SESAME)


async def test_it_goes_on_while_the_control_plane_is_away(site: Site) -> None:
    await site.control_plane.kill()
    assert (await ask(site, "ada", SESAME)).status == 200
    assert (await ask(site, "ada", "wrong")).status == 401
    await site.control_plane.start()
    site.folder.write("users.yaml", users("ada:{PLAIN}after"))
    await until(site, 200, "ada", "after")


async def test_a_secret_that_is_gone_closes(site: Site) -> None:
    site.folder.remove("users.yaml")
    await until(site, 503, "ada", SESAME)


async def test_an_object_is_programmed_once_both_have_it(site: Site, authz: Process) -> None:
    found = await status(site, "ingress", "default/shut", "--wait")
    assert (found["accepted"], found["envoys"]) == (1, 1)
    assert {"type": "passwords", "name": "default/users/auth-file"} in [{k: r[k] for k in ("type", "name")} for r in found["resources"]]
    await authz.stop()

    async def lacks() -> bool:
        return bool((await status(site, "ingress", "default/shut"))["waiting"] == ["envoy-1"])

    await wait_until(lacks, "the Envoy to lack its service")
    assert (await status(site, "ingress", "default/open"))["programmed"]
    await authz.start()
    assert (await status(site, "ingress", "default/shut", "--wait"))["programmed"]
    (pair,) = (await status(site))["envoys"]
    assert (pair["node"], pair["authz"]["node"], pair["authz"]["agent"].split()[0]) == ("envoy-1", "envoy-1/authz", "xds-authz")


async def test_nobody_sees_a_hash_or_a_password(site: Site) -> None:
    assert (await ask(site, "ada", SESAME)).status == 200
    texts = [json.dumps(await site.envoy.config_dump()), (await site.control_plane.get("/metrics")).body.decode()]
    texts += [line for process in site.processes for line in (*process.stdout, *process.stderr)]
    texts.append((await run([*XDS, "translate", str(site.folder.path)]))[1])
    assert any("default/users/auth-file" in text for text in texts)
    for told in (APR1, APR1[15:], SESAME, basic("ada", SESAME)[0][1][6:]):
        assert not [text[:200] for text in texts if told in text]


async def status(site: Site, *words: str) -> dict[str, Any]:
    host, port = site.control_plane.debug
    _, out, err = await run([*XDS, "status", *words, "-o", "json", "--debug-address", f"{host}:{port}"])
    assert out, err
    found: dict[str, Any] = json.loads(out)
    return found
