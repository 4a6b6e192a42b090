"""Lines of nginx's log as Envoy's formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.nginx import log_format
from xds.nginx.log_format import Escape


def inline(text: str, escape: Escape = Escape.DEFAULT) -> str:
    source = log_format.line(text, escape).text_format_source
    assert source
    return source.inline_string


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
    assert not log_format.line("$status", Escape.DEFAULT).omit_empty_values
    assert log_format.line("$status", Escape.JSON).omit_empty_values


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
