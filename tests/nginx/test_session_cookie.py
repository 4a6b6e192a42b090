"""The cookie of affinity: its attributes, which requests have it, and what of it finds the endpoint."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import re2
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType, ClusterLbPolicy
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteAction
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds import model
from xds.nginx.features.affinity import FEATURE as AFFINITY
from xds.nginx.features.session_cookie import FEATURE as COOKIE
from xds.nginx.features.session_cookie import backend_key
from xds.nginx.registry import drawn, offered
from xds.problem import Ref

from .drawing import CLUSTER, ORIGIN, complaints, location, routes, settings

AFFINE = {"affinity": "cookie"}
KEY = backend_key(CLUSTER)
NAME = st.text(alphabet="-._~ab1/:", min_size=1, max_size=5)


def set_cookie(annotations: dict[str, str], path: str = "/") -> str:
    """The format of the cookie that requests without it get, each expression within it as `{…}`."""
    *_, last = routes(settings(AFFINE | annotations), path)
    made = EnvoyRoute(route=RouteAction(cluster="c"))
    assert COOKIE.on_forward
    COOKIE.on_forward(last.settings["session_cookie"], last, made)
    [option] = made.response_headers_to_add
    assert option.header == HeaderValue(key="Set-Cookie", value="%FILTER_STATE(xds.session.cookie:PLAIN)%")
    assert option.append_action is HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD, "those of the backend stay"
    assert COOKIE.filters
    [drawing] = COOKIE.filters(last.settings["session_cookie"], last)
    assert drawing.typed_config
    _, written = SetFilterState.parse(drawing.typed_config.value).on_request_headers
    assert written.object_key == "xds.session.cookie"
    assert written.format_string
    assert written.format_string.text_format_source
    return re.sub(r"%(?:CEL|FILTER_STATE)\(.*?\)%", "{}", written.format_string.text_format_source.inline_string or "")


@pytest.mark.parametrize(
    ("annotations", "attributes"),
    [
        ({}, "Path=/; HttpOnly"),
        ({"session-cookie-max-age": "3600"}, "Max-Age=3600; Path=/; HttpOnly"),
        ({"session-cookie-max-age": "-1"}, "Max-Age=-1; Path=/; HttpOnly"),
        ({"session-cookie-max-age": "0"}, "Max-Age=0; Path=/; HttpOnly"),
        ({"session-cookie-max-age": "-010"}, "Max-Age=-10; Path=/; HttpOnly"),
        ({"session-cookie-domain": "example.com", "session-cookie-path": "/app"}, "Domain=example.com; Path=/app; HttpOnly"),
        ({"session-cookie-samesite": "Strict"}, "Path=/; HttpOnly; SameSite=Strict"),
        ({"session-cookie-samesite": "None"}, "Path=/; HttpOnly; SameSite=None"),
        ({"session-cookie-samesite": "Lax", "session-cookie-conditional-samesite-none": "true"}, "Path=/; HttpOnly; SameSite=Lax"),
        ({"session-cookie-secure": "true"}, "Path=/; Secure; HttpOnly"),
    ],
)
def test_attributes_stand_in_the_order_of_ingress_nginx(annotations: dict[str, str], attributes: str) -> None:
    assert set_cookie(annotations).replace("{}; HttpOnly", "; HttpOnly") == f"INGRESSCOOKIE={{}}; {attributes}"


OPTIONS = {
    "session-cookie-name": NAME,
    "session-cookie-path": NAME.map("/".__add__),
    "session-cookie-domain": NAME,
    "session-cookie-max-age": st.integers(-(10**9), 10**9).map(str),
    "session-cookie-expires": st.integers(-(10**9), 10**9).map(str),
    "session-cookie-samesite": st.sampled_from(("None", "Lax", "Strict")),
    "session-cookie-conditional-samesite-none": st.sampled_from(("true", "false")),
    "session-cookie-secure": st.sampled_from(("true", "false")),
}


@given(st.fixed_dictionaries({}, optional=OPTIONS), st.text(alphabet="/ab(|)$.*%'\\", max_size=8).map("/".__add__))
def test_a_cookie_has_each_attribute_once_and_nothing_else(annotations: dict[str, str], path: str) -> None:
    first, *attributes = set_cookie(annotations, path).split("; ")
    names = [attribute.partition("=")[0].replace("{}", "") for attribute in attributes]
    order = ["Expires", "Max-Age", "Domain", "Path", "Secure", "HttpOnly", "SameSite"]
    assert first == f"{annotations.get('session-cookie-name', 'INGRESSCOOKIE')}={{}}"
    assert names == [name for name in order if name in names]
    assert {"Path", "HttpOnly"} <= set(names)
    written = annotations.get("session-cookie-path", path).replace("%", "%%")
    assert f"Path={written}" in "; ".join(attributes)


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("text", ["a; Domain=evil.example", "%REQ(cookie)%", "a\r\nX-Evil: 1", "a\x00"])
def test_nothing_can_be_added_to_a_cookie(name: str, text: str) -> None:
    assert [said for said, _ in complaints(AFFINE | {name: text})] == [name]


@pytest.mark.parametrize("text", ["1h", "-0", "+1", "--1", "1.5", "9" * 30, ""])
@pytest.mark.parametrize("name", ["session-cookie-max-age", "session-cookie-expires"])
def test_only_a_number_of_seconds_is_one(name: str, text: str) -> None:
    assert len(complaints(AFFINE | {name: text})) == (1 if text else 0)


def by_cookie(annotations: dict[str, str]) -> str:
    """The expression of the routes for requests with the cookie."""
    [has] = routes(settings(AFFINE | annotations))[0].headers
    return has.value


def has_cookie(header: str, name: str) -> bool:
    """Whether Envoy finds a value to hash: cookies are separated by semicolons, and those of the name that are empty count as none."""
    pairs = (piece.strip(" \t").partition("=") for piece in header.split(";"))
    return any(found == name and value.strip(" ;") and value[0] not in " ;" for found, _, value in pairs)


@given(
    NAME, st.lists(st.tuples(NAME | st.just("a"), st.text(alphabet="xy= |", max_size=4)), max_size=4), st.sampled_from(["; ", ";", " ; "])
)
@example("a", [("b", "1"), ("a", "")], "; ")
@hypothesis_settings(max_examples=examples(300))
def test_who_has_the_cookie(name: str, cookies: list[tuple[str, str]], separator: str) -> None:
    header = separator.join(f"{key}={value}" for key, value in cookies)
    pattern = by_cookie({"session-cookie-name": name})
    assert bool(re2.fullmatch(pattern, header)) is has_cookie(header, name)


def test_requests_with_the_cookie_are_hashed_by_it_and_the_others_by_what_they_are_given() -> None:
    has, fresh = routes(settings(AFFINE))
    assert len(has.headers) == 1
    assert not fresh.headers
    assert COOKIE.on_forward
    assert COOKIE.filters
    for route, filters in ((has, 0), (fresh, 1)):
        made = EnvoyRoute(route=RouteAction(cluster="c"))
        COOKIE.on_forward(route.settings["session_cookie"], route, made)
        assert made.route
        [policy] = made.route.hash_policy
        if route is has:
            assert policy.cookie
            assert policy.cookie.name == "INGRESSCOOKIE"
            assert policy.cookie.ttl is None, "Envoy would set a cookie of its own"
            assert not made.response_headers_to_add
        else:
            assert policy.filter_state
        assert len(tuple(COOKIE.filters(route.settings["session_cookie"], route))) == filters


def test_without_affinity_the_other_annotations_mean_nothing() -> None:
    found = settings({"session-cookie-name": "x", "affinity-mode": "persistent"})
    assert not {"affinity", "session_cookie"} & found.keys()


def test_the_name_of_a_backend_is_that_of_ingress_nginx() -> None:
    """As recorded from a controller."""
    assert backend_key(model.Cluster("affinity-cookie", "plain-svc", 8080)) == "1a8b7ba9106e7ebef97ae306031dd610"


def on_cluster(mode: str, kind: ClusterDiscoveryType) -> EnvoyCluster:
    made = EnvoyCluster(type=kind)
    assert AFFINITY.on_cluster
    AFFINITY.on_cluster(mode, made)
    return made


def test_balanced_clusters_hash_and_persistent_ones_look_for_a_name() -> None:
    assert on_cluster("balanced", ClusterDiscoveryType.EDS).lb_policy is ClusterLbPolicy.RING_HASH
    persistent = on_cluster("persistent", ClusterDiscoveryType.EDS)
    assert persistent.lb_policy is ClusterLbPolicy.ROUND_ROBIN
    assert persistent.lb_subset_config
    assert on_cluster("persistent", ClusterDiscoveryType.STATIC).lb_policy is ClusterLbPolicy.RING_HASH, "an ExternalName has no names"


NEXT = model.Cluster("default", "next", 80)


def with_canary(primary: dict[str, str], canary: dict[str, str]) -> tuple[model.Route, ...]:
    own, theirs = settings(AFFINE | primary), settings({"canary": "true"} | canary)
    offer = model.Offer(model.Forward(NEXT), Ref("Ingress", "default", "canary"), "rule", theirs, offered(own, theirs))
    where = replace(location(own), offers=(offer,))
    return drawn(where, model.Route(where.match, model.Forward(CLUSTER), ORIGIN, settings=own))


def leads(route: model.Route) -> tuple[str, list[str], bool]:
    assert isinstance(route.action, model.Forward)
    return route.action.cluster.service, [header.words or header.value for header in route.headers], "affinity" in route.settings


def test_a_cookie_of_a_backend_decides_before_the_rules_of_the_canary() -> None:
    found = [leads(route) for route in with_canary({}, {"canary-by-header": "x", "canary-weight": "50"})]
    mine, cookie = "cookie INGRESSCOOKIE of this backend", "cookie INGRESSCOOKIE"
    assert sorted(found[:2]) == [("next", [mine], True), ("web", [mine], True)]
    assert found[2:] == [
        ("next", ["always", cookie], True),
        ("next", ["always"], True),
        ("web", ["never", cookie], True),
        ("web", ["never"], True),
        ("next", [cookie], True),
        ("next", [], True),
        ("web", [cookie], True),
        ("web", [], True),
    ]


def test_a_canary_that_lets_its_clients_go_has_no_cookie() -> None:
    found = [leads(route) for route in with_canary({}, {"canary-by-header": "x", "affinity-canary-behavior": "legacy"})]
    assert {with_affinity for service, _, with_affinity in found if service == "next"} == {False}
    assert found[0] == ("web", ["cookie INGRESSCOOKIE of this backend"], True)


def test_it_is_the_canary_who_lets_its_clients_go() -> None:
    found = [leads(route) for route in with_canary({"affinity-canary-behavior": "legacy"}, {"canary-by-header": "x"})]
    assert {with_affinity for _, _, with_affinity in found} == {True}


def test_a_share_that_a_cookie_overrides_is_no_share_any_more() -> None:
    pinned, *_ = with_canary({}, {"canary-weight": "1"})
    assert pinned.share is None
    assert KEY in pinned.headers[0].value or backend_key(NEXT) in pinned.headers[0].value
