"""Requests of many clients at once, while most of the endpoints that Envoy was given are dead."""

from __future__ import annotations

from collections import Counter

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Site, backend, ingress, load

pytestmark = pytest.mark.envoy

HOST = "dead.test"
CLIENTS, REQUESTS = 60, 10
TRIES = 3
"""The default of `proxy-next-upstream-tries`."""


async def _asked(site: Site, *, dead: int) -> Counter[int]:
    """The statuses of requests of many clients at once, to so many dead endpoints and one that lives."""
    refused = [("127.0.0.1", site.ports.take()) for _ in range(dead)]
    live = await site.run(HttpApp("live"))
    site.folder.write("dead.yaml", ingress("dead", HOST, {"/": ("dead", 80)}), *backend("dead", *refused, live))
    await site.start()

    async def ask(client: Http1, _: int) -> Counter[int]:
        return Counter([(await client.request(host=HOST)).status for _ in range(REQUESTS)])

    found = await load(CLIENTS, lambda: Http1.open(site.http), ask)
    return sum((answers for answers in found if isinstance(answers, Counter)), Counter())


async def test_each_request_of_a_crowd_is_tried_at_another_endpoint_until_one_lives(site: Site) -> None:
    """Envoy's default of three retries at a time in a cluster would end most of them, and so would a second try at the same endpoint."""
    assert await _asked(site, dead=TRIES - 1) == {200: CLIENTS * REQUESTS}
    stats = await site.envoy.stats("default/dead/80.upstream_rq_retry")
    assert stats["cluster.default/dead/80.upstream_rq_retry"] >= CLIENTS * REQUESTS
    assert stats["cluster.default/dead/80.upstream_rq_retry_overflow"] == 0


async def test_more_dead_endpoints_than_tries_end_in_502_as_in_nginx(site: Site) -> None:
    """Which is why a pod has to go on serving until it has left its EndpointSlice, there as well as here."""
    statuses = await _asked(site, dead=TRIES)
    assert statuses.keys() == {200, 502}
    assert statuses.total() == CLIENTS * REQUESTS
