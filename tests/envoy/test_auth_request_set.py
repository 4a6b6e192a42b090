"""auth_request_set: what an authentication service answers, in headers for the backend and the client."""

from __future__ import annotations

import base64

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Response, Site, backend, config_map, endpoint_slice, ingress, secret, service
from tests.envoy.test_auth_url import Judge, answer

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
URL = {"auth-url": "http://judge.default.svc.cluster.local/auth"}
BASIC = {"auth-type": "basic", "auth-secret": "users"}
PASSWORD = ("Authorization", "Basic " + base64.b64encode(b"ada:p").decode())
USERS = "proxy_set_header X-User $remote_user; add_header X-Seen '[$remote_user]' always;"
SNIPPET = """
auth_request_set $user $upstream_http_x_auth_request_user;
auth_request_set $token "Bearer $upstream_http_x_token";
auth_request_set $cookie $upstream_http_set_cookie;
proxy_set_header X-User $user;
proxy_set_header Authorization $token;
add_header X-Seen "user=$user";
more_set_headers "X-Always: $user";
add_header Set-Cookie $cookie;
"""
SAME = """
auth_request_set $user $upstream_http_x_user;
proxy_set_header X-User $user;
proxy_set_header User $remote_user;
proxy_set_header Tenant $arg_tenant;
proxy_set_header X-Team $http_my_x_team;
proxy_set_header X-Own $http_x_own;
proxy_set_header Content-Type $content_type;
"""


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, judge: Judge) -> Site:
    app, to = await shared_site.run(HttpApp("web")), await shared_site.run(judge)
    allowed = {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true"}
    snippet = {"configuration-snippet": SNIPPET}
    shared_site.folder.write(
        "all.yaml",
        *(*backend("web", app), service("judge"), endpoint_slice("judge", [to]), config_map("controller", allowed)),
        ingress("asked", "asked.test", WEB, URL | snippet),
        ingress("named", "named.test", WEB, URL | snippet | {"auth-response-headers": "X-Auth-Request-User"}),
        ingress("memory", "memory.test", WEB, URL | snippet | {"auth-cache-key": "$arg_t"}),
        ingress("open", "open.test", WEB, snippet),
        ingress("same", "same.test", WEB, URL | {"configuration-snippet": SAME}),
        ingress("same-open", "same-open.test", WEB, {"configuration-snippet": SAME}),
        secret("users", {"auth": b"ada:{PLAIN}p"}),
        ingress("all", "all.test", WEB, URL | BASIC | {"auth-response-headers": "Authorization"}),
        ingress("user", "user.test", WEB, BASIC | {"configuration-snippet": USERS}),
        ingress("nobody", "nobody.test", WEB, {"configuration-snippet": USERS}),
        ingress("any", "any.test", WEB, URL | BASIC | {"auth-response-headers": "Authorization", "satisfy": "any"}),
    )
    await shared_site.start_control_plane("--configmap", "default/controller")
    await shared_site.start_beside_authz()
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


def got_by_backend(got: Response, name: str) -> list[str]:
    return [value for each, value in got.json()["headers"] if each.lower() == name]


FORGED = [("X-User", "root"), ("Authorization", "mine"), ("X-Xds-Auth-Answered-X-Auth-Request-User", "root"), ("X-Xds-Auth-Kept", "x-a")]


@pytest.mark.parametrize("host", ["asked.test", "named.test", "memory.test"])
async def test_backend_and_client_get_what_the_service_answers(site: Site, host: str) -> None:
    said = answer(200, ("X-Auth-Request-User", "alice"), ("X-Auth-Request-User", "b"), ("X-Token", "t%u"), ("Set-Cookie", "a=b"))
    for _ in range(3):
        got = await site.get("/?t=1", host=host, headers=[*FORGED, *said])
        assert (got.status, got_by_backend(got, "x-user"), got_by_backend(got, "authorization")) == (200, ["alice, b"], ["Bearer t%u"])
        assert (got.header("X-Seen"), got.header("X-Always"), got.header("Set-Cookie")) == ("user=alice, b", "alice, b", "a=b")
        assert not [name for name, _ in (*got.json()["headers"], *got.headers) if name.lower().startswith("x-xds-")]


async def test_what_the_service_does_not_say_is_nothing(site: Site) -> None:
    got = await site.get("/", host="asked.test", headers=[*FORGED, *answer(204, ("X-Xds-Auth-Answered-X-Auth-Request-User", "root"))])
    assert (got.status, got_by_backend(got, "x-user"), got_by_backend(got, "authorization")) == (200, [], ["Bearer"])
    assert (got.header("X-Seen"), got.header("X-Always")) == ("user=", None)
    refused = await site.get("/", host="asked.test", headers=[*FORGED, *answer(403, ("X-Auth-Request-User", "alice"))])
    assert (refused.status, refused.header("X-Seen"), refused.header("X-Always")) == (403, None, "alice")
    assert not [name for name, _ in refused.headers if name.lower().startswith("x-xds-")]


async def test_nobody_is_asked_without_auth_url_and_no_client_says_it_instead(site: Site) -> None:
    got = await site.get("/", host="open.test", headers=FORGED)
    assert (got.status, got_by_backend(got, "x-user"), got_by_backend(got, "authorization")) == (200, [], ["Bearer"])


async def test_a_service_may_say_the_header_of_which_the_password_is_taken_away(site: Site) -> None:
    token = ("Authorization", "Bearer t")
    got = await site.get("/", host="all.test", headers=[PASSWORD, *answer(200, token)])
    assert (got.status, got_by_backend(got, "authorization")) == (200, ["Bearer t"])
    got = await site.get("/", host="all.test", headers=[PASSWORD, *answer(200)])
    assert (got.status, got_by_backend(got, "authorization")) == (200, [])
    got = await site.get("/", host="any.test", headers=[PASSWORD, *answer(200, token)])  # nobody is asked
    assert (got.status, got_by_backend(got, "authorization")) == (200, [])
    got = await site.get("/", host="any.test", headers=[("Authorization", "Bearer mine"), *answer(200, token)])
    assert (got.status, got_by_backend(got, "authorization")) == (200, ["Bearer t"])


async def test_the_user_is_one_whose_password_was_right(site: Site) -> None:
    got = await site.get("/", host="user.test", headers=[PASSWORD, *FORGED[:1]])
    assert (got.status, got_by_backend(got, "x-user"), got.header("X-Seen")) == (200, ["ada"], "[ada]")
    wrong = ("Authorization", "Basic " + base64.b64encode(b"ada:q").decode())
    got = await site.get("/", host="user.test", headers=[wrong])
    assert (got.status, got.header("X-Seen")) == (401, "[]")
    got = await site.get("/", host="nobody.test", headers=[PASSWORD, *FORGED[:1]])
    assert (got.status, got_by_backend(got, "x-user"), got.header("X-Seen")) == (200, [], "[]")


@pytest.mark.parametrize("host", ["same.test", "same-open.test"])
async def test_no_client_fills_in_a_header_that_comes_to_nothing_whatever_its_variable_is_called(site: Site, host: str) -> None:
    own = [("X-User", "root"), ("User", "root"), ("Tenant", "root"), ("X-Team", "root"), ("X-Own", "mine"), ("Content-Type", "a/b")]
    got = await site.get("/", host=host, headers=[*own, *answer(200)])
    assert got.status == 200
    assert [got_by_backend(got, name.lower()) for name, _ in own] == [[], [], [], [], ["mine"], ["a/b"]]
