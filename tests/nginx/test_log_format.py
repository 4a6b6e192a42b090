"""Lines of nginx's log as Envoy's formats."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, ComparisonFilterOp
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from hypothesis import given
from hypothesis import strategies as st

from xds.model import Via
from xds.nginx import log_format
from xds.nginx.features.access_log import FEATURE, Log
from xds.nginx.log_format import Escape
from xds.nginx.messages import ARRIVED


def inlines(text: str, escape: Escape = Escape.DEFAULT) -> list[str]:
    """All forms of a line, from that of a brief and harmless request to that in which everything is escaped."""
    sources = [made.text_format_source for _, made in log_format.lines(text, escape)]
    return [source.inline_string for source in sources if source]


def inline(text: str, escape: Escape = Escape.DEFAULT) -> str:
    return inlines(text, escape)[-1]


@pytest.mark.parametrize("text", ["$", "a $", "$ a", "${remote_addr", "$$status", "costs 5$."])
def test_a_dollar_without_a_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins no variable"):
        log_format.parsed(text)


def test_a_line_has_a_bound() -> None:
    assert log_format.parsed("$status" * 100)
    with pytest.raises(ValueError, match="has 101 variables"):
        log_format.parsed("$status" * 101)


def test_variables_without_a_value_are_found() -> None:
    assert log_format.unknown(log_format.DEFAULT) == []
    assert log_format.unknown("$status $request_body ${geoip_city} $request_body $cookie_a") == ["cookie_a", "geoip_city", "request_body"]


def test_a_variable_without_a_value_is_written_as_nginx_writes_it() -> None:
    assert inline("[$request_body]") == "[-]\n"
    assert inline("[$request_body]", Escape.JSON) == "[]\n"
    for escape, omitted in ((Escape.DEFAULT, False), (Escape.JSON, True)):
        assert [made.omit_empty_values for _, made in log_format.lines("$status", escape)] == [omitted]


@given(st.text(st.characters(exclude_characters="$", codec="utf-8"), max_size=30))
def test_text_between_variables_is_no_command(text: str) -> None:
    assert inline(log_format.parsed(text)) == text.replace("%", "%%") + "\n"


def test_braces_end_a_name() -> None:
    assert inline("${status}ms") == inline("$status").rstrip("\n") + "ms\n"


@pytest.mark.parametrize(
    "name", ["http_user_agent", "http_x_custom", "sent_http_location", "request_uri", "req_id", "host", "ssl_client_s_dn"]
)
def test_what_others_wrote_is_escaped(name: str) -> None:
    assert ".replace(" in inline(f"${name}")
    assert ".replace(" in inline(f"${name}", Escape.JSON)
    assert ".replace(" not in inline(f"${name}", Escape.NONE)


def test_what_others_wrote_stands_as_it_is_only_where_nothing_of_it_has_to_be_escaped() -> None:
    for escape, characters in ((Escape.DEFAULT, '\\"'), (Escape.JSON, '\\"\t')):
        (plain, made), (escaped, _) = log_format.lines("$http_referer $req_id", escape)
        assert made.text_format_source == DataSource(inline_string="%REQ(REFERER)% %REQ(X-REQUEST-ID)%\n")
        wanted = {(header, character) for header in ("referer", "x-request-id") for character in characters}
        assert {_looked_for(each, inverted=True) for each in plain} == wanted
        assert len(escaped) == 1
        assert escaped[0].or_filter
        assert {_looked_for(each, inverted=False) for each in escaped[0].or_filter.filters} == wanted


def _looked_for(found: AccessLogFilter, *, inverted: bool) -> tuple[str, str]:
    assert found.header_filter
    header = found.header_filter.header
    assert header
    assert header.string_match
    assert (header.invert_match, header.treat_missing_header_as_empty) == (inverted, True)
    return header.name, header.string_match.contains or ""


def test_a_line_has_no_more_forms_than_it_needs() -> None:
    assert len(log_format.lines(log_format.DEFAULT, Escape.DEFAULT)) == 3
    assert len(log_format.lines("$status $remote_addr", Escape.DEFAULT)) == 1
    assert len(log_format.lines("$status $http_referer", Escape.NONE)) == 1
    assert len(log_format.lines("$request_time", Escape.NONE)) == 3
    assert log_format.lines("$status", Escape.DEFAULT)[0][0] == []


def test_ingress_nginx_s_own_line_has_one_expression_for_most_requests() -> None:
    brief, plain, escaped = inlines(log_format.DEFAULT)
    assert (brief.count("%CEL("), plain.count("%CEL(")) == (1, 5)
    assert plain.count("getMilliseconds") == 0, "it takes twice as long"
    assert escaped.count(".replace(") == 2 * 4
    assert ".contains(" not in escaped


@given(st.sets(st.sampled_from(sorted(log_format.KNOWN)), min_size=1), st.sampled_from(Escape))
def test_no_form_has_what_others_wrote_unless_its_filters_look_for_it(names: set[str], escape: Escape) -> None:
    text = " ".join(f"${name}" for name in sorted(names))
    forms = log_format.lines(text, escape)
    for filters, made in forms[:-1]:
        looked_for = {each.header_filter.header.name for each in filters if each.header_filter and each.header_filter.header}
        source = made.text_format_source
        assert source
        written = {found.lower() for found in re.findall(r"%REQ\(([^)]*)\)%", source.inline_string)} | (
            {":path"} if "PATH" in source.inline_string else set()
        )
        assert written <= looked_for | {":method", "x-forwarded-proto", "content-length"} or escape is Escape.NONE


def _passes(found: AccessLogFilter, headers: dict[str, str], status: int, milliseconds: int) -> bool:
    """What Envoy does with a filter that has no expression, by its documentation."""
    if found.and_filter:
        return all(_passes(each, headers, status, milliseconds) for each in found.and_filter.filters)
    if found.or_filter:
        return any(_passes(each, headers, status, milliseconds) for each in found.or_filter.filters)
    if found.header_filter and (header := found.header_filter.header):
        value = headers.get(header.name, "" if header.treat_missing_header_as_empty else None)
        matcher = header.string_match
        if matcher is None:
            return (value is not None) != header.invert_match
        if value is None:
            return False
        matches = (matcher.contains or "") in value and value.startswith(matcher.prefix or "") and value == (matcher.exact or value)
        return matches != header.invert_match
    by_status, by_time = found.status_code_filter, found.duration_filter
    comparison = (by_status and by_status.comparison) or (by_time and by_time.comparison)
    assert comparison
    assert comparison.value
    number, limit = status if by_status else milliseconds, comparison.value.default_value
    return number <= limit if comparison.op is ComparisonFilterOp.LE else number >= limit


@pytest.mark.parametrize(
    "text", ["$upstream_status $http_referer", "$request_time $upstream_response_time", "$request_time", "$http_referer"]
)
def test_each_request_is_for_one_form_of_a_line(text: str) -> None:
    forms = log_format.lines(text, Escape.DEFAULT)
    statuses, times = (0, 101, 200, 308, 399, 400, 403, 404, 405, 499, 502, 504), (0, 9, 10, 999, 1000, 5000)
    written = (("", "h", None), ("application/grpc+proto", "a", None), ("", 'a"', "b", None))
    for *values, status, milliseconds in product(*written, statuses, times):
        names = (ARRIVED, "content-type", "referer")
        headers = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        (made,) = [made for filters, made in forms if all(_passes(each, headers, status, milliseconds) for each in filters)]
        source = made.text_format_source
        assert source
        if "%RESPONSE_CODE%" in source.inline_string:
            assert ARRIVED not in headers, "it never came to a backend"
            assert 100 <= status < 400 or status == 404, "Envoy may have answered, since the backend did not"
            assert headers.get("content-type") != "application/grpc+proto", "Envoy answers with 200 where the backend did not"
        if "string(request.duration)):5%" in source.inline_string:
            assert milliseconds < 1000, "of a longer duration these are other digits"


def test_what_has_no_path_is_logged_whatever_paths_are_not() -> None:
    connection = HttpConnectionManager()
    assert FEATURE.on_connection
    FEATURE.on_connection(Log("$status", Escape.DEFAULT, to_stderr=False, skipped=("/healthz",), own=True), connection, Via.HTTP)
    (logger,) = connection.access_log
    assert logger.filter
    assert logger.filter.and_filter
    (skipping,) = [each for each in logger.filter.and_filter.filters if each.header_filter]
    assert [_passes(skipping, headers, 400, 0) for headers in ({":path": "/healthz"}, {":path": "/healthz?"}, {})] == [False, True, True]


def test_the_manual_lists_the_variables_that_have_a_value() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    listed = manual.split("`$upstream_http_<name>`):")[1].split(".")[0]
    assert sorted(listed.replace("\n", " ").strip().split(", ")) == sorted(log_format.KNOWN)


def test_a_line_of_a_stream_has_what_is_known_without_a_request() -> None:
    assert log_format.unknown_in_stream(log_format.STREAM) == []
    assert log_format.unknown_in_stream("$status $request $http_x $session_time") == ["http_x", "request"]
    made = log_format.stream_line("100% $protocol $status $session_time $request", "UDP").text_format_source
    assert made
    assert made.inline_string == "100%% UDP 200 - -\n"
