"""docs/metrics.md, the dashboard and the alerts: they name what a running control plane has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from tests import quick_yaml
from tests.deploy.composed import containers, helm, pods, templated
from tests.web.site import Site
from xds.cli.manual import metrics_page
from xds.web.page import Described, described

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
_SUFFIXES = {"counter": ("_total", "_created"), "histogram": ("_bucket", "_sum", "_count", "_created")}
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "offset", "bool"}


def samples(metric: Described) -> set[str]:
    """The names under which Prometheus finds a metric."""
    return {metric.name + suffix for suffix in _SUFFIXES.get(metric.kind, ("",))}


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    rest = re.sub(r'"[^"]*"', "", expression)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", rest)
    return set(re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()", rest)) - _WORDS


def alerts() -> list[dict[str, Any]]:
    return [rule for group in quick_yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def expressions() -> Iterator[str]:
    """Every expression of the alerts and of the dashboard, its variables too."""
    yield from (rule["expr"] for rule in alerts())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ()))
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), *\w+\)", r"\1", variable["query"]["query"])


@pytest.fixture
def metrics() -> dict[str, Described]:
    """Sample name → metric, of a control plane."""
    return {sample: metric for metric in described(Site().control_plane.registry) for sample in samples(metric)}


def test_names_are_found_in_promql() -> None:
    text = 'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{job=~"$j", le="1"}[5m]))) > 5 and absent(y:z) * on (a) group_left () w'
    assert names_in(text) == {"x_bucket", "y:z", "w"}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_each_metric_that_is_asked_for_exists_with_its_labels(expression: str, metrics: dict[str, Described]) -> None:
    names = names_in(expression)
    assert names
    assert names <= metrics.keys()
    known = {"le", "instance", "job", *(label for name in names for label in metrics[name].labels)}
    asked = re.findall(r'(\w+)\s*=~?\s*"', expression)
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        asked += [label.strip() for label in group.split(",")]
    assert set(asked) <= known


def test_each_alert_says_how_bad_it_is_what_has_happened_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts()) > 8
    for rule in alerts():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s")), rule["alert"]
        assert re.search(r"\.$", rule["annotations"]["summary"]), rule["alert"]
        assert re.search(r"\.$", rule["annotations"]["description"]), rule["alert"]


def test_labels_in_the_text_of_an_alert_survive_its_aggregation() -> None:
    for rule in alerts():
        kept = {label.strip() for group in re.findall(r"by\s*\(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept, rule["alert"]


def test_the_dashboard_can_be_imported() -> None:
    found = dashboard()
    assert found["schemaVersion"] >= 36
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "instance"]
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"], panel["title"]


def test_each_metric_of_ours_is_on_the_dashboard(metrics: dict[str, Described]) -> None:
    shown = set().union(*map(names_in, expressions()))
    ours = {metric.name: metric for metric in metrics.values() if metric.name.startswith("xds_")}
    told_elsewhere = {"xds_stale_nonces", "xds_unknown_type_requests"}
    assert {name for name, metric in ours.items() if not samples(metric) & shown} <= told_elsewhere


def test_pod_monitors_name_ports_of_the_pods_that_they_select() -> None:
    binary = helm()
    if binary is None:
        pytest.skip("there is no helm: `make kube` builds one")
    made = templated(binary, "podMonitor.enabled=true", "podMonitor.labels.release=prometheus")
    monitors = [item for item in made if item["kind"] == "PodMonitor"]
    assert {item["metadata"]["name"] for item in monitors} == {"xds", "xds-envoy"}
    for monitor in monitors:
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (pod,) = [pod for _, pod in pods(made) if wanted <= pod["metadata"]["labels"].items()]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (port,) = [port for each in containers(pod) for port in each.get("ports", ()) if port["name"] == endpoint["port"]]
        assert str(port["containerPort"]) == pod["metadata"]["annotations"]["prometheus.io/port"]
        assert endpoint["path"] == pod["metadata"]["annotations"]["prometheus.io/path"]


def test_no_pod_monitor_is_made_unasked() -> None:
    binary = helm()
    if binary is None:
        pytest.skip("there is no helm: `make kube` builds one")
    assert "PodMonitor" not in {item["kind"] for item in templated(binary)}


def test_the_page_of_metrics_is_current() -> None:
    """If not: `make docs`."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == metrics_page()


def test_every_metric_is_documented_in_a_sentence(metrics: dict[str, Described]) -> None:
    for metric in metrics.values():
        if metric.name.startswith("xds_"):
            assert re.fullmatch(r"\w.*\.", metric.text), metric.name
            assert f"| `{metric.name}" in metrics_page()


def test_a_metric_without_series_is_described_with_its_labels() -> None:
    registry = CollectorRegistry()
    Counter("a", "A.", ["x", "y"], registry=registry)
    Histogram("b", "B.", ["z"], registry=registry)
    assert list(described(registry)) == [Described("a", "counter", ("x", "y"), "A."), Described("b", "histogram", ("z",), "B.")]
    assert samples(list(described(registry))[1]) == {"b_bucket", "b_sum", "b_count", "b_created"}
