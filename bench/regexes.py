"""What regular expressions cost a real Envoy when a route table changes: it compiles all of a table again, whatever has changed.

    python -m bench.regexes [ROUTES]

One host has routes with an expression each, and another host changes. What the same changes cost without these routes is subtracted.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from bench.machine import cpu_of
from bench.real_envoy import AS_DEPLOYED, settings_for, until_still
from bench.table import Mark, Table, marked, number
from tests.envoy.harness import Envoy, Ports, wait_until
from xds.kube.world import World
from xds.model import PathKind, PathMatch, Respond, Route, Settings, VirtualHost
from xds.patterns import regex
from xds.render import names, routes
from xds.render.bootstrap import bootstrap
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import ROUTE, Resource, Snapshot
from xds.translate.regexes import OF_INGRESS
from xds.units.tables import Tables
from xds.wire.encode import encode, field

CHANGES = 20
MARK = Mark(5, "ms")
EXPRESSIONS: Mapping[str, str] = {
    "a literal": "/{n}/api",
    "/api/v1(/|$)(.*)": "/{n}/api/v1(/|$)(.*)",
    "12 words": "/{n}/(favicon|robots|sitemap|static|assets|images|scripts|styles|fonts|media|feed|site)",
    "a UUID": "/{n}/users/[0-9a-f]{{8}}-([0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}",
    "990 characters": "/{n}/" + "x" * 980,
    "240 × [^/]": "/{n}/" + "[^/]" * 240,
    "a{1,250}b{1,250}": "/{n}/a{{1,250}}b{{1,250}}",
    "90 × \\W": "/{n}/" + r"\W" * 90,
    "400 × a?": "/{n}/" + "a?" * 400,
    "100 × (|a)*": "/{n}/" + "(|a)*" * 100,
}
"""What is measured; `{n}` makes each route's expression another one."""


def _table(expression: str, count: int, changed: int) -> Resource:
    """A route table of a host with `count` expressions, and one whose path is another one each time."""
    matches = (PathMatch(PathKind.REGEX, expression.format(n=k)) for k in range(count))
    full = VirtualHost("full.example.com", tuple(Route(match, Respond(200)) for match in matches))
    other = VirtualHost("other.example.com", (Route(PathMatch(PathKind.EXACT, f"/{changed}"), Respond(200)),))
    hosts = (field(2, routes.virtual_host_bytes(each, None, Settings())) for each in (full, other))
    return Resource.of(names.ROUTES, encode(routes.table(Settings(), {})) + b"".join(hosts))


async def rebuilding(expression: str, count: int, changes: int = CHANGES) -> float:
    """Milliseconds of CPU that a real Envoy spends on one change of another host."""
    ports, snapshot = Ports(), Snapshot()
    settings = settings_for(ports)
    Tables(World(settings)).apply([]).publish(snapshot)
    snapshot.ready = True
    fleet = Fleet(snapshot, CollectorRegistry(), identifier="bench")
    server = Server(fleet, "127.0.0.1:0")

    async def publish(changed: int) -> None:
        snapshot[ROUTE].update([_table(expression, count, changed)], ())
        fleet.publish()
        await wait_until(taken, "Envoy to have the table", deadline=60)

    async def taken() -> bool:
        return all(stream.session.up_to_date(ROUTE) for stream in fleet.connected())

    snapshot[ROUTE].update([_table(expression, count, 0)], ())
    await server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
            own = settings_for(ports, xds_address=server.address, node_id="bench")
            async with Envoy(bootstrap(own), Path(folder), ports, flags=AS_DEPLOYED) as envoy:
                before = await until_still(envoy.process.pid)
                for changed in range(1, changes + 1):
                    await publish(changed)
                await until_still(envoy.process.pid)
                return (cpu_of(envoy.process.pid) - before) * 1000 / changes
    finally:
        await server.stop(0)
        ports.release()


def measure(most: int = 10_000, *, changes: int = CHANGES, expressions: Mapping[str, str] = EXPRESSIONS) -> Table:
    """Of each expression as many routes as the budget of one Ingress pays for, `most` at most."""
    title = "Regular expressions in a route table: what each change of anything costs Envoy for those of one Ingress, CPU ms"
    table = Table(title, ("expression", "instructions", "cost", "routes", "each, µs", "all", "mark", ""))
    without = asyncio.run(rebuilding("/{n}", 0, changes))
    for name, expression in expressions.items():
        sent = regex.nginx_location(expression.format(n=0))
        count = min(most, OF_INGRESS // regex.cost(sent))
        spent = max(0.0, asyncio.run(rebuilding(expression, count, changes)) - without)
        shown = (number(regex.verdict(sent).size), number(regex.cost(sent)), number(count), number(spent / count * 1000))
        table.add(name, *shown, *marked(spent, "", MARK))
    table.note = f"{changes} changes each, one worker thread. `cost` is what the budget of the Ingress is charged, {OF_INGRESS:,} in all."
    return table


if __name__ == "__main__":
    print(measure(*(int(word) for word in sys.argv[1:])))
