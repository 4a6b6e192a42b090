"""Keys of the ConfigMap that are part of the listeners: how long connections of clients last, and what they may carry."""

from __future__ import annotations

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Site, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]


async def started(site: Site, **keys: str) -> None:
    site.folder.write("app.yaml", *backend("web", await site.run(HttpApp("web"))))
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("web", 80)}))
    site.folder.write("keys.yaml", config_map("keys", {name.replace("_", "-"): value for name, value in keys.items()}))
    await site.start("--configmap", "default/keys")


async def answered(connection: Http1) -> int:
    """How many of ten requests the connection answers before it ends."""
    for number in range(1, 11):
        response = await connection.request(host="a.test")
        assert response.status == 200
        if (response.header("connection") or "").lower() == "close":
            assert await connection.ended()
            return number
    return 10


@pytest.mark.parametrize(
    ("keys", "requests"), [({}, 10), ({"keep_alive_requests": "3"}, 3), ({"keep_alive": "0"}, 1), ({"keep_alive_requests": "100"}, 10)]
)
async def test_a_connection_ends_after_so_many_requests(site: Site, keys: dict[str, str], requests: int) -> None:
    await started(site, **keys)
    async with await Http1.open(site.http) as connection:
        assert await answered(connection) == requests


async def test_names_with_underscores_pass_where_they_may_and_no_id_is_made_up(site: Site) -> None:
    await started(site, enable_underscores_in_headers="true", generate_request_id="false")
    response = await site.get("/", host="a.test", headers=[("under_score", "1")])
    assert response.received("under_score") == ["1"]
    assert response.received("x-request-id") == []
    assert (await site.get("/", host="a.test", headers=[("X-Request-ID", "mine")])).received("x-request-id") == ["mine"]


async def test_odd_names_pass_where_they_may(site: Site) -> None:
    await started(site, ignore_invalid_headers="false")
    sent = [("x.y", "1"), ("under_score", "2"), ("x-envoy-retry-on", "5xx"), ("ssl-client-verify", "SUCCESS")]
    response = await site.get("/", host="a.test", headers=sent)
    assert [response.received(name) for name, _ in sent] == [["1"], ["2"], [], []]


async def test_a_header_must_come_in_time(site: Site) -> None:
    await started(site, client_header_timeout="1")
    async with await Http1.open(site.http) as connection:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n")
        assert (await connection.receive()).status == 408
