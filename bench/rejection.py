"""From the first rejection until a real Envoy has accepted every change but the culprits'.

    python -m bench.rejection [N …]

All hosts change at once, some of them into what Envoy rejects. Where it quotes what is wrong, the culprit is known at once; else it is
searched for among all. The control plane runs in this process.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher

from bench import objects
from bench.injected import Given
from bench.real_envoy import AS_DEPLOYED, settings_for, until_still
from bench.table import Mark, Table, marked, number
from tests.envoy.harness import Envoy, Ports
from xds.app import ControlPlane
from xds.kube.source import Change
from xds.render.bootstrap import bootstrap
from xds.snapshot import ROUTE
from xds.wire.encode import encode, field

SIZES = (1_000,)
CULPRITS = (1, 10)
MARK = Mark(1_000, "ms")
_REFUSED = "/refused"
_LOOK = 0.0005
"""Seconds between two reads of the counters."""


class Search(NamedTuple):
    """The number of NACKs, and milliseconds from the first one until Envoy had all that it does not reject."""

    rejections: int
    took: float


def _refused(host: str, *, quoted: bool) -> bytes:
    """A virtual host with an invalid regular expression, which Envoy's error quotes, or with two rewrites, where it names nothing."""
    if quoted:
        match = RouteMatch(safe_regex=RegexMatcher(regex=f"({host}"))
        route = Route(match=match, direct_response=DirectResponseAction(status=200))
    else:
        rewrite = RegexMatchAndSubstitute(pattern=RegexMatcher(regex="^/x"), substitution="/y")
        route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="any", prefix_rewrite="/y", regex_rewrite=rewrite))
    return field(2, encode(VirtualHost(name=host, domains=[host], routes=[route])))


async def search(n: int, culprits: int, *, quoted: bool) -> Search:
    """One Envoy, `n` hosts, and `culprits` of them bad in one change."""
    bad = [k * n // culprits for k in range(culprits)]
    ports, source = Ports(), Given()
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        folder = Path(name)
        raws = [(ROUTE, f"{_REFUSED}-{i}-".encode(), _refused(objects.host(i), quoted=quoted)) for i in bad]
        (folder / "raw.json").write_text(json.dumps([[t, *(base64.b64encode(each).decode() for each in rest)] for t, *rest in raws]))
        os.environ["XDS_RAW_PARTS"] = str(folder / "raw.json")
        try:
            address = f"127.0.0.1:{ports.take()}"
            settings = settings_for(ports, xds_address=address, healthz_host="127.0.0.1", healthz_port=0, configmap=objects.CONFIG_MAP)
            plane = ControlPlane(settings, source)
        finally:
            del os.environ["XDS_RAW_PARTS"]
        source.queue.put_nowait(Change(put=tuple(map(objects.parsed, objects.world(n)))))
        await plane.start()
        running = asyncio.create_task(plane.run())
        try:
            async with Envoy(bootstrap(settings), folder, ports, flags=AS_DEPLOYED) as envoy:
                await until_still(envoy.process.pid)
                before = _count(plane, "xds_nacks_total")
                changed = [objects.ingress(i, path=f"{_REFUSED}-{i}-" if i in bad else "/new") for i in range(n)]
                source.queue.put_nowait(Change(put=tuple(map(objects.parsed, changed))))
                return await _search(plane, culprits, before)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await plane.stop()
            ports.release()


async def _search(plane: ControlPlane, culprits: int, before: int) -> Search:
    """From the first NACK after the first `before` until the culprits are found, and the Envoy has answered what was published last."""
    async with asyncio.timeout(60):
        while _count(plane, "xds_nacks_total") == before:  # noqa: ASYNC110 - a counter has no event to wait for
            await asyncio.sleep(_LOOK)
        begun = perf_counter()
        while len(plane.held) < culprits or _count(plane, "xds_responses_total") > _count(plane, "xds_acks_total", "xds_nacks_total"):
            await asyncio.sleep(_LOOK)
            await plane.settled()
    return Search(_count(plane, "xds_nacks_total") - before, (perf_counter() - begun) * 1000)


def _count(plane: ControlPlane, *names: str) -> int:
    """The sum of these counters for routes."""
    families = plane.registry.restricted_registry(names).collect()
    return int(
        sum(sample.value for family in families for sample in family.samples if sample.name in names and sample.labels["type"] == "rds")
    )


def measure(sizes: Iterable[int] = SIZES, *, repeat: int = 3) -> Table:
    """Each case `repeat` times; the slowest."""
    title = "First rejection → every other change accepted by a real Envoy, ms"
    table = Table(title, ("N", "culprits", "Envoy quotes", "rejections", "longest", "mark", ""))
    logging.disable(logging.ERROR)  # each rejection is logged
    for n in sizes:
        for quoted, culprits in itertools.product((True, False), CULPRITS):
            found = [asyncio.run(search(n, culprits, quoted=quoted)) for _ in range(repeat)]
            slowest = max(found, key=lambda one: one.took)
            cells = marked(slowest.took, "", MARK if culprits == 1 else None)
            table.add(number(n), str(culprits), "what is wrong" if quoted else "nothing", str(slowest.rejections), *cells)
    logging.disable(logging.NOTSET)
    table.note = f"The longest of {repeat}, each with processes of its own. All N hosts change at once. Delta ADS, one worker thread."
    return table


if __name__ == "__main__":
    print(measure([int(word) for word in sys.argv[1:]] or SIZES))
