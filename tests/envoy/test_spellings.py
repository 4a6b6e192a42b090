"""Closed and open paths in every spelling, through a real Envoy: it answers as `xds explain` works out, and as nginx chooses."""

from __future__ import annotations

import random
from functools import partial

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Response, Site, backend
from tests.spellings import Host, a_host, a_request, nginx_choice, nginx_path
from xds.config import Flags
from xds.explain.route_of import HttpRequest, answer, normalised
from xds.model import Forward, Redirect, Respond, Route, Via
from xds.offline import load
from xds.translate.hosts import virtual_host
from xds.units.memo import Recorder

pytestmark = [pytest.mark.envoy]

HOSTS, REQUESTS = 40, 20


def seen(response: Response) -> object:
    """What came of a request: the application and the path that it got, or the status."""
    return (response.app, response.json()["path"]) if response.app else response.status


def expected(route: Route, path: str) -> object:
    match route.action:
        case Forward(cluster):
            return cluster.service, path
        case Redirect(status) | Respond(status):
            return status


async def test_a_real_envoy_decides_as_explained_and_lets_nobody_around_a_rule(site: Site) -> None:
    choose = random.Random(24).choice
    hosts = [a_host(choose, f"h{n}.test") for n in range(HOSTS)]
    for n in range(5):
        site.folder.write(f"s{n}.yaml", *backend(f"s{n}", await site.run(HttpApp(f"s{n}"))))
    for host in hosts:
        site.folder.write(f"{host.name}.yaml", *host.manifests())
    await site.start()
    loaded = load(Flags(manifests=(site.folder.path,), watch_ingress_without_class=True))
    hosts_of = partial(virtual_host, Recorder(loaded.tables.build))
    walked_around = []
    for host, target in [(host, a_request(choose, host)) for host in hosts for _ in range(REQUESTS)]:
        path = normalised(target)
        if "%0a" in path.lower():
            continue  # the application has no route for a path with a line break
        route = answer(hosts_of, loaded.tables.hosts.values, HttpRequest(Via.HTTP, host.name, 80, path, "")).route
        found = seen(await site.get(target, host=host.name))
        assert found == expected(route, path), f"{host}: {target}"
        if is_closed(host, path) and found not in (301, 400, 404, 503):
            walked_around.append((host, target))
    assert walked_around == []


def is_closed(host: Host, path: str) -> bool:
    """Whether nginx sends a path to one with an access rule."""
    wanted = nginx_path(path)
    number = None if wanted is None else nginx_choice(host, wanted)
    return number is not None and host.claims[number].closed
