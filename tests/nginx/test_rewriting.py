"""rewrite-target and use-regex."""

from __future__ import annotations

import pytest

from xds.model import Forward, PathKind, PathMatch, Redirect, RedirectTo, Route
from xds.nginx.registry import features
from xds.translate.regexes import cost_of

from . import drawing
from .drawing import complaints, envoy_route, routes, settings


def rewritten(target: str, path: str, requested: str, kind: PathKind = PathKind.REGEX) -> str:
    action = envoy_route(settings({"rewrite-target": target}), PathMatch(kind, path)).route
    assert action is not None
    rewrite = action.regex_rewrite
    if rewrite is None:
        return requested
    return drawing.rewritten(rewrite, requested)


@pytest.mark.parametrize(
    ("target", "path", "requested", "expected"),
    [
        ("/$2", "/something(/|$)(.*)", "/something", "/"),
        ("/$2", "/something(/|$)(.*)", "/something/new", "/new"),
        ("/$2", "/something(/|$)(.*)", "/SOMETHING/New/", "/New/"),
        ("/", "/foo", "/foo/bar/baz", "/"),
        ("/api/$1", "/v(.*)", "/v1/x", "/api/1/x"),
        ("/$1$1", "/(a)", "/a", "/aa"),
        ("/$10", "/(a)(b)", "/ab", "/a0"),
        ("/$3", "/(a)", "/a", "/"),
        ("$1", "/a", "/a", "/"),
        ("$1", "/a(/.*)", "/a/b", "/b"),
        ("new/$1", "/a/(.*)", "/a/b", "/new/b"),
        ("/$1", "/b/(.*)", "/a/b/c", "/c"),
        ("/x", "/a|/b", "/b", "/x"),
        ("/a:b~.-_", "/p", "/p", "/a:b~.-_"),
    ],
)
def test_the_whole_path_is_replaced(target: str, path: str, requested: str, expected: str) -> None:
    assert rewritten(target, path, requested) == expected


@pytest.mark.parametrize(("path", "kind"), [("/", PathKind.REGEX), ("/foo/", PathKind.REGEX), ("/foo", PathKind.EXACT)])
def test_a_target_that_is_all_of_the_path_does_nothing(path: str, kind: PathKind) -> None:
    match = PathMatch(kind, path)
    assert envoy_route(settings({"rewrite-target": path}), match).route == envoy_route(settings(), match).route


@pytest.mark.parametrize("requested", ["/same", "/same/x", "/samex", "/SAME"])
def test_a_target_that_is_the_path_itself_takes_the_place_of_what_begins_with_it(requested: str) -> None:
    assert rewritten("/same", "/same", requested) == "/same"


def test_a_path_that_is_no_expression_is_taken_by_the_letter() -> None:
    assert rewritten("/new", "/a.b", "/a.b/c", PathKind.PREFIX) == "/new"
    assert rewritten("/new", "/a.b", "/axb/c", PathKind.PREFIX) == "/axb/c"
    assert rewritten("/new", "/a(", "/a(", PathKind.EXACT) == "/new"
    assert rewritten("/$1", "/", "/x", PathKind.RAW_PREFIX) == "/"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/$request_uri", "is '/$request_uri', but only the captures $1 to $9, $host, $server_name and $scheme can stand in it"),
        ("/$0", "is '/$0', but only the captures $1 to $9, $host, $server_name and $scheme can stand in it"),
        ("/$", "is '/$', but only the captures $1 to $9, $host, $server_name and $scheme can stand in it"),
        ("/$ho$1st", "is '/$ho$1st', but only the captures $1 to $9, $host, $server_name and $scheme can stand in it"),
        ("/$$1host", "is '/$$1host', but only the captures $1 to $9, $host, $server_name and $scheme can stand in it"),
        ("/" + "$host" * 9, "is '/" + "$host" * 9 + "', which has 9 variables, more than 8"),
        ("https://$1.a.com/", "is 'https://$1.a.com/', which has no host, or a capture in it"),
        ("https:///a", "is 'https:///a', which has no host, or a capture in it"),
        ("/a b", "is '/a b', which is no path such as /api/$1"),
        (r"/\1", r"is '/\\1', which is no path such as /api/$1"),
    ],
)
def test_a_target_that_cannot_be_is_refused(text: str, sentence: str) -> None:
    assert complaints({"rewrite-target": text}) == [("rewrite-target", sentence)]


@pytest.mark.parametrize(
    ("feature", "annotations", "path", "exact", "expected"),
    [
        ("rewrite_target", {"rewrite-target": "/"}, "/foo", True, True),
        ("rewrite_target", {"rewrite-target": "/"}, "/", False, False),
        ("rewrite_target", {"rewrite-target": "/foo"}, "/foo", False, True),
        ("rewrite_target", {"rewrite-target": "/foo"}, "/foo", True, False),
        ("rewrite_target", {"rewrite-target": "/foo/"}, "/foo/", False, False),
        ("rewrite_target", {"rewrite-target": "/foo/"}, "/foo", False, True),
        ("use_regex", {"use-regex": "true"}, "/", False, True),
        ("use_regex", {"use-regex": "false"}, "/", False, False),
    ],
)
def test_a_rewrite_or_use_regex_makes_the_paths_of_the_host_expressions(
    feature: str, annotations: dict[str, str], path: str, exact: bool, expected: bool
) -> None:
    assert features()[feature].regex(settings(annotations)[feature], path, exact) is expected


def test_only_routes_that_forward_pay_for_the_expression_of_a_rewrite() -> None:
    path = PathMatch(PathKind.REGEX, "/v(.*)")
    found = settings({"rewrite-target": "/$1", "upstream-hash-by": "$uri"})
    forward, redirect = Forward(drawing.CLUSTER), Redirect(308, RedirectTo.HTTPS)
    prices = [cost_of(Route(path, action, settings=own)) for action in (forward, redirect) for own in (found, settings())]
    assert prices[0] > prices[1] == prices[2] == prices[3] > 0


def test_a_rewrite_leaves_the_routes_as_they_are() -> None:
    assert len(routes(settings({"rewrite-target": "/x"}))) == 1
