"""Features that answer with a Location: app-root, permanent- and temporal-redirect, ssl-redirect, rewrite-target with an address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xds import model
from xds.explain import route_of as explain
from xds.model import PathKind, PathMatch, Redirect, RedirectTo, Via
from xds.nginx.feature import Unreadable
from xds.nginx.registry import features, read_settings
from xds.nginx.variables import HOST
from xds.patterns import regex
from xds.render import routes as render

from .drawing import CLUSTER, ORIGIN, RULE, complaints, host_routes, routes, settings
from .drawing import location as location_of

FORWARD = model.Forward(CLUSTER)
TO_HTTPS = Redirect(308, RedirectTo.HTTPS)


def actions(annotations: dict[str, str], keys: dict[str, str] | None = None, path: str = "/", *, tls: bool = False) -> list[object]:
    return [(r.via, r.action) for r in routes(settings(annotations, keys), path, tls=tls)]


@pytest.mark.parametrize(("text", "path"), [("/app", "/app"), ("/a/$1", "/a/"), ("/a/b/", "/a/b/")])
def test_app_root_redirects_the_bare_host(text: str, path: str) -> None:
    found = settings({"app-root": text})
    root = PathMatch(PathKind.EXACT, "/", escaped=True)
    assert host_routes(found) == (model.Route(root, Redirect(302, RedirectTo.PATH, path), ORIGIN, RULE),)


def test_app_root_has_no_default_for_the_cluster() -> None:
    assert host_routes(settings(keys={"app-root": "/all"})) == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/", "is '/', which would lead to itself"),
        ("/$1", "is '/$1', which would lead to itself"),
        ("app", "is 'app', which is no absolute path such as /app"),
        ("https://example.com/app", "is 'https://example.com/app', which is no absolute path such as /app"),
        ("/$host", "is '/$host', but variables of nginx cannot stand in it"),
    ],
)
def test_app_root_is_an_absolute_path_that_does_not_lead_to_itself(text: str, sentence: str) -> None:
    assert complaints({"app-root": text}) == [("app-root", sentence)]
    assert host_routes(read_settings({"app-root": text}, {})[0]) == ()


def test_a_permanent_redirect_replaces_all_routes_of_the_path() -> None:
    annotations = {"permanent-redirect": "https://example.com/?a=b", "backend-protocol": "AUTO_HTTP"}
    assert actions(annotations, tls=True) == [(Via.ANY, Redirect(301, RedirectTo.URL, "https://example.com/?a=b"))]


@pytest.mark.parametrize(
    ("annotations", "status", "location"),
    [
        ({"permanent-redirect": "new", "permanent-redirect-code": "308"}, 308, "new"),
        ({"temporal-redirect": "https://a.com"}, 302, "https://a.com"),
        ({"temporal-redirect": "https://a.com", "temporal-redirect-code": "307"}, 307, "https://a.com"),
        (
            {"temporal-redirect": "https://a.com", "permanent-redirect": "https://b.com", "permanent-redirect-code": "308"},
            302,
            "https://a.com",
        ),
    ],
)
def test_a_redirect_has_its_own_status(annotations: dict[str, str], status: int, location: str) -> None:
    assert actions(annotations) == [(Via.ANY, Redirect(status, RedirectTo.URL, location))]


def test_a_path_is_redirected_to_on_the_same_host() -> None:
    assert actions({"permanent-redirect": "/new"}) == [(Via.ANY, Redirect(301, RedirectTo.HERE, "/new"))]


def test_a_temporal_redirect_that_cannot_be_read_leaves_no_permanent_one() -> None:
    found, complained = read_settings({"temporal-redirect": "/new", "permanent-redirect": "https://b.com"}, {})
    assert [c.name for c in complained] == ["temporal-redirect"]
    assert [r.action for r in routes(found)] == [FORWARD]


@pytest.mark.parametrize("address", ["HTTPS://a.com", "httpx://a.com", "http:a"])
def test_any_address_of_the_web_will_do(address: str) -> None:
    """ingress-nginx looks at the first letters of the scheme, in either case."""
    assert actions({"temporal-redirect": address}) == [(Via.ANY, Redirect(302, RedirectTo.URL, address))]


@pytest.mark.parametrize(
    ("annotations", "left_out"),
    [
        ({"temporal-redirect": "https://a.com", "temporal-redirect-code": "x"}, True),
        ({"temporal-redirect-code": "x"}, False),
        ({"temporal-redirect-code": "x", "permanent-redirect": "https://a.com"}, False),
        ({"permanent-redirect-code": "x"}, True),
        ({"permanent-redirect-code": "x", "permanent-redirect": "$", "temporal-redirect": "https://a.com"}, False),
    ],
)
def test_what_ingress_nginx_does_not_look_at_leaves_no_ingress_out(annotations: dict[str, str], left_out: bool) -> None:
    assert any(each.then is Unreadable.LEAVES_OUT for each in read_settings(annotations, {})[1]) is left_out


def test_a_status_alone_redirects_nothing() -> None:
    assert actions({"permanent-redirect-code": "308", "temporal-redirect-code": "307"}) == [(Via.ANY, FORWARD)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("permanent-redirect", "https://example.com/$request_uri"),
        ("permanent-redirect", "https://example.com/#top"),
        ("permanent-redirect-code", "abc"),
        ("temporal-redirect", "/new"),
        ("temporal-redirect", "ftp://example.com"),
        ("temporal-redirect-code", "x"),
    ],
)
def test_a_redirect_that_ingress_nginx_refuses_is_refused(name: str, text: str) -> None:
    assert [c for c, _ in complaints({name: text})] == [name]


def test_http_is_redirected_where_the_host_has_tls() -> None:
    assert actions({}, tls=True) == [(Via.HTTP, TO_HTTPS), (Via.ANY, FORWARD)]
    assert actions({}) == [(Via.ANY, FORWARD)]


@pytest.mark.parametrize(
    ("annotations", "keys", "redirected"),
    [
        ({"ssl-redirect": "false"}, {}, False),
        ({}, {"ssl-redirect": "false"}, False),
        ({"ssl-redirect": "true"}, {"ssl-redirect": "false"}, True),
        ({"ssl-redirect": "false", "force-ssl-redirect": "true"}, {}, True),
    ],
)
def test_the_redirect_to_https_can_be_turned_off(annotations: dict[str, str], keys: dict[str, str], redirected: bool) -> None:
    assert ((Via.HTTP, TO_HTTPS) in actions(annotations, keys, tls=True)) is redirected


def test_the_redirect_to_https_can_be_forced_without_tls() -> None:
    assert (Via.HTTP, TO_HTTPS) in actions({"force-ssl-redirect": "true"})
    assert (Via.HTTP, TO_HTTPS) in actions({}, {"force-ssl-redirect": "true"})


def test_the_redirect_to_https_has_the_status_of_the_configmap() -> None:
    assert actions({}, {"http-redirect-code": "301"}, tls=True)[0] == (Via.HTTP, Redirect(301, RedirectTo.HTTPS))


@pytest.mark.parametrize(
    ("keys", "path", "redirected"),
    [
        ({}, "/.well-known/acme-challenge/x", False),
        ({}, "/.well-known", True),
        ({"no-tls-redirect-locations": "/plain, /b"}, "/plainer", False),
        ({"no-tls-redirect-locations": "/plain, /b"}, "/b/c", False),
        ({"no-tls-redirect-locations": "/plain, /b"}, "/.well-known/acme-challenge/x", True),
        ({"no-tls-redirect-locations": ","}, "/", True),
    ],
)
def test_some_paths_are_never_redirected_to_https(keys: dict[str, str], path: str, redirected: bool) -> None:
    assert (len(actions({"force-ssl-redirect": "true"}, keys, path, tls=True)) == 2) is redirected


def test_a_route_knows_the_ingress_that_it_comes_from() -> None:
    for found in (settings({"permanent-redirect": "/x"}), settings({"rewrite-target": "https://a.com"}), settings()):
        assert [(r.origin, r.rule, r.settings) for r in routes(found, tls=True)] == [(ORIGIN, RULE, found)] * len(routes(found, tls=True))


def test_a_rewrite_to_an_address_is_a_redirect_before_all_others_but_return() -> None:
    [(via, to)] = actions({"rewrite-target": "https://a.com/b"}, tls=True)
    assert (via, to) == (Via.ANY, Redirect(302, RedirectTo.REWRITTEN, "https://a.com/b", regex.nginx_rewrite(regex.literal("/"))))
    both = {"rewrite-target": "https://a.com/b", "permanent-redirect": "https://c.com"}
    assert actions(both) == [(Via.ANY, Redirect(301, RedirectTo.URL, "https://c.com"))]


@pytest.mark.parametrize(
    ("target", "path", "requested", "location"),
    [
        ("https://a.com/$1", "/go/(.*)", "/go/x?y=1", "https://a.com/x?y=1"),
        ("https://a.com/$1", "/go/(.*)", "/go/a%20b", "https://a.com/a%20b"),
        ("http://a.com:81/n/$2$3", "/go(/|$)(.*)", "/GO/x/y", "http://a.com:81/n/x/y"),
        ("https://a.com", "/go", "/go/x?y", "https://a.com/?y"),
    ],
)
def test_a_rewrite_to_an_address_has_the_groups_and_the_query(target: str, path: str, requested: str, location: str) -> None:
    found = settings({"rewrite-target": target})
    where = replace(location_of(found, path), match=PathMatch(PathKind.REGEX, path))
    [route] = features()["rewrite_target"].routes(found["rewrite_target"], where, ())
    assert isinstance(route.action, Redirect)
    asked, _, query = requested.partition("?")
    assert explain.location(route.action, explain.HttpRequest(Via.HTTP, "a.test", 80, asked, f"?{query}" if query else "")) == location


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("$scheme://b.test/n", "%REQ(x-forwarded-proto)%://b.test/n"),
        ("https://$host", "https://%CEL(" + HOST + ")%"),
        ("x$scheme", None),
    ],
)
def test_a_rewrite_to_an_address_with_variables_is_a_redirect(target: str, location: str | None) -> None:
    [made] = routes(settings({"rewrite-target": target}), "/a")
    if location is None:
        assert made.action == FORWARD
        return
    assert made.action == Redirect(302, RedirectTo.URL, target)
    last = render.route(made, model.Settings()).response_headers_to_add[-1]
    query = "%CEL(request.query != '' ? '?' : '')%%CEL(request.query)%"
    assert last.header
    assert (last.header.key, last.header.value) == ("Location", location + query)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("https://$1/x", "which has no host, or a capture in it"),
        ("$scheme://${1}a/x", None),
        ("https:///x", "which has no host, or a capture in it"),
        ("/$1$2$3$4$5$6$7$8$9$host", "which has 9 captures beside variables, more than 8"),
    ],
)
def test_what_no_rewrite_can_lead_to(target: str, why: str | None) -> None:
    why = why or "is '$scheme://${1}a/x', which is no path such as /api/$1"
    assert [sentence.endswith(why) for _, sentence in complaints({"rewrite-target": target})] == [True]


@pytest.mark.parametrize(
    ("text", "status", "location"),
    [
        ("https://b.test$request_uri", 301, "https://b.test%REQ(:path)%"),
        ("https://${http_host}x", 301, "https://%REQ(:authority)%x"),
        ("/in?of=$http_host", 301, "%REQ(x-forwarded-proto)%://%CEL(" + HOST + ")%/in?of=%REQ(:authority)%"),
        ("https://b.test/%20$scheme", 301, "https://b.test/%%20%REQ(x-forwarded-proto)%"),
    ],
)
def test_without_validation_an_address_may_have_variables(text: str, status: int, location: str) -> None:
    found, faults = read_settings({"permanent-redirect": text}, {}, validated=False)
    assert not faults
    (made,) = routes(found, "/a")
    assert made.action == model.Respond(status)
    added = [option.header for option in render.route(made, model.Settings()).response_headers_to_add if option.header]
    assert [(header.key, header.value) for header in added] == [("Location", location)]


@pytest.mark.parametrize(("code", "body"), [("300", "https://b.test%REQ(:path)%"), ("304", "")])
def test_an_address_with_variables_is_the_body_of_what_redirects_nobody(code: str, body: str) -> None:
    found, _ = read_settings({"permanent-redirect": "https://b.test$request_uri", "permanent-redirect-code": code}, {}, validated=False)
    made = render.route(routes(found, "/a")[0], model.Settings())
    answer = made.direct_response
    assert answer
    assert answer.status == int(code)
    source = answer.body_format.text_format_source if answer.body_format else None
    assert (source.inline_string if source else "") == body
    assert made.response_headers_to_remove == ["location"]
