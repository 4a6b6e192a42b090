"""Pages of errors: which statuses a list has, and that what they cost does not grow with statuses or paths."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from hypothesis import given
from hypothesis import strategies as st

from xds.config import Flags
from xds.kube.objects import Backend, Endpoint, EndpointPort, EndpointSlice, Ingress, Meta, Path, Rule, Service, ServicePort
from xds.kube.world import DEFAULT_CERTIFICATE, World
from xds.model import Forward, Respond, Route
from xds.nginx import error_pages
from xds.nginx.error_pages import ErrorPages, metadata
from xds.nginx.feature import Unreadable
from xds.nginx.features.custom_http_errors import FEATURE, Replaced
from xds.nginx.registry import read_settings
from xds.offline import MADE_AT_START
from xds.snapshot import LISTENER, ROUTE, Snapshot
from xds.units.tables import Tables

from .drawing import CLUSTER, ORIGIN, RULE, complaints, location, settings

NAME = "custom-http-errors"
SCRIPT = b"envoy_on_request"


def replaced(annotations: dict[str, str], keys: dict[str, str] | None = None) -> Replaced:
    found = settings(annotations, keys)["custom_http_errors"]
    assert isinstance(found, Replaced)
    return found


@pytest.mark.parametrize(
    ("text", "codes"), [("404", (404,)), ("503,404", (404, 503)), ("404, 404 ,503", (404, 503)), ("400,599", (400, 599))]
)
def test_each_status_counts_once(text: str, codes: tuple[int, ...]) -> None:
    assert replaced({NAME: text}).own == codes


@pytest.mark.parametrize("text", ["4xx", "404,abc", "301", "308,404", "600", "404,", ",", "+404", "4040", "٤٠٤", "404;503"])
def test_a_list_with_anything_else_leaves_the_ingress_out(text: str) -> None:
    found = read_settings({NAME: text}, {})[1]
    assert [(each.name, each.then) for each in found] == [(NAME, Unreadable.LEAVES_OUT)]


def test_the_config_map_may_have_redirects_and_leaves_out_what_is_no_status() -> None:
    assert replaced({}, {NAME: "302, 404, 200, 600, abc"}).for_all == (302, 404)
    assert [name for name, _ in complaints(keys={NAME: "200,abc"})] == [NAME]


def test_nothing_is_asked_of_a_route_without_statuses() -> None:
    assert "custom_http_errors" not in settings({"disable-proxy-intercept-errors": "true"})


@pytest.mark.parametrize(
    ("annotations", "keys", "local"),
    [
        ({}, {}, False),
        ({"disable-proxy-intercept-errors": "true"}, {}, True),
        ({}, {"disable-proxy-intercept-errors": "true"}, True),
        ({"disable-proxy-intercept-errors": "false"}, {"disable-proxy-intercept-errors": "true"}, False),
        ({"disable-proxy-intercept-errors": "true"}, {NAME: "500"}, False),
        ({"disable-proxy-intercept-errors": "true"}, {NAME: "500", "disable-proxy-intercept-errors": "true"}, True),
        ({"backend-protocol": "GRPC"}, {}, True),
    ],
    ids=str,
)
def test_who_intercepts_the_answers_of_backends(annotations: dict[str, str], keys: dict[str, str], local: bool) -> None:
    """Where the ConfigMap has statuses and intercepts, nginx does so everywhere."""
    found = settings({NAME: "404", **annotations}, keys)
    where = replace(location(found), backend=("web", 80))
    forwarding = Route(where.match, Forward(CLUSTER), ORIGIN, RULE, settings=found)
    [route] = FEATURE.routes(found["custom_http_errors"], where, (forwarding,)) if FEATURE.routes else ()
    made = EnvoyRoute()
    assert FEATURE.on_route
    FEATURE.on_route(route.settings["custom_http_errors"], route, made)
    assert bool(made.response_headers_to_add) is local
    assert error_pages.NAME in (made.metadata.filter_metadata if made.metadata else {})


def test_statuses_of_an_ingress_are_not_for_what_it_has_no_path_for() -> None:
    found = settings({NAME: "404"})
    where = replace(location(found), backend=("", 0))
    nothing = Route(where.match, Respond(404), ORIGIN, RULE, settings=found)
    assert FEATURE.routes
    [route] = FEATURE.routes(found["custom_http_errors"], where, (nothing,))
    assert "custom_http_errors" not in route.settings


def has(said: str, status: int) -> bool:
    """As the script reads it."""
    ranges = (part.split("-") for part in said.split(","))
    return any(int(bounds[0]) <= status <= int(bounds[-1]) for bounds in ranges)


PAGES = ErrorPages((404,), ("a/errors/80",), 404, "a", "b", "c", "80")


@given(st.sets(st.integers(300, 599), min_size=1))
def test_ranges_say_what_the_list_says(codes: set[int]) -> None:
    said = metadata(replace(PAGES, codes=tuple(codes))).fields["codes"].string_value
    assert {status for status in range(200, 600) if has(said, status)} == codes


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "a\x00", "a b", "ä", "a" * 300])
def test_what_cannot_be_in_a_header_is_not_told(name: str) -> None:
    found = metadata(replace(PAGES, service=name, ingress=name, namespace=name, port=name)).fields
    assert not {"service", "ingress", "namespace", "port"} & found.keys()
    assert {"service", "ingress", "namespace", "port"} <= metadata(PAGES).fields.keys()


def started(*items: Ingress) -> tuple[World, Tables, Snapshot]:
    """What serves these Ingresses."""
    world = World(Flags(watch_ingress_without_class=True), {DEFAULT_CERTIFICATE: (MADE_AT_START, MADE_AT_START)})
    tables, snapshot = Tables(world), Snapshot()
    put = [
        *(Service(meta=Meta(namespace="default", name=name), ports=(ServicePort(80),)) for name in ("web", "errors")),
        EndpointSlice(
            meta=Meta(namespace="default", name="web-1"),
            service="web",
            ports=(EndpointPort(port=80),),
            endpoints=(Endpoint(("10.0.0.1",)),),
        ),
    ]
    tables.apply(world.apply([*put, *items])).publish(snapshot)
    return world, tables, snapshot


def item(paths: int, annotations: dict[str, str], name: str = "a") -> Ingress:
    rule = Rule(f"{name}.example.com", tuple(Path(f"/{number}", "Prefix", Backend("web", 80)) for number in range(paths)))
    prefixed = {f"nginx.ingress.kubernetes.io/{key}": value for key, value in annotations.items()}
    return Ingress(meta=Meta(namespace="default", name=name, annotations=prefixed), rules=(rule,))


def table(*items: Ingress) -> bytes:
    return started(*items)[2][ROUTE]["ingress"].body


def test_many_paths_and_statuses_cost_little_and_share_one_script() -> None:
    every_other = ",".join(map(str, range(400, 600, 2)))
    plain = table(item(500, {}))
    made = table(item(500, {NAME: every_other, "default-backend": "errors"}))
    assert made.count(SCRIPT) == 1
    assert len(made) - len(plain) < 500 * 1_100
    consecutive = table(item(500, {NAME: ",".join(map(str, range(400, 600))), "default-backend": "errors"}))
    assert len(consecutive) - len(plain) < 500 * 750


def test_the_table_has_the_script_while_a_host_needs_it_and_no_listener_changes() -> None:
    world, tables, snapshot = started(item(1, {}), item(1, {}, "b"))
    before = snapshot[ROUTE]["ingress"].body
    listeners = {name: resource.body for name, resource in snapshot[LISTENER].items()}
    assert SCRIPT not in before
    for name in "ab":
        tables.apply(world.apply([item(1, {NAME: "404"}, name)])).publish(snapshot)
        assert snapshot[ROUTE]["ingress"].body.count(SCRIPT) == 1
    assert {name: resource.body for name, resource in snapshot[LISTENER].items()} == listeners
    tables.apply(world.apply([item(1, {}, "a")])).publish(snapshot)
    assert SCRIPT in snapshot[ROUTE]["ingress"].body
    tables.apply(world.apply([item(1, {}, "b")])).publish(snapshot)
    assert snapshot[ROUTE]["ingress"].body == before
