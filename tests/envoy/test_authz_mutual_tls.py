"""The stream of the authorisation service as in a cluster: both sides show certificates, and a service that is not ours gets no password.

The certificates, and the folders that they are mounted in, are those of `test_mutual_tls`.
"""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Process, Site, backend, ingress, secret, wait_until
from tests.envoy.harness.control_plane import XDS
from tests.envoy.test_mutual_tls import NAMES, bootstrap, flags, made, mount, renewed, serve
from xds.certificates.certgen import Data

pytestmark = pytest.mark.envoy

RIGHT = [("Authorization", "Basic " + base64.b64encode(b"ada:p").decode())]
NO_FILES = "no password files come from"


def authz(site: Site, name: str, data: Data | None) -> Process:
    """The service with these certificates, or with none, on the socket that Envoy asks."""
    words = [f"--xds-address=localhost:{site.control_plane.xds[1]}", "--node-id=envoy-1", f"--authz-address=unix:{site.path}/authz.sock"]
    words += ["--xds-server-name=xds", *flags(mount(site.path / name, data))] if data else []
    found = Process(name, [*XDS, "authz", *words], site.path)
    site.processes.append(found)
    return found


async def protected(site: Site, server: Data, client: Data) -> None:
    """A host that needs a password, another that needs none, and an Envoy that has both."""
    app = await site.run(HttpApp("web"))
    need = {"auth-type": "basic", "auth-secret": "users"}
    site.folder.write(
        "all.yaml",
        *backend("web", app),
        secret("users", {"auth": b"ada:{PLAIN}p"}),
        ingress("shut", "shut.test", {"/": ("web", 80)}, need),
        ingress("open", "open.test", {"/": ("web", 80)}),
    )
    await serve(site, server)
    await site.static_envoy(await bootstrap(site, client, f"--authz-address=unix:{site.path}/authz.sock"))
    await site.until_answered("/", "web", host="open.test")


async def status(site: Site, host: str = "shut.test") -> int:
    return (await site.get("/", host=host, headers=RIGHT)).status


async def until(site: Site, wanted: int) -> None:
    async def look() -> bool:
        return await status(site) == wanted

    await wait_until(look, f"who has the password to get {wanted}")


async def test_a_service_with_a_certificate_gets_password_files_and_shows_a_renewed_one(site: Site) -> None:
    """The server comes back with files by which it knows nobody who shows, or trusts, the old ones."""
    before, after = renewed()
    await protected(site, before.server, before.client)
    running = authz(site, "authz", before.client)
    try:
        await running.start()
        await until(site, 200)
        mount(site.path / "authz", after.client)
        await site.control_plane.stop()
        mount(site.path / "server", after.server)
        await site.control_plane.start()
        site.folder.write("users.yaml", secret("more", {"auth": b"ada:{PLAIN}p"}))
        need = {"auth-type": "basic", "auth-secret": "more"}
        site.folder.write("more.yaml", ingress("more", "more.test", {"/": ("web", 80)}, need))
        mount(site.path / "client", after.client)

        async def served() -> bool:
            return await status(site, "more.test") == 200

        await wait_until(served, "a new file to reach the service")
    finally:
        await running.stop()


@pytest.mark.parametrize("stranger", ["no certificate", "another authority", "another name"])
async def test_a_service_that_is_not_ours_gets_no_password_file(site: Site, stranger: str) -> None:
    """What is protected is closed for all, and all else is as before."""
    ours = made()
    await protected(site, ours.server, ours.client)
    theirs = made() if stranger == "another authority" else made(replace(ours, client={}), names=(NAMES[0], ["somebody"]))
    running = authz(site, "authz", None if stranger == "no certificate" else {**theirs.client, "ca.crt": ours.client["ca.crt"]})
    try:
        await running.start()

        async def refused() -> bool:
            return any(NO_FILES in line for line in running.stderr)

        await wait_until(refused, "the service to be refused")
        assert await status(site) == 503
        assert await status(site, "open.test") == 200
    finally:
        await running.stop()
    welcome = authz(site, "ours", ours.client)
    try:
        await welcome.start()
        await until(site, 200)
    finally:
        await welcome.stop()
