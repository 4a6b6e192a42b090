"""auth-cache-key: answers of an authentication service that are remembered beside Envoy, and requests that go on without that memory."""

from __future__ import annotations

import asyncio
import base64

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Http2, Process, Response, Site, backend, endpoint_slice, ingress, service, wait_until
from tests.envoy.test_auth_url import Judge, answer

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
ASKS = {"auth-url": "http://judge.default.svc.cluster.local/auth", "auth-response-headers": "X-User"}
BY_ARGUMENT = ASKS | {"auth-cache-key": "$arg_t"}
BY_COOKIE = ASKS | {"auth-cache-key": "$cookie_s", "auth-signin": "https://$host/start?rd=$escaped_request_uri"}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authz(shared_site: Site, judge: Judge) -> Process:
    to = await shared_site.run(judge)
    shared_site.folder.write(
        "all.yaml",
        *(*backend("web", await shared_site.run(HttpApp("web"))), service("judge"), endpoint_slice("judge", [to])),
        ingress("a", "a.test", {"/": ("web", 80), "/other": ("web", 80)}, BY_COOKIE),
        ingress("argument", "argument.test", WEB, BY_ARGUMENT),
        ingress("user", "user.test", WEB, ASKS | {"auth-cache-key": "$remote_user$http_authorization"}),
        ingress("name", "name.test", WEB, ASKS | {"auth-cache-key": "${remote_user}"}),
        ingress("plain", "plain.test", WEB, ASKS),
    )
    await shared_site.start_control_plane()
    found = await shared_site.start_beside_authz()
    await shared_site.until_answered("/", "web", host="plain.test")
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared_site: Site, authz: Process) -> Site:
    if not authz.running:
        await authz.start()
    return shared_site


def users(got: Response) -> list[str]:
    return [value for name, value in got.json()["headers"] if name.lower() == "x-user"]


async def remembered(site: Site, judge: Judge, cookie: str, *said: tuple[str, str], status: int = 200) -> Response:
    """Ask with a cookie until the answer is remembered, and return what a client gets then whom the service would let in as `nobody`."""
    await site.get("/", host="a.test", headers=[("Cookie", f"s={cookie}"), *answer(status, *said)])
    last: list[Response] = []

    async def without_asking() -> bool:
        before = judge.asked
        last[:] = [await site.get("/p?q=1", host="a.test", headers=[("Cookie", f"s={cookie}"), *answer(status, *said)])]
        return judge.asked == before

    await wait_until(without_asking, "an answer to be remembered")
    return last[0]


async def test_what_is_remembered_is_what_the_service_has_said(site: Site, judge: Judge) -> None:
    got = await remembered(site, judge, "alice", ("X-User", "alice"), ("X-User", "root"))
    assert (got.status, users(got)) == (200, ["alice, root"])
    refused = await remembered(site, judge, "bob", ("WWW-Authenticate", "Bearer"), status=401)
    assert (refused.status, refused.header("location")) == (302, "https://a.test/start?rd=%2Fp%3Fq%3D1")
    again = await site.get("/", host="a.test", headers=[("Cookie", "s=alice"), ("X-User", "mallory"), *answer(401)])
    assert (again.status, users(again)) == (200, ["alice, root"])


async def test_each_key_and_each_place_is_remembered_by_itself(site: Site, judge: Judge) -> None:
    await remembered(site, judge, "carol")
    before = judge.asked
    await site.get("/other", host="a.test", headers=[("Cookie", "s=carol"), *answer(200)])
    await site.get("/", host="a.test", headers=[("Cookie", "s=dave"), *answer(200)])
    assert judge.asked == before + 2


@pytest.mark.parametrize(
    ("status", "headers"),
    [(403, ()), (500, ()), (200, (("Set-Cookie", "a=b"),)), (200, (("Cache-Control", "no-store"),)), (200, (("Vary", "*"),))],
)
async def test_what_is_not_to_be_remembered_is_asked_again(
    site: Site, judge: Judge, status: int, headers: tuple[tuple[str, str], ...]
) -> None:
    before = judge.asked
    asked = [("Cookie", f"s={status}-{len(headers)}"), *answer(status, *headers)]
    got = [(await site.get("/", host="a.test", headers=asked)).status for _ in range(4)]
    assert (got, judge.asked) == ([status] * 4, before + 4)


async def test_a_key_with_bytes_that_no_expression_reads_is_not_remembered(site: Site, judge: Judge) -> None:
    """Two such cookies could otherwise be one key."""
    await site.get("/", host="a.test", headers=[("Cookie", "s=\xff1"), *answer(200)])
    got = [(await site.get("/", host="a.test", headers=[("Cookie", f"s=\xff{end}"), *answer(401)])).status for end in (1, 2)]
    assert got == [302, 302]


@pytest.mark.parametrize("host", ["user.test", "name.test"])
async def test_a_user_is_known_by_all_of_the_credentials(site: Site, judge: Judge, host: str) -> None:
    """So an answer for one password is none for another one of the same user. The first key is that of ingress-nginx' documentation."""

    def asked(password: str, status: int) -> list[tuple[str, str]]:
        return [("Authorization", f"Basic {base64.b64encode(f'ada:{password}'.encode()).decode()}"), *answer(status)]

    async def without_asking() -> bool:
        before = judge.asked
        return (await site.get("/", host=host, headers=asked("right", 200))).status == 200 and judge.asked == before

    await wait_until(without_asking, "an answer to be remembered")
    assert (await site.get("/", host=host, headers=asked("right", 401))).status == 200
    assert (await site.get("/", host=host, headers=asked("wrong", 401))).status == 401


async def test_a_comma_ends_no_cookie_of_a_key(site: Site, judge: Judge) -> None:
    """Else who knows what stands before it would have the answer, whatever the signature behind it."""
    await remembered(site, judge, "grace,signature")
    forged = await site.get("/", host="a.test", headers=[("Cookie", "s=grace,forged"), *answer(401)])
    assert forged.status == 302


async def test_a_query_with_bytes_that_no_expression_reads_is_not_remembered(site: Site, judge: Judge) -> None:
    """Else its key would be that of a request without the argument."""
    async with await Http2.open(site.http, strict=False) as client:
        headers = [(name.lower(), value) for name, value in answer(200)]
        first = await client.request(target=b"/?t=good&x=\xff", host="argument.test", headers=headers)
    got = [(await site.get(target, host="argument.test", headers=answer(401))).status for target in ("/", "/?t=bad")]
    assert (first.status, got) == (400, [401, 401]), "the service lets it in, and the backend does not take the byte"

    async def without_asking() -> bool:
        before = judge.asked
        await site.get("/?t=plain", host="argument.test", headers=answer(200))
        return judge.asked == before

    await wait_until(without_asking, "an answer to be remembered by an argument")


async def test_clients_cannot_choose_what_is_remembered(site: Site, judge: Judge) -> None:
    await remembered(site, judge, "erin")
    before = judge.asked
    forged = [("X-Xds-Auth-Memory", "x 200=999 s"), ("Cookie", "s=none"), *answer(401)]
    statuses = [(await site.get("/", host=host, headers=forged)).status for host in ("a.test", "plain.test", "plain.test")]
    assert (statuses, judge.asked) == ([302, 401, 401], before + 3)


async def test_the_service_is_asked_while_nobody_remembers(site: Site, judge: Judge, authz: Process) -> None:
    await remembered(site, judge, "frank")
    await authz.stop()
    before = judge.asked
    statuses = await asyncio.gather(*(site.get("/", host="a.test", headers=[("Cookie", "s=frank"), *answer(s)]) for s in (200, 401, 200)))
    assert (sorted(each.status for each in statuses), judge.asked) == ([200, 200, 302], before + 3)
