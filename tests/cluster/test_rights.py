"""The rights that deploy/base gives are enough, and none of them is too much."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import quick_yaml
from tests.cluster.harness import NODE, SPACE, Cluster, complaints, role_for
from tests.deploy.composed import composed
from tests.envoy.harness import Process, wait_until
from tests.envoy.harness.process import ROOT
from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.apiserver import ApiServer as Source
from xds.kube.apiserver.reflector import Backoff
from xds.kube.objects import ref
from xds.problem import Ref
from xds.report.envoy_nodes import EnvoyNodes

pytestmark = pytest.mark.asyncio(loop_scope="package")

PODS = False
QUICK = Backoff(first=0.05, longest=0.2, denied=0.2)
Json = dict[str, Any]
Right = tuple[str, str]
"""A verb and a resource."""


READS = ("get", "list", "watch")
_NUMBERS = itertools.count()


def rights() -> set[Right]:
    """Everything that the roles of deploy/base allow to the control plane."""
    found = quick_yaml.safe_load_all((ROOT / "deploy" / "base" / "rbac.yaml").read_text())
    rules = [rule for each in found if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    return {(verb, what) for rule in rules for what in rule["resources"] for verb in rule["verbs"]}


def to_read() -> list[Right]:
    """Those by which objects are known."""
    return sorted((verb, what) for verb, what in rights() if verb in READS and what != "leases")


def to_report() -> list[Right]:
    """Those by which replicas agree, and write back."""
    return sorted(rights() - {*to_read()})


def hostnetwork() -> list[Json]:
    """The roles of the control plane where Envoys have ports of their nodes."""
    objects = composed(ROOT / "deploy" / "overlays" / "hostnetwork")
    return [each for each in objects if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"] == "xds"]


def to_know_nodes() -> list[Right]:
    """Those that this overlay adds."""
    found = {(verb, what) for role in hostnetwork() for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    return sorted(found - rights())


@pytest_asyncio.fixture(scope="module", loop_scope="package", autouse=True)
async def referred(cluster: Cluster) -> AsyncIterator[None]:
    """An Ingress that refers to a Secret of another type than TLS, and to a ConfigMap, which are fetched by name."""
    await cluster.kubectl("create secret generic users --from-literal=auth=me:x")
    await cluster.kubectl("create configmap headers --from-literal=X-One=1")
    named = {"auth-secret": "users", "custom-headers": "default/headers"}
    annotations = " ".join(f"--annotation=nginx.ingress.kubernetes.io/{name}={value}" for name, value in named.items())
    await cluster.kubectl(f"create ingress referring --class=nginx --rule=referring.test/*=nobody:80 {annotations}")
    yield
    await cluster.kubectl("delete ingress referring")
    await cluster.kubectl("delete secret users")
    await cluster.kubectl("delete configmap headers")


async def test_what_deploy_gives_is_enough_to_read(cluster: Cluster, tmp_path: Path) -> None:
    async with reading(cluster, tmp_path, without=None) as told:
        await wait_until(told.is_complete, "all objects to be known")
        assert told.complaints() == []


@pytest.mark.parametrize("right", to_read(), ids=" ".join)
async def test_without_a_right_to_read_that_is_said_and_nothing_else_is_missed(cluster: Cluster, tmp_path: Path, right: Right) -> None:
    async with reading(cluster, tmp_path, without=right) as told:

        async def said() -> bool:
            return bool(told.complaints())

        await wait_until(said, "a complaint")
        assert not [each for each in told.complaints() if not is_about(each, right)]


async def test_services_that_flags_name_elsewhere_are_known_with_what_deploy_gives(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.kubectl("create namespace pages")
    await cluster.kubectl("create service clusterip errors -n pages --tcp=80:80")
    await cluster.kubectl("create service clusterip unnamed -n pages --tcp=80:80")
    flags = {"watch_namespace": "default", "default_backend_service": "pages/errors", "watch_namespace_selector": ""}
    async with reading(cluster, tmp_path, without=None, **flags) as told:
        await wait_until(told.is_complete, "all objects to be known")
        assert told.complaints() == []
        assert [which.name for which in told.known if which.namespace == "pages"] == ["errors"]


@pytest.mark.parametrize("right", [None, *to_know_nodes()], ids=lambda right: " ".join(right) if right else "all")
async def test_what_the_overlay_hostnetwork_adds_is_enough_to_know_the_nodes_and_none_of_it_is_too_much(
    cluster: Cluster, right: Right | None
) -> None:
    account = f"nodes-{next(_NUMBERS)}"
    settings = Flags(kubeconfig=await reduced(cluster, account, right, roles=hostnetwork()), pod_namespace=SPACE)
    told: dict[str, str] = {}
    api = Api(settings)
    await api.open()
    nodes = EnvoyNodes(api, settings, lambda: None, lambda place, problems: told.update({place: " ".join(map(str, problems))}), QUICK)
    following = asyncio.create_task(nodes.run())
    try:
        if right is None:
            await wait_until(lambda: answered(nodes.addresses is not None), "the nodes to be known")
            assert not any(told.values())
        else:
            await wait_until(lambda: answered(any(told.values())), "a complaint")
            assert all(is_about(each, right) for each in told.values() if each)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await api.close()


async def answered(what: bool) -> bool:
    return what


async def test_what_deploy_gives_is_enough_to_report(cluster: Cluster) -> None:
    """To the last right: whoever was the leader before left Events and a certificate that is no good."""
    async with reporting(cluster, without=None) as (replica, ingress):
        await cluster.until_address(ingress, NODE)
        await until_events(cluster, ingress)
        await replica.line("has a new default certificate")
        assert complaints(replica) == []


@pytest.mark.parametrize("right", to_report(), ids=" ".join)
async def test_without_a_right_to_report_that_is_said_and_nothing_else_is_missed(cluster: Cluster, right: Right) -> None:
    async with reporting(cluster, without=right) as (replica, _):
        await replica.line("does not allow")
        assert not [each for each in complaints(replica) if not is_about(each, right)]


def is_about(complaint: str, right: Right) -> bool:
    """Whether a complaint names a right: `"get" on secrets`, or `"get, create or update" on secrets`."""
    verb, what = right
    verbs, _, rest = complaint.partition('" on ')
    return verb in verbs.rpartition('"')[2].replace(",", " ").split() and rest.startswith(what)


class Told:
    """What a Source says: Problems as sentences, and what it waits for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sentences: dict[str, list[str]] = {}
        self._complete = False
        self.known: set[Ref] = set()

    async def follow(self) -> None:
        async for change in self._source.changes():
            self._complete = True
            self.known.update(ref(item) for item in change.put if ref(item).kind == "Service")
            self._sentences |= {where: [str(problem) for problem in problems] for where, problems in change.problems.items()}

    async def is_complete(self) -> bool:
        return self._complete

    def complaints(self) -> list[str]:
        """Of rights; while it waits, the API server's own words: `cannot list resource "services"`."""
        waiting = [re.sub(r'cannot (\w+) resource "(\w+)"', r'"\1" on \2', each) for each in self._source.waiting() if " 403 " in each]
        return [each for each in itertools.chain(waiting, *self._sentences.values()) if "forbidden" in each or "does not allow" in each]


@asynccontextmanager
async def reading(cluster: Cluster, folder: Path, without: Right | None, **flags: Any) -> AsyncIterator[Told]:
    """A Source with the deployed roles, less one right, by an account of its own."""
    kubeconfig = await reduced(cluster, f"reader-{next(_NUMBERS)}", without)
    settings = Flags(**({"kubeconfig": kubeconfig, "configmap": f"{SPACE}/xds-config", "watch_namespace_selector": "!nothing"} | flags))
    source = Source(settings, backoff=QUICK)
    told = Told(source)
    following = asyncio.create_task(told.follow())
    try:
        yield told
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await source.close()


@asynccontextmanager
async def reporting(cluster: Cluster, without: Right | None) -> AsyncIterator[tuple[Process, str]]:
    """A replica with the deployed roles, less one right, and an Ingress of its class that nobody reported about.

    There is another one with an Event, and a Secret with a certificate that has to be made anew, or none where that is what is tried.
    """
    name = f"writer-{next(_NUMBERS)}"
    flags = await cluster.another_class(name)
    if without != ("create", "secrets"):
        await cluster.kube.apply(unusable(f"leader-{name}-default-certificate"))
    await cluster.kubectl(f"create ingress {name}-old --class={name} --rule=old.test/*=nobody:80")
    async with cluster.replica(*flags, "--disable-leader-election", "--election-id=leader-before") as before:
        await until_events(cluster, f"{name}-old")
        await before.stop()
    kubeconfig = await reduced(cluster, name, without, election=f"leader-{name}")
    await cluster.kubectl(f"create ingress {name} --class={name} --rule=new.test/*=nobody:80")
    async with cluster.replica(*flags, "--kubeconfig", str(kubeconfig)) as replica:
        yield replica.process, name


async def until_events(cluster: Cluster, ingress: str) -> None:
    """Wait until an Ingress has an Event."""

    async def look() -> bool:
        return bool((await cluster.kube.get(f"events --field-selector=involvedObject.name={ingress}"))["items"])

    await wait_until(look, f"an Event of {ingress}")


def unusable(name: str) -> Json:
    """A Secret of ours with no certificate in it."""
    labels = {"app.kubernetes.io/managed-by": "xds"}
    metadata = {"name": name, "namespace": SPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": {"tls.crt": "", "tls.key": ""}}


async def reduced(cluster: Cluster, account: str, without: Right | None, election: str = "", roles: Sequence[Json] | None = None) -> Path:
    """Make an account with the deployed roles (or others) less one right, wait until they hold, and return its kubeconfig."""
    await cluster.kubectl(f"create serviceaccount {account} -n {SPACE}")
    given = [less(role, without) for role in roles or await cluster.roles()]
    await cluster.kube.apply(*role_for(account, election or account, given))
    kept = next(right for right in to_read() if right != without and right[1] == "services")
    also = next(verb for verb in ("list", "watch") if (verb, "configmaps") != without)

    async def holds() -> bool:
        user = f"--as=system:serviceaccount:{SPACE}:{account}"
        await cluster.kubectl(f"auth can-i {' '.join(kept)} -A {user}")
        await cluster.kubectl(f"auth can-i {also} configmaps/xds-config -n {SPACE} {user}")
        return True

    await wait_until(holds, "RBAC to know the roles")
    return await cluster.account(account)


def less(role: Json, without: Right | None) -> Json:
    """A role less one right."""
    kept = []
    for rule in role["rules"]:
        for what in rule["resources"]:
            verbs = [verb for verb in rule["verbs"] if (verb, what) != without]
            kept += [rule | {"resources": [what], "verbs": verbs}] if verbs else []
    return role | {"rules": kept}
