"""docs/operate.md, command by command, as its reader types them, against a real API server.

What runs in a pod (`kubectl exec`, `kubectl logs`) runs beside the management server of these tests, for pods have no containers here. The
namespace is another one, since the usual one has what other tests use.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import Address
from tests.cluster.harness import HTTP, SPACE, Cluster, missing, programs
from tests.deploy.test_docs import lines
from tests.envoy.harness import Balancer, run, wait_until
from tests.envoy.harness.process import ROOT

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

PAGE = ROOT / "docs" / "operate.md"
ELSEWHERE = "operated"
HOST = "shop.example.com"
JUDGES = ("xds check", "kubectl xds check")
"""Commands that exit with 1 where an object does not work as written, as those of other tests do."""
KUBECTL = """#!/bin/bash
# kubectl, but for what is asked of a container.
words=("$@")
for at in "${{!words[@]}}"; do
    case ${{words[at]}} in
        logs) exec cat {log} ;;
        exec) while [[ ${{words[at]}} != -- ]]; do ((at++)); done; exec "${{words[@]:at + 1}}" ;;
        *) ;;
    esac
done
exec {kubectl} "$@"
"""


class Desk:
    """Where the reader sits: a folder, and the programs that the page names."""

    def __init__(self, folder: Path, cluster: Cluster, old: Address) -> None:
        self._folder = folder
        (folder / "deploy").symlink_to(ROOT / "deploy")
        server = cluster.control_plane
        log = cluster.folder / f"{server.process.name}.stderr"
        self._write("kubectl", KUBECTL.format(log=log, kubectl=programs.path("kubectl")))
        self._write("helm", f'#!/bin/sh\nexec {programs.path("helm")} "$@"\n')
        self._write("xds", f'#!/bin/sh\nexec {sys.executable} -m xds "$@"\n')
        plugin = "import sys; from xds.cli.kubectl import main; sys.exit(main())"
        self._write("kubectl-xds", f'#!/bin/sh\nexec {sys.executable} -c "{plugin}" "$@"\n')
        self._environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kube.kubeconfig),
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "XDS_DEBUG_ADDRESS": "{}:{}".format(*server.debug),
            "NGINX": "{}:{}".format(*old),
            "XDS": "{}:{}".format(*HTTP),
        }

    async def type(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit code and all that it prints."""
        settings = [f"{name}={value}" for name, value in self._environment.items()]
        code, out, err = await run(["env", "-C", str(self._folder), *settings, "bash", "-c", command], deadline=240)
        return code, out + err

    def _write(self, name: str, text: str) -> None:
        path = self._folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest_asyncio.fixture(loop_scope="package")
async def desk(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Desk]:
    """A cluster with an application behind shop.example.com; Envoy under another address stands for the old ingress-nginx."""
    if why := missing("helm"):
        pytest.skip(why)
    await cluster.deploy("shop")
    await cluster.kubectl(f"create ingress shop --class=nginx '--rule={HOST}/cart*=shop:80'")
    await cluster.until_answered("shop", host=HOST, target="/cart")
    old = Balancer(HTTP)
    yield Desk(tmp_path, cluster, await old.start())
    await old.stop()
    await cluster.kubectl("delete ingress,service,deployment shop --ignore-not-found")
    await cluster.kubectl(f"delete namespace {ELSEWHERE} --ignore-not-found --wait=false")


def elsewhere(command: str) -> str:
    """A command for another release in another namespace; names of what every namespace shares are made of the release's."""
    return re.sub(r"(helm \w+ |deployment/|daemonset/)xds", rf"\1{ELSEWHERE}", command.replace(SPACE, ELSEWHERE))


async def test_every_command_of_the_page_works_in_its_order(cluster: Cluster, desk: Desk) -> None:
    outputs = {}
    for command in lines(PAGE):
        code, output = await desk.type(elsewhere(command))
        assert code == 0 or (code == 1 and command.startswith(JUDGES)), f"{command}: {code}\n{output}"
        outputs[command] = output
    assert "envoy-1" in outputs["kubectl xds status"]
    assert "default/shop" in outputs[f"kubectl xds explain https://{HOST}/cart live"]
    assert f"{ELSEWHERE}" not in await cluster.kubectl("get clusterroles,ingressclasses -o name")

    async def gone() -> bool:
        return not (await cluster.kube.get(f"deployments,daemonsets -n {ELSEWHERE}"))["items"]

    await wait_until(gone, "what the chart made to be gone")
