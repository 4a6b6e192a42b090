"""Features about one request: time-outs, tries, the size of its body; and HSTS on its response."""

from __future__ import annotations

from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from xds.model import Via
from xds.nginx.messages import PASSAGE_FILTER, BodySizeLimit, overwriting
from xds.nginx.registry import read_keys, read_settings
from xds.render.connections import connection as whole_connection
from xds.render.routes import table

from .drawing import action, complaints, connection, envoy_route, filters, settings, upstream

ANY = "connect-failure,refused-stream"
NOT_IDEMPOTENT = "request.method != 'GET' && request.method in ['POST', 'LOCK', 'PATCH']"
BY_METHOD = f"%CEL({NOT_IDEMPOTENT} ? 'nothing' : '{{}}')%"
WITH_BODY = (
    "'transfer-encoding' in request.headers || ('content-length' in request.headers ? "
    "request.headers['content-length'] != '0' : request.method in ['POST', 'PUT', 'PATCH'])"
)

EARLIER = 0.02
"""Seconds: the request ends before the last try does, so that no further one begins."""


@pytest.mark.parametrize(
    ("annotations", "idle", "of_one_try"),
    [
        ({}, 3 * (5 + 60), 60),
        ({"proxy-read-timeout": "3600"}, 3 * (5 + 3600), 3600),
        ({"proxy-send-timeout": "3600"}, 3 * (5 + 3600), 60),
        ({"proxy-read-timeout": "10", "proxy-send-timeout": "20"}, 3 * (5 + 20), 10),
        ({"proxy-read-timeout": "10", "proxy-connect-timeout": "2", "proxy-next-upstream-tries": "2"}, 2 * (2 + 60), 10),
        ({"proxy-next-upstream-tries": "1"}, 5 + 60, 60),
        ({"proxy-next-upstream": "off"}, 5 + 60, 60),
        ({"proxy-read-timeout": "2000000"}, 2_147_483, 2_000_000),
        ({"proxy-read-timeout": "0"}, 0, None),
        ({"proxy-send-timeout": "0"}, 0, 60),
        ({"proxy-next-upstream-timeout": "61"}, 2 * 60 - EARLIER, 60),
        ({"proxy-next-upstream-timeout": "60"}, 60, None),
        ({"proxy-next-upstream-timeout": "121"}, 3 * (5 + 60), 60),
        ({"proxy-next-upstream-timeout": "1", "proxy-next-upstream": "off"}, 5 + 60, 60),
        ({"proxy-next-upstream-timeout": "1", "proxy-send-timeout": "61"}, 60, None),
        ({"proxy-next-upstream": "error", "proxy-send-timeout": "61"}, 3 * (5 + 61), 60),
        ({"proxy-next-upstream": "error"}, 60, None),
        ({"proxy-next-upstream": "timeout"}, 3 * (5 + 60), 60),
        ({"proxy-next-upstream": "http_503"}, 3 * (5 + 60), 60),
    ],
)
def test_a_try_has_the_read_timeout_and_the_request_the_time_of_all_its_tries(
    annotations: dict[str, str], idle: float, of_one_try: int | None
) -> None:
    made = action(annotations)
    assert made.idle_timeout == timedelta(seconds=idle)
    found = made.retry_policy.per_try_idle_timeout if made.retry_policy else None
    assert found == (None if of_one_try is None else timedelta(seconds=of_one_try))
    assert action(keys=annotations).idle_timeout == timedelta(seconds=idle)


@pytest.mark.parametrize("name", ["proxy-read-timeout", "proxy-send-timeout"])
def test_where_a_request_has_no_limit_the_tries_have_none_which_is_a_complaint(name: str) -> None:
    found = complaints({"proxy-next-upstream-timeout": "1", name: "0"})
    assert found == [("proxy-next-upstream-timeout", f"is 1, beside a {name} of 0, which sets no limit to any request")]
    assert complaints({name: "0"}) == []
    assert complaints({"proxy-next-upstream-timeout": "0", name: "0"}) == []
    assert action(keys={"proxy-next-upstream-timeout": "1", name: "0"}).idle_timeout == timedelta(0)


@pytest.mark.parametrize(
    ("annotations", "retry_on", "after_sent", "statuses"),
    [
        ({}, ANY, None, []),
        ({"proxy-next-upstream": "error"}, ANY, None, []),
        (
            {"proxy-next-upstream": "timeout http_504 http_502"},
            "connect-failure,refused-stream",
            "reset,retriable-status-codes",
            [502, 504],
        ),
        ({"proxy-next-upstream": "http_429"}, "", "retriable-status-codes", [429]),
        ({"proxy-next-upstream": "invalid_header"}, "", "", []),
        ({"proxy-next-upstream": "invalid_header http_429"}, "", "retriable-status-codes", [429]),
        ({"proxy-next-upstream": "error invalid_header"}, ANY, None, []),
        ({"proxy-next-upstream": "error non_idempotent"}, "connect-failure,refused-stream,reset", "", []),
        ({"proxy-next-upstream": "http_500 non_idempotent"}, "retriable-status-codes", "", [500]),
        ({"proxy-next-upstream": "non_idempotent"}, "", "", []),
        ({"proxy-next-upstream": "off error"}, "", "", []),
        ({"proxy-next-upstream-tries": "1"}, "", "", []),
    ],
)
def test_what_may_be_tried_again_for_any_request_and_what_for_idempotent_ones_only(
    annotations: dict[str, str], retry_on: str, after_sent: str | None, statuses: list[int]
) -> None:
    """`after_sent` is None where the header of the table holds, and "" where another one keeps that away."""
    made = envoy_route(settings(annotations))
    policy = upstream(annotations).retry_policy
    assert policy
    assert policy.retry_on == retry_on
    assert policy.retriable_status_codes == statuses
    added = [(h.header.key, h.header.value) for h in made.request_headers_to_add if h.header]
    said = {None: [], "": ["nothing"]}.get(after_sent, [BY_METHOD.format(after_sent)])
    assert added == [("x-envoy-retry-on", each) for each in said]
    overwrite = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    assert {h.append_action for h in made.request_headers_to_add} <= {overwrite}, "the table's would stay where that is applied first"


@pytest.mark.parametrize(
    ("annotations", "retries"),
    [
        ({}, 2),
        ({"proxy-next-upstream-tries": "5"}, 4),
        ({"proxy-next-upstream-tries": "0"}, 31),
        ({"proxy-next-upstream-tries": "1"}, 0),
        ({"proxy-next-upstream": "off"}, 0),
    ],
)
def test_a_try_less_than_told_is_a_retry(annotations: dict[str, str], retries: int) -> None:
    policy = upstream(annotations).retry_policy
    assert policy
    assert policy.num_retries == retries


def test_the_next_try_is_elsewhere_and_at_once() -> None:
    policy = upstream().retry_policy
    assert policy
    assert [p.name for p in policy.retry_host_predicate] == ["envoy.retry_host_predicates.previous_hosts"]
    assert policy.retry_back_off
    assert policy.retry_back_off.base_interval == timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("conditions", "retry_on", "condition"),
    [("error timeout", ANY, f"{WITH_BODY} || {NOT_IDEMPOTENT}"), ("error non_idempotent", "connect-failure,refused-stream", WITH_BODY)],
)
def test_a_request_with_a_body_that_is_passed_on_as_it_arrives_is_not_tried_again(conditions: str, retry_on: str, condition: str) -> None:
    annotations = {"proxy-next-upstream": conditions, "proxy-request-buffering": "off"}
    made, policy = envoy_route(settings(annotations)), upstream(annotations).retry_policy
    assert policy
    assert policy.retry_on == retry_on
    assert made.request_headers_to_remove == []
    assert [h.header.value for h in made.request_headers_to_add if h.header] == [f"%CEL({condition} ? 'nothing' : 'reset')%"]


def test_retry_non_idempotent_counts_for_everybody() -> None:
    policy = upstream({"proxy-next-upstream": "error"}, {"retry-non-idempotent": "true"}).retry_policy
    assert policy
    assert policy.retry_on == "connect-failure,refused-stream,reset"


def test_an_unknown_condition_is_refused() -> None:
    ((name, sentence),) = complaints({"proxy-next-upstream": "error http_501"})
    assert name == "proxy-next-upstream"
    assert sentence.startswith("is 'http_501', which is none of error, timeout, ")


def test_the_table_lets_idempotent_requests_be_tried_again_whatever_the_configmap_says() -> None:
    """Only where a route has said nothing: those of a route are there before the table's."""
    for keys in ({}, {"proxy-next-upstream": "off"}):
        made = table(settings(keys=keys), {})
        (added,) = (each for each in made.request_headers_to_add if each.header and each.header.key == "x-envoy-retry-on")
        assert added.append_action is HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT
        assert added.header
        assert added.header.value == BY_METHOD.format("reset")


def mutations(made: HttpConnectionManager, name: str) -> Mutations:
    (config,) = [f.typed_config for f in made.http_filters if f.name == name]
    assert config
    made_mutations = HeaderMutation.parse(config.value).mutations
    assert made_mutations
    return made_mutations


@pytest.mark.parametrize(
    ("annotations", "keys", "limit"),
    [
        ({}, {}, 1 << 20),
        ({"proxy-body-size": "8m"}, {}, 8 << 20),
        ({}, {"proxy-body-size": "2k"}, 2048),
        ({"proxy-body-size": "7g"}, {}, 7 << 30),
    ],
)
def test_a_body_is_limited(annotations: dict[str, str], keys: dict[str, str], limit: int) -> None:
    (made,) = filters(settings(annotations, keys))
    assert made.name == "envoy.filters.http.body_size_limit"
    assert made.typed_config
    assert made.typed_config.type_url == "type.googleapis.com/envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"
    assert BodySizeLimit.parse(made.typed_config.value).max_request_bytes == limit


def test_a_limit_of_zero_is_none() -> None:
    assert filters(settings({"proxy-body-size": "0"})) == []


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({}, "max-age=31536000; includeSubDomains"),
        ({"hsts-max-age": "60"}, "max-age=60; includeSubDomains"),
        ({"hsts-include-subdomains": "false"}, "max-age=31536000"),
        ({"hsts-preload": "true"}, "max-age=31536000; includeSubDomains; preload"),
    ],
)
def test_every_https_response_tells_browsers_to_come_by_https(keys: dict[str, str], value: str) -> None:
    (mutation,) = mutations(connection(settings(keys=keys), Via.HTTPS), PASSAGE_FILTER).response_mutations
    assert mutation.append == overwriting("strict-transport-security", value)


@pytest.mark.parametrize(
    ("written", "sent"),
    [("soon", "soon"), ("100% sure", "100% sure"), ("-1", "-1"), ("é", "31536000"), ("1\r\nSet-Cookie: a=b", "31536000")],
)
def test_a_time_that_no_browser_understands_binds_none_for_a_year(written: str, sent: str) -> None:
    """A default in its place would be remembered by every browser that has seen it, whatever is written later."""
    values, faults = read_keys({"hsts-max-age": written})
    found, _ = read_settings({}, values)
    (mutation,) = mutations(connection(found, Via.HTTPS), PASSAGE_FILTER).response_mutations
    assert mutation.append == overwriting("strict-transport-security", f"max-age={sent}; includeSubDomains")
    assert [fault.name for fault in faults] == ["hsts-max-age"]


def test_hsts_needs_no_filter_of_its_own() -> None:
    """A filter more would cost each request over https some microseconds."""
    there, drawn = (whole_connection(Via.HTTPS, 443, settings(keys=keys)) for keys in ({"hsts": "false"}, {}))
    assert [each.name for each in drawn.http_filters] == [each.name for each in there.http_filters]
    before, after = (mutations(each, PASSAGE_FILTER) for each in (there, drawn))
    assert (before.request_mutations, before.response_mutations) == (after.request_mutations, [])
    assert [each.append and each.append.header and each.append.header.key for each in after.response_mutations] == [
        "strict-transport-security"
    ]


def test_hsts_is_for_https_only_and_can_be_turned_off() -> None:
    names = [[f.name for f in connection(settings(keys=k), v).http_filters] for k, v in (({}, Via.HTTP), ({"hsts": "false"}, Via.HTTPS))]
    assert names == [["asked-path", "first", "limits", "router"]] * 2


def test_a_percent_sign_in_a_header_is_no_format() -> None:
    header = overwriting("a", "100%").header
    assert header
    assert header.value == "100%%"


def test_l4_connections_may_be_idle_for_ten_minutes_unless_told_otherwise() -> None:
    assert settings()["proxy_stream_timeout"].tcp == 600
    assert settings(keys={"proxy-stream-timeout": "1h 30m"})["proxy_stream_timeout"].tcp == 5400


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({}, 10),
        ({"proxy-stream-responses": "3"}, 10),
        ({"proxy-stream-responses": "0"}, 600),
        ({"proxy-stream-responses": "0", "proxy-stream-timeout": "1h"}, 3600),
        ({"proxy-stream-timeout": "5s"}, 5),
    ],
)
def test_a_udp_session_that_waits_for_some_answers_may_be_idle_for_ten_seconds(keys: dict[str, str], seconds: int) -> None:
    assert settings(keys=keys)["proxy_stream_timeout"].udp == seconds
