"""What libraries leave out while they are imported is there once it is used, in this process by anybody."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.envoy.harness.process import ROOT, environment
from xds.imports.hook import Finder

SERVE = "import xds.app, xds.clustered, xds.kube.apiserver.apiserver, xds.debug.live, xds.admission.server"
LEFT_OUT = {"requests", "oauthlib", "requests_oauthlib", "urllib3", "pydantic", "grpclib", "h2", "hpack", "websocket"}


def run(program: str) -> str:
    """What a fresh interpreter prints that runs this program."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_control_plane_imports_none_of_these() -> None:
    modules = run(f'import sys, xds\n{SERVE}\nprint(*sys.modules, sep="\\n")').splitlines()
    assert "xds.clustered" in modules
    assert {module.partition(".")[0] for module in modules} & LEFT_OUT == set()


@pytest.mark.parametrize(
    "use",
    [
        "import kubernetes; kubernetes.client.CoreV1Api; kubernetes.config.load_kube_config; kubernetes.aio.dynamic.DynamicClient",
        "from kubernetes import client, watch; client.V1Pod(); watch.Watch",
        "from kubernetes import *; client.CoreV1Api",
        "from kubernetes.aio import config; config.load_kube_config",
        "import kubernetes.aio as aio; aio.client.ApiClient; aio.stream.WsApiClient",
        "import kubernetes; assert kubernetes.__version__ == kubernetes.client.__version__; assert not hasattr(kubernetes, 'nothing')",
        """
import asyncio, kubernetes.aio.config.kube_config as kube_config
async def made(): return kube_config.ApiClient(kube_config.Configuration())
from kubernetes.aio.client import ApiClient
assert type(asyncio.run(made())) is ApiClient
""",
        """
import kubernetes
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool: assert len(set(pool.map(lambda _: kubernetes.client, range(8)))) == 1
""",
    ],
)
def test_the_kubernetes_client_is_whole_for_who_uses_it(use: str) -> None:
    run(f"import xds\n{SERVE}\n{use}")


def test_services_for_grpclib_are_whole_where_it_is_imported_first() -> None:
    program = (
        "from envoy_data_plane.envoy.service.discovery.v3 import AggregatedDiscoveryServiceBase as base; print(base.__mro__[1].__name__)"
    )
    assert run(f"import betterproto2.grpclib, xds\n{program}") == "ServiceBase\n"
    assert run(f"import xds\n{program}") == "object\n"


def test_modules_of_others_are_imported_as_always() -> None:
    for name in ("envoy_data_planes", "pydantic", "kubernetes.client", "aiohttp", "aiohttp.client", "json"):
        assert Finder.find_spec(name) is None


def test_generated_modules_run_with_their_first_use_and_are_whole_then() -> None:
    program = """
import sys, xds
import envoy_data_plane.envoy.config.endpoint.v3 as endpoint
print("ClusterLoadAssignment" in vars(endpoint), end=" ")
assert endpoint.ClusterLoadAssignment().SerializeToString() == b""
print("ClusterLoadAssignment" in vars(endpoint), "__getattr__" in vars(endpoint), hasattr(endpoint, "nothing"), end=" ")
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.config.core.v3 import *
print("Route" in vars(route), Address.__module__)
"""
    assert run(program) == "False True False False False envoy_data_plane.envoy.config.core.v3\n"


def test_no_thread_finds_part_of_a_module_that_another_one_runs() -> None:
    """A message whose module has not imported what its fields name cannot be encoded, and a Unit that meets it has no value."""
    program = """
import sys, xds
from threading import Thread
import envoy_data_plane.envoy.config.route.v3 as route
sys.setswitchinterval(1e-5)
found = []
def look():
    while "CorsPolicy" not in vars(route): pass
    found.extend(("WeightedCluster" in vars(route), route.CorsPolicy().SerializeToString()))
looking, using = Thread(target=look), Thread(target=lambda: route.CorsPolicy)
for thread in (looking, using): thread.start()
for thread in (looking, using): thread.join()
print(found)
"""
    assert run(program) == "[True, b'']\n"


def test_a_control_plane_runs_no_generated_module_that_others_name_and_nothing_uses() -> None:
    used = run(
        f'import sys, xds\n{SERVE}\nprint(*(n for n, m in sys.modules.items() if "__getattr__" not in vars(m)), sep="\\n")'
    ).splitlines()
    assert "envoy_data_plane.envoy.config.listener.v3" in used
    assert "envoy_data_plane.envoy.config.trace.v3" not in used, "the connection manager has a field for it"
