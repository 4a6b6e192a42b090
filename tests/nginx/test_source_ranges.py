"""Lists of client addresses: what they mean, which of two counts, and that what cannot be read lets nobody in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.model import CLOSED, Forward, PathKind, PathMatch, Redirect, RedirectTo, Respond, Route
from xds.nginx import registry
from xds.nginx.features.source_ranges import FEATURE, SourceRanges
from xds.nginx.registry import known_annotations, read_keys, read_settings
from xds.nginx.values import ranges

from .drawing import CLUSTER, Nothing, resolved, settings

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
NETWORKS = st.one_of(st.ip_addresses(), st.from_type(ipaddress.IPv4Network), st.from_type(ipaddress.IPv6Network)).filter(
    lambda each: ipaddress.ip_network(each).version == 4 or not ipaddress.ip_network(each).overlaps(_MAPPED)
)
"""IPv6 forms of IPv4 addresses have examples of their own."""
ROOT = PathMatch(PathKind.RAW_PREFIX, "/")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.0/8", ("10.0.0.0/8",)),
        (" 127.0.0.1 ,\n127.0.0.9/32", ("127.0.0.1/32", "127.0.0.9/32")),
        ("127.0.0.77/24", ("127.0.0.0/24",)),
        ("10.1.0.0/16,10.0.0.0/8,10.0.0.1", ("10.0.0.0/8",)),
        ("::1, 192.0.2.0/24", ("192.0.2.0/24", "::1/128")),
        ("2001:DB8::/032", ("2001:db8::/32",)),
        ("::ffff:192.0.2.1,::ffff:10.0.0.0/104", ("10.0.0.0/8", "192.0.2.1/32")),
        ("::/0", ("::/0",)),
    ],
)
def test_a_list_is_read_as_go_reads_it(text: str, found: tuple[str, ...]) -> None:
    assert ranges(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "banana",
        "localhost",
        "127.0.0.1,",
        ",",
        "127.0.0.0/33",
        "::/129",
        "127.0.0.1-127.0.0.9",
        "10.0.0.0/255.0.0.0",
        "010.0.0.1",
        "fe80::1%eth0",
        "10.0.0",
        "10.0.0.0/+8",
        "$remote_addr",
        "٣.0.0.0/8",
        "10.0.0.0/8;",
        "all",
    ],
)
def test_what_is_no_list_closes_the_paths(text: str) -> None:
    for name in ("allowlist-source-range", "whitelist-source-range", "denylist-source-range"):
        found, complaints = read_settings({name: text}, {})
        assert [c.name for c in complaints] == [name]
        assert found[CLOSED].startswith(f"{name} is ")


@given(st.lists(NETWORKS, min_size=1, max_size=12), st.ip_addresses())
def test_a_list_has_the_addresses_of_its_parts_and_no_others(parts: list[object], client: ipaddress.IPv4Address) -> None:
    wanted = [ipaddress.ip_network(str(part)) for part in parts]
    found = [ipaddress.ip_network(part) for part in ranges(",".join(map(str, parts)))]
    for address in [client, *(net.network_address for net in wanted), *(net.broadcast_address for net in wanted)]:
        assert any(address in net for net in found) is any(address in net for net in wanted)


@pytest.mark.parametrize("name", ["whitelist-source-range", "allowlist-source-range"])
@pytest.mark.parametrize(
    ("value", "kept"),
    [("0.0.0.0/0,::/0", False), ("::/0, 0.0.0.0/0\n", False), ("10.0.0.0/8,0.0.0.0/0,::/0", False), ("0.0.0.0/0", True), ("::/0", True)],
)
def test_a_list_that_lets_in_everybody_is_none(name: str, value: str, *, kept: bool) -> None:
    assert ("source_ranges" in settings({name: value})) is kept
    assert ("source_ranges" in settings(keys={"whitelist-source-range": value})) is kept
    assert known_annotations()[name].needs_verdict(value) is kept


def test_a_list_of_the_ingress_replaces_that_of_the_config_map() -> None:
    keys = {"whitelist-source-range": "10.0.0.0/8", "denylist-source-range": "10.6.6.6"}
    assert settings({}, keys)["source_ranges"] == SourceRanges(("10.0.0.0/8",), ("10.6.6.6/32",))
    assert settings({"whitelist-source-range": "192.0.2.1"}, keys)["source_ranges"] == SourceRanges(("192.0.2.1/32",), ("10.6.6.6/32",))
    assert settings({"denylist-source-range": "192.0.2.1"}, keys)["source_ranges"] == SourceRanges(("10.0.0.0/8",), ("192.0.2.1/32",))
    assert "source_ranges" not in settings({"allowlist-source-range": "0.0.0.0/0,::/0"}, {"whitelist-source-range": "10.0.0.0/8"})


def test_a_list_of_the_config_map_that_cannot_be_read_closes_who_has_none() -> None:
    keys, complaints = read_keys({"whitelist-source-range": "bad"})
    assert [c.name for c in complaints] == ["whitelist-source-range"]
    assert CLOSED in read_settings({}, keys)[0]
    assert read_settings({"denylist-source-range": "bad"}, keys)[0][CLOSED].count(" is 'bad'") == 2
    own, _ = read_settings({"allowlist-source-range": "10.0.0.0/8"}, keys)
    assert CLOSED not in own
    assert own["source_ranges"].allowed == ("10.0.0.0/8",)


def test_lists_that_would_make_the_table_large_on_many_paths_close_the_paths() -> None:
    paths = tuple(Path(f"/{n}", "Exact", Backend("web", 80)) for n in range(5_000))
    many = ",".join(f"10.{n}.0.0/24" for n in range(100))
    item = Ingress(meta=Meta(namespace="a", name="b"), rules=(Rule("x.test", paths),))
    found, faults = registry.resolved(settings({"allowlist-source-range": many}), item, Nothing())
    assert [fault.name for fault in faults] == ["allowlist-source-range"]
    assert CLOSED in found
    assert CLOSED not in resolved(settings({"allowlist-source-range": many}))


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        (Forward(CLUSTER), True),
        (Respond(404), True),
        (Respond(503), False),
        (Respond(204), False),
        (Redirect(308, RedirectTo.HTTPS), False),
        (Redirect(301, RedirectTo.URL, "https://e.test"), False),
    ],
)
def test_what_nginx_answers_before_it_looks_at_addresses_stays(action: Forward | Respond | Redirect, *, kept: bool) -> None:
    assert FEATURE.filters
    assert bool(FEATURE.filters(SourceRanges(("10.0.0.0/8",), ()), Route(ROOT, action))) is kept
