"""xDS as in a cluster: the certificates of `xds certgen`, a server and an Envoy that ask for them, and renewals while both run."""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from examples.apps import Address
from tests.envoy.harness import Envoy, Site, ingress
from tests.envoy.harness.control_plane import XDS, ControlPlane
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.http1 import fetch
from tests.envoy.harness.process import Process, run
from tests.envoy.harness.waiting import wait_until
from xds.certgen import AUTHORITY_LIFE, AUTHORITY_RENEW, SETTLE, Data, Held, due

pytestmark = pytest.mark.envoy

NAMES = (["xds"], ["xds-envoy"])
NOW = datetime.datetime.now(datetime.UTC)


def made(held: Held | None = None, now: datetime.datetime = NOW, names: tuple[list[str], list[str]] = NAMES) -> Held:
    held = held or Held()
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


def renewed() -> tuple[Held, Held]:
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

    await wait_until(served, "Envoy to be told of what is new", deadline=30)


@pytest.mark.parametrize("stranger", ["another authority", "another name"])
async def test_an_envoy_that_is_not_ours_is_told_nothing(site: Site, stranger: str) -> None:
    ours = made()
    await serve(site, ours.server)
    theirs = made() if stranger == "another authority" else made(replace(ours, client={}), names=(NAMES[0], ["somebody"]))
    client = {**theirs.client, "ca.crt": ours.client["ca.crt"]}
    envoy = await site.static_envoy(await bootstrap(site, client), ready=False)

    async def refused() -> bool:
        return await stat(envoy, "cluster_manager.cds.update_failure") > 1

    await wait_until(refused, "the stranger to be refused twice", deadline=30)
    assert await stat(envoy, "cluster_manager.cds.update_success") == 0


async def test_a_server_that_is_not_ours_is_asked_nothing(site: Site) -> None:
    ours = made()
    await serve(site, made(replace(ours, server={}), names=(["elsewhere"], NAMES[1])).server)
    envoy = await site.static_envoy(await bootstrap(site, ours.client), ready=False)

    async def refused() -> bool:
        return await stat(envoy, "cluster.xds_cluster.ssl.fail_verify_san") > 0

    await wait_until(refused, "Envoy to refuse the server", deadline=30)
    assert await stat(envoy, "cluster_manager.cds.update_success") == 0


async def test_nobody_answers_probes_before_there_is_a_configuration(site: Site) -> None:
    ours, probe, admin = made(), _free(site), _free(site)
    plane = await serve(site, ours.server)
    await plane.stop()
    async with probed(site, ours, probe, admin):
        await _answered(admin, "/ready", 503)
        with pytest.raises(ConnectionRefusedError):
            await fetch(probe, "/ready", host="probe")


async def test_probes_see_what_the_admin_page_says_and_nothing_else_of_it(site: Site) -> None:
    ours, probe, admin = made(), _free(site), _free(site)
    await serve(site, ours.server)
    async with probed(site, ours, probe, admin):
        await _answered(probe, "/ready", 200)
        statuses = [(await fetch(probe, path, host="probe")).status for path in ("/stats/prometheus", "/config_dump", "/quitquitquit", "/")]
        assert statuses == [200, 404, 404, 404]
        assert (await fetch(probe, "/ready", host="probe", method="POST")).status == 404
        assert (await fetch(admin, "/healthcheck/fail", host="admin", method="POST")).status == 200
        assert (await fetch(probe, "/ready", host="probe")).status == 503


@asynccontextmanager
async def probed(site: Site, ours: Held, probe: Address, admin: Address) -> AsyncIterator[None]:
    """An Envoy as it is deployed, with the bootstrap as it was written."""
    await bootstrap(site, ours.client, f"--probe-address={probe[0]}:{probe[1]}", f"--admin-address={admin[0]}:{admin[1]}")
    command = [envoy_binary(), "-c", str(site.path / "bootstrap" / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1"]
    envoy = Process("envoy-probed", command, site.path)
    await envoy.start()
    try:
        yield
    finally:
        await envoy.stop()


def _free(site: Site) -> Address:
    return "127.0.0.1", site.ports.take()


async def _answered(address: Address, path: str, status: int) -> None:
    async def look() -> bool:
        return (await fetch(address, path, host="any")).status == status

    await wait_until(look, f"{path} to be answered with {status}", deadline=30)
