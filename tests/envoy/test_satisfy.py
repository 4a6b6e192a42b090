"""satisfy through a real Envoy: address lists, passwords and an authentication service, of which all or any must let a client in."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Process, RawHttp, Response, Site, backend, config_map, ingress, secret, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

BASIC = {"auth-type": "basic", "auth-secret": "users", "auth-realm": "r"}
RIGHT = [("Authorization", "Basic " + base64.b64encode(b"ada:p").decode())]
LISTS = {True: {"allowlist-source-range": "127.0.0.0/8"}, False: {"allowlist-source-range": "192.0.2.0/24"}, None: {}}
SAID = {"yes": b"200 OK", "no": b"403 Forbidden", "who": b"401 Unauthorized\r\nWWW-Authenticate: Bearer", "broken": b"503 X"}
CASES = list(itertools.product(("any", "all"), LISTS, SAID))
ANY: dict[str, str] = {"satisfy": "any"}
SNIPPETS: list[tuple[str, dict[str, str], int]] = [
    ("satisfy any; allow 127.0.0.0/8; deny all;", {}, 200),
    ("allow 127.0.0.0/8; deny all;", ANY, 200),
    ("satisfy any; deny 127.0.0.1; allow 127.0.0.0/8;", {}, 403),
    ("satisfy any; allow 192.0.2.0/24;", {}, 403),
    ("deny 192.0.2.0/24;", ANY, 403),
    ("satisfy all; allow all;", {}, 403),
    ("satisfy any; allow all;", {"satisfy": "all"}, 403),
    ("satisfy all; satisfy any; allow all;", {}, 403),
    ("satisfy any; satisfy all; allow all;", {}, 403),
    ("if ($uri = /none) { satisfy any; } allow all;", {}, 403),
    ("allow all;", {"server-snippet": "satisfy any;"}, 403),
    ("satisfy any; deny all;", {"auth-url": "", **BASIC}, 401),
    ("deny all;", BASIC, 403),
    ("allow 127.0.0.0/8;", {**ANY, "denylist-source-range": "127.0.0.1"}, 403),
    ("allow 127.0.0.0/8;", {**ANY, "denylist-source-range": "192.0.2.0/24"}, 200),
    ("allow 127.0.0.0/8;", {**ANY, "allowlist-source-range": "192.0.2.0/24"}, 403),
    ("deny 127.0.0.1; allow 192.0.2.0/24;", {**ANY, "allowlist-source-range": "127.0.0.0/8"}, 200),
    ("if ($http_x) { return 400; }", {"auth-url": "", **BASIC, "server-snippet": "deny all;"}, 403),
    ("if ($http_x) { return 400; }", {**ANY, "server-snippet": "allow 127.0.0.0/8; deny all;"}, 200),
]
"""A snippet, further annotations, and the status for a client without password, whom the authentication service lets not in."""


def name(satisfy: str, listed: bool | None, said: str) -> str:
    return f"{satisfy}-{str(listed).lower()}-{said}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authz(shared_site: Site) -> Process:
    app = await shared_site.run(HttpApp("web"))
    ports = {}
    for said, line in SAID.items():
        ports[said] = (await shared_site.run(RawHttp(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n\r\n")))[1]
    made: list[dict[str, Any]] = []
    for satisfy, listed, said in CASES:
        host = name(satisfy, listed, said)
        asked = {**BASIC, "satisfy": satisfy, "auth-url": f"http://127.0.0.1:{ports[said]}/"}
        made.append(ingress(host, f"{host}.test", {"/": ("web", 80)}, asked | LISTS[listed]))
    made.append(ingress("missing", "missing.test", {"/": ("web", 80)}, BASIC | {"satisfy": "any", "auth-url": "http://127.0.0.1:9/"}))
    made.append(
        ingress(
            "signin",
            "signin.test",
            {"/": ("web", 80)},
            {**BASIC, "satisfy": "any", "auth-url": f"http://127.0.0.1:{ports['no']}/", "auth-signin": "https://s.test/"},
        )
    )
    for host, lists in (("user-listed", LISTS[True]), ("user-asked", LISTS[False]), ("user-password", {})):
        asked = {**BASIC, **ANY, "auth-url": f"http://127.0.0.1:{ports['yes']}/", "auth-response-headers": "X-User,X-Mail"}
        made.append(ingress(host, f"{host}.test", {"/": ("web", 80)}, asked | lists))
    listed = LISTS[True] | {"auth-url": f"http://127.0.0.1:{ports['no']}/"}
    made += [
        ingress("strict", "spelled.test", {"/a": ("web", 80)}, listed),
        ingress("lax", "spelled.test", {"/": ("web", 80)}, listed | ANY),
    ]
    made.append(ingress("open", "open.test", {"/": ("web", 80)}))
    for number, (text, more, _) in enumerate(SNIPPETS):
        asked = {"auth-url": f"http://127.0.0.1:{ports['no']}/", "configuration-snippet": text, **more}
        made.append(ingress(f"snippet-{number}", f"snippet-{number}.test", {"/": ("web", 80)}, asked))
    allowed = config_map("controller", {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true"})
    shared_site.folder.write("all.yaml", *backend("web", app), secret("users", {"auth": b"ada:{PLAIN}p"}), allowed, *made)
    await shared_site.start_control_plane("--configmap", "default/controller")
    found = await shared_site.start_beside_authz()
    await shared_site.until_answered("/", "web", host="open.test")
    return found


@pytest.fixture
def site(shared_site: Site, authz: Process) -> Site:
    return shared_site


async def ask(site: Site, host: str, *, password: bool) -> Response:
    return await site.get("/", host=f"{host}.test", headers=RIGHT if password else [])


def expected(satisfy: str, listed: bool | None, said: str, *, password: bool) -> int:
    """nginx' access phase: a rule that fails ends it, and 401 outweighs 403."""
    asked = {"yes": 200, "no": 403, "who": 401, "broken": 500}[said]
    verdicts = [*([200 if listed else 403] if listed is not None else []), 200 if password else 401, asked]
    refusals = []
    for verdict in verdicts:
        if verdict == 200 and satisfy == "any":
            return 200
        if verdict != 200 and (satisfy == "all" or verdict == 500):
            return verdict
        refusals += [verdict] if verdict != 200 else []
    return 200 if satisfy == "all" else max(refusals, key=[403, 401].index)


@pytest.mark.parametrize(("satisfy", "listed", "said"), CASES)
@pytest.mark.parametrize("password", [True, False])
async def test_who_comes_in(site: Site, satisfy: str, listed: bool | None, said: str, password: bool) -> None:
    got = await ask(site, name(satisfy, listed, said), password=password)
    assert got.status == expected(satisfy, listed, said, password=password)
    if got.status == 200:
        assert (got.app, got.received("Authorization")) == ("web", [])
    by_password = 'Basic realm="r"' in got.all("WWW-Authenticate")
    assert by_password == (got.status == 401 and not password)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
async def test_who_comes_in_by_rules_of_a_snippet(site: Site, number: int) -> None:
    assert (await ask(site, f"snippet-{number}", password=False)).status == SNIPPETS[number][2]


@pytest.mark.parametrize(("host", "password"), [("user-listed", False), ("user-asked", False), ("user-password", True)])
async def test_who_need_not_ask_is_nobody_that_the_service_knows(site: Site, host: str, password: bool) -> None:
    """Who the user is, the service says, or nobody."""
    claims = [("X-User", "root"), ("X-User", "admin"), ("x-mail", "root@a.test"), ("X-Other", "mine"), *(RIGHT if password else [])]
    got = await site.get("/", host=f"{host}.test", headers=claims)
    assert got.status == 200
    assert [got.received(name) for name in ("X-User", "X-Mail", "X-Other")] == [[], [], ["mine"]]


@pytest.mark.parametrize(("path", "status"), [("/b", 200), ("/a", 403), ("/%61", 403), ("/b/..%2fa", 400), ("//a", 403)])
async def test_no_spelling_of_a_path_finds_the_rules_of_one_where_any_is_enough(site: Site, path: str, status: int) -> None:
    assert (await site.get(path, host="spelled.test")).status == status


async def test_a_redirect_to_sign_in_comes_only_after_both_have_refused(site: Site) -> None:
    assert (await ask(site, "signin", password=True)).status == 200
    got = await ask(site, "signin", password=False)
    assert (got.status, (got.header("Location") or "").partition("?")[0]) == (302, "https://s.test/")


async def test_a_service_that_is_away_lets_nobody_in_who_has_no_password(site: Site) -> None:
    assert (await ask(site, "missing", password=True)).status == 200
    assert (await ask(site, "missing", password=False)).status == 500


async def test_without_the_authorisation_service_only_the_lists_let_in(site: Site, authz: Process) -> None:
    """Last: the other service would let these in, but nobody knows what it would be asked after."""
    await authz.kill()
    for password in (True, False):
        assert (await ask(site, "any-none-yes", password=password)).status == 503
        assert (await ask(site, "any-false-yes", password=password)).status == 503
        assert (await ask(site, "any-true-no", password=password)).status == 200
    await authz.start()

    async def back() -> bool:
        return (await ask(site, "any-none-yes", password=True)).status == 200

    await wait_until(back, "the service to answer")
