"""Who the client is: every combination of the keys, and how Envoy is made to read a list of addresses as nginx reads it."""

from __future__ import annotations

import ipaddress
import itertools
import re

import pytest
import re2
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.model import Via
from xds.nginx.features.real_ip import BARE, CLEAN, FEATURE, LAST, LAST_ADDRESSES, SHORT, WITHOUT_PORTS
from xds.nginx.trust import EVERYBODY, Trust
from xds.render.listeners import http, https
from xds.render.routes import table

from .drawing import complaints, connection, settings

BOTH = (False, True)
SWITCHES = ("use-proxy-protocol", "use-forwarded-headers", "enable-real-ip", "compute-full-forwarded-for")
HEADERS = ("X-Forwarded-For", "CF-Connecting-IP")
PROXIES = ("0.0.0.0/0", "10.0.0.0/8,192.168.0.0/16")
COMBINATIONS = [*itertools.product(itertools.product(BOTH, repeat=4), HEADERS, PROXIES)]


def read(switches: tuple[bool, ...], header: str, proxies: str) -> Trust | None:
    keys = {name: str(on).lower() for name, on in zip(SWITCHES, switches, strict=True)}
    found = settings(keys={**keys, "forwarded-for-header": header, "proxy-real-ip-cidr": proxies}).get("real_ip")
    assert found is None or isinstance(found, Trust)
    return found


@pytest.mark.parametrize(("switches", "header", "proxies"), COMBINATIONS)
def test_who_is_believed_by_every_combination_of_the_keys(switches: tuple[bool, ...], header: str, proxies: str) -> None:
    proxy, forwarded, real_ip, full = switches
    found = read(switches, header, proxies)
    if found is None:
        assert (proxy, forwarded, real_ip) == (False, False, False)
        assert header == "X-Forwarded-For"
        return
    expected = {
        # PROXY, forwarded, real-ip → whether the PROXY header names the peer, and whether a header names the client
        (False, False, False): (False, False),
        (False, False, True): (False, True),
        (False, True, False): (False, True),
        (False, True, True): (False, True),
        (True, False, False): (True, False),
        (True, False, True): (True, False),
        (True, True, False): (True, True),
        (True, True, True): (True, True),
    }[proxy, forwarded, real_ip]
    assert (found.proxy_protocol, bool(found.header)) == expected
    assert found.header in ("", header.lower())
    assert found.original == header.lower()
    assert found.forwarded is forwarded, "the scheme, host and port of a client count with use-forwarded-headers alone"
    assert found.full is (forwarded and full)
    assert found.by_forwarded is (proxy or forwarded)
    assert found.proxies == (tuple(proxies.split(",")) if any(expected) else ())


@pytest.mark.parametrize(("switches", "header", "proxies"), COMBINATIONS)
@pytest.mark.parametrize("via", [Via.HTTP, Via.HTTPS])
def test_a_listener_never_takes_a_client_from_where_nobody_is_believed(
    switches: tuple[bool, ...], header: str, proxies: str, via: Via
) -> None:
    found = read(switches, header, proxies)
    made = connection(settings(), via)
    assert not made.original_ip_detection_extensions
    made.use_remote_address = True
    if found is not None:
        assert FEATURE.on_connection
        FEATURE.on_connection(found, made, via)
    ways = [each.name.rpartition(".")[2] for each in made.original_ip_detection_extensions]
    proxy, forwarded, real_ip, _ = switches
    assert ways == [*(["custom_header"] if proxy else []), *(["xff"] if forwarded or (real_ip and not proxy) else [])]
    assert made.use_remote_address is (not ways), "without a way of ours Envoy would take the last address of X-Forwarded-For"


@pytest.mark.parametrize("on", BOTH)
def test_the_proxy_header_comes_first_on_both_listeners(on: bool) -> None:
    defaults = settings(keys={"use-proxy-protocol": str(on).lower(), "proxy-protocol-header-timeout": "1m30s"})
    for made, others in ((http("::", 80, defaults), []), (https("::", 443, defaults), ["tls_inspector"])):
        assert isinstance(made, Listener)
        names = [each.name.rpartition(".")[2] for each in made.listener_filters]
        assert names == [*(["proxy_protocol"] if on else []), *others]
        assert (made.listener_filters_timeout.total_seconds() if made.listener_filters_timeout else None) == (90 if on else None)


def headers_for_backends(**keys: str) -> tuple[dict[str, str], list[str]]:
    made = table(settings(keys={name.replace("_", "-"): value for name, value in keys.items()}), {})
    assert isinstance(made, RouteConfiguration)
    return {o.header.key: o.header.value for o in made.request_headers_to_add if o.header}, made.request_headers_to_remove


def test_what_backends_get_grows_only_where_both_keys_ask_for_it() -> None:
    usual, _ = headers_for_backends()
    alone, _ = headers_for_backends(compute_full_forwarded_for="true")
    assert alone == usual
    full, removed = headers_for_backends(compute_full_forwarded_for="true", use_forwarded_headers="true")
    assert full["X-Forwarded-For"].startswith("%REQ(x-forwarded-for)%")
    assert full["X-Forwarded-For"].endswith("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")
    assert full["X-Real-IP"] == usual["X-Real-IP"]
    assert "x-xds-scheme" in removed
    other, _ = headers_for_backends(forwarded_for_header="X-Client")
    assert other == usual | {"X-Original-Forwarded-For": "%REQ(x-client)%"}


@pytest.mark.parametrize("header", ["", "X Forwarded", "X_Client", "-", "1", "X:Y", "Ünicode", "%REQ(x)%"])
def test_a_header_of_a_strange_name_is_a_complaint(header: str) -> None:
    assert [name for name, _ in complaints(keys={"forwarded-for-header": header})] == (["forwarded-for-header"] if header else [])


@pytest.mark.parametrize("text", ["5", "", "s", "5 s", "-1s", "0s", "1h", "1e3s", "5x"])
def test_a_time_that_go_would_not_read_or_nobody_could_wait_is_a_complaint(text: str) -> None:
    assert [name for name, _ in complaints(keys={"proxy-protocol-header-timeout": text})] == (
        ["proxy-protocol-header-timeout"] if text else []
    )


# --- lists of addresses ----------------------------------------------------------------------------------------------------------

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trusted(address: str, proxies: list[Network]) -> bool:
    return any(ipaddress.ip_address(address) in network for network in proxies)


def as_nginx(peer: str, sent: str, proxies: list[Network]) -> str:
    """The client by nginx's `real_ip_recursive on`: words from the right, each named by a proxy that is believed."""
    client = peer
    for word in reversed([word for word in re.split("[ ,]+", sent) if word]):
        if not trusted(client, proxies):
            break
        bare = re.sub(r"^(?:(\d+\.\d+\.\d+\.\d+)|\[(.+)\]):\d+$", r"\1\2", word)
        try:
            client = str(ipaddress.ip_address(bare))
        except ValueError:
            break
    return client


def as_envoy(peer: str, sent: str, proxies: list[Network]) -> str:
    """The client by Envoy's `xff_trusted_cidrs`, which reads all of a list or nothing, and no ports."""
    if not trusted(peer, proxies):
        return peer
    client = peer
    for word in reversed([word.strip() for word in sent.split(",")]):
        try:
            client = str(ipaddress.ip_address(word))
        except ValueError:
            return peer
        if not trusted(client, proxies):
            break
    return client


def only_addresses(sent: str) -> str:
    """What the early mutations of the listener make of a list; where the first one fails it stays as it is, with the second it is empty."""
    if len(sent) > SHORT or not re2.fullmatch(CLEAN, sent):
        few = re2.fullmatch(LAST, sent)
        word = re2.fullmatch(BARE, few[1]) if few else None
        sent = "".join(group or "" for group in word.groups()) if word else sent
    if re2.fullmatch(CLEAN, sent):
        return sent
    last = re2.fullmatch(LAST_ADDRESSES, sent)
    bare = re2.fullmatch(WITHOUT_PORTS, last[1] or "") if last else None
    return "".join(group or "" for group in bare.groups()) if bare else ""


V4 = st.sampled_from(["10.0.0.1", "10.1.2.3", "1.2.3.4", "9.9.9.9", "192.168.0.7"])
V6 = st.sampled_from(["2001:db8::1", "fd00::7", "::1"])
JUNK = st.sampled_from(
    ["junk", "unknown", "-", "_hidden", "localhost", '"quoted"', "1.2.3.4x", "[::1]", "[10.0.0.1]", "[2001:db8::1]x", "[]:80"]
)


@st.composite
def lists(draw: st.DrawFn) -> str:
    """Lists as proxies write them: what the first client invented, then addresses, of IPv4 with up to three ports."""
    ports = draw(st.booleans())
    words = draw(st.lists(V4 if ports else V4 | V6, min_size=0, max_size=6))
    chosen = draw(st.sets(st.integers(0, 5), max_size=3)) if ports else set()
    words = [f"{word}:{1000 + number}" if number in chosen else word for number, word in enumerate(words)]
    invented = draw(st.lists(JUNK | V4, max_size=2))
    last = draw(st.sampled_from([[], ["[2001:db8::1]"], *([] if ports else [["[2001:db8::1]:4711"], ["10.1.2.3:4711"], ["9.9.9.9:1"]])]))
    return draw(st.sampled_from([", ", ",", " , "])).join([*invented, *words, *last]) + draw(st.sampled_from(["", " ", ","]))


@given(
    sent=lists(),
    peer=st.sampled_from(["10.0.0.2", "127.0.0.1", "2001:db8::9"]),
    proxies=st.sampled_from([EVERYBODY, ("10.0.0.0/8",), ("10.0.0.0/8", "2001:db8::/32")]),
)
@hypothesis_settings(max_examples=examples(300), deadline=None)
def test_envoy_finds_the_client_that_nginx_finds(sent: str, peer: str, proxies: tuple[str, ...]) -> None:
    networks = [ipaddress.ip_network(each) for each in proxies]
    assert as_envoy(peer, only_addresses(sent), networks) == as_nginx(peer, sent, networks)


@pytest.mark.parametrize("pattern", [CLEAN, LAST_ADDRESSES, WITHOUT_PORTS])
def test_the_expressions_are_no_larger_than_envoy_accepts_in_an_expression_of_cel(pattern: str) -> None:
    assert re2.compile(pattern).programsize <= 100
    assert "'" not in pattern
    assert "\\" not in pattern
