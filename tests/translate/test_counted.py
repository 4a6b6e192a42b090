"""By what the requests of a route are counted: a bounded number of labels, which come from Ingresses alone; none unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.envoy.harness.manifests import Folder, backend, ingress
from xds import request_metrics
from xds.cli.arguments import parse
from xds.offline import load
from xds.render.static import as_json
from xds.request_metrics import LABELS, METADATA, parted
from xds.snapshot import LISTENER, ROUTE

Manifest = dict[str, Any]
WEB = ("web", 80)


def resources(folder: Path, kind: str, objects: tuple[Manifest, ...], *flags: str) -> dict[str, Any]:
    manifests = Folder(folder)
    manifests.write("all.yaml", *objects, *backend("web", ("10.0.0.1", 80)), *backend("next", ("10.0.0.2", 80)))
    found = load(parse("translate", [str(folder), *flags], {}).settings).snapshot
    return {name: as_json(kind, resource.body) for name, resource in found[kind].items()}


def counted(folder: Path, *objects: Manifest, flags: tuple[str, ...] = ("--enable-metrics",)) -> list[tuple[str, ...]]:
    """The labels of all routes, in their order: namespace, Ingress, Service, canary, host, path."""
    (table,) = resources(folder, ROUTE, objects, *flags).values()
    routes = [route for host in table["virtual_hosts"] for route in host.get("routes", [])]
    texts = [route.get("metadata", {}).get("filter_metadata", {}).get(METADATA, {}).get(LABELS) for route in routes]
    return [found for text in texts if text and (found := parted(text))]


def test_a_route_is_counted_by_its_ingress_service_host_and_path_as_written(tmp_path: Path) -> None:
    item = ingress(
        "web", "*.Example.com", {"/a(/|$)(.*)": WEB}, {"rewrite-target": "/$2", "use-regex": "true"}, path_type="ImplementationSpecific"
    )
    assert counted(tmp_path, item) == [("default", "web", "web", "", "*.example.com", "/a(/|$)(.*)")]


def test_a_redirect_is_counted_and_so_is_the_one_to_the_slash(tmp_path: Path) -> None:
    item = ingress("web", "a.example.com", {"/a/": WEB}, {"force-ssl-redirect": "true"})
    assert counted(tmp_path, item) == [("default", "web", "web", "", "a.example.com", "/a/")] * 3


def test_a_canary_is_counted_by_the_path_whose_requests_it_takes(tmp_path: Path) -> None:
    canary = ingress("canary", "a.example.com", {"/": ("next", 80)}, {"canary": "true", "canary-weight": "10"})
    found = counted(tmp_path, ingress("web", "a.example.com", {"/": WEB}), canary)
    own = ("default", "web", "web", "", "a.example.com", "/")
    assert found == [(*own[:3], "default-next-80", *own[4:]), own]


def test_nothing_is_counted_unless_asked_for(tmp_path: Path) -> None:
    item = ingress("web", "a.example.com", {"/": WEB})
    assert counted(tmp_path, item, flags=()) == []
    assert _counting(resources(tmp_path, LISTENER, (item,))["http"]) == []
    assert _counting(resources(tmp_path, LISTENER, (item,), "--enable-metrics")["http"]) != []


def test_hosts_are_left_out_on_demand(tmp_path: Path) -> None:
    item = ingress("web", "a.example.com", {"/": WEB})
    assert counted(tmp_path, item, flags=("--enable-metrics", "--metrics-per-host=false")) == [("default", "web", "web", "", "", "/")]


def test_paths_beyond_the_most_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_metrics, "MOST_PATHS", 2)
    found = counted(tmp_path, ingress("web", "a.example.com", {f"/{name}": WEB for name in "abcd"}))
    told = {(host, path) for *_, host, path in found}
    assert told == {("a.example.com", "/a"), ("a.example.com", "/b"), ("", "")}


def test_a_large_ingress_has_a_bounded_number_of_labels(tmp_path: Path) -> None:
    found = counted(tmp_path, ingress("web", "a.example.com", {f"/{number}": WEB for number in range(2_000)}))
    assert len(found) == 2_000
    assert len(set(found)) == request_metrics.MOST_PATHS + 1


def test_who_writes_many_paths_takes_no_labels_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_metrics, "MOST_APART", 12)
    greedy = ingress("greedy", "a.example.com", {f"/{number}": WEB for number in range(40)}, namespace="greedy")
    found = set(counted(tmp_path, greedy, ingress("few", "b.example.com", {f"/{number}": WEB for number in range(5)})))
    assert {path for namespace, *_, path in found if namespace == "default"} == {f"/{number}" for number in range(5)}
    assert {path for namespace, *_, path in found if namespace == "greedy"} == {"", *(f"/{number}" for number in range(7))}


def test_of_a_long_path_the_beginning_is_a_label(tmp_path: Path) -> None:
    (labels,) = counted(tmp_path, ingress("web", "a.example.com", {f"/{'x' * 500}": WEB}))
    assert labels[-1] == f"/{'x' * (request_metrics.LONGEST_PATH - 1)}"


@pytest.mark.parametrize("text", ["a b", 'a"b', "a\\b", "ä", "%20"])
def test_whatever_is_in_a_path_stays_in_the_path(text: str, tmp_path: Path) -> None:
    (labels,) = counted(tmp_path, ingress("web", "a.example.com", {f"/{text}": WEB}))
    assert labels == ("default", "web", "web", "", "a.example.com", f"/{text}")


def test_all_certificates_share_one_scope_with_limits(tmp_path: Path) -> None:
    """Backends answer with any status, so that labels alone bound nothing."""
    found = resources(tmp_path, LISTENER, (ingress("web", "a.example.com", {"/": WEB}),), "--enable-metrics")
    scopes = [config["stats_scope"] for name in ("http", "https") for config in _counting(found[name])]
    assert len(scopes) == 8
    wanted = {"prefix": "ingress", "sharing_name": "ingress", "enable_eviction": True}
    limits = {"max_counters": request_metrics.MOST_COUNTERS, "max_histograms": request_metrics.MOST_HISTOGRAMS}
    assert all(scope == wanted | limits for scope in scopes)


def _counting(listener: Any) -> list[Any]:
    """The configurations of the access logs that count."""
    logs = listener["filter_chains"][0]["filters"][-1]["typed_config"]["access_log"]
    return [log["typed_config"] for log in logs if log["name"] == "envoy.access_loggers.stats"]


def test_what_is_excluded_is_not_counted(tmp_path: Path) -> None:
    excluded = "--exclude-socket-metrics=header_duration_seconds,nginx_ingress_controller_bytes_sent,response_size,connect_duration_seconds"
    found = resources(tmp_path, LISTENER, (ingress("web", "a.example.com", {"/": WEB}),), "--enable-metrics", excluded)
    for name in ("http", "https"):
        names = {
            each["stat"]["name"]
            for config in _counting(found[name])
            for kind in ("counters", "histograms")
            for each in config.get(kind, [])
        }
        assert names == {"requests", "request_bytes", "request_duration", "response_duration", "connect_duration"}
