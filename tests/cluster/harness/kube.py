"""etcd, API servers, the controllers and kwok, as processes, in the network of this thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.harness import network, programs
from tests.envoy.harness import PATIENCE, Process, Tls, fetch, run, wait_until

ETCD_ADDRESS = ("127.0.0.1", 2379)
ETCD = "http://127.0.0.1:2379"
PORT, OTHER_PORT = 6443, 6444
NODE_NAME = "node-1"
CONTROLLERS = (
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "namespace-controller",
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "job-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
)
UNPLUGGED = ("ServiceAccount", "TaintNodesByCondition")
"""Admission plugins that wait for somebody who is not here: for the one who writes root certificates, and for who takes taints off."""
AUDIT = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}


class Kube:
    """A Kubernetes control plane without nodes of its own. `start` brings it up, `stop` ends all of it.

    `kubeconfig` belongs to an administrator; `other_kubeconfig` as well, at the second API server, while there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.kubeconfig = folder / "admin.kubeconfig"
        self.other_kubeconfig = folder / "other.kubeconfig"
        self.processes: list[Process] = []
        self._api_server = self._process("kube-apiserver", *self._api_server_flags(network.API, PORT))
        self._other = self._process("kube-apiserver", *self._api_server_flags(network.NODE, OTHER_PORT), name="kube-apiserver-2")
        self._without_cache = self._process(
            "kube-apiserver", *self._api_server_flags(network.API, PORT), "--watch-cache=false", name="kube-apiserver-uncached"
        )
        self._etcd = self._process(
            "etcd",
            *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--log-level", "error", "--quota-backend-bytes=8000000000"),
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD, "--listen-peer-urls", "http://127.0.0.1:2380"),
        )

    async def start(self, *, pods: bool = True) -> None:
        """Start everything, and wait until RBAC knows its roles and, where there is what `pods` need, until there is a node."""
        self._write_files()
        await self._etcd.start()
        await self.start_api_server()
        for path, port in ((self.kubeconfig, (network.API, PORT)), (self.other_kubeconfig, (network.NODE, OTHER_PORT))):
            self.write_kubeconfig(path, self.token, port)
        if pods and not programs.missing(*programs.FOR_PODS):
            await self._start_for_pods()

    async def stop(self) -> None:
        """End everything; etcd last, for an API server that is told to end waits for it."""
        for process in reversed(self.processes):
            if process is not self._etcd:
                await process.kill()
        await self._etcd.kill()

    async def start_api_server(self, *, watch_cache: bool = True) -> None:
        """Start the API server and wait until it is ready. Without a `watch_cache` it knows of the past only what etcd knows."""
        process = self._api_server if watch_cache else self._without_cache
        await process.start()
        await self._until_ready(network.API, PORT, process)

    async def kill_api_server(self) -> None:
        """End the API server as a machine that loses power does (SIGKILL)."""
        await self._api_server.kill()
        await self._without_cache.kill()

    @contextlib.asynccontextmanager
    async def other_api_server(self) -> AsyncIterator[None]:
        """A second API server on the same etcd, for the length of a block: `kubectl(…, other=True)`."""
        await self._other.start()
        try:
            await self._until_ready(network.NODE, OTHER_PORT, self._other)
            yield
        finally:
            await self._other.kill()

    async def compact(self) -> None:
        """Let etcd forget all but the present, as it does every five minutes."""

        revision = (await _etcd("/v3/kv/range", {"key": "AA==", "limit": "1"}))["header"]["revision"]
        await _etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    async def kubectl(self, command: str, *, other: bool = False, stdin: str = "", deadline: float = PATIENCE) -> str:
        """Run kubectl as it is typed, and return its output. Raises AssertionError with what it complained about."""
        config = self.other_kubeconfig if other else self.kubeconfig
        words = [programs.path("kubectl"), "--kubeconfig", str(config), *shlex.split(command)]
        code, out, err = await run(words, stdin=stdin.encode(), deadline=deadline)
        assert code == 0, f"kubectl {command}: {err or out}"
        return out

    async def get(self, command: str) -> Any:
        """`kubectl get …` as JSON."""
        return json.loads(await self.kubectl(f"get {command} -o json"))

    async def apply(self, *objects: dict[str, Any], other: bool = False) -> str:
        """`kubectl apply -f -`."""
        return await self.kubectl("apply -f -", other=other, stdin=yaml.safe_dump_all(objects))

    def write_kubeconfig(self, path: Path, token: str, server: tuple[str, int] = (network.API, PORT)) -> Path:
        """Write a kubeconfig for whoever has this token."""
        cluster = {"server": f"https://{server[0]}:{server[1]}", "certificate-authority": str(self._certificate(server[1]))}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def audit(self) -> list[dict[str, Any]]:
        """Return what the API server was asked so far: verb, user, object and answer of each request that has ended."""
        path = self.folder / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def trust(self) -> ssl.SSLContext:
        """Return the context of a client that believes the API server."""
        return ssl.create_default_context(cafile=self._certificate(PORT))

    def report(self) -> str:
        """Return the end of the output of everything, for people."""
        return "\n\n".join(process.report(20) for process in self.processes if process.pid)

    async def _start_for_pods(self) -> None:
        controllers = self._process(
            "kube-controller-manager",
            *(f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"),
            f"--controllers={','.join(CONTROLLERS)}",
            "--concurrent-deployment-syncs=5",
        )
        kwok = self._process(
            "kwok",
            *("--kubeconfig", str(self.kubeconfig), "--manage-all-nodes=true", "--cidr", network.PODS, "--node-ip", network.NODE),
            *("--server-address", "127.0.0.1:10247", "--config", str(Path(__file__).with_name("stages.yaml"))),
        )
        await asyncio.gather(controllers.start(), kwok.start())
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE_NAME}
        await self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}})
        await self.kubectl(f"wait --for=condition=Ready node/{NODE_NAME} --timeout=120s", deadline=140)

    def _process(self, program: str, *arguments: str, name: str = "") -> Process:
        process = Process(name or program, [programs.path(program), *arguments], self.folder)
        self.processes.append(process)
        return process

    def _api_server_flags(self, address: str, port: int) -> list[str]:
        key = self.folder / "service-accounts.key"
        flags = [
            *(f"--etcd-servers={ETCD}", f"--cert-dir={self._certificate(port).parent}", f"--bind-address={address}"),
            *(f"--advertise-address={address}", f"--secure-port={port}", "--endpoint-reconciler-type=none"),
            *("--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc"),
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}", "--authorization-mode=RBAC"),
            *(f"--token-auth-file={self.folder / 'tokens.csv'}", f"--disable-admission-plugins={','.join(UNPLUGGED)}"),
        ]
        if port == PORT:
            flags += [f"--audit-policy-file={self.folder / 'audit.yaml'}", f"--audit-log-path={self.folder / 'audit.log'}"]
        return flags

    def _certificate(self, port: int) -> Path:
        """Of an API server, which it makes for itself, with its authority behind it."""
        return self.folder / f"certificates-{port}" / "apiserver.crt"

    def _write_files(self) -> None:
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        key = str(self.folder / "service-accounts.key")
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)

    async def _until_ready(self, address: str, port: int, process: Process) -> None:
        """/readyz says "ok" before the default roles are there, which it lists as a check of its own; so both are asked for."""

        async def look() -> bool:
            for path in ("/readyz", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:discovery"):
                token = [("Authorization", f"Bearer {self.token}"), ("Connection", "close")]
                answer = await fetch((address, port), path, host=address, headers=token, tls=Tls())
                assert answer.status == 200, f"{path}: {answer.status} {answer.text[:500]}"
            return True

        async def ready_or_ended() -> bool:
            return not process.running or await look()

        try:
            await wait_until(ready_or_ended, f"{process.name} to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.report()}") from None
        assert process.running, process.report()


async def _etcd(path: str, body: dict[str, Any]) -> Any:
    """Ask etcd's gateway from JSON to gRPC."""
    answer = await fetch(ETCD_ADDRESS, path, host="etcd", method="POST", body=json.dumps(body).encode())
    assert answer.status == 200, answer.text
    return answer.json()
