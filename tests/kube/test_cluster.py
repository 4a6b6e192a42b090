"""The API-server Source against a scripted API server on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.config import incluster_config

from tests.envoy.harness.tls import make_ca, make_certificate, server_context
from xds.config import Failure, Flags
from xds.kube import parse
from xds.kube.apiserver import api
from xds.kube.apiserver.api import DEAD_AFTER, Patience
from xds.kube.apiserver.apiserver import ApiServer
from xds.kube.apiserver.reflector import Backoff, Reflector
from xds.kube.objects import Object, ref
from xds.kube.source import Change
from xds.kube.unending import unending
from xds.kube.world import World
from xds.problem import Problem, Ref

from .scripted import Fault, Json, Scripted, Selection, bookmark, line, refusal, secret, serving, status, until

DEADLINE = 120
QUICK = Backoff(first=0.01, longest=0.05, denied=0.05, longest_retry_after=0.05, reset_after=5.0)
SHORT = replace(QUICK, watch=0.1)
PATIENT = Patience()
KINDS = ("ingresses", "ingressclasses", "services", "endpointslices")
TLS = Selection("secrets", selector="type=kubernetes.io/tls")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scripted]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serving() as started:
        yield started


class Followed:
    """An ApiServer, and a World that takes its Changes over."""

    def __init__(self, cluster: ApiServer, settings: Flags) -> None:
        self.cluster = cluster
        self.world = World(settings)
        self.problems: dict[str, list[str]] = {}
        self.sentences: list[str] = []
        self.seen: list[Change] = []
        self.changes = cluster.changes()

    async def take(self) -> Change:
        async with asyncio.timeout(DEADLINE):
            change = await anext(self.changes)
        self.seen.append(change)
        self.world.apply(change.put, change.drop)
        for place, problems in change.problems.items():
            self.problems[place] = [problem.code for problem in problems]
            self.sentences += [str(problem) for problem in problems]
        return change

    async def until(self, wanted: Callable[[], bool]) -> None:
        while not wanted():
            await self.take()

    def has(self, *which: str) -> bool:
        """Whether the World has just these, such as "Service/a"."""
        return self.names() == set(which)

    def names(self) -> set[str]:
        kinds: Any = Object.__args__
        return {f"{ref(item).kind}/{item.meta.name}" for kind in kinds for item in self.world.objects(kind)}

    def objects(self) -> dict[Ref, Object]:
        kinds: Any = Object.__args__
        return {ref(item): item for kind in kinds for item in self.world.objects(kind)}


@asynccontextmanager
async def following(
    server: Scripted, folder: Path, patience: Patience = PATIENT, backoff: Backoff = QUICK, user: dict[str, Any] | None = None, **flags: Any
) -> AsyncIterator[Followed]:
    path = server.kubeconfig(folder / "kubeconfig", **(user or {}))
    settings = Flags(kubeconfig=path, **flags)
    followed = Followed(ApiServer(settings, patience=patience, backoff=backoff), settings)
    try:
        yield followed
    finally:
        await followed.changes.aclose()
        await followed.cluster.close()


def put_some(server: Scripted) -> None:
    for name in "ab":
        server.put("services", name, spec={"ports": [{"port": 80}]})
        server.put("ingresses", name, spec={"rules": [{"host": f"{name}.test"}]})
        server.put("endpointslices", name, addressType="IPv4", metadata={"labels": {"kubernetes.io/service-name": name}})
    server.put("ingressclasses", "nginx", spec={"controller": "k8s.io/ingress-nginx"})
    server.put("secrets", "cert", **secret(**{"tls.crt": "-", "tls.key": "-"}))


SOME = ("Service/a", "Service/b", "Ingress/a", "Ingress/b", "EndpointSlice/a", "EndpointSlice/b", "IngressClass/nginx", "Secret/cert")


async def test_the_first_change_has_everything_and_then_each_event_comes_at_once(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert followed.has(*SOME)
        assert followed.cluster.waiting() == []
        server.put("services", "c", spec={})
        await followed.until(lambda: followed.has(*SOME, "Service/c"))
        server.delete("services", "a")
        await followed.until(lambda: "Service/a" not in followed.names())


async def test_an_empty_cluster_has_a_first_change_too(server: Scripted, tmp_path: Path) -> None:
    async with following(server, tmp_path) as followed:
        assert not await followed.take()


async def test_nothing_comes_before_every_kind_was_listed_and_what_is_waited_for_is_said(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    server.faults["endpointslices"].extend([Fault("list", hangs=True)] * 1000)
    async with following(server, tmp_path, Patience(answer=0.3)) as followed:
        first = asyncio.ensure_future(followed.take())
        await until(lambda: len(followed.cluster.waiting()) == 1)
        assert followed.cluster.waiting() == ["waiting for the first list of endpointslices.discovery.k8s.io"]
        assert not first.done()
        server.faults.clear()
        await first  # and a list that never comes is asked for again
        assert followed.has(*SOME)


async def test_what_comes_while_nobody_asks_is_taken_together(server: Scripted, tmp_path: Path) -> None:
    async with following(server, tmp_path) as followed:
        await followed.take()
        for number in range(20):
            server.put("services", "a", spec={"ports": [{"port": 80 + number}]})
            server.put("services", f"b{number}", spec={})
        server.put("ingresses", "last", spec={})
        await until(lambda: followed.cluster.pending == 22)
        change = await followed.take()
        assert len(change.put) == 22


@pytest.mark.parametrize("plural", ["services", "secrets"])
@pytest.mark.parametrize(
    "faults",
    [
        [Fault(body=b'{"metadata": {"resourceVersion"')],
        [Fault(body=b'{"metadata": {"resourceVersion"', ends=True)],
        [Fault(body=b"<html>sign in</html>", ends=True)],
        [refusal(500), refusal(503), refusal(504)],
        [refusal(429, "TooManyRequests", Retry_After="1")],
        [refusal(410, "Expired")],
        [refusal(401, "Unauthorized")],
        [refusal(403, "Forbidden"), refusal(403, "Forbidden")],
    ],
    ids=["cut", "half", "html", "5xx", "429", "410", "401", "403-twice"],
)
async def test_a_list_with_faults_comes_in_the_end(server: Scripted, tmp_path: Path, plural: str, faults: list[Fault]) -> None:
    put_some(server)
    server.faults[plural].extend(faults)
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert followed.has(*SOME)
        assert followed.problems == {}
        assert not server.faults[plural]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("watch")],
        [Fault("watch", ends=True), Fault("watch", ends=True)],
        [Fault("watch", body=b'{"type":"ADDED","object":{"metad')],
        [Fault("watch", body=b'{"type":"ADDED","object":{"metad', ends=True)],
        [Fault("watch", body=b"\x00\xff garbage\n")] * 4,
        [Fault("watch", body=line("ERROR", status(410, "Expired", "too old")), ends=True)],
        [Fault("watch", body=line("ERROR", status(500, "InternalError", "etcd")), ends=True)] * 4,
        [Fault("watch", body=bookmark("services", 1_000_000), ends=True), refusal(410, "Expired", "watch")],
        [refusal(410, "Expired", "watch"), Fault("list", body=b"{"), refusal(500, "", "list"), refusal(410, "Expired", "list")],
        [refusal(429, "TooManyRequests", "watch", Retry_After="1"), refusal(401, "Unauthorized", "watch")],
        [refusal(403, "Forbidden", "watch"), refusal(403, "Forbidden", "list")],
        [Fault("watch", hangs=True)],
        [Fault("watch", swallows=True)],
    ],
    ids=["cut", "ends", "half", "half-ends", "garbage", "gone", "error", "future", "list-too", "429-401", "403", "hangs", "swallows"],
)
async def test_a_watch_with_faults_loses_nothing_and_keeps_nothing(server: Scripted, tmp_path: Path, faults: list[Fault]) -> None:
    put_some(server)
    server.faults["services"].append(Fault("watch"))
    async with following(server, tmp_path, Patience(answer=0.2, late=0.1), SHORT) as followed:
        await followed.take()
        server.faults["services"].extend(faults)
        server.cut()
        server.delete("services", "a")
        server.put("services", "b", spec={"ports": [{"port": 81}]})
        server.put("services", "c", spec={})
        await until(lambda: not server.faults["services"])
        server.put("services", "d", spec={})
        wanted = server.store.world(*map(Selection, KINDS), TLS)
        await followed.until(lambda: followed.objects() == wanted)
        assert followed.problems == {}


async def test_changes_made_while_history_was_compacted_are_taken_over_and_nothing_stale_stays(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with following(server, tmp_path) as followed:
        await followed.take()
        await until(lambda: server.watched("services"))
        server.faults["services"].append(Fault("watch"))
        server.cut()
        server.delete("services", "a")
        server.put("services", "c", spec={})
        server.store.compact()
        await followed.until(lambda: followed.has(*{*SOME, "Service/c"} - {"Service/a"}))
        assert len(server.asked("list", "services")) == 2


async def test_a_change_on_one_page_of_many_is_not_missed(server: Scripted, tmp_path: Path) -> None:
    for number in range(1101):
        server.store.put("services", f"s{number:04}", spec={})
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert len(followed.names()) == 1101
        assert [each.query.get("limit") for each in server.asked("list", "services")] == ["500"] * 3


async def test_each_watch_begins_at_the_version_of_its_list_with_bookmarks_and_an_end(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with following(server, tmp_path) as followed:
        await followed.take()
        await until(lambda: server.watched("ingresses"))
        (watch,) = server.asked("watch", "ingresses")
        assert watch.query["resourceVersion"] == str(server.store.version)
        assert watch.query["allowWatchBookmarks"] == "true"
        assert 18 <= int(watch.query["timeoutSeconds"]) < 24


async def test_a_quiet_watch_is_asked_for_again_without_a_word_of_complaint(
    server: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults["services"].extend([Fault("watch", swallows=True)] * 3)
    async with following(server, tmp_path, Patience(late=0.1), SHORT) as followed:
        await followed.take()
        await until(lambda: server.watched("services"))
        server.put("services", "unheard", spec={})
        await followed.until(lambda: followed.has("Service/unheard"))
        assert len(server.asked("list", "services")) == 1
    assert not caplog.records


async def test_a_token_that_was_renewed_on_disk_is_read_when_the_old_one_is_refused(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    token = tmp_path / "token"
    token.write_text("old\n")
    server.token = "old"
    async with following(server, tmp_path, user={"tokenFile": str(token)}) as followed:
        await followed.take()
        server.token = "new"
        server.cut()
        await until(lambda: server.requests[-1].authorization == "Bearer old" and len(server.asked("watch", "services")) > 1)
        token.write_text("new\n")
        server.put("services", "c", spec={})
        await followed.until(lambda: followed.has(*SOME, "Service/c"))
        assert followed.problems == {}


async def test_credentials_are_read_once_for_all_who_were_refused(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load: Any = vars(api)["load_kube_config"]

    async def counted(*arguments: Any, **named: Any) -> Any:
        loads.append(1)
        return await load(*arguments, **named)

    monkeypatch.setattr(api, "load_kube_config", counted)
    for plural in KINDS:
        server.faults[plural].append(refusal(401, "Unauthorized"))
    async with following(server, tmp_path) as followed:
        await followed.take()
    assert len(loads) == 2


@pytest.mark.parametrize("code", [403, 404])
async def test_a_kind_that_is_forbidden_or_not_served_is_a_problem_and_the_rest_works(server: Scripted, tmp_path: Path, code: int) -> None:
    put_some(server)
    if code == 403:
        server.forbidden.add(("list", "ingressclasses"))
    else:
        server.unserved.add("ingressclasses")
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert followed.has(*{*SOME} - {"IngressClass/nginx"})
        assert [*followed.problems.values()] == [["forbidden" if code == 403 else "not-served"]]
        assert "ingressClassName has no effect" in followed.sentences[0]
        server.forbidden.clear()
        server.unserved.clear()
        await followed.until(lambda: followed.has(*SOME))
        assert [*followed.problems.values()] == [[]]


@pytest.mark.parametrize("plural", ["ingresses", "services", "endpointslices"])
async def test_nothing_is_told_where_a_kind_is_forbidden_without_which_nothing_would_be_served(
    server: Scripted, tmp_path: Path, plural: str
) -> None:
    put_some(server)
    server.forbidden.add(("list", plural))
    async with following(server, tmp_path) as followed:
        first = asyncio.ensure_future(followed.take())
        await until(lambda: len(server.asked("list", plural)) > 4)
        assert not first.done()
        (reason,) = followed.cluster.waiting()
        assert reason.startswith(f"waiting for the first list of {plural}")
        assert "403" in reason
        server.forbidden.clear()
        await first
        assert followed.has(*SOME)


async def test_a_role_that_is_taken_away_later_takes_no_object_away(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with following(server, tmp_path) as followed:
        await followed.take()
        server.forbidden |= {(verb, "ingresses") for verb in ("list", "watch")}
        server.cut()
        await followed.until(lambda: ["forbidden"] in followed.problems.values())
        assert followed.has(*SOME)


async def test_with_watch_namespace_only_its_objects_are_asked_for_and_what_flags_name_wherever_it_is(
    server: Scripted, tmp_path: Path
) -> None:
    for namespace in ("shop", "other"):
        server.put("services", f"s-{namespace}", namespace, spec={})
        server.put("secrets", f"t-{namespace}", namespace, **secret())
        for name in ("config", "tcp", "unnamed"):
            server.put("configmaps", f"{name}-{namespace}", namespace, data={})
    flags: dict[str, Any] = {
        "configmap": "shop/config-shop",
        "tcp_services_configmap": "other/tcp-other",
        "udp_services_configmap": "other/tcp-other",
    }
    flags["default_ssl_certificate"] = "other/t-other"
    async with following(server, tmp_path, watch_namespace="shop", **flags) as followed:
        await followed.take()
        assert followed.has("Service/s-shop", "Secret/t-shop", "Secret/t-other", "ConfigMap/config-shop", "ConfigMap/tcp-other")
        for each in server.requests:
            assert (
                each.which.namespace == "shop" or each.which.plural == "ingressclasses" or each.which.selector.startswith("metadata.name=")
            )
        server.put("configmaps", "tcp-other", "other", data={"53": "x/y:53"})
        server.put("configmaps", "unnamed-other", "other", data={})
        await followed.until(lambda: bool(followed.world.get(("ConfigMap", "other", "tcp-other")).data))


async def test_namespaces_are_asked_for_only_with_a_selector(server: Scripted, tmp_path: Path) -> None:
    server.put("namespaces", "shop", metadata={"labels": {"team": "a"}})
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert followed.has()
    async with following(server, tmp_path, watch_namespace_selector="team=a") as followed:
        await followed.take()
        assert followed.world.get(("Namespace", "", "shop")).meta.labels == {"team": "a"}


async def test_secrets_of_other_types_are_fetched_when_something_refers_to_them_and_no_others(server: Scripted, tmp_path: Path) -> None:
    for name in ("referred", "flagged", "unknown"):
        server.put("secrets", name, **secret("Opaque", **{"tls.crt": "1"}))
    server.put("ingresses", "a", spec={"tls": [{"secretName": "referred"}, {"secretName": "absent"}]})
    async with following(server, tmp_path, default_ssl_certificate="default/flagged") as followed:
        await followed.take()
        assert followed.has("Ingress/a", "Secret/referred", "Secret/flagged")
        assert {each.which.plural for each in server.requests if each.verb == "get"} == {"secrets"}
        server.put("secrets", "absent", **secret("Opaque", **{"tls.crt": "2"}))
        await followed.until(lambda: "Secret/absent" in followed.names())
        server.put("secrets", "absent", **secret("Opaque", **{"tls.crt": "3"}))
        await followed.until(lambda: followed.world.get(("Secret", "default", "absent")).data == {"tls.crt": b"3"})
        server.put("ingresses", "a", spec={})
        await followed.until(lambda: followed.has("Ingress/a", "Secret/flagged"))
        server.delete("secrets", "flagged")
        await followed.until(lambda: followed.has("Ingress/a"))


async def test_config_maps_are_fetched_when_an_annotation_names_them_and_no_others(server: Scripted, tmp_path: Path) -> None:
    named = "nginx.ingress.kubernetes.io/custom-headers"
    for name in ("named", "flagged", "unknown"):
        server.put("configmaps", name, data={"X-One": "1"})
    server.put("ingresses", "a", metadata={"annotations": {named: "default/named"}})
    server.put("ingresses", "b", metadata={"annotations": {named: "default/flagged"}})
    async with following(server, tmp_path, configmap="default/flagged") as followed:
        await followed.take()
        assert followed.has("Ingress/a", "Ingress/b", "ConfigMap/named", "ConfigMap/flagged")
        server.put("configmaps", "named", data={"X-One": "2"})
        await followed.until(lambda: followed.world.get(("ConfigMap", "default", "named")).data == {"X-One": "2"})
        server.put("ingresses", "a", metadata={"annotations": {named: "default/unknown"}})
        await followed.until(lambda: followed.has("Ingress/a", "Ingress/b", "ConfigMap/unknown", "ConfigMap/flagged"))
        server.delete("configmaps", "unknown")
        await followed.until(lambda: followed.has("Ingress/a", "Ingress/b", "ConfigMap/flagged"))
        server.delete("ingresses", "b")
        await followed.until(lambda: followed.has("Ingress/a", "ConfigMap/flagged"))


async def test_a_role_that_may_not_read_config_maps_is_a_problem_and_everything_else_works(server: Scripted, tmp_path: Path) -> None:
    server.put("secrets", "cert", **secret())
    server.forbidden |= {(verb, "configmaps") for verb in ("list", "watch")}
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert followed.has("Secret/cert")
        assert ["forbidden"] in followed.problems.values()


@pytest.mark.parametrize("fault", [Fault("get"), refusal(500, "", "get"), refusal(401, "", "get"), Fault("get", hangs=True)])
async def test_a_secret_that_cannot_be_fetched_is_waited_for(server: Scripted, tmp_path: Path, fault: Fault) -> None:
    server.put("secrets", "flagged", **secret("Opaque"))
    async with following(server, tmp_path, Patience(answer=0.2), default_ssl_certificate="default/flagged") as followed:
        server.faults["secrets"].clear()
        take = asyncio.ensure_future(followed.take())
        await until(lambda: len(server.asked("list", "secrets")) == 2)
        server.faults["secrets"].append(fault)
        await take
        assert followed.has("Secret/flagged")


async def test_a_secret_that_changes_while_it_is_fetched_is_fetched_again(server: Scripted, tmp_path: Path) -> None:
    server.put("secrets", "flagged", **secret("Opaque", text="old"))
    old, gate = server.store.objects["secrets", "default", "flagged"], asyncio.Event()
    server.bookmarks = False
    async with following(server, tmp_path, default_ssl_certificate="default/flagged") as followed:
        await followed.take()
        server.faults["secrets"].append(Fault("get", body=json.dumps(old).encode(), ends=True, gate=gate))
        server.put("secrets", "flagged", **secret("Opaque", text="meanwhile"))
        await until(lambda: len(server.asked("get", "secrets")) == 2)
        server.put("secrets", "flagged", **secret("Opaque", text="new"))
        await until(lambda: bool(followed.cluster.due))
        gate.set()
        await followed.until(lambda: followed.world.get(("Secret", "default", "flagged")).data == {"text": b"new"})


async def test_a_tls_secret_that_is_made_anew_with_another_type_is_fetched_even_if_that_is_heard_late(
    server: Scripted, tmp_path: Path
) -> None:
    server.put("secrets", "flagged", **secret(text="old"))
    server.faults["secrets"].append(Fault("watch", swallows=True, only="type=kubernetes.io/tls"))
    async with following(
        server, tmp_path, Patience(late=0.1), replace(QUICK, watch=0.3), default_ssl_certificate="default/flagged"
    ) as followed:
        await followed.take()
        await until(lambda: server.watched("secrets") and not server.faults["secrets"])
        server.delete("secrets", "flagged")
        server.put("secrets", "flagged", **secret("Opaque", text="new"))
        await until(lambda: bool(server.asked("get", "secrets")))
        await followed.until(
            lambda: followed.has("Secret/flagged") and followed.world.get(("Secret", "default", "flagged")).type == "Opaque"
        )


async def test_credentials_are_read_again_where_a_secret_is_refused(server: Scripted, tmp_path: Path) -> None:
    server.put("secrets", "flagged", **secret("Opaque", text="old"))
    token = tmp_path / "token"
    token.write_text(server.token)
    async with following(server, tmp_path, user={"tokenFile": str(token)}, default_ssl_certificate="default/flagged") as followed:
        await followed.take()
        await until(lambda: len(server.asked("watch", "secrets")) == 2)
        server.token = "new"
        token.write_text("new")
        server.put("secrets", "flagged", **secret("Opaque", text="new"))
        await followed.until(lambda: followed.world.get(("Secret", "default", "flagged")).data == {"text": b"new"})
        assert len(server.asked("watch", "secrets")) == 2


async def test_a_role_that_may_not_get_secrets_is_a_problem_until_it_may(server: Scripted, tmp_path: Path) -> None:
    server.put("secrets", "flagged", **secret("Opaque"))
    server.forbidden.add(("get", "secrets"))
    async with following(server, tmp_path, default_ssl_certificate="default/flagged") as followed:
        await followed.take()
        assert followed.has()
        assert followed.problems == {"get secrets": ["forbidden"]}
        await until(lambda: len(server.asked("get", "secrets")) > 4)
        server.forbidden.clear()
        await followed.until(lambda: followed.has("Secret/flagged") and followed.problems == {"get secrets": []})
        assert len(followed.sentences) == 1
        assert [len(change.problems) for change in followed.seen if change.problems] == [1, 1]


async def test_a_secret_that_an_api_server_refuses_which_just_started_is_fetched_without_a_complaint(
    server: Scripted, tmp_path: Path
) -> None:
    server.put("secrets", "flagged", **secret("Opaque"))
    server.faults["secrets"].extend([refusal(403, "Forbidden", "get")] * 2)
    async with following(server, tmp_path, default_ssl_certificate="default/flagged") as followed:
        await followed.until(lambda: followed.has("Secret/flagged"))
        assert len(server.asked("get", "secrets")) == 3
        assert followed.problems == {}


OUTSIDE: Json = {"watch_namespace": "shop", "default_backend_service": "pages/errors", "publish_service": "edge/envoy"}


def put_outside(server: Scripted) -> None:
    for name, namespace in (("errors", "pages"), ("other", "pages"), ("envoy", "edge"), ("web", "shop")):
        server.put("services", name, namespace, spec={"ports": [{"port": 80}]})
        labels = {"labels": {"kubernetes.io/service-name": name}}
        server.put("endpointslices", f"{name}-1", namespace, addressType="IPv4", endpoints=[], metadata=labels)


async def test_services_that_flags_name_outside_of_the_watched_namespace_are_followed_and_no_others(
    server: Scripted, tmp_path: Path
) -> None:
    put_outside(server)
    async with following(server, tmp_path, **OUTSIDE) as followed:
        await followed.take()
        assert followed.has("Service/web", "EndpointSlice/web-1", "Service/errors", "EndpointSlice/errors-1", "Service/envoy")
        labels = {"labels": {"kubernetes.io/service-name": "errors"}}
        server.put("endpointslices", "errors-2", "pages", addressType="IPv4", endpoints=[], metadata=labels)
        await followed.until(lambda: "EndpointSlice/errors-2" in followed.names())
        server.delete("services", "errors", "pages")
        await followed.until(lambda: "Service/errors" not in followed.names())


async def test_a_service_that_two_flags_name_is_followed_once(server: Scripted, tmp_path: Path) -> None:
    put_outside(server)
    async with following(server, tmp_path, **(OUTSIDE | {"publish_service": "pages/errors"})) as followed:
        await followed.take()
        assert len([each for each in server.asked("list", "services") if each.which.namespace == "pages"]) == 1


@pytest.mark.parametrize("plural", ["services", "endpointslices"])
async def test_a_default_backend_elsewhere_that_may_not_be_read_is_a_problem_and_the_rest_works(
    server: Scripted, tmp_path: Path, plural: str
) -> None:
    """A role for the watched namespace alone."""
    put_outside(server)
    server.hidden.add(("pages", plural))
    async with following(server, tmp_path, **OUTSIDE) as followed:
        await followed.take()
        assert followed.names() >= {"Service/web", "EndpointSlice/web-1"}
        (sentence,) = followed.sentences
        assert f'does not allow "list" on {plural}' in sentence
        assert "in namespace pages: --default-backend-service cannot have an effect" in sentence


async def test_the_api_server_may_go_away_and_come_back_and_the_log_says_so(
    server: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "xds")
    put_some(server)
    async with following(server, tmp_path) as followed:
        await followed.take()
        for plural in (*KINDS, "secrets"):
            server.faults[plural].extend([Fault("watch")] * 6)
        server.cut()
        server.put("services", "c", spec={})
        await followed.until(lambda: followed.has(*SOME, "Service/c"))
        await until(lambda: not any(server.faults.values()) and "answers again" in caplog.text)
        assert followed.cluster.waiting() == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "does not answer" in warnings[0]
    assert "127.0.0.1" in warnings[0]
    assert warnings[0].endswith("Envoys keep their configuration.")


async def test_staleness_is_by_kind_and_begins_with_the_last_word(server: Scripted, tmp_path: Path) -> None:
    async with following(server, tmp_path, configmap="a/b") as followed:
        await followed.take()
        now = time.monotonic()
        found = followed.cluster.staleness(now + 100)
        assert found.keys() == {"Ingress", "IngressClass", "Service", "EndpointSlice", "Secret", "ConfigMap"}
        assert all(99 <= seconds <= 101 + DEADLINE for seconds in found.values())


async def test_an_api_server_whose_authority_was_renewed_on_disk_is_believed_again(server: Scripted, tmp_path: Path) -> None:
    authority = make_ca()
    async with serving(server_context(make_certificate(["127.0.0.1"], ca=authority))) as secure:
        secure.put("services", "a", spec={})
        path = tmp_path / "authority.pem"
        path.write_bytes(make_ca("another").cert_pem)
        async with following(secure, tmp_path, certificate_authority=path) as followed:
            first = asyncio.ensure_future(followed.take())
            await until(lambda: any("certificate" in reason.lower() for reason in followed.cluster.waiting()))
            assert not secure.requests
            path.write_bytes(authority.cert_pem)
            await first
            assert followed.has("Service/a")


async def test_in_a_pod_the_service_account_says_who_and_where(server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_ca()
    async with serving(server_context(make_certificate(["127.0.0.1"], ca=authority))) as secure:
        secure.token = "of-the-pod"
        (tmp_path / "token").write_text("of-the-pod\n")
        (tmp_path / "ca.crt").write_bytes(authority.cert_pem)
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        host, port = secure.url.removeprefix("https://").split(":")
        monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_PORT", port)
        cluster = ApiServer(Flags(), backoff=QUICK)
        changes = cluster.changes()
        async with asyncio.timeout(DEADLINE):
            await anext(changes)
        await changes.aclose()
        assert secure.requests[0].authorization.lower() == "bearer of-the-pod"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot be used: No such file or directory\.$"),
        ("a: [", r"cannot be used: while parsing [^\n]*\.$"),
        ("{}", "cannot be used: .*current-context"),
        ("just text", r"cannot be used: it is not in the form of a kubeconfig\.$"),
        ("", r"cannot be used: it is not in the form of a kubeconfig\.$"),
        ("clusters: 3", r"cannot be used: it is not in the form of a kubeconfig\.$"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    cluster = ApiServer(Flags(kubeconfig=path))
    with pytest.raises(Failure, match=sentence) as failure:
        await anext(cluster.changes())
    assert str(path) in str(failure.value)


async def test_without_a_pod_and_without_flags_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Failure, match="--kubeconfig"):
        await anext(ApiServer(Flags()).changes())


async def test_apiserver_host_alone_is_enough(server: Scripted) -> None:
    server.put("services", "a", spec={})
    cluster = ApiServer(Flags(apiserver_host=server.url + "/"), backoff=QUICK)
    changes = cluster.changes()
    async with asyncio.timeout(DEADLINE):
        assert [item.meta.name for item in (await anext(changes)).put] == ["a"]
    await changes.aclose()


async def test_all_connections_are_such_that_notice_when_the_other_end_is_gone(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    make = api.keepalive_socket
    monkeypatch.setattr(api, "keepalive_socket", lambda address: made.append(make(address)) or made[-1])
    async with following(server, tmp_path) as followed:
        await followed.take()
        assert made


def test_connections_notice_by_themselves_when_the_other_end_is_gone() -> None:
    with api.keepalive_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, every, count = (made.getsockopt(6, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT))
        assert idle + every * count == DEAD_AFTER <= 25
        assert made.getsockopt(6, socket.TCP_USER_TIMEOUT) == DEAD_AFTER * 1000


async def test_closing_ends_who_waits_and_leaves_nothing_behind(server: Scripted, tmp_path: Path) -> None:
    async with following(server, tmp_path) as followed:
        await followed.take()
        waiting = asyncio.ensure_future(anext(followed.changes, None))
        await until(lambda: server.watched("services"))
        await followed.cluster.close()
        async with asyncio.timeout(DEADLINE):
            assert await waiting is None
        await until(lambda: not server.watched("services"))


async def test_a_source_that_an_error_of_ours_ended_goes_on_where_it_was_when_it_is_asked_again(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("xds.kube.unending.FIRST", 0.0)
    put_some(server)
    told: list[tuple[Problem, ...]] = []
    async with following(server, tmp_path) as followed:
        followed.changes = unending(followed.cluster, lambda _, problems: told.append(problems))
        await followed.take()
        await until(lambda: server.watched("services"))
        lists = len([each for each in server.requests if each.verb == "list"])
        ask, fails = Reflector.next, [ValueError("odd")]

        def stumble(reflector: Reflector, now: float) -> Any:
            if reflector.resource.kind == "Service" and fails:
                raise fails.pop()
            return ask(reflector, now)

        monkeypatch.setattr(Reflector, "next", stumble)
        server.cut()
        server.put("services", "c", spec={})
        server.delete("services", "a")
        await followed.until(lambda: followed.has(*{*SOME, "Service/c"} - {"Service/a"}))
        assert [[each.code for each in problems] for problems in told if problems] == [["source-failed"]]
        assert told[-1] == ()
        assert len([each for each in server.requests if each.verb == "list"]) == lists, "what is known is not listed again"
    assert "internal error in the source of objects" in caplog.text


async def test_a_secret_whose_fetching_was_cut_short_is_fetched_after_all(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("secrets", "flagged", **secret("Opaque", text="here"))
    read, fails = parse.from_json, [ValueError("odd")]

    def stumble(body: Any, **kinds: Any) -> Any:
        if isinstance(body, bytes) and fails:
            raise fails.pop()
        return read(body, **kinds)

    monkeypatch.setattr("xds.kube.apiserver.apiserver.parse.from_json", stumble)
    async with following(server, tmp_path, default_ssl_certificate="default/flagged") as followed:
        await followed.until(lambda: followed.has("Secret/flagged"))
        assert not fails
