"""From Envoy's statistics to ingress-nginx' metrics: names, labels, units, and what is added where labels come together."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from xds import request_metrics
from xds.metrics import process, statistics
from xds.metrics.page import Reloads, Shown, page

PROCESS = process.Process(cpu=12.5, resident=4096, virtual=8192, began=1_700_000_000.0)
SHOWN = Shown("ingress-nginx", "pod-1", "k8s.io/ingress-nginx")
ALWAYS = {"controller_namespace": "ingress-nginx", "controller_pod": "pod-1", "controller_class": "k8s.io/ingress-nginx"}
SHOP = request_metrics.joined("shop", "web", "cart", "", "shop.example.com", "/cart")
LABELS = {"namespace": "shop", "ingress": "web", "service": "cart", "host": "shop.example.com", "path": "/cart"}


def envoys(*lines: tuple[str, str, str]) -> str:
    """Envoy's page of the statistics of requests: (name with suffix, tag, rest of the line from the bound on)."""
    escaped = [(name, tag.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"), rest) for name, tag, rest in lines]
    return "".join(f'envoy_ingress_{name}{{labels="{tag}"{rest}\n' for name, tag, rest in escaped)


def shown(text: str, wanted: Shown = SHOWN, reloads: Reloads | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of the page, as Prometheus' own library reads it: (name, labels without those of all) → value."""
    made = page(statistics.read(text), PROCESS, wanted, reloads or Reloads())
    found = {}
    for family in text_string_to_metric_families(made):
        for sample in family.samples:
            assert ALWAYS.items() <= sample.labels.items()
            own = {name: value for name, value in sample.labels.items() if name not in ALWAYS and value}
            name = sample.name if f"{sample.name}{{" in made else sample.name.removesuffix("_total")  # which the library adds to counters
            key = (name.removeprefix(request_metrics.NAMESPACE), frozenset(own.items()))
            assert key not in found
            found[key] = sample.value
    return found


def labelled(**more: str) -> frozenset[tuple[str, str]]:
    return frozenset((LABELS | more).items())


def test_a_counter_has_the_labels_of_its_route_status_and_method() -> None:
    found = shown(envoys(("requests", f"200 GET {SHOP}", "} 3"), ("requests", f"503 OTHER {SHOP}", "} 1")))
    assert found["requests", labelled(status="200", method="GET")] == 3
    assert found["requests", labelled(status="503", method="OTHER")] == 1


def test_times_are_in_seconds_and_so_are_the_bounds_of_their_buckets() -> None:
    tag = f"200 GET {SHOP}"
    lines = [("request_duration_bucket", tag, f',le="{bound}"}} {count}') for bound, count in (("5", 1), ("2500", 3), ("+Inf", 4))]
    lines += [("request_duration_sum", tag, "} 2250.5"), ("request_duration_count", tag, "} 4")]
    lines += [("response_duration_bucket", tag, ',le="5000"} 2'), ("response_duration_bucket", tag, ',le="+Inf"} 2')]
    lines += [("response_duration_sum", tag, "} 3000")]
    found, on = shown(envoys(*lines)), {"status": "200", "method": "GET"}
    buckets = {bound: found["request_duration_seconds_bucket", labelled(**on, le=bound)] for bound in ("0.005", "2.5", "+Inf")}
    assert buckets == {"0.005": 1, "2.5": 3, "+Inf": 4}
    assert found["request_duration_seconds_sum", labelled(**on)] == pytest.approx(2.2505)
    assert found["request_duration_seconds_count", labelled(**on)] == 4
    assert found["response_duration_seconds_bucket", labelled(**on, le="0.005")] == 2
    assert found["response_duration_seconds_sum", labelled(**on)] == pytest.approx(0.003)


def test_a_size_is_an_exact_sum_and_its_count_is_that_of_requests() -> None:
    tag = f"200 GET {SHOP}"
    found = shown(envoys(("requests", tag, "} 3"), ("request_bytes", tag, "} 300"), ("response_bytes", tag, "} 900")))
    on = labelled(status="200", method="GET")
    assert (found["request_size_sum", on], found["request_size_count", on]) == (300, 3)
    assert found["response_size_bucket", labelled(status="200", method="GET", le="+Inf")] == 3
    assert found["response_size_sum", on] == found["bytes_sent_sum", on] == 900


def test_a_latency_is_that_of_all_hosts_paths_and_statuses_of_an_ingress() -> None:
    other = request_metrics.joined("shop", "web", "cart", "", "other.example.com", "/")
    lines = []
    for tag in (f"200 GET {SHOP}", f"500 POST {other}"):
        lines += [("connect_duration_bucket", tag, ',le="+Inf"} 2'), ("connect_duration_sum", tag, "} 1000000")]
    found = shown(envoys(*lines))
    latency = frozenset({"namespace": "shop", "ingress": "web", "service": "cart"}.items())
    assert found["ingress_upstream_latency_seconds_sum", latency] == pytest.approx(2)
    assert found["ingress_upstream_latency_seconds_count", latency] == 4
    assert found["connect_duration_seconds_count", labelled(status="200", method="GET")] == 2


def test_requests_of_no_ingress_are_shown_on_demand_only() -> None:
    text = envoys(("requests", "404 GET ", "} 7"), ("requests", f"200 GET {SHOP}", "} 1"))
    assert sum(value for (name, _), value in shown(text).items() if name == "requests") == 1
    wanted = Shown("ingress-nginx", "pod-1", "k8s.io/ingress-nginx", undefined_hosts=True)
    assert shown(text, wanted)["requests", frozenset({"status": "404", "method": "GET"}.items())] == 7


def test_classes_of_statuses_add_up() -> None:
    tags = [f"{status} GET {SHOP}" for status in (200, 204, 404)]
    lines = [("requests", tag, "} 2") for tag in tags]
    for tag in tags:
        lines += [("request_duration_bucket", tag, ',le="5"} 1'), ("request_duration_bucket", tag, ',le="+Inf"} 2')]
        lines += [("request_duration_sum", tag, "} 1000")]
    found = shown(envoys(*lines), Shown("ingress-nginx", "pod-1", "k8s.io/ingress-nginx", status_classes=True))
    assert found["requests", labelled(status="2xx", method="GET")] == 4
    assert found["request_duration_seconds_bucket", labelled(status="2xx", method="GET", le="0.005")] == 2
    assert found["request_duration_seconds_sum", labelled(status="2xx", method="GET")] == pytest.approx(2)
    assert found["requests", labelled(status="4xx", method="GET")] == 2


@pytest.mark.parametrize("prefix", ["", request_metrics.NAMESPACE])
def test_what_is_excluded_is_not_shown(prefix: str) -> None:
    tag = f"200 GET {SHOP}"
    text = envoys(("requests", tag, "} 3"), ("response_bytes", tag, "} 900"), ("connect_duration_bucket", tag, ',le="+Inf"} 1'))
    excluded = frozenset((f"{prefix}bytes_sent", f"{prefix}connect_duration_seconds", f"{prefix}requests"))
    names = {name for name, _ in shown(text, Shown("ingress-nginx", "pod-1", "k8s.io/ingress-nginx", excluded=excluded))}
    assert {"response_size_sum", "ingress_upstream_latency_seconds_count"} <= names
    assert not names & {"requests", "bytes_sent_sum", "connect_duration_seconds_count"}


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r"), min_size=1, max_size=20), min_size=1, max_size=3
    )
)
def test_a_path_comes_through_whatever_it_is(paths: list[str]) -> None:
    tags = {path: f"200 GET {request_metrics.joined('shop', 'web', 'cart', '', 'shop.example.com', path)}" for path in paths}
    found = page(statistics.read(envoys(*(("requests", tag, "} 1") for tag in tags.values()))), None, SHOWN, Reloads())
    texts = [line for line in found.split("\n") if line.startswith("nginx_ingress_controller_requests{")]
    seen = [re.fullmatch(r'.*,path="((?:[^"\\]|\\.)*)",method="GET",status="200"\} 1', line, re.DOTALL) for line in texts]
    wanted = sorted("" if path == "-" else path for path in tags)
    assert sorted(statistics.unescaped(each[1]) for each in seen if each) == wanted


@pytest.mark.parametrize("line", ["", "# TYPE envoy_ingress_requests counter", 'envoy_ingress_requests{labels="200 GET "} ', "nonsense{"])
def test_a_line_that_is_none_is_left_out(line: str) -> None:
    assert statistics.read(line).counters == {}


CONFIGURATION = """\
envoy_listener_manager_lds_update_success{} 2
envoy_listener_manager_lds_update_rejected{} 0
envoy_listener_manager_lds_version{} 17
envoy_listener_manager_lds_update_time{} 1700000000000
envoy_http_rds_update_success{envoy_rds_route_config="ingress",envoy_http_conn_manager_prefix="http"} 5
envoy_http_rds_update_rejected{envoy_rds_route_config="ingress",envoy_http_conn_manager_prefix="http"} 1
envoy_http_rds_version{envoy_rds_route_config="ingress",envoy_http_conn_manager_prefix="http"} 4
envoy_http_rds_update_time{envoy_rds_route_config="ingress",envoy_http_conn_manager_prefix="http"} 1700000009500
envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="http"} 3
envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="https"} 2
envoy_http_downstream_rq_active{envoy_http_conn_manager_prefix="http"} 1
envoy_http_downstream_cx_total{envoy_http_conn_manager_prefix="http"} 9
envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="https"} 11
"""


def test_the_process_its_connections_and_its_configuration() -> None:
    found = shown(CONFIGURATION)
    nothing: frozenset[tuple[str, str]] = frozenset()
    states = {state: found["nginx_process_connections", frozenset({("state", state)})] for state in ("active", "writing", "waiting")}
    assert states == {"active": 5, "writing": 1, "waiting": 4}
    assert found["nginx_process_connections_total", frozenset({("state", "handled")})] == 9
    assert found["nginx_process_requests_total", nothing] == 11
    assert (found["success", nothing], found["errors", nothing]) == (7, 1)
    assert found["config_last_reload_successful_timestamp_seconds", nothing] == 1_700_000_009.5
    assert found["nginx_process_cpu_seconds_total", nothing] == 12.5
    assert found["nginx_process_resident_memory_bytes", nothing] == 4096


def test_the_hash_of_the_configuration_is_that_of_its_versions() -> None:
    def hash_of(text: str) -> float:
        return shown(text)["config_hash", frozenset()]

    assert hash_of(CONFIGURATION) == hash_of(CONFIGURATION.replace("update_success{} 2", "update_success{} 3"))
    assert hash_of(CONFIGURATION) != hash_of(CONFIGURATION.replace("lds_version{} 17", "lds_version{} 18"))


def test_a_refusal_lasts_until_something_is_taken() -> None:
    reloads = Reloads()
    steps = [(3, 0), (3, 1), (3, 1), (4, 1), (4, 1), (5, 2)]
    assert [reloads.successful(*step) for step in steps] == [True, False, False, True, True, True]


def test_a_process_is_read_from_the_kernels_line() -> None:
    line = "17 (en) voy) S 1 2 3 0 -1 4194304 4984 0 4 0 150 50 0 0 20 0 7 0 1000 3395231744 17782 18446744073709551615"
    found = process.read(line, ticks=100, page=4096, booted=1_700_000_000.0)
    assert found == process.Process(cpu=2.0, resident=17782 * 4096, virtual=3395231744, began=1_700_000_010.0)


def test_another_line_is_no_process() -> None:
    with pytest.raises(ValueError, match="no line"):
        process.read("17 (envoy) S 1 2", ticks=100, page=4096, booted=0.0)
