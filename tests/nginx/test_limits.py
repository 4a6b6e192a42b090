"""Limits of requests: the buckets that a rate wants, which do not depend on any annotation, and who has none."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from hypothesis import given
from hypothesis import strategies as st

from xds.model import Forward, Redirect, RedirectTo, Respond, Route, Via
from xds.nginx.buckets import MULTIPLIERS, RPM, RPS, UNITS, RateUnit, limit, shapes
from xds.nginx.feature import Unreadable
from xds.nginx.features.limits import FEATURE, Limited
from xds.nginx.registry import read_settings
from xds.render.static import as_json
from xds.wire.encode import encode

from .drawing import CLUSTER, complaints, connection, envoy_route, location, resolved, settings

UNIT = st.sampled_from(UNITS)


def burst(unit: RateUnit, rate: int, multiplier: int) -> int:
    """How many requests pass at once."""
    found = limit(unit, rate, multiplier)
    return shapes(unit)[found.shape] // found.cost


def pace(unit: RateUnit, rate: int, multiplier: int) -> float:
    """How many requests pass in one unit of time, for ever."""
    return unit.speed * unit.seconds / limit(unit, rate, multiplier).cost


@given(UNIT, st.integers(1, 63), st.sampled_from(MULTIPLIERS))
def test_as_many_requests_pass_at_once_as_in_nginx(unit: RateUnit, rate: int, multiplier: int) -> None:
    assert burst(unit, rate, multiplier) == rate * multiplier + 1


@given(UNIT, st.integers(64, 1_000), st.sampled_from(MULTIPLIERS))
def test_as_many_pass_at_once_nearly_where_rates_are_high(unit: RateUnit, rate: int, multiplier: int) -> None:
    assert burst(unit, rate, multiplier) == pytest.approx(rate * multiplier + 1, rel=0.032)


@given(UNIT, st.integers(1, 100_000), st.integers(1, 25))
def test_other_bursts_are_near(unit: RateUnit, rate: int, multiplier: int) -> None:
    wanted = rate * multiplier + 1
    assert 0.74 * wanted - 1 <= burst(unit, rate, multiplier) <= 1.35 * wanted + 1


@given(UNIT, st.integers(1, 10_000), st.sampled_from(MULTIPLIERS))
def test_the_pace_is_that_of_the_rate(unit: RateUnit, rate: int, multiplier: int) -> None:
    assert rate <= pace(unit, rate, multiplier) <= rate * 1.0101


def test_a_rate_beyond_all_is_no_error() -> None:
    assert limit(RPS, 10**18, 10**9).cost == 1


def test_what_is_refused_by_the_second_takes_nothing_from_the_minute() -> None:
    assert RPS.speed < RPM.speed


def test_the_buckets_of_a_shape_fit_what_envoy_counts_with() -> None:
    assert all(tokens < 2**32 for unit in UNITS for tokens in shapes(unit).values())


def test_no_annotation_changes_the_listener() -> None:
    plain = encode(connection(settings(), Via.HTTP))
    for name, value in (
        ("limit-rps", "7"),
        ("limit-rpm", "7"),
        ("limit-burst-multiplier", "7"),
        ("limit-allowlist", "10.0.0.0/8"),
        ("limit-connections", "7"),
    ):
        assert encode(connection(settings({"limit-rps": "1", name: value}), Via.HTTP)) == plain


@pytest.mark.parametrize(("written", "status"), [("429", 429), ("503", 503), ("500", 500)])
def test_the_status_is_that_of_the_config_map(written: str, status: int) -> None:
    made = connection(settings(keys={"limit-req-status-code": written}), Via.HTTPS)
    (counter,) = [each for each in made.http_filters if each.name == "limits"]
    assert counter.disabled
    assert counter.typed_config
    found = LocalRateLimit.parse(counter.typed_config.value)
    assert found.status
    assert found.status.code == status


@pytest.mark.parametrize("written", ["200", "399", "600", "420", "many"])
def test_a_status_that_cannot_be_leaves_503(written: str) -> None:
    assert [name for name, _ in complaints(keys={"limit-req-status-code": written})] == ["limit-req-status-code"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit-rps", "one"), ("limit-rpm", "1.5"), ("limit-rps", "1s"), ("limit-whitelist", "bad"), ("limit-allowlist", "127.0.0.1/99")],
)
def test_a_value_that_ingress_nginx_refuses_leaves_the_ingress_out(name: str, value: str) -> None:
    _, found = read_settings({"limit-rps": "1", name: value}, {})
    assert [(each.name, each.then) for each in found] == [(name, Unreadable.LEAVES_OUT)]


@pytest.mark.parametrize(
    "written", [{}, {"limit-rps": "0"}, {"limit-rps": "-1"}, {"limit-burst-multiplier": "3"}, {"limit-allowlist": "::1"}]
)
def test_without_a_rate_nothing_is_limited(written: dict[str, str]) -> None:
    found = settings(written)
    assert "limits" not in found
    assert envoy_route(found).metadata is None


@pytest.mark.parametrize("multiplier", ["0", "-1", "many"])
def test_a_multiplier_that_cannot_be_read_is_the_default(multiplier: str) -> None:
    found, unreadable = read_settings({"limit-rps": "1", "limit-burst-multiplier": multiplier}, {})
    assert [each.name for each in unreadable] == ["limit-burst-multiplier"]
    assert found["limits"] == settings({"limit-rps": "1"})["limits"]


def test_all_paths_of_an_ingress_count_together() -> None:
    found = resolved(settings({"limit-rps": "2", "limit-rpm": "10"}))
    assert found["limits"].location == "default/web"
    assert location(found, "/a").settings == location(found, "/b").settings
    made = envoy_route(found)
    assert made.metadata
    assert {name: {key: value.string_value for key, value in of.fields.items()} for name, of in made.metadata.filter_metadata.items()} == {
        "xds.limit.rps": {"shape": "5+1/2", "cost": "1500000"},
        "xds.limit.rpm": {"shape": "5+1/8", "cost": "20400000"},
    }


@pytest.mark.parametrize(
    ("action", "counted"),
    [
        (Forward(CLUSTER), True),
        (Respond(404), True),
        (Respond(503), False),
        (Respond(204), False),
        (Redirect(308, RedirectTo.HTTPS), False),
    ],
)
def test_what_nginx_answers_before_it_counts_takes_nothing(action: Forward | Respond | Redirect, *, counted: bool) -> None:
    assert FEATURE.filters
    found = Limited((limit(RPS, 1, 5),), 3, 503, (), "default/web")
    assert bool(FEATURE.filters(found, Route(location(settings()).match, action))) is counted


def test_an_envoy_without_a_management_server_can_read_the_switch() -> None:
    made = VirtualHost(name="a", domains=["*"], routes=[envoy_route(resolved(settings({"limit-rps": "2"})))])
    (route,) = as_json("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", encode(RouteConfiguration(virtual_hosts=[made])))[
        "virtual_hosts"
    ][0]["routes"]
    assert route["typed_per_filter_config"]["limits"]["config"] == {}
