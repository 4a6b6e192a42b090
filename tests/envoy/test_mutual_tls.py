"""xDS as in a cluster: the certificates of `xds certgen`, a server and an Envoy that ask for them, and renewals while both run."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from examples.apps import Address
from tests.envoy.harness import Envoy, Site, ingress
from tests.envoy.harness.control_plane import XDS, ControlPlane
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.http1 import Http1, fetch
from tests.envoy.harness.process import Process, run
from tests.envoy.harness.waiting import wait_until
from xds.certificates.certgen import AUTHORITY_LIFE, AUTHORITY_RENEW, SETTLE, Data, StoredSecrets, due

pytestmark = pytest.mark.envoy

NAMES = (["xds"], ["xds-envoy"])
NOW = datetime.datetime.now(datetime.UTC)


def made(held: StoredSecrets | None = None, now: datetime.datetime = NOW, names: tuple[list[str], list[str]] = NAMES) -> StoredSecrets:
    held = held or StoredSecrets()
    return replace(held, **{part: each.data for part, each in due(held, *names, now).items()})


def mount(folder: Path, data: Data) -> Path:
    """Put a Secret there as the kubelet does: a new folder, then one symbolic link that changes in a single step."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, value in data.items():
        (version / name).write_bytes(value)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(version.name)
    os.replace(folder / "..data_tmp", folder / "..data")
    return folder


def flags(folder: Path) -> list[str]:
    return [f"--xds-tls-cert={folder}/tls.crt", f"--xds-tls-key={folder}/tls.key", f"--xds-tls-ca={folder}/ca.crt"]


async def serve(site: Site, data: Data) -> ControlPlane:
    return await site.start_control_plane(*flags(mount(site.path / "server", data)), "--xds-client-names=xds-envoy")


async def bootstrap(site: Site, data: Data, *words: str) -> str:
    """The bootstrap of an Envoy, and the files that it refers to."""
    folder = site.path / "bootstrap"
    address = f"localhost:{site.control_plane.xds[1]}"
    said = [*XDS, "bootstrap", f"--output-dir={folder}", f"--xds-address={address}", "--xds-server-name=xds", "--node-id=envoy-1"]
    code, _, err = await run([*said, *flags(mount(site.path / "client", data)), *words])
    assert code == 0, err
    return (folder / "envoy.yaml").read_text()


async def stat(envoy: Envoy, name: str) -> int:
    return (await envoy.stats(f"^{name}$")).get(name, 0)


def renewed() -> tuple[StoredSecrets, StoredSecrets]:
    """Files that an old authority signed, with a new one trusted beside it; and files that the new one signed, and it alone is trusted."""
    day = datetime.timedelta(days=1)
    old = made(made(now=NOW + AUTHORITY_RENEW - AUTHORITY_LIFE - day), NOW - 30 * day)
    before = made(old, NOW - 2 * SETTLE)
    after = made(before)
    assert before.authority["tls.crt"] != old.authority["tls.crt"]
    assert after.server["tls.crt"] != before.server["tls.crt"]
    alone = {"ca.crt": after.authority["tls.crt"]}
    return before, replace(after, server={**after.server, **alone}, client={**after.client, **alone})


async def test_a_server_shows_its_renewed_certificate_without_a_restart(site: Site) -> None:
    before, after = renewed()
    await serve(site, before.server)
    mount(site.path / "server", after.server)
    envoy = await site.static_envoy(await bootstrap(site, after.client))
    assert await stat(envoy, "cluster_manager.cds.update_success") == 1


async def test_an_envoy_shows_its_renewed_certificate_without_a_restart(site: Site) -> None:
    """The server comes back with files by which it knows nobody who shows, or trusts, the old ones."""
    before, after = renewed()
    plane = await serve(site, before.server)
    envoy = await site.static_envoy(await bootstrap(site, before.client))
    mount(site.path / "client", after.client)
    await plane.stop()
    mount(site.path / "server", after.server)
    asked = await stat(envoy, "cluster_manager.cds.update_attempt")
    await plane.start()
    site.folder.write("web.yaml", ingress("web", "web.example", {"/": ("web", 80)}))

    async def served() -> bool:
        return await stat(envoy, "cluster_manager.cds.update_attempt") > asked and "web.example" in await envoy.ask("/config_dump")

    await wait_until(served, "Envoy to be told of what is new")


@pytest.mark.parametrize("stranger", ["another authority", "another name"])
async def test_an_envoy_that_is_not_ours_is_told_nothing(site: Site, stranger: str) -> None:
    ours = made()
    await serve(site, ours.server)
    theirs = made() if stranger == "another authority" else made(replace(ours, client={}), names=(NAMES[0], ["somebody"]))
    client = {**theirs.client, "ca.crt": ours.client["ca.crt"]}
    envoy = await site.static_envoy(await bootstrap(site, client), ready=False)

    async def refused() -> bool:
        return await stat(envoy, "cluster_manager.cds.update_failure") > 1

    await wait_until(refused, "the stranger to be refused twice")
    assert await stat(envoy, "cluster_manager.cds.update_success") == 0


async def test_a_server_that_is_not_ours_is_asked_nothing(site: Site) -> None:
    ours = made()
    await serve(site, made(replace(ours, server={}), names=(["elsewhere"], NAMES[1])).server)
    envoy = await site.static_envoy(await bootstrap(site, ours.client), ready=False)

    async def refused() -> bool:
        return await stat(envoy, "cluster.xds_cluster.ssl.fail_verify_san") > 0

    await wait_until(refused, "Envoy to refuse the server")
    assert await stat(envoy, "cluster_manager.cds.update_success") == 0


async def test_nobody_answers_probes_before_there_is_a_configuration(site: Site, folder: Path) -> None:
    ours, probe = made(), _free(site)
    plane = await serve(site, ours.server)
    await plane.stop()
    async with probed(site, ours, probe, folder / "admin.sock"):

        async def not_ready() -> bool:
            return (await admin(folder / "admin.sock", "GET", "/ready")).startswith("PRE_INITIALIZING")

        await wait_until(not_ready, "the admin page to say that Envoy is not ready")
        with pytest.raises(ConnectionRefusedError):
            await fetch(probe, "/ready", host="probe")


async def test_probes_see_what_the_admin_page_says(site: Site, folder: Path) -> None:
    ours, probe = made(), _free(site)
    await serve(site, ours.server)
    async with probed(site, ours, probe, folder / "admin.sock"):
        await _answered(probe, "/ready", 200)
        assert (await fetch(probe, "/ready", host="probe", method="HEAD")).status == 200
        assert "envoy_server_live" in (await fetch(probe, "/stats/prometheus", host="probe")).text
        assert await admin(folder / "admin.sock", "POST", "/healthcheck/fail") == "OK\n"
        assert (await fetch(probe, "/ready", host="probe")).status == 503


PAGES = ["/quitquitquit", "/config_dump", "/healthcheck/fail", "/logging?level=trace", "/drain_listeners", "/certs", "/", "/stats", "/help"]
TRICKS = [  # {page} is without its slash
    *("//{page}", "/./{page}", "/ready/../{page}", "/ready/..;/{page}", "/ready/%2e%2e/{page}", "/ready%2f..%2f{page}", "/%2f{page}"),
    *("\\{page}", "/ready\\..\\{page}", "http://admin/{page}", "http://ready/{page}", "http://admin/ready/../{page}", "/ready?/../{page}"),
    *(
        "/ready?x",
        "/ready?",
        "/x#/ready",
        "/{page}#/ready",
        "/ready/",
        "//ready",
        "/ready;x",
        "/READY",
        "/%72eady",
        "/x/../ready",
        "/ready%0d%0a",
        "*",
    ),
    *("/stats/prometheus?usedonly", "/stats/prometheus?filter=(a*)*b", "/stats/prometheus/", "/stats//prometheus", "/stats/../{page}"),
    "/stats/prometheus%00",
]
METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PRI", "get", "GET,POST"]
HEADERS = [("X-HTTP-Method-Override", "POST"), ("X-Original-URL", "/quitquitquit"), ("X-Envoy-Original-Path", "/quitquitquit")]


async def test_probes_see_nothing_else_of_the_admin_page_whatever_they_ask(site: Site, folder: Path) -> None:
    """Each answer comes from a page that only tells, or is no answer at all; and Envoy is alive and ready after all of them."""
    ours, probe = made(), _free(site)
    await serve(site, ours.server)
    async with probed(site, ours, probe, folder / "admin.sock"):
        await _answered(probe, "/ready", 200)
        before = await admin(folder / "admin.sock", "GET", "/logging?")
        tricks = [trick.replace("{page}", page.removeprefix("/")) for trick in TRICKS for page in PAGES]
        for target in dict.fromkeys([*PAGES, *tricks]):
            for method in ("GET", "POST"):
                assert await status(probe, method, target) in (400, 404), (method, target)
        for method in METHODS:
            for target in ("/ready", "/stats/prometheus"):
                assert await status(probe, method, target) in (400, 404, 405, 501), (method, target)
        for header in HEADERS:
            assert (await fetch(probe, "/ready", host="probe", headers=[header])).text == "LIVE\n"
        # Envoy cuts a fragment off before it looks for a route
        assert (await fetch(probe, "/ready#/../quitquitquit", host="probe")).text == "LIVE\n"
        assert await status(probe, "POST", "/ready#/../quitquitquit") == 404
        assert await status(probe, "CONNECT", "admin:9901") in (400, 404)
        assert await status(probe, "GET", "/ready", ("Connection", "Upgrade"), ("Upgrade", "websocket")) in (403, 404)
        smuggled = b"GET /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        async with await Http1.open(probe) as connection:
            await connection.send(smuggled + b"POST /quitquitquit HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await connection.receive()).status == 400
        assert await admin(folder / "admin.sock", "GET", "/logging?") == before
        assert (await fetch(probe, "/ready", host="probe")).text == "LIVE\n"


async def test_an_envoy_that_was_killed_leaves_a_socket_that_the_next_one_takes(site: Site, folder: Path) -> None:
    """As when the container starts again in its pod."""
    ours, probe = made(), _free(site)
    await serve(site, ours.server)
    async with probed(site, ours, probe, folder / "admin.sock") as envoy:
        await _answered(probe, "/ready", 200)
        assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        await envoy.kill()
        assert (folder / "admin.sock").exists()
        await envoy.start()
        await _answered(probe, "/ready", 200)


async def test_connections_of_probes_are_bounded(site: Site, folder: Path) -> None:
    """They do not count towards --max-connections, and an Envoy without files to open ends."""
    ours, probe = made(), _free(site)
    await serve(site, ours.server)
    async with probed(site, ours, probe, folder / "admin.sock", {"connection_limit: 1000": "connection_limit: 5"}):
        await _answered(probe, "/ready", 200)
        async with AsyncExitStack() as stack:
            for _ in range(5):
                connection = await stack.enter_async_context(await Http1.open(probe))
                assert (await connection.request(target="/ready", host="probe")).status == 200
            async with await Http1.open(probe) as one_more:
                assert await one_more.ended()
        await _answered(probe, "/ready", 200)


@asynccontextmanager
async def probed(
    site: Site, ours: StoredSecrets, probe: Address, socket: Path, changed: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Process]:
    """An Envoy as it is deployed, with the bootstrap as it was written, but for what is `changed` in its text."""
    await bootstrap(site, ours.client, f"--probe-address={probe[0]}:{probe[1]}", f"--admin-address=unix:{socket}")
    path = site.path / "bootstrap" / "envoy.yaml"
    for old, new in changed.items():
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    envoy = Process("envoy-probed", [envoy_binary(), "-c", str(path), "--disable-hot-restart", "--concurrency", "1"], site.path)
    await envoy.start()
    try:
        yield envoy
    finally:
        await envoy.stop()


async def status(address: Address, method: str, target: str, *headers: tuple[str, str]) -> int:
    return (await fetch(address, target, host="probe", method=method, headers=headers)).status


async def admin(socket: Path, method: str, target: str) -> str:
    """What the admin page answers, which its own pod may ask; "" where nobody does."""
    try:
        connection = Http1(*await asyncio.open_unix_connection(socket))
    except OSError:
        return ""
    async with connection:
        return (await connection.request(method, target, host="admin")).text


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the paths of sockets are."""
    return tmp_path_factory.mktemp("a")


def _free(site: Site) -> Address:
    return "127.0.0.1", site.ports.take()


async def _answered(address: Address, path: str, status: int) -> None:
    async def look() -> bool:
        return (await fetch(address, path, host="any")).status == status

    await wait_until(look, f"{path} to be answered with {status}")
