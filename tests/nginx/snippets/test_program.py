"""What becomes of directives: the ways through a snippet, what has no effect, and what closes."""

from __future__ import annotations

import pytest
import re2
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteAction
from hypothesis import given
from hypothesis import strategies as st

from xds.model import Cluster, Forward, HeaderMatch, PathKind, PathMatch, Route, Settings
from xds.nginx.snippets.backend_tls import TowardsBackends
from xds.nginx.snippets.directives import ROWS, Block, Outcome
from xds.nginx.snippets.headers import Expiry, OnRequest, OnResponse, on_request, on_response
from xds.nginx.snippets.program import MOST_WAYS, Answer, MovedTo, Program, Rewritten, Way, program
from xds.nginx.snippets.syntax import parse
from xds.wire.encode import encode


def translated(text: str) -> Program:
    return program(text, Block.LOCATION)


def faults(text: str) -> list[tuple[int, str, bool]]:
    return [(fault.line, fault.name, fault.closes) for fault in translated(text).faults]


def has(test: HeaderMatch, headers: dict[str, str]) -> bool:
    """Envoy's header matcher."""
    if test.name not in headers and not test.inverted:
        return False
    found = re2.fullmatch(test.value, headers.get(test.name, ""))
    return (found is not None) is not test.inverted


def way(text: str, path: str = "/", **headers: str) -> Way:
    """The way of a GET request through a snippet without faults."""
    found = translated(text)
    assert found.faults == ()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = {":path": path, ":method": "GET", ":authority": "a.test", "x-forwarded-proto": "http", **named}
    return next(each for each in found.ways if all(has(test, request) for test in each.tests))


def end(text: str, path: str = "/", **headers: str) -> int:
    """The status that a request ends with; 0 for the backend."""
    found = way(text, path, **headers).end
    return found.status if found else 0


@pytest.mark.parametrize(
    ("condition", "path", "headers", "holds"),
    [
        ("$http_x", "/", {"x": "1"}, True),
        ("$http_x", "/", {"x": "0"}, False),
        ("$http_x", "/", {"x": ""}, False),
        ("$http_x", "/", {}, False),
        ("$http_x = ''", "/", {}, True),
        ("$http_x = ''", "/", {"x": ""}, True),
        ("$http_x = ''", "/", {"x": "y"}, False),
        ("$http_x != ''", "/", {"x": "y"}, True),
        ("$http_x != ''", "/", {}, False),
        ("$http_x != a", "/", {}, True),
        ("$http_x = a.b", "/", {"x": "acb"}, False),
        ("$http_x ~ ^$", "/", {}, True),
        ("$http_x !~ ^$", "/", {}, False),
        ("$http_x ~ b", "/", {"x": "abc"}, True),
        ("$http_x ~ B", "/", {"x": "abc"}, False),
        ("$http_x ~* B", "/", {"x": "abc"}, True),
        ("$http_x !~* B", "/", {"x": "abc"}, False),
        ("$http_x !~ b", "/", {}, True),
        ("$request_method = GET", "/", {}, True),
        ("$scheme = https", "/", {}, False),
        ("$host = a.test", "/", {":authority": "A.test:8080"}, True),
        ("$host != a.test", "/", {":authority": "xa.test"}, True),
        ("$request_uri ~ x=1$", "/a?x=1", {}, True),
        ("$uri ~ ^/a$", "/a?x=1", {}, True),
        ("$uri ~ x", "/a?x=1", {}, False),
        ("$uri ~ ^/a/b", "/%61%2fb", {}, False),
        ("$uri ~ ^/a/b", "/a%2Fb", {}, True),
        ("$uri = /a", "/a?b", {}, True),
        ("$uri = /a", "/ab", {}, False),
        ("$args ~ ^x", "/a?x=1", {}, True),
        ("$args", "/a?", {}, False),
        ("$arg_x = 1", "/?x=1", {}, True),
        ("$arg_x = 1", "/?a=x&X=1&b", {}, True),
        ("$arg_x = 1", "/?x=2&x=1", {}, False),
        ("$arg_x = 1", "/?xx=1", {}, False),
        ("$arg_x = 1", "/?y=x=1", {}, False),
        ("$arg_x = ''", "/?y=1", {}, True),
        ("$arg_x ~ ^1.*2$", "/?x=132&y=2", {}, True),
        ("$arg_x ~ ^1.*2$", "/?x=1&y=2", {}, False),
        ("$cookie_a = b", "/", {"cookie": "x=y; a=b; a=c"}, True),
        ("$cookie_a = c", "/", {"cookie": "x=y; a=b; a=c"}, False),
        ("$cookie_a = b", "/", {"cookie": "xa=b"}, False),
        ("$cookie_a = b", "/", {"cookie": "a=b,forged"}, False),
        ("$cookie_a = b,c", "/", {"cookie": "x,a=b,c; d"}, True),
        ("$cookie_a ~ ^[^x]$", "/", {"cookie": "a=;b"}, False),
    ],
)
def test_a_condition_holds_for_the_requests_of_nginx(condition: str, path: str, headers: dict[str, str], holds: bool) -> None:
    assert end(f"if ({condition}) {{ return 418; }}", path, **headers) == (418 if holds else 0)


def test_directives_run_in_their_order() -> None:
    assert end("return 418; return 419;") == 418
    assert end("break; return 418;") == 0
    assert end("if ($http_x) { break; } return 418;", x="1") == 0
    assert end("if ($http_x) { set $y 1; } return 418;", x="1") == 418
    flags = 'set $s ""; if ($http_a) { set $s A; } if ($http_b) { set $s "${s}B"; } if ($s = AB) { return 418; }'
    assert [end(flags, **headers) for headers in ({"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"})] == [0, 0, 418]


def test_a_request_has_the_headers_of_the_last_block_that_it_was_in() -> None:
    text = "add_header A 1; more_set_headers 'M: 1'; if ($http_x) { add_header B 1; } if ($http_y) { more_set_headers 'N: 1'; }"

    def names(**headers: str) -> list[str]:
        made = way(text, **headers).headers
        return [each.name for each in (*made.more, *made.added)]

    assert names() == ["M", "A"]
    assert names(x="1") == ["M", "B"]
    assert names(x="1", y="1") == names(y="1") == ["M", "N", "A"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if ($HOST ~ ^w(.+)$) { return 301 https://$1/; }", [("^w(.+)$", "host")]),
        ("if ($host ~ ^w(.+)$) { set $x 1; } if ($request_method = GET) { return 301 https://$1/; }", [("^w(.+)$", "host")]),
        ("if ($host ~ ^w(.+)$) { set $x 1; } if ($http_x ~ ^a(.)) { return 301 https://$1/; }", [("^a(.)", "http_x")] * 2),
        ("if ($host ~ ^w(.+)$) { set $x 1; } if ($http_x ~ ^a(.)) { set $x 2; } return 301 https://$1/;", [("^a(.)", "http_x")] * 2),
        ("if ($host ~ ^w(.+)$) { set $x 1; } if ($http_x !~ ^a(.)) { return 301 https://$1/; }", []),
        ("if ($host ~ ^w(.+)$) { set $x 1; } if ($remote_addr ~ ^a(.)) { set $x 2; } return 301 https://$1/;", []),
        ("if ($host ~ ^w(.+)$) { rewrite ^/a/(.*)$ /b; return 301 https://$1/; }", []),
    ],
)
def test_captures_are_those_of_the_last_search(text: str, expected: list[tuple[str, str]]) -> None:
    """Source: ngx_http_script_regex_start_code, which leaves no captures where nothing is found."""
    moved = [each.end for each in translated(text).ways if isinstance(each.end, MovedTo)]
    assert moved == [MovedTo(301, "https://$1/", f"(?{'i' * (of == 'host')}s)^.*?(?:{pattern}).*$", of) for pattern, of in expected]


def test_what_return_and_rewrite_come_to() -> None:
    assert way("return 200 'a{b}$host';").end == Answer(200, "a{b}$host")
    assert way("default_type text/plain; return 200 x;").end == Answer(200, "x", "text/plain")
    assert way("return https://a.test;").end == MovedTo(302, "https://a.test")
    assert way("return 308 /x;").end == MovedTo(308, "$scheme://$host/x")
    assert end("return 444;") == 403
    assert way("rewrite ^/a/(.*) /b/$1 break;", "/a/c").rewritten == Rewritten("(?s)^.*?(?:^/a/(.*)).*$", r"/b/\1")
    assert way("rewrite ^/a/(.*) /b/$1 break;", "/x/a/c").rewritten is None
    assert way("rewrite ^/A /b; return 418;", "/A").end == Answer(418)
    assert way("rewrite ^ https://a.test$request_uri? permanent;").end == MovedTo(301, "https://a.test$request_uri")
    assert way("rewrite ^/(.*) /x/$1 redirect;").end == MovedTo(302, "$scheme://$host/x/$1$is_args$args", "(?s)^.*?(?:^/(.*)).*$")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sub_filter a b;", [(1, "sub_filter", False)]),
        ("nobody_knows;\nmore_set_headers 'A: b';", [(1, "nobody_knows", False)]),
        ("include /etc/passwd;", [(1, "include", False)]),
        ("satisfy either;", [(1, "satisfy", False)]),
        ("limit_except GET { deny all; }", [(1, "limit_except", True)]),
        ("access_by_lua_block { ngx.exit(403); }", [(1, "access_by_lua_block", True)]),
        ("deny nobody;", [(1, "deny", True)]),
        ("allow nobody;", [(1, "allow", True)]),
        ("if ($remote_addr = 1.2.3.4) { return 403; }", [(1, "if", True)]),
        ("if ($remote_addr = 1.2.3.4) { return 302 https://a.test; }", [(1, "if", False)]),
        ("if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }", [(1, "if", False)]),
        ("if (-f /x) { return 403; }", [(1, "if", True)]),
        ("if ($http_x ~ (?=a)) { return 403; }", [(1, "if", True)]),
        ("if ($http_x) { proxy_set_header A b; }", [(1, "proxy_set_header", False)]),
        ("location /x { return 200; }", [(1, "location", True)]),
        ("return 200 $nobody;", [(1, "return", True)]),
        ("return 99;", [(1, "return", True)]),
        ("return;", [(1, "return", True)]),
        ("set $host x;", [(1, "set", False)]),
        ("rewrite (?=a) /b;", [(1, "rewrite", False)]),
        ("rewrite ^/a /b?c=d break;", [(1, "rewrite", False)]),
        ("rewrite ^/a /$http_x break;", [(1, "rewrite", False)]),
        ("more_set_headers -s 404 'A:';", [(1, "more_set_headers", False)]),
        ("add_header A $nobody;", [(1, "add_header", False)]),
        ("add_header A $ssl_cipher;", [(1, "add_header", False)]),
        ("add_header A;", [(1, "add_header", False)]),
        ("expires $x;", [(1, "expires", False)]),
        ("if ($host ~ ^www[.](.+)$) { return 301 https://$h$1ost/; }", [(1, "return", False)]),
        ("if ($host ~ ^www[.](.+)$) { return 301 https://$$1host/; }", [(1, "return", False)]),
        ("rewrite ^/a/(.*)$ https://$h$1ost/ redirect;", [(1, "rewrite", False)]),
        ("if ($host ~ ^www[.](.+)$) { rewrite ^/a/(.*)$ /b; return 301 https://$1/; }", [(1, "return", False)]),
        ("gzip off; access_log off; proxy_buffers 4 8k;", []),
    ],
)
def test_what_cannot_be_translated_is_named_and_what_protected_closes(text: str, expected: list[tuple[int, str, bool]]) -> None:
    assert faults(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "proxy_set_header X-Forwarded-For 1.2.3.4;",
        "proxy_set_header X-Real-IP forced;",
        "proxy_set_header X-Envoy-Upstream-Rq-Timeout-Ms 1;",
        "proxy_set_header ssl-client-verify SUCCESS;",
        "proxy_set_header Transfer-Encoding x;",
        "proxy_set_header :path /x;",
        "proxy_set_header 'A\nB' x;",
        'proxy_set_header A "x\ny: z";',
        "proxy_set_header Host 'a b';",
        "more_set_input_headers 'Host: x';",
        "more_set_headers 'Content-Length: 1';",
        "more_set_headers ':status: 1';",
        "more_set_headers 'Connection: close';",
        "more_set_headers 'X-Envoy-A: b';",
        'add_header A "b\\r\\nc: d";',
        "add_header 'A B' c;",
        "add_header $host c;",
        f"add_header A {'x' * 2001};",
        "add_header A " + "$host" * 9 + ";",
        "proxy_hide_header Content-Length;",
        "add_header Host x;",
        "more_set_headers 'host: x';",
        "more_clear_headers Host;",
        "proxy_hide_header hOsT;",
    ],
)
def test_no_header_is_set_that_is_not_the_authors(text: str) -> None:
    found = translated(text)
    assert len(found.faults) == 1
    assert found.ways == (Way(),)


@pytest.mark.parametrize(
    "text", ["return 301 'https://a.test/\\r\\nX: y';", "return 'https://a.test/\\n';", "set $v '\\r'; return 302 https://$v;"]
)
def test_an_address_has_one_line(text: str) -> None:
    found = translated(text)
    assert [fault.name for fault in found.faults] == ["return"]
    assert found.ways == (Way(),)


def test_a_body_may_have_several_lines() -> None:
    assert way("return 200 'a\\r\\nb';").end == Answer(200, "a\r\nb")


UNKNOWN_STEPS = (
    "if ($http_x ~ '(?=a)') { set $no 1; }",
    "if ($geoip_country = X) { add_header A b; set $no 1; }",
    "set $no $1;",
    "set_by_lua $no 'return 1';",
    "if ($http_x) { set $no $1; }",
    "set $other $1; set $no $other;",
)


@pytest.mark.parametrize("step", UNKNOWN_STEPS)
def test_what_depends_on_a_refused_step_closes_if_it_keeps_somebody_out(step: str) -> None:
    found = translated(f"set $no 0; {step} if ($no = 1) {{ return 403; }}")
    assert found.closed is not None
    assert found.closed.name == "if"


@pytest.mark.parametrize("step", UNKNOWN_STEPS)
def test_a_header_that_depends_on_a_refused_step_is_refused_unless_the_variable_is_set_again(step: str) -> None:
    assert "add_header" in [fault.name for fault in translated(f"set $no 0; {step} add_header X $no;").faults]
    found = translated(f"{step} set $no 0; add_header X $no;")
    assert "add_header" not in [fault.name for fault in found.faults]
    assert found.closed is None


def test_headers_take_what_an_authentication_service_answers() -> None:
    found = translated(
        "auth_request_set $user $upstream_http_X_Auth_Request_User; proxy_set_header X-User $user;"
        "auth_request_set $both '${user}@$host'; more_set_headers 'X-Both: $both'; add_header X-No $unused; set $unused '';"
    )
    (only,) = found.ways
    assert found.faults == ()
    assert found.of_answer == ("x-auth-request-user",)
    assert only.headers.request == (OnRequest("X-User", "${authorized_http_x_auth_request_user}"),)
    assert only.headers.more == (OnResponse("set", "X-Both", "${authorized_http_x_auth_request_user}@$host"),)


@pytest.mark.parametrize(
    "text",
    [
        "auth_request_set $user $upstream_http_x; if ($user) { return 403; }",
        "if ($user) { return 403; } auth_request_set $user $upstream_http_x;",
        "set $user ''; auth_request_set $user $upstream_http_x; if ($user != '') { return 403; }",
    ],
)
def test_steps_come_before_the_answer_of_an_authentication_service(text: str) -> None:
    assert [each.end for each in translated(text).ways] == [None]
    assert end("set $user a; auth_request_set $user $upstream_http_x; if ($user = a) { return 403; }") == 403


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("auth_request_set $user $upstream_cookie_a;", "auth_request_set"),
        ("auth_request_set $user $upstream_status;", "auth_request_set"),
        ("auth_request_set $host $upstream_http_x;", "auth_request_set"),
        ("auth_request_set user $upstream_http_x;", "auth_request_set"),
        ("auth_request_set $user '$upstream_http_x $1';", "auth_request_set"),
        ("if ($http_x) { auth_request_set $user $upstream_http_x; }", "auth_request_set"),
        ("proxy_set_header X-User $authorized_http_x;", "proxy_set_header"),
        ("set $user $authorized_http_x;", "set"),
        ("auth_request_set $c $upstream_http_set_cookie; proxy_set_header X-C $c;", "proxy_set_header"),
        ("auth_request_set $c $upstream_http_set_cookie; add_header Set-Cookie $c always;", "add_header"),
    ],
)
def test_what_of_an_answer_cannot_be_had_is_refused(text: str, named: str) -> None:
    assert named in [name for _, name, _ in faults(text)]
    assert translated(text).of_answer == ()


def test_cookies_of_an_authentication_service_reach_the_client_anyway() -> None:
    assert translated("auth_request_set $c $upstream_http_set_cookie; add_header Set-Cookie $c;") == Program()


@pytest.mark.parametrize("value", ["$nobody", "$upstream_http_x", "$ssl_client_verify_x"])
def test_backends_get_no_header_of_a_client_in_place_of_one_that_cannot_be_made(value: str) -> None:
    found = translated(f"proxy_set_header X-User '{value}';")
    (fault,) = found.faults
    assert fault.sentence.endswith("so that backends get no header of that name")
    assert found.ways[0].headers.request == (OnRequest("X-User"),)


def test_a_location_within_a_path_is_sent_to_the_other_annotation() -> None:
    (found,) = program("location ~* ^/xmlrpc.php { deny all; }", Block.LOCATION).faults
    assert (found.name, found.closes) == ("location", True)
    assert "use the annotation server-snippet" in found.sentence


def test_what_the_proxy_sets_anyway_may_be_written() -> None:
    text = "proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Upgrade $http_upgrade;"
    assert translated(f"{text} proxy_set_header Connection upgrade; more_set_input_headers 'X-Real-IP: x';") == Program()


def test_headers_are_read_with_all_options() -> None:
    found = way("more_set_headers -s '404 410' -t text/html 'A: b:c' C: ; more_set_headers -a 'D: e' ;".replace("C: ;", "'F: g';"))
    where = "response.code in [404, 410] && 'content-type' in response.headers && response.headers['content-type']"
    where += ".matches('^(text/html)(;|$)')"
    assert found.headers.more == (OnResponse("set", "A", "b:c", where), OnResponse("set", "F", "g", where), OnResponse("add", "D", "e"))
    assert way("more_clear_headers X-* B;").headers.more == (OnResponse("clear like", "X-"), OnResponse("clear", "B"))
    assert way("proxy_set_header A ''; proxy_set_header B $host;").headers.request == (OnRequest("A"), OnRequest("B", "$host"))


def test_there_is_a_limit_to_ways_and_a_snippet_beyond_it_closes_if_it_protects() -> None:
    ifs = "".join(f"if ($http_x{n}) {{ set $a{n} 1; }}" for n in range(4))
    assert len(translated(ifs).ways) == MOST_WAYS
    found = translated(f"{ifs} if ($http_y) {{ return 403; }}")
    assert found.ways == (Way(),)
    assert found.closed
    assert len(translated("".join(f"if ($http_x{n}) {{ return 403; }}" for n in range(MOST_WAYS - 1))).ways) == MOST_WAYS


def test_values_do_not_grow_without_end() -> None:
    found = translated("set $a xxxxxxxxxx;" + "set $a $a$a;" * 100 + "add_header A $a;")
    assert {fault.name for fault in found.faults} == {"set", "add_header"}


NAMES = sorted(ROWS)
ARGS = st.lists(st.sampled_from(["$host", "$http_x", "a", "403", "'A: b'", "all", "$", "%REQ(x)%", "(", ")", "~", "=", "1h", '"\n"', "$x"]))
STATEMENT = st.tuples(st.sampled_from(NAMES), ARGS).map(lambda pair: f"{pair[0]} {' '.join(pair[1])};")
BLOCK = st.tuples(st.sampled_from(["if ($http_x)", "if ($arg_a ~ b)", "location /x", "limit_except GET"]), st.lists(STATEMENT, max_size=3))
SNIPPET = st.lists(st.one_of(STATEMENT, BLOCK.map(lambda pair: f"{pair[0]} {{ {' '.join(pair[1])} }}")), max_size=6).map("\n".join)


def readable(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@given(SNIPPET, st.sampled_from([Block.LOCATION, Block.SERVER]))
def test_any_snippet_comes_to_a_program_of_bounded_size(text: str, block: Block) -> None:
    found = program(text, block) if readable(text) else Program()
    assert 1 <= len(found.ways) <= MOST_WAYS
    assert found.ways[-1].tests == ()
    for each in found.ways:
        for value in (*each.headers.more, *each.headers.added, *each.headers.request):
            assert not set(value.name + value.value) & set("\r\n\x00")


def test_every_row_says_why_it_is_refused() -> None:
    assert all(row.remark for row in ROWS.values() if row.kind in (Outcome.REFUSED, Outcome.CLOSES, Outcome.IDLE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rewrite ^/a /b break; proxy_set_header A $uri;", [(1, "proxy_set_header", False)]),
        ("rewrite ^/a /b break; add_header A $request_uri;", [(1, "add_header", False)]),
        ("rewrite ^/a /b break; add_header A $uri;", []),
        ("rewrite ^/a /b last;", []),
        ("if ($uri ~ ^/admin) { return 403; } rewrite ^/x/(.*) /$1 last;", [(1, "rewrite", False)]),
        ("if ($uri ~ ^/admin) { return 403; } rewrite ^/x/(.*) /$1;", [(1, "rewrite", False)]),
        ("if ($uri ~ ^/admin) { return 403; } rewrite ^/x/(.*) /$1 break;", []),
        ("rewrite ^/a /b break; rewrite ^/c /d break;", []),
        ("rewrite ^/a /b; rewrite ^/b /d break;", [(1, "rewrite", False)]),
    ],
)
def test_what_would_need_the_path_after_a_rewrite_is_refused(text: str, expected: list[tuple[int, str, bool]]) -> None:
    assert faults(text) == expected


def test_expires_off_in_a_block_ends_what_holds_outside() -> None:
    text = "expires max; if ($http_x) { expires off; } if ($http_y) { expires 1h; }"
    assert way(text).headers.expiry == Expiry("max-age=315360000", at="Thu, 31 Dec 2037 23:55:55 GMT")
    assert way(text, x="1").headers.expiry == Expiry("")
    assert way(text, y="1").headers.expiry == Expiry("max-age=3600", 3600)


@pytest.mark.parametrize(
    "text",
    [
        "add_header A '%%%%%%%%$host';",
        "add_header A $host$uri$arg_x$cookie_y$http_z; more_set_headers -s '404 410 500' 'B: $remote_addr';",
        "expires 1h;",
        "if ($http_x) { expires -1; add_header B '((((('; } proxy_set_header C $cookie_c$host; proxy_hide_header D;",
    ],
)
def test_the_size_of_a_program_is_not_too_low(text: str) -> None:
    found = translated(text)
    route = Route(PathMatch(PathKind.RAW_PREFIX, "/"), Forward(Cluster("default", "web", 80)), settings=Settings())
    made = 0
    for each in found.ways:
        envoy = EnvoyRoute(route=RouteAction(cluster="c"))
        on_request(each.headers, route, envoy)
        made += len(encode(envoy)) + sum(len(encode(mutation)) for mutation in on_response(each.headers, route))
    assert made <= found.size


def test_directives_about_tls_to_backends_are_kept_apart_by_protocol() -> None:
    text = "proxy_ssl_name a.test; grpc_ssl_name b.test; grpc_ssl_server_name on; proxy_ssl_ciphers AES128-SHA;"
    assert translated(text).faults == ()
    assert translated(text).tls == (
        ("grpc", TowardsBackends("b.test", sends_name=True)),
        ("proxy", TowardsBackends("a.test", suites=("AES128-SHA",))),
    )


@pytest.mark.parametrize(
    "text", ["proxy_ssl_name $host;", "proxy_ssl_name a b;", "proxy_ssl_server_name yes;", "proxy_ssl_ciphers NONE-SHA;"]
)
def test_what_cannot_be_said_to_backends_is_refused(text: str) -> None:
    assert faults(text) == [(1, text.split()[0], False)]


def test_directives_about_tls_to_backends_are_for_a_location() -> None:
    assert [fault.sentence for fault in program("proxy_ssl_name a.test;", Block.SERVER).faults] == [
        "it is taken in a configuration-snippet"
    ]
