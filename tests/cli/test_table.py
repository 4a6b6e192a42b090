"""The table of settings: what ingress-nginx has is there, and the table does not contradict itself."""

from __future__ import annotations

import dataclasses
import re

import pytest

from xds.addresses import parse_address
from xds.cli.arguments import COMMANDS, parse
from xds.config import Flags, flags, reserved_ports
from xds.flag_kinds import parse_bool, parse_duration, show_duration

INGRESS_NGINX: dict[str, object] = {
    "--ingress-class": "nginx",
    "--controller-class": "k8s.io/ingress-nginx",
    "--ingress-class-by-name": False,
    "--watch-ingress-without-class": False,
    "--watch-namespace": "",
    "--watch-namespace-selector": "",
    "--configmap": "",
    "--tcp-services-configmap": "",
    "--udp-services-configmap": "",
    "--default-backend-service": "",
    "--default-ssl-certificate": "",
    "--publish-service": "",
    "--publish-status-address": (),
    "--update-status": True,
    "--report-node-internal-ip-address": False,
    "--status-update-interval": 60.0,
    "--election-id": "ingress-controller-leader",
    "--election-ttl": 15.0,
    "--disable-leader-election": False,
    "--annotations-prefix": "nginx.ingress.kubernetes.io",
    "--enable-annotation-validation": True,
    "--deep-inspect": True,
    "--disable-catch-all": False,
    "--disable-svc-external-name": False,
    "--enable-ssl-passthrough": False,
    "--ssl-passthrough-proxy-port": 442,
    "--enable-ssl-chain-completion": False,
    "--enable-topology-aware-routing": False,
    "--http-port": 80,
    "--https-port": 443,
    "--healthz-port": 10254,
    "--default-server-port": 8181,
    "--status-port": 10246,
    "--stream-port": 10247,
    "--profiler-port": 10245,
    "--health-check-path": "/healthz",
    "--health-check-timeout": 10.0,
    "--healthz-host": "",
    "--validating-webhook": "",
    "--validating-webhook-certificate": None,
    "--validating-webhook-key": None,
    "--disable-full-test": False,
    "--disable-sync-events": False,
    "--enable-metrics": False,
    "--metrics-per-host": True,
    "--metrics-per-undefined-host": False,
    "--report-status-classes": False,
    "--time-buckets": (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    "--length-buckets": (10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
    "--size-buckets": (10, 100, 1000, 10000, 100000, 1000000, 10000000),
    "--bucket-factor": 0.0,
    "--max-buckets": 100,
    "--exclude-socket-metrics": (),
    "--monitor-max-batch-size": 10000,
    "--sync-rate-limit": 0.3,
    "--sync-period": 0.0,
    "--dynamic-configuration-retries": 15,
    "--post-shutdown-grace-period": 10.0,
    "--shutdown-grace-period": 0.0,
    "--kubeconfig": None,
    "--apiserver-host": "",
    "--certificate-authority": None,
    "--internal-logger-address": "127.0.0.1:11514",
    "--profiling": True,
    "--profiler-address": "127.0.0.1",
    "--maxmind-edition-ids": "GeoLite2-City,GeoLite2-ASN",
    "--maxmind-license-key": "",
    "--maxmind-mirror": "",
    "--maxmind-retries-count": 1,
    "--maxmind-retries-timeout": 0.0,
    "--v": 0,
    "--logtostderr": True,
    "--version": False,
}
"""Names and defaults of the controller's own flags, written a second time on purpose: people's manifests depend on them."""


@pytest.mark.parametrize(("name", "default"), INGRESS_NGINX.items(), ids=str)
def test_serve_has_the_flag_of_ingress_nginx_with_its_default(name: str, default: object) -> None:
    settings = parse("serve", [], {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).settings
    flag = next(flag for flag in flags() if flag.name == name)
    assert getattr(settings, flag.field) == default
    assert "serve" in flag.commands


def test_status_is_cleared_on_shutdown_only_where_that_is_asked_for() -> None:
    """The one default that is another one on purpose: external-dns deletes the records of a cleared status."""
    in_a_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert not parse("serve", [], in_a_pod).settings.update_status_on_shutdown
    assert parse("serve", ["--update-status-on-shutdown=true"], in_a_pod).settings.update_status_on_shutdown


def test_up_serves_on_ports_that_need_no_privilege() -> None:
    settings = parse("up", ["folder"], {}).settings
    assert (settings.http_port, settings.https_port) == (8080, 8443)


@pytest.mark.parametrize("flag", flags(), ids=lambda flag: flag.name)
def test_a_row_of_the_table_is_whole(flag) -> None:
    """Every default is a value of its kind, every sentence ends, every command exists, and a flag does something or says why not."""
    assert set(flag.commands) <= set(COMMANDS)
    assert set(flag.instead) <= set(flag.commands)
    assert bool(flag.does) != bool(flag.no_effect)
    assert re.search(r"[.;]$", flag.does or flag.no_effect)
    for command in flag.commands:
        kind, default = flag.kind_in(command), flag.default_in(command)
        shown = kind.show(default)
        assert kind.parse(shown) == default if shown else default in ("", (), None)


def test_no_two_flags_share_a_name_or_a_letter() -> None:
    names = [flag.name for flag in flags()] + [f"--{flag.short}" for flag in flags() if flag.short]
    assert len(names) == len(set(names))


def test_flags_of_one_group_stand_together() -> None:
    groups = [flag.group for flag in flags()]
    starts = [group for before, group in zip([None, *groups], groups, strict=False) if group != before]
    assert len(starts) == len(set(starts))


def test_the_reserved_ports_are_those_of_ingress_nginx_each_with_its_flag() -> None:
    assert reserved_ports(Flags()) == {
        80: "--http-port",
        443: "--https-port",
        10254: "--healthz-port",
        8181: "--default-server-port",
        10246: "--status-port",
        10247: "--stream-port",
        10245: "--profiler-port",
        442: "--ssl-passthrough-proxy-port",
    }


def test_a_reserved_port_that_two_flags_name_is_known_by_the_one_that_listens() -> None:
    assert reserved_ports(Flags(http_port=8181))[8181] == "--http-port"


def test_a_licence_key_never_shows_in_a_repr() -> None:
    assert "hush" not in repr(Flags(maxmind_license_key="hush"))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Flags().http_port = 81  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("+2s", 2),
        ("1us", 1e-6),
        ("1µs", 1e-6),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1 s", "1s ", "-1s", "1d", "1m30", "١s", "9999999999h", "1.2.3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is a refusal
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (30, "30s"), (90, "1m30s"), (60, "1m"), (0.5, "500ms")])
def test_a_duration_is_shown_as_go_writes_it(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_what_go_takes_for_true_is_true(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_what_go_takes_for_false_is_false(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["", "yes", "on", "tRUE", "2"])
def test_other_words_are_no_boolean(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is a refusal
        parse_bool(text)


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:18000", "127.0.0.1:18000", True),
        ("127.9.9.9:0", "127.9.9.9:0", True),
        ("localhost:1", "localhost:1", True),
        ("[::1]:18000", "[::1]:18000", True),
        ("[0:0::1]:18000", "[::1]:18000", True),
        ("[::ffff:127.0.0.1]:1", "[::ffff:7f00:1]:1", True),
        ("[::ffff:10.0.0.1]:1", "[::ffff:a00:1]:1", False),
        ("unix:/run/xds.sock", "unix:/run/xds.sock", True),
        ("unix:///run/xds.sock", "unix:/run/xds.sock", True),
        (":18000", "[::]:18000", False),
        ("0.0.0.0:18000", "0.0.0.0:18000", False),
        ("xds.ingress.svc:18000", "xds.ingress.svc:18000", False),
        ("localhost.evil.example:1", "localhost.evil.example:1", False),
        ("127.0.0.1.evil.example:1", "127.0.0.1.evil.example:1", False),
    ],
)
def test_an_address_is_read_and_known_to_be_this_machine_or_not(text: str, shown: str, loopback: bool) -> None:
    address = parse_address(text)
    assert (str(address), address.loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:²",
        "::1:80",
        "[localhost]:1",
        "[::1",
        "[::1]",
        "[10.0.0.1]:1",
        "a b:1",
        "unix:",
        "h:0x1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is a refusal
        parse_address(text)
