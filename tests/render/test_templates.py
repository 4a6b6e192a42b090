"""Bytes from templates are those of the whole message (decision 21)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from hypothesis import given
from hypothesis import strategies as st

from xds import model
from xds.nginx.registry import read_settings
from xds.problem import Ref
from xds.render import clusters, endpoints, routes
from xds.translate.backends import Address
from xds.translate.hosts import policy
from xds.wire.encode import encode
from xds.wire.template import Template, placeholder

DEFAULTS, _ = read_settings({}, {})
OTHER_DEFAULTS, _ = read_settings({}, {"proxy-read-timeout": 7, "proxy-body-size": 0})
ANNOTATIONS = (
    {},
    {"proxy-read-timeout": "5"},
    {"rewrite-target": "/$1"},
    {"proxy-body-size": "0"},
    {"backend-protocol": "GRPCS", "load-balance": "ewma"},
    {"upstream-hash-by": "$request_uri$host"},
    {"service-upstream": "true", "proxy-connect-timeout": "2"},
)

words = st.text("abcdefgh-.0123", min_size=1, max_size=40)
ports = st.integers(1, 65535)
settings = st.sampled_from([read_settings(a, {})[0] for a in ANNOTATIONS])
defaults = st.sampled_from([DEFAULTS, OTHER_DEFAULTS])
clusters_ = st.builds(
    model.Cluster,
    words,
    words,
    ports,
    settings.map(lambda s: policy(s, DEFAULTS)),
    send_proxy=st.booleans(),
    protocol=st.sampled_from(("TCP", "UDP")),
)
actions = st.one_of(
    st.builds(model.Forward, clusters_, st.booleans()),
    st.builds(model.Respond, st.sampled_from((404, 503)), st.sampled_from(((), (("X-A", "5%"),))), st.sampled_from(("", "closed\n"))),
    st.builds(model.Redirect, st.sampled_from((301, 308)), st.sampled_from(model.RedirectTo), words.map("/{}%".format)),
)
matches = st.one_of(
    st.builds(model.PathMatch, st.sampled_from((model.PathKind.EXACT, model.PathKind.RAW_PREFIX)), words.map("/{}".format)),
    st.builds(model.PathMatch, st.just(model.PathKind.PREFIX), words.map("/{}".format)),
    st.builds(model.PathMatch, st.just(model.PathKind.REGEX), st.sampled_from(("/", "/a(.*)", "/x|/y"))),
)
routes_ = st.builds(
    model.Route,
    matches,
    actions,
    st.one_of(st.none(), st.builds(Ref, st.just("Ingress"), words, words)),
    words,
    st.sampled_from(model.Via),
    st.sampled_from(((), *((model.HeaderMatch("x-a", "b+", *how),) for how in itertools.product((False, True), repeat=3)))),
    settings,
    st.sampled_from((None, model.Share(30, 100), model.Share(1, 1000))),
    counted=st.one_of(
        st.none(), st.builds(model.Counted, st.builds(Ref, st.just("Ingress"), words, words), words, words, words.map("/{} x".format))
    ),
)
EVERYTHING = model.Route(model.PathMatch(model.PathKind.RAW_PREFIX, "/"), model.Forward(model.Cluster("a", "b", 80)), settings=DEFAULTS)


@given(routes_, defaults, st.sampled_from(["", "a.example.com", "*.example.com"]))
def test_a_route_from_a_template_has_the_bytes_of_the_whole_route(route: model.Route, base: model.Settings, host: str) -> None:
    assert routes.route_bytes(route, base, host) == encode(routes.route(route, base, host))


@given(st.lists(routes_, max_size=4).map(tuple), st.lists(routes_, max_size=2).map(tuple), st.sampled_from(["", "a.example.com", "*.b.c"]))
def test_a_virtual_host_joined_from_parts_has_the_bytes_of_the_whole(
    own: tuple[model.Route, ...], rest: tuple[model.Route, ...], name: str
) -> None:
    host, catch_all = model.VirtualHost(name, own), model.VirtualHost("", rest)
    assert routes.virtual_host_bytes(host, catch_all, DEFAULTS) == encode(routes.virtual_host(host, catch_all, DEFAULTS))


@given(clusters_, defaults, st.booleans(), st.sampled_from([None, Address("db.example.com", 443)]))
def test_a_cluster_from_a_template_has_the_bytes_of_the_whole_cluster(
    cluster: model.Cluster, base: model.Settings, by_client: bool, external: Address | None
) -> None:
    whole = clusters.cluster(cluster, base, by_client=by_client, external=external)
    assert clusters.cluster_bytes(cluster, base, by_client=by_client, external=external) == encode(whole)


@given(words, st.lists(st.builds(Address, st.ip_addresses().map(str), ports, st.booleans()), max_size=5), st.sampled_from(["", "key"]))
def test_endpoints_written_directly_have_the_bytes_of_the_whole_assignment(name: str, addresses: list[Address], secret: str) -> None:
    assert endpoints.load_assignment_bytes(name, addresses, secret) == encode(endpoints.load_assignment(name, addresses, secret))


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_placeholder_takes_its_own_value(key: str, value: str) -> None:
    template = Template(HeaderValueOption(header=HeaderValue(key=placeholder(0), value=placeholder(1))), 2)
    assert template.fill(key, value) == encode(HeaderValueOption(header=HeaderValue(key=key, value=value)))


def test_a_placeholder_in_the_middle_of_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match="whole of a string"):
        Template(HeaderValue(key=f"x-{placeholder(0)}"), 1)


def test_routes_that_differ_in_their_settings_do_not_share_a_template() -> None:
    forward = model.Forward(model.Cluster("a", "b", 80))
    route = model.Route(model.PathMatch(model.PathKind.EXACT, "/"), forward, settings=DEFAULTS)
    other = replace(route, settings=read_settings({"proxy-read-timeout": "5"}, {})[0])
    assert routes.route_bytes(route, DEFAULTS) != routes.route_bytes(other, DEFAULTS)


@given(st.integers(1, 10**9).flatmap(lambda of: st.builds(model.Share, st.integers(0, of), st.just(of))))
def test_a_share_is_what_envoy_counts(share: model.Share) -> None:
    """To a millionth; none of the requests and all of them are none and all, and nothing else is."""
    made = routes.route(replace(EVERYTHING, share=share), DEFAULTS).match
    assert made is not None
    assert made.runtime_fraction is not None
    found = made.runtime_fraction.default_value
    assert found is not None
    taken = Fraction(found.numerator, {0: 100, 1: 10_000, 2: 1_000_000}[found.denominator.value])
    assert abs(taken - Fraction(share.parts, share.of)) <= Fraction(1, 1_000_000)
    assert (taken in (0, 1)) == (share.parts in (0, share.of))


def test_a_redirect_of_a_share_is_not_one_for_the_whole_host() -> None:
    redirect = replace(EVERYTHING, action=model.Redirect(308, model.RedirectTo.HTTPS), via=model.Via.HTTP)
    exact = model.PathMatch(model.PathKind.EXACT, "/a")
    for share, sent in ((None, 3), (model.Share(1, 2), 4)):
        found = (replace(redirect, match=exact), replace(EVERYTHING, match=exact), replace(redirect, share=share), EVERYTHING)
        assert len(routes.virtual_host(model.VirtualHost("a.example.com", found), None, DEFAULTS).routes) == sent


@pytest.mark.parametrize("via", model.Via)
@pytest.mark.parametrize("headers", [(), (model.HeaderMatch("x-a", "b"),)], ids=["any", "header"])
def test_a_host_does_not_end_in_a_404_for_everything(via: model.Via, headers: tuple[model.HeaderMatch, ...]) -> None:
    """Envoy answers what matches no route with 404, so it is left out for whichever requests it is; of other paths and answers none is."""
    everything = model.PathMatch(model.PathKind.RAW_PREFIX, "/")
    first = model.Route(model.PathMatch(model.PathKind.EXACT, "/a"), model.Respond(404))
    last = model.Route(everything, model.Respond(404), via=via, headers=headers)
    for routes_there, sent in (((first, last), 1), ((last, first), 2), ((first, replace(last, action=model.Respond(503))), 2)):
        assert len(routes.virtual_host(model.VirtualHost("a.example.com", routes_there), None, DEFAULTS).routes) == sent
