"""`xds bootstrap`: what an Envoy is told before it has asked anybody, and that a real one takes it."""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import quick_yaml
from tests.envoy.harness.envoy import envoy_binary
from xds.cli import main
from xds.cli.arguments import parse
from xds.config import Flags
from xds.nginx.messages import STREAM_WINDOW
from xds.patterns.regex import PROGRAM_LIMIT
from xds.render.bootstrap import REGEX_PROGRAM_SIZE, bootstrap, secret_files
from xds.request_metrics import PROCESS_PATH, STATS_PATH

AT_A_LOOK = 50
"""Streams that a thread of Envoy resets each time that it looks at its memory; it has no setting for them."""

TLS = Flags(
    xds_address="xds.example:18000",
    xds_tls_cert=Path("/certs/tls.crt"),
    xds_tls_key=Path("/certs/tls.key"),
    xds_tls_ca=Path("/authority/ca.crt"),
)


def cluster(settings: Flags) -> dict[str, Any]:
    found, authz, counts = bootstrap(settings)["static_resources"]["clusters"]
    assert (authz["name"], counts["name"]) == ("xds_authz", "xds_counts")
    return found


def place(settings: Flags) -> Any:
    return cluster(settings)["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]


def secret_socket(settings: Flags) -> Any:
    return cluster(settings)["transport_socket"]["typed_config"]


def test_one_stream_carries_everything_and_waits_for_its_answer() -> None:
    dynamic = bootstrap(Flags())["dynamic_resources"]
    assert dynamic["ads_config"] == {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}],
    }
    by_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    assert (dynamic["lds_config"], dynamic["cds_config"]) == (by_ads, by_ads)


def test_state_of_the_world_is_there_for_those_who_ask() -> None:
    assert bootstrap(Flags(delta=False))["dynamic_resources"]["ads_config"]["api_type"] == "GRPC"


@pytest.mark.parametrize(
    ("address", "kind", "expected"),
    [
        ("127.0.0.1:18000", "STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 18000}}),
        ("[::1]:18000", "STATIC", {"socket_address": {"address": "::1", "port_value": 18000}}),
        ("xds.example:18000", "STRICT_DNS", {"socket_address": {"address": "xds.example", "port_value": 18000}}),
        ("unix:/run/xds.sock", "STATIC", {"pipe": {"path": "/run/xds.sock"}}),
    ],
)
def test_the_server_is_found_by_ip_name_or_socket(address: str, kind: str, expected: object) -> None:
    settings = Flags(xds_address=address)
    assert (cluster(settings)["type"], place(settings)) == (kind, expected)


def test_a_dead_server_is_noticed() -> None:
    settings = Flags(xds_address="127.0.0.1:1")
    http = cluster(settings)["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert http["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"] == {"interval": "30s", "timeout": "5s"}
    assert cluster(settings)["upstream_connection_options"]["tcp_keepalive"]["keepalive_time"] == 30


def test_without_tls_files_there_is_no_transport_socket() -> None:
    assert "transport_socket" not in cluster(Flags())


def test_the_name_of_the_server_is_compared_with_its_certificate() -> None:
    context = secret_socket(TLS)["common_tls_context"]["validation_context"]
    assert context["match_typed_subject_alt_names"] == [{"san_type": "DNS", "matcher": {"exact": "xds.example"}}]
    assert secret_socket(TLS)["sni"] == "xds.example"


def test_an_ip_is_compared_as_an_ip_and_never_sent_as_a_name() -> None:
    settings = parse("bootstrap", ["--xds-address=[2001:db8::1]:1", "--xds-tls-cert=c", "--xds-tls-key=k", "--xds-tls-ca=a"], {}).settings
    context = secret_socket(settings)["common_tls_context"]["validation_context"]
    assert context["match_typed_subject_alt_names"] == [{"san_type": "IP_ADDRESS", "matcher": {"exact": "2001:db8::1"}}]
    assert "sni" not in secret_socket(settings)


def test_the_name_of_the_server_can_differ_from_its_address() -> None:
    words = ["--xds-address=10.0.0.1:1", "--xds-server-name=xds", "--xds-tls-cert=c", "--xds-tls-key=k", "--xds-tls-ca=a"]
    assert secret_socket(parse("bootstrap", words, {}).settings)["sni"] == "xds"


def test_envoy_takes_every_regex_that_is_sent() -> None:
    assert REGEX_PROGRAM_SIZE >= PROGRAM_LIMIT


def test_limits_can_be_set_and_taken_away() -> None:
    def monitors(settings: Flags) -> list[Any]:
        return bootstrap(settings).get("overload_manager", {}).get("resource_monitors", [])

    connections = monitors(Flags(max_connections=7))[0]["typed_config"]
    assert connections["max_active_downstream_connections"] == 7
    assert monitors(Flags(max_connections=0)) == []
    heap = monitors(Flags(max_connections=0, max_heap_bytes=10**9))
    assert [monitor["typed_config"]["max_heap_size_bytes"] for monitor in heap] == [10**9, 3 * 10**9]


def test_who_holds_most_is_let_go_before_anybody_is_refused() -> None:
    """The parts of the limit at which each action begins; resets go on beyond the limit, where Envoy repeats no action at its end."""
    overload = bootstrap(Flags(max_heap_bytes=10**9))["overload_manager"]
    limits = {each["name"]: each["typed_config"].get("max_heap_size_bytes", 0) / 10**9 for each in overload["resource_monitors"]}
    begins, ends = {}, {}
    for action in (*overload["actions"], *overload["loadshed_points"]):
        (trigger,) = action["triggers"]
        values = list(trigger.get("scaled", trigger.get("threshold")).values())
        name = action["name"].rpartition(".")[2]
        begins[name], ends[name] = (round(limits[trigger["name"]] * value, 3) for value in (values[0], values[-1]))
    assert sorted(begins.items(), key=lambda each: each[1]) == [
        ("reduce_timeouts", 0.8),
        ("reset_high_memory_stream", 0.8),
        ("shrink_heap", 0.9),
        ("stop_accepting_requests", 1),
        ("tcp_listener_accept", 1),
    ]
    assert ends["reset_high_memory_stream"] == 3


def test_streams_are_reset_faster_than_a_thread_of_envoy_can_fill_them() -> None:
    """A thread that copies what is there already, without network and HTTP, fills a gigabyte a second or two."""
    look = float(bootstrap(Flags(max_heap_bytes=10**9))["overload_manager"]["refresh_interval"].removesuffix("s"))
    assert AT_A_LOOK * STREAM_WINDOW / look >= 10**9


def test_an_envoy_without_a_limit_of_memory_does_not_look_for_it() -> None:
    assert bootstrap(Flags())["overload_manager"].keys() == {"resource_monitors"}


def test_the_admin_page_stays_open_at_the_limit_of_connections() -> None:
    assert bootstrap(Flags())["admin"]["ignore_global_conn_limit"] is True


def test_without_an_address_for_probes_nothing_listens() -> None:
    assert "listeners" not in bootstrap(Flags())["static_resources"]


def test_probes_see_two_pages_of_the_admin_and_may_only_look() -> None:
    static = bootstrap(Flags(probe_address="0.0.0.0:9902"))["static_resources"]
    (listener,) = static["listeners"]
    connection = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = connection["route_config"]["virtual_hosts"][0]["routes"]
    assert [route["match"]["path"] for route in routes] == ["/ready", "/stats/prometheus"]
    assert {route["match"]["headers"][0]["string_match"]["safe_regex"]["regex"] for route in routes} == {"GET|HEAD"}
    assert {route["route"]["cluster"] for route in routes} == {static["clusters"][-1]["name"]}


def test_an_envoy_with_all_its_connections_still_answers_probes() -> None:
    assert bootstrap(Flags(probe_address="0.0.0.0:9902"))["static_resources"]["listeners"][0]["ignore_global_conn_limit"] is True


@pytest.mark.parametrize(("address", "both"), [("[::]:9902", True), ("0.0.0.0:9902", None), ("[::1]:9902", None)])
def test_probes_come_by_both_families_where_every_address_is_asked_for(address: str, both: bool | None) -> None:
    (listener,) = bootstrap(Flags(probe_address=address))["static_resources"]["listeners"]
    assert listener["address"]["socket_address"].get("ipv4_compat") is both


def test_the_printed_text_is_the_bootstrap_and_the_same_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bootstrap", "--node-id=pod-1", "--node-cluster=edge", "--admin-address=127.0.0.1:9902"]
    assert main(words) == 0
    first = capsys.readouterr().out
    main(words)
    assert capsys.readouterr().out == first
    assert quick_yaml.safe_load(first)["node"] == {"id": "pod-1", "cluster": "edge"}
    assert "&id" not in first


def test_with_a_folder_the_files_are_written_and_refer_to_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where Envoy starts, the folder would be another one."""
    monkeypatch.chdir(tmp_path)
    words = ["--xds-address=xds.example:1", "--xds-tls-cert=/c/tls.crt", "--xds-tls-key=/c/tls.key", "--xds-tls-ca=/a/ca.crt"]
    assert main(["bootstrap", *words, "--output-dir=out"]) == 0
    written = quick_yaml.safe_load((tmp_path / "out" / "envoy.yaml").read_text())
    context = written["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    for source in (context["tls_certificate_sds_secret_configs"][0], context["validation_context_sds_secret_config"]):
        path = Path(source["sds_config"]["path_config_source"]["path"])
        assert path.parent == tmp_path / "out"
        (secret,) = quick_yaml.safe_load(path.read_text())["resources"]
        assert secret["name"] == source["name"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"envoy.yaml", "xds_certificate.yaml", "xds_ca.yaml"}


def test_renewals_are_watched_for_in_the_folders_of_the_files() -> None:
    settings = parse(
        "bootstrap", ["--xds-tls-cert=/c/tls.crt", "--xds-tls-key=/c/tls.key", "--xds-tls-ca=/a/ca.crt", "--output-dir=o"], {}
    ).settings
    files = {name: content["resources"][0] for name, content in secret_files(settings).items()}
    assert files["xds_certificate.yaml"]["tls_certificate"]["watched_directory"] == {"path": "/c"}
    assert files["xds_ca.yaml"]["validation_context"]["watched_directory"] == {"path": "/a"}


def test_without_tls_there_are_no_files_of_secrets() -> None:
    assert secret_files(Flags(output_dir=Path("/x"))) == {}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["bootstrap", f"--output-dir={tmp_path / 'file'}"]) == 1
    assert capsys.readouterr().err == f"xds bootstrap: --output-dir: {tmp_path / 'file' / 'envoy.yaml'} cannot be written: File exists.\n"


def certificate(folder: Path) -> list[str]:
    """The --xds-tls flags for a certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "xds.example")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=36500)).sign(key, hashes.SHA256())
    (folder / "tls.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(pem, pkcs8, plain))
    return [f"--xds-tls-cert={folder}/tls.crt", f"--xds-tls-key={folder}/tls.key", f"--xds-tls-ca={folder}/tls.crt"]


def validate(path: Path) -> str:
    """What a real Envoy says to a configuration: its exit code, and every warning and error."""
    command = [envoy_binary(), "--mode", "validate", "-l", "warning", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return f"{done.returncode} {done.stderr}{done.stdout}".replace(f"configuration '{path}' OK", "").strip()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--delta=false", "--max-heap-bytes=1000000000", "--admin-address=unix:/tmp/never-opened.sock"],
        ["--xds-address=xds.example:18000", "--max-connections=0"],
        ["--xds-address=unix:/tmp/never-opened.sock"],
        ["--probe-address=127.0.0.1:0"],
        ["--xds-address=[::1]:18000", "TLS"],
        ["--xds-address=xds.example:18000", "TLS", "--output-dir"],
    ],
    ids=" ".join,
)
@pytest.mark.envoy
def test_a_real_envoy_takes_it_without_a_warning(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [f"--output-dir={out}" if word == "--output-dir" else word for word in words]
    if "TLS" in words:
        words[words.index("TLS") : words.index("TLS") + 1] = certificate(tmp_path)
    assert main(["bootstrap", *words]) == 0
    path = out / "envoy.yaml"
    if not path.exists():
        path = tmp_path / "envoy.yaml"
        path.write_text(capsys.readouterr().out)
    assert validate(path) == "0"


@pytest.mark.parametrize(("raised", "verdict"), [(True, "0"), (False, "1")])
@pytest.mark.envoy
def test_a_real_envoy_takes_a_long_regex_because_of_the_runtime(raised: bool, verdict: str, tmp_path: Path) -> None:
    regex = "(?i)^/(" + "|".join(f"part-{number}/[a-z0-9]{{1,20}}" for number in range(200)) + ").*"
    route = {"match": {"safe_regex": {"regex": regex}}, "direct_response": {"status": 200}}
    kind = "type.googleapis.com/envoy.extensions.filters"
    hcm = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
    }
    content = bootstrap(Flags())
    content["static_resources"]["listeners"] = [
        {
            "name": "http",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": hcm}]}],
        }
    ]
    runtime = content["layered_runtime"]["layers"][0]["static_layer"]
    assert runtime["re2.max_program_size.error_level"] == REGEX_PROGRAM_SIZE
    if not raised:
        del runtime["re2.max_program_size.error_level"]
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(content))
    assert validate(path).split()[0] == verdict


def test_the_socket_for_metrics_has_two_pages_and_is_for_envoys_user_alone() -> None:
    static = bootstrap(Flags(stats_address="unix:/run/metrics/stats.sock"))["static_resources"]
    (listener,) = static["listeners"]
    assert listener["address"] == {"pipe": {"path": "/run/metrics/stats.sock", "mode": 0o600}}
    (host,) = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    assert [route["match"]["path"] for route in host["routes"]] == ["/stats/prometheus", PROCESS_PATH]
    assert {"name": ":path", "string_match": {"exact": STATS_PATH}} in host["routes"][0]["match"]["headers"]
    assert [cluster["name"] for cluster in static["clusters"]][-1] == "xds_admin"


def test_times_are_counted_in_the_buckets_of_the_flag_each_in_its_unit() -> None:
    found = bootstrap(Flags(stats_address="unix:/run/metrics/stats.sock", time_buckets=(1.5, 0.1, 0.1, 0)))
    settings = found["stats_config"]["histogram_bucket_settings"]
    buckets = {each["match"]["prefix"]: each["buckets"] for each in settings}
    assert buckets["ingress.request_duration"] == [100, 1500]
    assert buckets["ingress.connect_duration"] == [100_000, 1_500_000]
    assert found["stats_eviction_interval"] == "86400s"


@pytest.mark.parametrize(
    "flags", [Flags(), Flags(stats_address="unix:/run/metrics/stats.sock"), Flags(stats_address="unix:/s", time_buckets=(0,))]
)
def test_what_no_one_reads_of_clusters_and_certificates_is_not_counted(flags: Flags) -> None:
    entries = bootstrap(flags)["stats_config"]["stats_matcher"]["exclusion_list"]["patterns"]
    pattern = "|".join(f"(?:{entry['safe_regex']['regex']})" for entry in entries)
    idle = ("lb_subsets_active", "circuit_breakers.high.cx_open", "update_duration", "version", "default.total_match_count")
    read = (
        "upstream_rq_total",
        "upstream_cx_overflow",
        "membership_healthy",
        "rbac.denied",
        "max_host_weight",
        "upstream_rq_retry_limit_exceeded",
    )
    for cluster in ("default/app/80", "default/app/http~0a1b2c3d", "default/127_0_0_1/9~0a1b2c3d"):
        assert all(re.fullmatch(pattern, f"cluster.{cluster}.{name}") for name in idle)
        assert not any(re.fullmatch(pattern, f"cluster.{cluster}.{name}") for name in read)
    assert re.fullmatch(pattern, "sds.default/app.example.com-tls.update_duration")
    others = (
        "cluster.xds_cluster.update_attempt",
        "cluster.default/app/80@default/lb_shop.update_failure",
        "http.http.rds.ingress.version",
        "listener_manager.lds.update_rejected",
        "sds.default/app.example.com-tls.update_rejected",
        "sds.default/version.key_rotation_failed",
        "sds.xds_certificate.update_success",
        "listener.https.ssl.certificate.default/app.expiration_unix_time_seconds",
    )
    assert not any(re.fullmatch(pattern, name) for name in others)


def test_without_the_socket_the_bootstrap_says_nothing_of_times_of_requests() -> None:
    found = bootstrap(Flags())
    assert "stats_eviction_interval" not in found
    assert "histogram_bucket_settings" not in found["stats_config"]
    assert "listeners" not in found["static_resources"]
