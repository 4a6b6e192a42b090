"""What listens for this program itself is no backend, in a folder of manifests, where loopback is where applications are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from examples.apps import Address, HttpApp
from tests import quick_yaml
from tests.envoy.harness import NameServer, Site, backend, config_map, endpoint_slice, ingress, resolving, service, wait_until

pytestmark = pytest.mark.envoy


def resolved(site: Site, cluster: str) -> Callable[[], Awaitable[bool]]:
    """Whether Envoy knows an address of a cluster."""

    async def look() -> bool:
        return bool((await site.envoy.clusters()).get(cluster))

    return look


async def test_in_a_folder_our_own_sockets_are_no_backends_by_address_or_by_name(site: Site) -> None:
    """What they show are the private keys of everybody, and all that is configured."""
    await site.start_control_plane("--tcp-services-configmap", "default/tcp")
    plane = site.control_plane
    grpc, through = {"backend-protocol": "GRPC"}, site.ports.take()
    sockets: dict[str, Address] = {"xds": plane.xds, "debug": plane.debug, "health": plane.health}
    for name, (_, number) in sockets.items():
        for kind, ip in (("v4", "127.0.0.1"), ("other", "127.1.2.3"), ("any", "0.0.0.0"), ("mapped", "::ffff:127.0.0.1")):
            both = service(f"{name}-{kind}"), endpoint_slice(f"{name}-{kind}", [(ip, number)])
            site.folder.write(
                f"{name}-{kind}.yaml", *both, ingress(f"{name}-{kind}", f"{name}-{kind}.test", {"/": (f"{name}-{kind}", 80)}, grpc)
            )
        site.folder.write(
            f"{name}.yaml", service(name, 0, external_name="here.example"), ingress(name, f"{name}.test", {"/": (name, number)})
        )
    site.folder.write("tcp.yaml", config_map("tcp", {through: f"default/health:{plane.health[1]}"}))
    site.folder.write("app.yaml", *backend("app", await site.run(HttpApp("app"))), ingress("app", "app.test", {"/": ("app", 80)}))
    bootstrap = quick_yaml.safe_load(await plane.bootstrap())
    await site.static_envoy(resolving(bootstrap, await site.run(NameServer({"here.example": ["127.0.0.1"]}))))
    await site.until_answered("/", "app", host="app.test")
    for name, (_, number) in sockets.items():
        await wait_until(resolved(site, f"default/{name}/{number}@default/{name}"), "here.example to be resolved")
        for kind in ("v4", "other", "any", "mapped"):
            assert (await site.get("/healthz", host=f"{name}-{kind}.test")).status == 503
        assert (await site.get("/healthz", host=f"{name}.test")).status == 503
        assert (await site.envoy.stats(f"cluster.default/{name}/"))[f"cluster.default/{name}/{number}@default/{name}.rbac.denied"] == 1
    assert f"tcp/{through}" not in await site.envoy.listeners()
    said = "\n".join(plane.process.stderr)
    assert all(f"({flag})" in said for flag in ("--xds-address", "--debug-address", "--healthz-port"))
