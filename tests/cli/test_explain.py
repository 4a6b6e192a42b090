"""`xds explain`: what Envoy would do with a URL, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.site import WEB, Say, write
from tests.envoy.harness import Site, fetch
from tests.envoy.harness.manifests import Manifest, config_map, endpoint_slice, ingress, secret_tls, service
from tests.envoy.harness.tls import make_certificate
from xds.cli import main
from xds.cli.arguments import parse
from xds.config import Flags
from xds.explain.document import explain
from xds.explain.route_of import HttpRequest, location, matches, normalised, parse_url
from xds.model import PathKind, PathMatch, Redirect, RedirectTo, Via
from xds.offline import load

BACKEND = (service("web"), endpoint_slice("web", [("10.0.0.1", 8080)]))


def folder(path: Path, *objects: Manifest) -> Path:
    return write(path / "m", *BACKEND, *objects)


def test_a_path_of_an_ingress_answers(say: Say, good: Path) -> None:
    said = say("explain", "https://a.example.com/api/x?y=1", good)
    assert said.code == 0
    assert said.out.splitlines()[:2] == [
        "https://a.example.com/api/x?y=1",
        "is answered by Service default/api port 80 (1 endpoint), which gets the path /api/x?y=1",
    ]
    assert "Ingress default/web (ingress-web.json:1) spec.rules[0].http.paths[1]" in said.out
    assert "Secret default/tls, for *.example.com, until 20" in said.out
    assert "shadowed      Ingress default/web (ingress-web.json:1) spec.rules[0].http.paths[0] (raw prefix /)" in said.out


def test_json_has_all_names_by_which_things_are_found_again(say: Say, good: Path) -> None:
    found = say("explain", "https://a.example.com/api", good, "-o", "json").json
    assert found["virtual_host"] == {"name": "a.example.com", "match": "exact"}
    assert found["route"]["name"] == "default/web spec.rules[0].http.paths[1]"
    assert found["cluster"] == "default/api/80"
    assert found["service"]["place"] == {"file": "service-api.json", "line": 1}
    assert found["endpoints"] == [{"address": "10.0.0.2", "port": 8080, "health": "ready"}]
    assert found["certificate"]["secret"] == {"kind": "Secret", "namespace": "default", "name": "tls"}


def test_plain_http_is_redirected_where_the_host_has_tls(say: Say, good: Path) -> None:
    found = say("explain", "a.example.com/api/?x=1/", good, "-o", "json").json
    assert found["action"] == {"kind": "redirect", "status": 308, "location": "https://a.example.com/api/?x=1"}
    assert found["answered"]
    assert found["certificate"] is None


def asking_for_certificates(path: Path, **notes: str) -> Path:
    authority = make_certificate(["authority"], is_ca=True).cert_pem
    secret: Manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.crt": authority.decode()}}
    item = ingress("i", "a.test", {"/": WEB}, {"auth-tls-secret": "default/ca", **notes}, tls={"tls": ["a.test"]})
    return folder(path, secret, secret_tls("tls", make_certificate(["a.test"])), item)


def test_what_is_assumed_of_clients_that_are_asked_for_a_certificate_is_shown(say: Say, tmp_path: Path) -> None:
    said = say("explain", "https://a.test/", asking_for_certificates(tmp_path, **{"auth-tls-match-cn": "CN=partner"}))
    assert "is answered by Service default/web port 80" in said.out
    assert "but           this is for a client with a certificate that Secret default/ca vouches for; " in said.out


def test_answers_to_other_handshakes_are_no_answers_to_other_headers(say: Say, tmp_path: Path) -> None:
    found = say("explain", "http://a.test/", asking_for_certificates(tmp_path), "-o", "json").json
    assert (found["action"]["kind"], found["conditional"], found["remarks"]) == ("redirect", [], [])


def test_problems_are_listed_from_the_worst_on(say: Say, tmp_path: Path) -> None:
    notes = {"rewrite-target": "/$1", "proxy-read-timeout": "5"}
    written = ingress("i", "a.test", {"/": WEB}, notes, tls={"gone": ["a.test"]})
    found = say("explain", "https://a.test/", folder(tmp_path, written), "-o", "json").json["problems"]
    assert [each["severity"] for each in found] == ["error", "note", "note"]


def test_a_host_that_is_closed_shows_what_closes_it(say: Say, tmp_path: Path) -> None:
    closed = ingress("i", "a.test", {"/": WEB}, annotations={"auth-tls-secret": "default/absent"})
    said = say("explain", "http://a.test/", folder(tmp_path, closed, ingress("other", "b.test", {"/": ("none", 80)})))
    assert "is answered by 403" in said.out
    assert "Ingress default/i metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]: auth-tls-secret" in said.out
    assert "default/other" not in said.out


@pytest.mark.parametrize(
    ("host", "name", "how"),
    [
        ("x.wild.example.com", "*.wild.example.com", "wildcard"),
        ("X.WILD.example.com.", "*.wild.example.com", "wildcard"),
        ("y.x.wild.example.com", "*", "catch-all"),
        ("wild.example.com", "*", "catch-all"),
        ("127.0.0.1:8080", "*", "catch-all"),
        ("[::1]:8080", "*", "catch-all"),
    ],
)
def test_a_wildcard_takes_one_label(say: Say, good: Path, host: str, name: str, how: str) -> None:
    said = say("explain", f"http://{host}/", good, "-o", "json")
    assert said.json["virtual_host"] == {"name": name, "match": how}
    assert said.code == (0 if how == "wildcard" else 1)


def test_nothing_of_the_user_answers_with_404(say: Say, good: Path) -> None:
    said = say("explain", "nobody.example.com/x", good)
    assert said.code == 1
    assert said.out.splitlines()[1] == "is answered by none of your Ingresses: 404"


def test_an_idn_host_is_asked_for_in_punycode(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("idn", "xn--bcher-kva.example", {"/": WEB}))
    said = say("explain", "http://Bücher.example/", put)
    assert said.code == 0
    assert said.out.startswith("http://xn--bcher-kva.example/\n")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a.example.com/", "has the scheme 'ftp'; only http and https are served."),
        ("http://", "has no host."),
        ("http://a b/", "holds a space or a control character."),
        ("http://a.example.com:x/", "is no URL: "),
        ("http://[::1", "is no URL: "),
        ("http://a_!.example.com/", "has the host 'a_!.example.com', which is no host name."),
        ("http://ü..example/", "has a host that is no domain name: "),
        ("http://a\x1b[2J/", "holds a space or a control character."),
    ],
)
def test_what_is_no_url_is_one_sentence(say: Say, good: Path, url: str, why: str) -> None:
    said = say("explain", url, good)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert why in said.err
    assert "\x1b" not in said.err


@pytest.mark.parametrize(
    ("url", "path", "remark"),
    [
        ("http://a.example/caf\xe9", "/caf%C3%A9", "A client that sends this unescaped over HTTP/1 gets 400"),
        ("http://a.example/a?b=\xe9", "/a", "A client that sends this unescaped over HTTP/1 gets 400"),
        ("http://a.example/a|b{c}", "/a%7Cb%7Bc%7D", "The backend gets |{} escaped, as %7C%7B%7D; nginx passes it on as it was sent."),
    ],
)
def test_what_envoy_makes_of_a_url_and_nginx_does_not_is_said(say: Say, tmp_path: Path, url: str, path: str, remark: str) -> None:
    web = folder(tmp_path, ingress("web", "a.example", {"/": ("web", 80)}))
    assert f"but           {remark}" in say("explain", url, web).out
    request = parse_url(url)
    assert (request.path, [said[: len(remark)] for said in request.remarks]) == (path, [remark])


def test_a_path_that_envoy_does_not_read_is_said() -> None:
    assert parse_url("http://a.example/a%00").remarks == ("A path with %00 is answered with 400, whatever the route.",)


def test_of_a_url_that_is_the_same_for_both_nothing_is_said() -> None:
    assert parse_url("http://a.example/a?b=%00").remarks == ()
    assert parse_url("http://a.example/caf%C3%A9/a(b)[c];d?e=|{}").remarks == ()
    assert parse_url("http://a.example/a?e=|{}").query == "?e=|{}"


@pytest.mark.parametrize(("method", "status"), [("TRACE", 405), ("CONNECT", 400), ("QUERY", 400)])
def test_methods_that_no_route_answers_are_said(method: str, status: int) -> None:
    (remark,) = parse_url("http://a.example/", method).remarks
    assert f"{method} is answered with {status}" in remark


def test_a_folder_is_needed(say: Say) -> None:
    assert say("explain", "http://a.example.com/").code == 2


def test_a_missing_service_is_named_with_its_problem(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": ("gone", 80)}))
    said = say("explain", "a.example.com", put)
    assert said.code == 1
    assert "Service       default/gone port 80, which does not exist" in said.out
    assert "Service default/gone does not exist; the path answers 503." in said.out


def test_endpoints_are_shown_with_what_envoy_makes_of_them(say: Say, tmp_path: Path) -> None:
    draining = endpoint_slice("web", [("10.0.0.2", 8080)], name="web-2", terminating=True)
    unready = endpoint_slice("web", [("10.0.0.3", 8080)], name="web-3", ready=False)
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}), draining, unready)
    assert say("explain", "a.example.com", put, "-o", "json").json["endpoints"] == [
        {"address": "10.0.0.1", "port": 8080, "health": "ready"},
        {"address": "10.0.0.2", "port": 8080, "health": "draining"},
        {"address": "10.0.0.3", "port": None, "health": "not ready"},
    ]


def test_endpoints_that_answer_while_they_terminate_are_told_apart(say: Say, tmp_path: Path) -> None:
    going = endpoint_slice("last", [("10.0.0.2", 8080)], terminating=True)
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": ("last", 80)}), service("last"), going)
    found = say("explain", "a.example.com", put, "-o", "json").json
    assert found["endpoints"] == [{"address": "10.0.0.2", "port": 8080, "health": "terminating"}]


def test_the_host_of_an_external_name_is_the_endpoint(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": ("away", 80)}), service("away", external_name="example.org"))
    found = say("explain", "a.example.com", put, "-o", "json").json
    assert found["endpoints"] == [{"address": "example.org", "port": 80, "health": "resolved by Envoy"}]
    assert found["service"]["type"] == "ExternalName"


def test_the_one_that_lost_the_path_is_shown_with_its_problem(say: Say, tmp_path: Path) -> None:
    old = ingress("old", "a.example.com", {"/x": WEB}, created="2026-01-01T00:00:00Z")
    new = ingress("new", "a.example.com", {"/x": WEB, "/y": WEB}, created="2026-02-01T00:00:00Z")
    put = folder(tmp_path, old, new)
    asked = say("explain", "a.example.com/x", put, "-o", "json").json
    assert asked["route"]["ingress"]["name"] == "old"
    assert [p["object"]["name"] for p in asked["problems"]] == ["new"]
    assert "conflict" not in say("explain", "a.example.com/y", write(put, ingress("third", "a.example.com", {"/z": WEB}))).out


def test_the_ingress_that_makes_paths_regular_expressions_is_named(say: Say, tmp_path: Path) -> None:
    rewriting = ingress("rewriting", "a.example.com", {"/app(/|$)(.*)": WEB}, {"rewrite-target": "/$2"})
    put = folder(tmp_path, rewriting, ingress("plain", "a.example.com", {"/foo": WEB}))
    found = say("explain", "a.example.com/FOObar", put, "-o", "json").json
    assert found["route"]["ingress"]["name"] == "plain"
    assert found["route"]["regex_because"]["ingress"]["name"] == "rewriting"
    assert found["route"]["regex_because"]["feature"] == "rewrite-target"
    rewritten = say("explain", "a.example.com/app/x?y=1", put, "-o", "json").json
    assert rewritten["action"] == {"kind": "forward", "path": "/x?y=1"}


def test_a_preflight_is_answered_where_a_request_without_an_origin_is_forwarded(tmp_path: Path) -> None:
    listed = {"enable-cors": "true", "cors-allow-origin": "https://example.org, https://*.example.org"}
    put = folder(
        tmp_path,
        ingress("list", "a.example.com", {"/": WEB}, listed),
        ingress("all", "b.example.com", {"/": WEB}, {"enable-cors": "true"}),
    )
    loaded = load(parse("explain", ["http://x", str(put)], {}).settings)
    for host, method, kind in (("a", "GET", "forward"), ("b", "GET", "forward"), ("a", "OPTIONS", "forward"), ("b", "OPTIONS", "respond")):
        request = parse_url(f"http://{host}.example.com/", method)
        assert explain(loaded.world, loaded.tables, Flags(), loaded.problems, request)["action"]["kind"] == kind


def test_annotations_and_keys_that_have_a_say_are_listed(say: Say, tmp_path: Path) -> None:
    put = folder(
        tmp_path,
        ingress("web", "a.example.com", {"/": WEB}, {"proxy-body-size": "8m", "no-such": "x"}),
        config_map("config", {"ssl-redirect": "false", "no-such": "x"}),
    )
    found = say("explain", "a.example.com", put, "--configmap", "default/config", "-o", "json").json
    assert found["annotations"] == [{"name": "proxy-body-size", "value": "8m", "fidelity": "exact"}]
    assert found["config"] == [{"name": "ssl-redirect", "value": "false", "fidelity": "exact"}]


def test_the_certificate_is_found_by_server_name_as_envoy_does(say: Say, tmp_path: Path) -> None:
    """A host without a certificate of its own is served under that of a wildcard above it, if there is one."""
    put = folder(
        tmp_path,
        ingress("wild", "*.example.com", {"/": WEB}, tls={"wild": ["*.example.com"]}),
        ingress("plain", "plain.example.com", {"/": WEB}),
        secret_tls("wild", make_certificate(["*.example.com"])),
    )
    assert say("explain", "https://plain.example.com", put, "-o", "json").json["certificate"]["name"] == "default/wild"
    assert say("explain", "https://example.com", put, "-o", "json").json["certificate"]["name"] == "default"


def test_the_default_certificate_can_be_a_secret(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("web", "a.example.org", {"/": WEB}), secret_tls("own", make_certificate(["*.example.com"])))
    found = say("explain", "https://a.example.org", put, "--default-ssl-certificate", "default/own", "-o", "json").json
    assert found["certificate"]["name"] == "default"
    assert found["certificate"]["names"] == ["*.example.com"]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("//a///b", "/a/b"),
        ("///", "//"),
        ("/a//../b", "/a/b"),
        ("/a/..;x=1/b", "/b"),
        ("/a/..%3b/b", "/a/..%3b/b"),
        ("/a%2Fb/../c", "/c"),
        ("/a/./b/../c", "/a/c"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/../../a", "/a"),
        ("/%61%2E%2e/%2F", "/a../%2F"),
        ("/a/%2e%2e/b", "/b"),
        ("/é", "/%C3%A9"),
        ("/a\\b", "/a/b"),
    ],
)
def test_paths_are_normalised_as_envoy_does(written: str, path: str) -> None:
    assert parse_url(f"http://a.example{written}").path == path


@pytest.mark.parametrize("path", ["/", "/a/b", "/a/b/", "/%2F", "/a..b"])
def test_a_normal_path_stays_as_it_is(path: str) -> None:
    assert normalised(path) == path


@pytest.mark.parametrize(
    ("kind", "written", "path", "expected"),
    [
        (PathKind.EXACT, "/a", "/a", True),
        (PathKind.EXACT, "/a", "/a/", False),
        (PathKind.PREFIX, "/a", "/a", True),
        (PathKind.PREFIX, "/a", "/a/b", True),
        (PathKind.PREFIX, "/a", "/ab", False),
        (PathKind.RAW_PREFIX, "/a", "/ab", True),
        (PathKind.RAW_PREFIX, "/a/", "/a", False),
        (PathKind.REGEX, "/a", "/AB", True),
        (PathKind.REGEX, "/a", "/x/a", False),
        (PathKind.REGEX, "/a|/b", "/x/b", True),
    ],
)
def test_paths_match_as_in_envoy(kind: PathKind, written: str, path: str, expected: bool) -> None:
    assert matches(PathMatch(kind, written), path) is expected


def test_what_is_refused_for_the_sake_of_a_rule_has_its_reason(say: Say, tmp_path: Path) -> None:
    closed = ingress("closed", "a.example.com", {"/admin": ("web", 80)}, {"auth-url": "http:///check"})
    found = folder(tmp_path, closed, ingress("open", "a.example.com", {"/": ("web", 80)}))
    said = say("explain", "http://a.example.com/x/..%2fadmin", found)
    assert said.out.splitlines()[1] == "is answered by 400"
    assert "paths of this host have access rules, and where escaped slashes lead cannot be known" in said.out


def marker(name: str, host: str, paths: tuple[str, ...], path_type: str = "Prefix", **annotations: str) -> Manifest:
    """An Ingress that answers by a redirect which names it."""
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    marked = {"temporal-redirect": f"https://{name}/"} | given
    return ingress(name, host, dict.fromkeys(paths, WEB), marked, path_type=path_type)


MARKERS = (
    marker("exact", "a.example.com", ("/foo", "/exact"), "Exact"),
    marker("prefix", "a.example.com", ("/foo", "/foo/bar", "/slash/", "/a b", "/é")),
    marker("regex", "r.example.com", ("/foo[0-9]+", "/x|/y", "/foo"), use_regex="true"),
    marker("regex-other", "r.example.com", ("/foobar",)),
    marker("wild", "*.w.example.com", ("/",)),
    marker("inner", "*.b.w.example.com", ("/inner",)),
    marker("other", "", ("/any",)),
    marker("origins", "c.example.com", ("/foo",), enable_cors="true", cors_allow_origin="https://example.org, https://*.example.org"),
)
HOSTS = (
    "a.example.com",
    "a.example.com.",
    "c.example.com",
    "r.example.com",
    "x.w.example.com",
    "y.x.w.example.com",
    "x.b.w.example.com",
    "none.example",
)
PATHS = (
    *("/", "/foo", "/foo/", "/foo/bar", "/foobar", "/FOO", "/foo1", "/foo123/x", "/exact/", "/slash", "/slash/", "/slash/x", "/a%20b/c"),
    *(
        "/%C3%A9",
        "/%66oo",
        "/x/../foo",
        "/foo/..",
        "//foo//bar",
        "/foo%2Fbar",
        "/foo?x=/bar",
        "/z/y",
        "/x",
        "/inner",
        "/any/thing",
        "/healthz",
    ),
    *("/./foo/%2e%2e/foo", "/foo/../../foo/bar/.", "/foo;x", "/inner/x", "/foo\\bar"),
)


@pytest.mark.envoy
async def test_explain_says_what_envoy_does(say: Say, tmp_path: Path) -> None:
    """Every host with every path, asked of a real Envoy that runs the same manifests."""
    put = folder(tmp_path, *MARKERS)
    loaded = load(parse("explain", ["http://x", str(put)], {}).settings)
    async with Site(tmp_path) as site:
        http = ("127.0.0.1", site.ports.take())
        flags = ("--http-port", http[1], "--https-port", site.ports.take(), "--listen-address", "127.0.0.1")
        await site.static_envoy(say("translate", put, "--static", *flags).out)
        for host in HOSTS:
            for path in PATHS:
                request = parse_url(f"http://{host}{path}")
                explained = explain(loaded.world, loaded.tables, Flags(), loaded.problems, request)["action"]
                answer = await fetch(http, path, host=host)
                assert (explained["status"], explained.get("location")) == (answer.status, answer.header("location")), f"{host}{path}"


@pytest.mark.parametrize(
    ("to", "wanted"),
    [
        (Redirect(301, RedirectTo.URL, "https://example.org/new"), "https://example.org/new"),
        (Redirect(301, RedirectTo.HTTPS), "https://a.example/x/?q"),
        (Redirect(301, RedirectTo.HTTPS, ":443", keep_slash=True), "https://a.example:443/x/?q"),
        (Redirect(301, RedirectTo.PATH, "/new"), "http://a.example:8080/new"),
        (Redirect(301, RedirectTo.HERE, "/new", relative=True), "/new"),
        (Redirect(301, RedirectTo.NAME, "www.a.example"), "http://www.a.example:8080/x/?q"),
        (Redirect(301, RedirectTo.SLASH), "http://a.example:8080/x//?q"),
        (Redirect(301, RedirectTo.SLASH, relative=True), "/x//?q"),
    ],
)
def test_locations_are_those_that_the_routes_make(to: Redirect, wanted: str) -> None:
    assert location(to, HttpRequest(Via.HTTP, "a.example", 8080, "/x/", "?q")) == wanted


def test_an_object_that_is_there_twice_may_have_more_rules_than_the_one_that_counts(say: Say, tmp_path: Path) -> None:
    first = ingress("twice", "a.example.com", {"/": ("web", 80)})
    second = ingress("twice", "b.example.com", {"/": ("web", 80), "/no-type": ("web", 80)})
    second["spec"]["rules"][0]["http"]["paths"][1].pop("pathType", None)
    path = folder(tmp_path, first)
    write(path / "later", second)
    said = say("explain", "http://a.example.com/", path)
    assert (said.code, said.err) == (0, "")


CANARY = {"canary": "true", "canary-weight": "30", "canary-by-cookie": "next", "load-balance": "ewma"}


def test_a_canary_has_its_share_and_its_cluster(say: Say, tmp_path: Path) -> None:
    next_ = (service("next"), endpoint_slice("next", [("10.0.0.2", 8080)]))
    canary = ingress("canary", "a.example.com", {"/": ("next", 80)}, CANARY)
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}), canary, *next_)
    said = say("explain", "a.example.com/x", put)
    assert said.code == 0
    assert said.out.splitlines()[1] == "is answered by Service default/web port 80 (1 endpoint), which gets the path /x"
    whose = "Ingress default/canary (ingress-canary.json:1) spec.rules[0].http.paths[0] (raw prefix /"
    assert f"share         30 of 100 requests: {whose}) -> cluster default/next/80~" in said.out
    assert f"unless        {whose}, with the cookie next=always) -> cluster default/next/80~" in said.out
    assert "cluster       default/web/80\n" in said.out
    found = say("explain", "a.example.com/x", put, "-o", "json").json
    assert [(r["share"], r["cluster"].partition("~")[0]) for r in found["shares"]] == [({"parts": 30, "of": 100}, "default/next/80")]
    assert [(r["share"], r["cluster"].partition("~")[0], r["headers"][0]["words"]) for r in found["conditional"]] == [
        (None, "default/next/80", "cookie next=always"),
        (None, "default/web/80", "cookie next=never"),
    ]


def test_a_canary_that_has_all_requests_answers(say: Say, tmp_path: Path) -> None:
    next_ = (service("next"), endpoint_slice("next", [("10.0.0.2", 8080)]))
    canary = ingress("canary", "a.example.com", {"/": ("next", 80)}, {"canary": "true", "canary-weight": "100"})
    found = say(
        "explain", "a.example.com", folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}), canary, *next_), "-o", "json"
    ).json
    assert (found["cluster"], found["route"]["ingress"]["name"]) == ("default/next/80", "canary")
    assert [(r["ingress"]["name"], r["cluster"]) for r in found["shadowed"]] == [("web", "default/web/80")]
    assert found["shares"] == []


def test_a_canary_without_effect_is_shown_with_its_problem(say: Say, tmp_path: Path) -> None:
    idle = ingress("idle", "a.example.com", {"/": WEB}, {"canary": "true", "use-regex": "true"})
    said = say("explain", "a.example.com", folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}), idle))
    assert said.code == 0
    assert "use-regex has no effect" in said.out
    assert "The backend is the one that the path has anyway; this canary has no effect." in said.out
    assert "regular expressions here" not in said.out


PASS = ("--enable-ssl-passthrough",)


def test_tls_that_passes_through_is_answered_by_the_backend_of_the_root_whatever_the_path(say: Say, tmp_path: Path) -> None:
    item = ingress("p", "p.example.com", {"/": WEB, "/x": ("other", 80)}, {"ssl-passthrough": "true"}, tls={"tls": ["p.example.com"]})
    put = folder(tmp_path, item, secret_tls("tls", make_certificate(["p.example.com"])))
    said = say("explain", "https://p.example.com/x/y?z", put, *PASS)
    assert (said.code, said.out.splitlines()[:2]) == (
        0,
        ["https://p.example.com/x/y?z", "is answered by Service default/web port 80 (1 endpoint), to which TLS is passed through"],
    )
    found = say("explain", "https://p.example.com/x/y?z", put, *PASS, "-o", "json").json
    assert (found["action"], found["certificate"], found["shadowed"]) == ({"kind": "passthrough"}, None, [])
    assert found["cluster"] == "default/web/80~ad56966b"
    assert (found["route"]["rule"], found["endpoints"][0]["address"]) == ("spec.rules[0].http.paths[0]", "10.0.0.1")
    assert {"name": "ssl-passthrough", "value": "true", "fidelity": "exact"} in found["annotations"]
    plain = say("explain", "http://p.example.com/x", put, *PASS, "-o", "json").json
    assert plain["action"]["kind"] == "redirect"
    assert say("explain", "https://p.example.com/", put, "-o", "json").json["certificate"]["secret"]["name"] == "tls"


def test_copies_go_to_a_cluster_besides(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}, {"mirror-target": "http://copies.example.org/x"}))
    said = say("explain", "a.example.com/x", put)
    assert "besides it default/copies_example_org/80~" in said.out
    found = say("explain", "a.example.com/x", put, "-o", "json").json
    assert [cluster.partition("~")[0] for cluster in found["besides"]] == ["default/copies_example_org/80"]


def test_a_path_that_is_closed_for_want_of_another_object_says_so(say: Say, tmp_path: Path) -> None:
    put = folder(tmp_path, ingress("web", "a.example.com", {"/": WEB}, {"custom-headers": "default/none"}))
    said = say("explain", "a.example.com/x", put)
    assert "custom-headers names ConfigMap default/none, which does not exist" in said.out
    assert say("explain", "a.example.com/x", put, "-o", "json").json["action"] == {
        "kind": "respond",
        "status": 503,
        "reason": "custom-headers names ConfigMap default/none, which does not exist",
    }


@pytest.mark.parametrize(
    ("paths", "why"),
    [({"/x": WEB}, 'no rule of the host has the path "/"'), ({"/": ("empty", 80)}, "Service default/empty has no ready endpoint")],
)
def test_tls_that_passes_through_to_nothing_is_closed_and_why(
    say: Say, tmp_path: Path, paths: dict[str, tuple[str, int]], why: str
) -> None:
    put = folder(tmp_path, ingress("p", "p.example.com", paths, {"ssl-passthrough": "true"}), service("empty"))
    said = say("explain", "https://p.example.com/x", put, *PASS)
    assert said.code == 1
    assert said.out.splitlines()[1].startswith("is answered by none of your Ingresses: a closed connection, because ")
    assert why in said.out.splitlines()[1]
    assert say("explain", "https://p.example.com/x", put, *PASS, "-o", "json").json["action"]["kind"] == "close"


def test_without_a_folder_all_places_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "https://shop.test/"]) == 2
    assert capsys.readouterr().err.endswith("./manifests, - for standard input, or live for a running server.\n")
