"""All of it together: a Kubernetes control plane, pods that answer, xds with the rights that deploy/ gives it, and an Envoy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Self

from examples.apps import Address
from tests import quick_yaml
from tests.cluster.harness import network
from tests.cluster.harness.kube import Kube
from tests.cluster.harness.pods import Pods
from tests.envoy.harness import PATIENCE, ControlPlane, Envoy, Ports, Process, Response, Tls, fetch, wait_until
from tests.envoy.harness.http1 import Headers
from tests.envoy.harness.process import ROOT

HTTP: Address = (network.NODE, 80)
HTTPS: Address = (network.NODE, 443)
SPACE = "ingress-xds"
"""The namespace that deploy/base makes."""
LEASE = 6
"""Seconds after which another replica leads where the leader fell silent."""
RIGHTS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "IngressClass", "ConfigMap"}
"""What of deploy/base is applied: all that xds finds there, but not xds, which runs beside it."""


ELECTION = "ingress-controller-leader"
"""The Lease that the deployed Role names, and the beginning of the name of the Secret with the shared certificate."""
Json = dict[str, Any]


class Cluster:
    """Starts everything when it is entered, and ends it when it is left; within `network.own_network()`.

    `bare`: an API server and what deploy/base makes for xds to find; no pods, and neither xds nor an Envoy.
    """

    def __init__(self, folder: Path, *, bare: bool = False) -> None:
        self.folder = folder
        self.kube = Kube(folder)
        self.kubectl = self.kube.kubectl
        self.pods = Pods(self.kube)
        self.ports = Ports()
        self.control_planes: list[ControlPlane] = []
        self.envoys: list[Envoy] = []
        self._bare = bare
        self._kubeconfig = folder
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def control_plane(self) -> ControlPlane:
        """The management server that was started first; the first Envoy asks it."""
        return self.control_planes[0]

    @property
    def envoy(self) -> Envoy:
        """The Envoy that was started first, which has HTTP and HTTPS."""
        return self.envoys[0]

    async def get(
        self, target: str = "/", *, host: str, tls: Tls | None = None, method: str = "GET", headers: Headers = (), body: bytes = b""
    ) -> Response:
        """Send one request through Envoy: to the http port, or with `tls` to the https port."""
        return await fetch(HTTPS if tls else HTTP, target, host=host, tls=tls, method=method, headers=headers, body=body)

    async def until_answered(
        self, by: str, *, host: str, target: str = "/", tls: Tls | None = None, deadline: float = PATIENCE
    ) -> Response:
        """Ask until an application of this name answers, and return its answer."""

        async def look() -> Response:
            response = await self.get(target, host=host, tls=tls)
            assert response.app == by, f"{response.status} {response.body[:200]!r}"
            return response

        return await wait_until(look, f"{by} to answer {host}{target}", deadline=deadline)

    async def until_status(
        self, status: int, *, host: str, target: str = "/", tls: Tls | None = None, deadline: float = PATIENCE
    ) -> Response:
        """Ask until the answer has this status, and return it."""

        async def look() -> Response:
            response = await self.get(target, host=host, tls=tls)
            assert response.status == status, f"{response.status} {response.body[:200]!r}"
            return response

        return await wait_until(look, f"{host}{target} to be answered with {status}", deadline=deadline)

    async def deploy(
        self, name: str, *, space: str = "default", kind: str = "http", replicas: int = 1, port: int = 8080, pre_stop: int = 0
    ) -> None:
        """What people type for an application: a Deployment, a Service on port 80, and the wait until both have pods.

        `pre_stop` is for how many seconds a pod goes on serving once it was deleted. Without it, it ends while it still gets requests.
        """
        create = f"create deployment {name} -n {space} --image=apps/{kind} --port={port} --replicas={replicas}"
        if pre_stop:
            deployment = json.loads(await self.kubectl(f"{create} --dry-run=client -o json"))
            deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": pre_stop}}}
            await self.kube.apply(deployment)
        else:
            await self.kubectl(create)
        protocol = " --protocol=UDP" if kind == "udp" else ""
        await self.kubectl(f"expose deployment {name} -n {space} --port=80 --target-port={port}{protocol}")
        await self.kubectl(f"rollout status deployment {name} -n {space} --timeout=120s", deadline=140)

    async def endpoints(self, service: str, *, space: str = "default", port: int = 80) -> list[str]:
        """Return the addresses to which Envoy sends what is new for a Service; empty where it does not know it."""
        found = await self.envoy.clusters(draining=False)
        return sorted(host.partition(":")[0] for host in found.get(f"{space}/{service}/{port}", ()))

    async def pod_addresses(self, app: str, *, space: str = "default") -> list[str]:
        """Return the addresses of an application's pods that are not to end, as the API server has them."""
        found = await self.kube.get(f"pods -n {space} -l app={app}")
        return sorted(pod["status"].get("podIP", "") for pod in found["items"] if "deletionTimestamp" not in pod["metadata"])

    async def until_pods_are_endpoints(self, app: str, count: int, *, space: str = "default") -> list[str]:
        """Wait until an application has so many pods, and Envoy just them; return their addresses."""

        async def look() -> list[str]:
            pods, endpoints = await self.pod_addresses(app, space=space), await self.endpoints(app, space=space)
            assert pods == endpoints, f"{pods} != {endpoints}"
            assert len(pods) == count, pods
            return pods

        return await wait_until(look, f"Envoy to have the {count} pods of {app}")

    async def until_pods_have_ended(self, app: str, left: int, *, space: str = "default") -> None:
        """Wait until those pods of an application that were to end have done so, also in Envoy, and so many are left."""

        async def look() -> bool:
            pods = len((await self.kube.get(f"pods -n {space} -l app={app}"))["items"])
            hosts = len((await self.envoy.clusters()).get(f"{space}/{app}/80", ()))
            assert (pods, hosts) == (left, left), f"{pods} pods, {hosts} hosts"
            return True

        await wait_until(look, f"{left} pods of {app} to be left")

    def report(self) -> str:
        """Return the end of the output of everything that was started, for people."""
        ours = [*(each.process for each in self.control_planes), *(each.process for each in self.envoys)]
        return "\n\n".join([self.kube.report(), self.pods.report(), *(process.report(100) for process in ours)])

    @contextlib.asynccontextmanager
    async def replica(self, *flags: str) -> AsyncIterator[ControlPlane]:
        """Another management server, for the length of a block."""
        found = self.new_control_plane(*flags)
        self.control_planes.append(found)
        async with found:
            yield found
        self.control_planes.remove(found)

    @contextlib.asynccontextmanager
    async def another_envoy(self, bootstrap: str) -> AsyncIterator[Envoy]:
        """Another Envoy, for the length of a block, on the same ports as the first: the kernel gives each some of the connections."""
        found = Envoy(bootstrap, self.folder, self.ports)
        self.envoys.append(found)
        async with found:
            yield found
        self.envoys.remove(found)

    async def another_class(self, name: str) -> list[str]:
        """Make an IngressClass, and return the flags of a replica that serves it, and elects a leader of its own.

        The deployed Role names the Lease and the Secret of those who elect together, so there is another one for these.
        """
        controller, election = f"example.test/{name}", f"leader-{name}"
        made = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name}}
        await self.kube.apply(made | {"spec": {"controller": controller}}, *role_for("xds", election, await self.roles()))
        return ["--ingress-class", name, "--controller-class", controller, "--election-id", election]

    async def roles(self) -> list[Json]:
        """Return the ClusterRole and the Role that deploy/base gives to xds."""
        return [each for each in await self.deployed() if each["kind"] in ("ClusterRole", "Role") and each["metadata"]["name"] == "xds"]

    async def address(self, ingress: str) -> str:
        """Return the column ADDRESS of `kubectl get ingress`."""
        head, line = (await self.kubectl(f"get ingress {ingress}")).splitlines()
        at, end = head.index("ADDRESS"), head.index("PORTS")
        return line[at:end].strip()

    async def until_address(self, ingress: str, address: str, *, deadline: float = PATIENCE) -> None:
        """Wait until an Ingress has this address."""

        async def look() -> bool:
            found = await self.address(ingress)
            assert found == address, found
            return True

        await wait_until(look, f"{ingress} to have the address {address}", deadline=deadline)

    async def account(self, name: str) -> Path:
        """Write the kubeconfig of a ServiceAccount of SPACE, and return where it is."""
        token = await self.kubectl(f"create token {name} -n {SPACE} --duration=24h")
        return self.kube.write_kubeconfig(self.folder / f"{name}.kubeconfig", token.strip())

    async def _start(self) -> None:
        self._stack.callback(self.ports.release)
        self._stack.push_async_callback(self.kube.stop)
        await self.kube.start(pods=not self._bare)
        await self.kube.apply(*await self.deployed())
        self._kubeconfig = await self.account("xds")
        if self._bare:
            return
        self._stack.push_async_callback(self.pods.stop)
        await self.pods.start()
        await self._stack.enter_async_context(self.replica())
        socket = self.folder / "authz.sock"
        authz = Process("authz", self.control_plane.authz(socket), self.folder)
        await authz.start()
        self._stack.push_async_callback(authz.stop)
        await self._stack.enter_async_context(self.another_envoy(await self.control_plane.bootstrap(authz=socket)))

    async def deployed(self) -> list[Json]:
        """Return what deploy/base makes for xds to find."""
        found = quick_yaml.safe_load_all(await self.kubectl(f"kustomize {ROOT / 'deploy' / 'base'}"))
        objects: list[Json] = [each for each in found if each["kind"] in RIGHTS]
        return sorted(objects, key=lambda each: each["kind"] != "Namespace")

    def new_control_plane(self, *flags: str) -> ControlPlane:
        """Return a management server with the rights of the deployed one, and its flags; nobody has started it."""
        given = [
            *("--kubeconfig", str(self._kubeconfig), "--pod-namespace", SPACE),
            *("--listen-address", HTTP[0], "--http-port", str(HTTP[1]), "--https-port", str(HTTPS[1])),
            *("--configmap", f"{SPACE}/xds-config", "--tcp-services-configmap", f"{SPACE}/xds-tcp-services"),
            *("--udp-services-configmap", f"{SPACE}/xds-udp-services", "--publish-status-address", network.NODE),
            *("--election-ttl", f"{LEASE}s"),
        ]
        return ControlPlane(None, self.folder, self.ports, [*given, *flags])


def role_for(account: str, election: str, roles: Iterable[Json], *, home: str = SPACE) -> list[Json]:
    """Return roles, and what binds them to a ServiceAccount of SPACE, for those who elect by another name, which the roles bear, too.

    `home` is the namespace of what is a Role.
    """
    found = []
    for role in roles:
        metadata = {"name": election} | ({"namespace": home} if role["kind"] == "Role" else {})
        rules = [
            rule | {"resourceNames": [name.replace(ELECTION, election) for name in rule["resourceNames"]]}
            if "resourceNames" in rule
            else rule
            for rule in role["rules"]
        ]
        found.append(role | {"metadata": metadata, "rules": rules})
        found.append(
            {
                "apiVersion": role["apiVersion"],
                "kind": f"{role['kind']}Binding",
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": election},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SPACE}],
            }
        )
    return found


def complaints(process: Process) -> list[str]:
    """Return the sentences of a control plane's log about rights that its role lacks."""
    said = [str(json.loads(line)["msg"]) if line.startswith("{") else line for line in process.stderr]
    return [sentence for sentence in said if "does not allow" in sentence]
