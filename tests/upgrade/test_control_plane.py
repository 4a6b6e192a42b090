"""A control plane that is upgraded and rolled back while Envoys are connected and clients ask: the last release beside this tree.

Two replicas of real processes are replaced one after the other, as a Deployment does it, behind something that stands for its Service.
"""

from __future__ import annotations

import contextlib
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence

import pytest

from examples.apps import Address, HttpApp
from tests.envoy.harness import (
    Balancer,
    ControlPlane,
    Envoy,
    Site,
    Tls,
    Traffic,
    backend,
    disturbances,
    fetch,
    ingress,
    make_certificate,
    secret_tls,
    wait_until,
)
from tests.envoy.harness.control_plane import XDS
from tests.envoy.test_quarantine import Raw, bad_host, raw
from tests.packaging.building import last_release, run, wheel
from xds.snapshot import ROUTE

__all__ = ["raw"]

pytestmark = pytest.mark.envoy

Program = Sequence[str]
HOST, SECURE = "web.test", "secure.test"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The command of the last release."""
    work = tmp_path_factory.mktemp("release")
    package = work / "package"
    zipfile.ZipFile(wheel(work, last_release(work))).extractall(package)
    python = ["env", f"PYTHONPATH={package}", sys.executable, "-P"]
    # Its version may be that of this tree, until the first commit after a release has another one.
    assert run(*python, "-c", "import xds; print(xds.__file__)").startswith(str(package))
    return [*python, "-m", "xds"]


class Fleet:
    """Replicas behind a Balancer, and Envoys that ask it. Every replica reads the same folder and gives the same ports to Envoy."""

    def __init__(self, site: Site, address: Address, balancer: Balancer) -> None:
        self.site = site
        self.address = address
        self.balancer = balancer
        self.flags: list[str] = []
        self.replicas: list[ControlPlane] = []
        self.envoys: list[Envoy] = []
        self.ports = (site.ports.take(), site.ports.take())

    async def add(self, program: Program) -> None:
        """Start a replica; it gets connections once it is ready."""
        flags = [f"--http-port={self.ports[0]}", f"--https-port={self.ports[1]}", *self.flags]
        replica = ControlPlane(self.site.folder.path, self.site.path, self.site.ports, flags, program=program)
        self.site.processes.append(replica.process)
        await replica.start()
        self.replicas.append(replica)
        self.balancer.targets.append(replica.xds)

    async def remove(self) -> None:
        """End the oldest replica: it gets no new connections, and closes those that it has."""
        replica = self.replicas.pop(0)
        self.balancer.targets.remove(replica.xds)
        assert await replica.stop() == 0

    async def roll(self, program: Program) -> None:
        """Replace all replicas, as `maxUnavailable: 0` has it."""
        for _ in range(len(self.replicas)):
            await self.add(program)
            await self.remove()

    async def connect(self, program: Program, node_id: str) -> None:
        """Start an Envoy with the bootstrap that this version prints; it asks the balancer."""
        words = ["--xds-address", "{}:{}".format(*self.address), "--node-id", node_id, "--admin-address", "127.0.0.1:9901"]
        self.envoys.append(await self.site.static_envoy(run(*program, "bootstrap", *words)))

    async def until_everywhere(self, cluster: str) -> None:
        """Wait until every Envoy holds a cluster."""
        for envoy in self.envoys:
            await envoy.settled(lambda held: cluster in held["cluster"], cluster)

    def target(self, number: int) -> Address:
        """Where Envoy answers: http (0) or https (1)."""
        return "127.0.0.1", self.ports[number]


@contextlib.asynccontextmanager
async def fleet(site: Site, program: Program, replicas: int = 2, flags: Sequence[str] = ()) -> AsyncIterator[Fleet]:
    """A fleet of this version with two Envoys, for the length of a block."""
    found = Fleet(site, await site.run(balancer := Balancer()), balancer)
    found.flags += flags
    try:
        for _ in range(replicas):
            await found.add(program)
        for number in (1, 2):
            await found.connect(program, f"envoy-{number}")
        yield found
    finally:
        for replica in found.replicas:
            await replica.stop()


async def test_neither_an_upgrade_nor_a_rollback_costs_a_request_or_touches_a_listener(site: Site, before: Program) -> None:
    web = await site.run(HttpApp("web"))
    site.folder.write("web.yaml", *backend("web", web), ingress("web", HOST, {"/": ("web", 80)}))
    site.folder.write(
        "secure.yaml",
        ingress("secure", SECURE, {"/": ("web", 80)}, tls={"secure": [SECURE]}),
        secret_tls("secure", make_certificate([SECURE])),
    )
    async with fleet(site, before) as found:
        await found.until_everywhere("default/web/80")
        http, https = found.target(0), found.target(1)
        async with Traffic(http, host=HOST) as plain, Traffic(https, host=SECURE, tls=Tls(sni=SECURE)) as encrypted:
            for number, program in enumerate((XDS, before)):
                await found.roll(program)
                name = f"later-{number}"
                site.folder.write(f"{name}.yaml", *backend(name, web), ingress(name, f"{name}.test", {"/": (name, 80)}))
                await found.until_everywhere(f"default/{name}/80")
            await plain.flows()
            await encrypted.flows()
        assert plain.answers().keys() == encrypted.answers().keys() == {(200, "web")}
        assert [await disturbances(envoy) for envoy in found.envoys] == [{}, {}]


async def test_an_envoy_that_changes_from_one_version_to_the_other_is_sent_what_differs_and_nothing_else(
    site: Site, before: Program
) -> None:
    """Each replica knows an Envoy's resources by their versions, which are made of their bytes and not of who sends them."""
    web = await site.run(HttpApp("web"))
    names = [f"web-{number}" for number in range(20)]
    for name in names:
        site.folder.write(f"{name}.yaml", *backend(name, web), ingress(name, f"{name}.test", {"/": (name, 80)}))
    async with fleet(site, before, replicas=1) as found:
        await found.until_everywhere("default/web-0/80")
        (held, _), all_sent = [await envoy.versions() for envoy in found.envoys], await bytes_sent(found.replicas[0])
        await found.roll(XDS)
        site.folder.write("last.yaml", *backend("last", web), ingress("last", "last.test", {"/": ("last", 80)}))
        await found.until_everywhere("default/last/80")
        now = await found.envoys[0].versions()
        assert {name: now["cluster"].get(name) for name in held["cluster"]} == held["cluster"]
        assert now["listener"] == held["listener"]
        assert 0 < await bytes_sent(found.replicas[0]) < all_sent / 5


async def test_an_envoy_with_the_bootstrap_of_one_version_is_served_by_the_other(site: Site, before: Program) -> None:
    """`helm upgrade` replaces Envoys and control planes at the same time, and so does a rollback."""
    web = await site.run(HttpApp("web"))
    site.folder.write("web.yaml", *backend("web", web), ingress("web", HOST, {"/": ("web", 80)}))
    async with fleet(site, before, replicas=1) as found:
        await found.connect(XDS, "later")
        await found.until_everywhere("default/web/80")
        await found.roll(XDS)
        await found.connect(before, "earlier")
        name = "last"
        site.folder.write(f"{name}.yaml", *backend(name, web), ingress(name, f"{name}.test", {"/": (name, 80)}))
        await found.until_everywhere(f"default/{name}/80")
        assert {(await fetch(found.target(0), "/", host=f"{name}.test")).status for _ in range(20)} == {200}
        assert [await rejections(envoy) for envoy in found.envoys] == [{}] * 4


@pytest.mark.parametrize("named", [True, False])
async def test_an_envoy_that_rejects_something_changes_to_the_other_version_before_the_culprit_is_found(
    site: Site, before: Program, raw: Raw, named: bool
) -> None:
    """What one version has found and stored, the other reads: nothing is rejected again.

    Where Envoy names nobody, the other version has seen no host accepted yet, so that its search leaves out good ones as well for a moment.
    """
    web = await site.run(HttpApp("web"))
    names = [f"web-{number}" for number in range(16)]
    site.folder.write("all.yaml", *backend("web", web), *(ingress(name, f"{name}.test", {"/": ("web", 80)}) for name in names))
    raw((ROUTE, "bad.test", bad_host("bad.test", quoted=named)))
    async with fleet(site, before, 1, [f"--state-dir={site.path / 'state'}"]) as found:
        await found.until_everywhere("default/web/80")
        await found.add(XDS)
        async with Traffic(found.target(0), host="web-0.test") as traffic:
            changed = [ingress(name, f"{name}.test", {"/": ("web", 80), "/later": ("web", 80)}) for name in names]
            site.folder.write("all.yaml", *backend("web", web), *changed, ingress("bad", "bad.test", {"/": ("web", 80)}))
            await wait_until(lambda: rejected(found), "Envoy to reject the table")
            await found.remove()
            await wait_until(lambda: holds_one(found), "one host to be held")
            for program in (before, XDS):
                await found.roll(program)
                await wait_until(lambda: holds_one(found), "one host to be held")
            seen = [await rejections(envoy) for envoy in found.envoys]
            await found.roll(before)
            site.folder.write("last.yaml", *backend("last", web), ingress("last", "last.test", {"/": ("last", 80)}))
            await found.until_everywhere("default/last/80")
            await wait_until(lambda: served(found, "last.test"), "the last host to be served")
            assert [await rejections(envoy) for envoy in found.envoys] == seen
        if named:
            assert traffic.answers().keys() == {(200, "web")}
        assert {(await fetch(found.target(0), "/later", host=f"{name}.test")).app for name in names for _ in range(4)} == {"web"}


async def test_metrics_that_an_upgrade_switches_on_cost_no_request(site: Site, before: Program) -> None:
    """The listeners change, and drain; Envoys have the bootstrap of before until they are replaced as well."""
    web = await site.run(HttpApp("web"))
    site.folder.write("web.yaml", *backend("web", web), ingress("web", HOST, {"/": ("web", 80)}))
    async with fleet(site, before) as found:
        await found.until_everywhere("default/web/80")
        async with Traffic(found.target(0), host=HOST) as traffic:
            found.flags += ["--enable-metrics", f"--metrics-address=127.0.0.1:{site.ports.take()}"]
            await found.roll(XDS)
            site.folder.write("last.yaml", *backend("last", web), ingress("last", "last.test", {"/": ("last", 80)}))
            await found.until_everywhere("default/last/80")
            await traffic.flows()
        assert traffic.answers().keys() == {(200, "web")}
        assert [await rejections(envoy) for envoy in found.envoys] == [{}, {}]
        assert all([(await disturbances(envoy))["listener_manager.listener_modified"] for envoy in found.envoys])


async def rejected(found: Fleet) -> bool:
    return any([await rejections(envoy) for envoy in found.envoys])


async def holds_one(found: Fleet) -> bool:
    """Whether the replica that is connected has found the culprit."""
    lines = (await found.replicas[0].get("/metrics")).text.splitlines()
    return 'xds_held_parts{type="rds"} 1.0' in lines or 'xds_held_parts{type="rds"} 1' in lines


async def served(found: Fleet, host: str) -> bool:
    return (await fetch(found.target(0), "/", host=host)).status == 200


async def rejections(envoy: Envoy) -> dict[str, int]:
    """What an Envoy has rejected of what it was sent, by statistic."""
    return {name: count for name, count in (await envoy.stats("update_rejected")).items() if count}


async def bytes_sent(replica: ControlPlane) -> float:
    """Bytes of the clusters that a replica has sent."""
    lines = (await replica.get("/metrics")).text.splitlines()
    (line,) = (line for line in lines if line.startswith("xds_response_bytes_total{") and 'type="cds"' in line)
    return float(line.rpartition(" ")[2])
