"""Requests are read from a log as nginx writes and escapes it; hostile lines make no others; hosts are found by upstream."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rehearse.worlds import BOTH, Built, ingress, path, services
from xds.model import Via
from xds.nginx.log_format import DEFAULT, Escape
from xds.nginx.variables import VARIABLE
from xds.rehearse.access_log import LONGEST_LINE, MOST_HOSTS, MOST_OF_RULE, BadFormat, Logged, Tally, logged, reader
from xds.rehearse.inquiries import Inquiry, Why

USUAL = {
    "remote_addr": "10.0.0.9",
    "remote_user": "-",
    "time_local": "30/Nov/2026:11:00:00 +0000",
    "status": "200",
    "body_bytes_sent": "5",
    "http_referer": "-",
    "http_user_agent": "curl/8",
    "request_length": "80",
    "request_time": "0.001",
    "proxy_upstream_name": "default-web-80",
    "proxy_alternative_upstream_name": "",
    "upstream_addr": "10.0.0.1:8080",
    "upstream_response_length": "5",
    "upstream_response_time": "0.001",
    "upstream_status": "200",
    "req_id": "0a",
}
WITH_HOST = '$scheme $host "$request" "$http_user_agent"'


def escaped(value: str, escape: Escape) -> str:
    """As nginx writes a value."""
    if escape is Escape.DEFAULT:
        return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02X}" for c in value)
    return json.dumps(value)[1:-1] if escape is Escape.JSON else value


def written(line: str, values: Mapping[str, str], escape: Escape = Escape.DEFAULT) -> str:
    """A line of the log."""
    return VARIABLE.sub(lambda found: escaped({**USUAL, **values}[found[1] or found[2]], escape), line)


latin = st.text(st.characters(max_codepoint=255), max_size=30)
target = st.text(st.characters(min_codepoint=0x21, max_codepoint=255, exclude_characters="\x7f\x85\xa0\xad"), max_size=30).map("/".__add__)


@given(target, latin, latin, latin, st.sampled_from(("GET", "HEAD", "POST")))
def test_a_request_is_read_as_it_was_written(uri: str, referer: str, agent: str, user: str, method: str) -> None:
    values = {"request": f"{method} {uri} HTTP/1.1", "http_referer": referer, "http_user_agent": agent, "remote_user": user}
    found = reader(DEFAULT, Escape.DEFAULT)(written(DEFAULT, values))
    assert found is not None
    assert (found.method, found.target) == (method, uri)
    if "[" not in user:  # the user is followed by brackets without quotation marks, and decides nothing
        assert found.upstream == "default-web-80"


JSON_LINE = '{"host": "$host", "request": "$request", "agent": "$http_user_agent", "up": "$proxy_upstream_name", "scheme": "$scheme"}'


@given(target, latin)
def test_a_line_of_json_is_read_as_it_was_written(uri: str, agent: str) -> None:
    values = {"request": f"GET {uri} HTTP/2.0", "http_user_agent": agent, "host": "A.test", "scheme": "https"}
    line = written(JSON_LINE, values, Escape.JSON)
    assert json.loads(line)["agent"] == agent
    assert reader(JSON_LINE, Escape.JSON)(line) == Logged("GET", uri, "a.test", "https", "default-web-80")


def test_a_format_of_ones_own_names_host_method_and_target() -> None:
    read = reader("${request_method}|$http_host|$request_uri|$status", Escape.DEFAULT)
    assert read("GET|A.test:8443|/x?y=1|200") == Logged("GET", "/x?y=1", "a.test")
    assert read("GET|A.test:8443|/x?y=1") is None


@pytest.mark.parametrize("line", ["$status $host", "$request_method $host", "$uri"])
def test_a_format_without_the_request_is_refused(line: str) -> None:
    with pytest.raises(BadFormat, match="neither"):
        reader(line, Escape.DEFAULT)


@given(st.text(max_size=200) | st.text(alphabet='[]"- GET/\\x20', max_size=200))
def test_no_line_breaks_the_reader(line: str) -> None:
    found = reader(DEFAULT, Escape.DEFAULT)(line)
    assert found is None or found.method


@given(st.text(alphabet='"\\x20[] GETHP/1.-e\n', max_size=60))
def test_what_a_client_writes_in_its_agent_forges_no_request(agent: str) -> None:
    line = written(WITH_HOST, {"request": "GET /own HTTP/1.1", "http_user_agent": agent, "host": "a.test", "scheme": "http"})
    assert reader(WITH_HOST, Escape.DEFAULT)(line) == Logged("GET", "/own", "a.test", "http")


def built() -> Built:
    first = ingress("first", {"a.test": [path("/"), path("/api", service="api")], "b.test": [path("/only")], "*.c.test": [path("/")]})
    return Built([*services("web", "api"), first])


def asked(
    *lines: str | bytes, line: str = DEFAULT, vias: tuple[Via, ...] = (Via.HTTP,), allow: tuple[str, ...] = ()
) -> tuple[list[Inquiry], Tally]:
    tally = Tally()
    read = reader(line, Escape.DEFAULT)
    raw = [each if isinstance(each, bytes) else each.encode() + b"\n" for each in lines]
    return list(logged(built().scene(vias, allow), raw, read, tally)), tally


def get(uri: str, **values: str) -> str:
    return written(DEFAULT, {"request": f"GET {uri} HTTP/1.1", **values})


def test_the_hosts_of_a_line_are_those_where_its_path_leads_to_its_upstream() -> None:
    assert {each.host for each in asked(get("/x"))[0]} == {"a.test", "rehearsal.c.test"}
    assert {each.host for each in asked(get("/only/x"))[0]} == {"a.test", "b.test", "rehearsal.c.test"}
    assert {each.host for each in asked(get("/api/x", proxy_upstream_name="default-api-80"))[0]} == {"a.test"}
    assert {each.why for each in asked(get("/x"))[0]} == {Why.LOG}


def test_a_line_is_asked_by_its_scheme_else_by_both() -> None:
    one = written(WITH_HOST, {"request": "HEAD /x HTTP/1.1", "host": "a.test", "scheme": "https"})
    assert [(each.via, each.method) for each in asked(one, line=WITH_HOST, vias=BOTH)[0]] == [(Via.HTTPS, "HEAD")]
    assert [each.via for each in asked(get("/api", proxy_upstream_name="default-api-80"), vias=BOTH)[0]] == [*BOTH]


def test_a_request_is_asked_once_and_each_that_is_not_is_counted() -> None:
    lines = [get("/x"), get("/x", status="500"), get("/y"), "rubbish", written(DEFAULT, {"request": "POST /x HTTP/1.1"})]
    lines += [get("/ü"), get("/z", proxy_upstream_name="other-web-80"), get("/a#b"), get("http://evil.test/")]
    found, tally = asked(*lines, b"x" * (LONGEST_LINE + 1))
    assert [each.target for each in found] == ["/x", "/x", "/y", "/y"]
    assert (tally.lines, tally.unreadable) == (10, 2)
    assert sorted(tally.unasked.values()) == [1, 1, 3]


@pytest.mark.parametrize("host", ["evil.test", "x@evil.test", "a.test/..", "a.test evil", "a.test@evil.test", "", "_", "c.test"])
def test_a_host_that_nobody_has_is_not_asked_for(host: str) -> None:
    one = written(WITH_HOST, {"request": "GET /x HTTP/1.1", "host": host, "scheme": "http"})
    found, _ = asked(one, line=WITH_HOST)
    assert found == []


def test_hosts_that_are_not_allowed_are_not_asked_for() -> None:
    assert {each.host for each in asked(get("/x"), allow=("*.c.test",))[0]} == {"rehearsal.c.test"}
    one = written(WITH_HOST, {"request": "GET /x HTTP/1.1", "host": "evil@a.test", "scheme": "http"})
    assert asked(one, line=WITH_HOST, allow=("*.c.test",))[0] == []


@pytest.mark.parametrize(
    ("host", "scheme", "allow", "reason"),
    [
        ("a.test", "http", ("b.test",), "a host that --allow leaves out"),
        ("a.test", "https", (), "another scheme than those of --from and --to"),
        ("evil.test", "https", ("b.test",), "no Ingress of ours has the host, or leads to the Service"),
    ],
)
def test_what_is_not_asked_has_its_own_reason(host: str, scheme: str, allow: tuple[str, ...], reason: str) -> None:
    one = written(WITH_HOST, {"request": "GET /x HTTP/1.1", "host": host, "scheme": scheme})
    assert asked(one, line=WITH_HOST, allow=allow)[1].unasked == {reason: 1}


def test_a_line_without_a_host_that_may_be_asked_says_so() -> None:
    left_out = asked(get("/api", proxy_upstream_name="default-api-80"), allow=("b.test",))[1].unasked
    assert left_out == {"a host that --allow leaves out": 1}
    unknown = asked(get("/api", proxy_upstream_name="none-80"))[1].unasked
    assert unknown == {"no Ingress of ours has the host, or leads to the Service": 1}


def test_one_rule_has_a_bound_and_others_their_part() -> None:
    lines = [get(f"/p/{n}", proxy_upstream_name="default-api-80").replace("/p/", "/api/") for n in range(MOST_OF_RULE + 50)]
    found, tally = asked(*lines, get("/own"))
    assert sum(each.host == "a.test" and each.target.startswith("/api") for each in found) == MOST_OF_RULE
    assert found[-1].target == "/own"
    assert sum(tally.unasked.values()) == 50


def test_a_line_without_a_host_is_asked_for_few() -> None:
    many = ingress("many", {f"h{n}.test": [path("/")] for n in range(50)})
    tally = Tally()
    found = logged(Built([*services("web"), many]).scene((Via.HTTP,)), [get("/x").encode()], reader(DEFAULT, Escape.DEFAULT), tally)
    assert len(list(found)) == MOST_HOSTS


def test_a_very_long_format_is_no_trap() -> None:
    line = '"$request" ' + "$status " * 2_000
    try:
        read = reader(line, Escape.DEFAULT)
    except BadFormat:
        return
    assert read(re.sub(r"\$\w+", "1", line)) is None
