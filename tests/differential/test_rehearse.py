"""`xds rehearse` between Debian's nginx, with the locations that ingress-nginx writes, and a real Envoy of ours."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from examples.apps import Address
from tests.cli import schemas
from tests.cli.site import Said
from tests.differential.controller import ANY, EXACT, HTTP, PREFIX_TYPE, Given, Path, Settings, servers
from tests.differential.nginx import NGINX, Nginx
from tests.envoy.harness import Site, backend, config_map
from tests.envoy.harness.process import ROOT, environment
from tests.envoy.harness.waiting import wait_until
from xds.nginx.log_format import DEFAULT

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not NGINX, reason="there is no nginx"),
]
SITE = (
    Given("plain", "plain.test", (Path("/", PREFIX_TYPE, "a"), Path("/shop", PREFIX_TYPE, "b"), Path("/only", EXACT, "c"))),
    Given("rest", "rest.test", (Path("/api", PREFIX_TYPE, "a"), Path("/x/", PREFIX_TYPE, "b"))),
    Given("regex", "regex.test", (Path("/v[0-9]+(/|$)(.*)", ANY, "a"), Path("/(de|fr)/.*", ANY, "b")), {"rewrite-target": "/$2"}),
    Given("star", "*.star.test", (Path("/", PREFIX_TYPE, "c"),)),
    Given("cors", "cors.test", (Path("/", PREFIX_TYPE, "a"),), {"enable-cors": "true", "cors-allow-origin": "https://shop.test"}),
    Given("tls", "tls.test", (Path("/", PREFIX_TYPE, "b"),), tls=True),
    Given("moved", "moved.test", (Path("/", PREFIX_TYPE, "a"),), {"permanent-redirect": "https://new.test/x"}),
    Given("www", "www.test", (Path("/", PREFIX_TYPE, "a"),), {"app-root": "/start"}),
)
BY = "X-App"


class Named:
    """An application that answers with its name, always in the same words."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""

        async def answer(_: web.Request) -> web.Response:
            cookie = {"Set-Cookie": f"session={id(object())}; Path=/; HttpOnly"}
            return web.Response(text=self.name, headers={BY: self.name, **cookie})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        found: Address = self._runner.addresses[0][:2]
        return found

    async def stop(self) -> None:
        """Close what listens and every connection."""
        if self._runner:
            await self._runner.cleanup()


@dataclass
class Both:
    """nginx and our Envoy before the same applications."""

    site: Site
    nginx: Nginx
    services: Mapping[str, Address]
    log: FilePath

    async def serve(self, in_nginx: Sequence[Given]) -> None:
        """Serve these hosts in nginx; Envoy serves SITE. A log has each request that nginx gets, in ingress-nginx's format."""
        made = servers(in_nginx, Settings(self.services, self.nginx.address))
        named = 'set $proxy_upstream_name "default-{}-80"; set $proxy_alternative_upstream_name ""; set $req_id "-";'
        named += " access_log {} upstreaminfo;"
        of_host = {each.host: each.paths[0].service for each in in_nginx}
        made = {host: f"    {named.format(of_host[host], self.log)}\n{text}" for host, text in made.items()}
        line = DEFAULT.replace('"', '\\"')
        self.log.write_text("")
        await self.nginx.serve(made, f'{HTTP}  log_format upstreaminfo "{line}";\n')

    async def rehearse(self, *words: str) -> Said:
        """Run the command."""
        theirs, ours = (self.nginx.address, self.nginx.tls), (self.site.http, self.site.https)
        sides = [
            word
            for name, both in (("--from", theirs), ("--to", ours))
            for scheme, (host, port) in zip(("http", "https"), both, strict=True)
            for word in (name, f"{scheme}://{host}:{port}")
        ]
        command = [sys.executable, "-m", "xds", "rehearse", *sides, "--rate", "1000", "--backend-header", BY, *words]
        command += ["--configmap", "default/controller", str(self.site.folder.path)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment(), cwd=ROOT)
        out, err = await asyncio.wait_for(process.communicate(), 120)
        return Said(process.returncode or 0, out.decode(), err.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    found = {name: await shared_site.run(Named(name)) for name in "abc"}
    objects = [each for name, address in found.items() for each in backend(name, address)]
    objects += [each.manifest(age) for age, each in enumerate(SITE)]
    shared_site.folder.write("all.yaml", config_map("controller", {"hsts": "false"}), *objects)
    await shared_site.start("--configmap", "default/controller")

    async def served() -> bool:
        return (await shared_site.get("/", host="moved.test")).status == 301

    await wait_until(served, "Envoy to serve")
    folder = tmp_path_factory.mktemp("nginx")
    nginx = Nginx(shared_site, folder)
    yield Both(shared_site, nginx, found, folder / "access.log")
    await nginx.stop()


def without_stand_in(found: Any) -> list[Any]:
    """The differences that are not those of this nginx: it has a certificate of its own, and nothing for hosts that nobody has."""
    return [group for group in found["differences"] if group["field"] != "certificate" and group["object"]]


async def test_both_answer_alike_for_every_host_and_path(both: Both) -> None:
    await both.serve(SITE)
    said = await both.rehearse("-o", "json")
    schemas.check("rehearse", said.json)
    summary = said.json["summary"]
    assert without_stand_in(said.json) == [], said.out
    assert summary["rules"] == summary["rules_asked"] == sum(len(each.paths) for each in SITE)
    assert summary["requests"] > 100
    assert summary["unanswered"] == 0
    assert summary["complete"]


async def test_what_differs_is_found_at_its_ingress(both: Both) -> None:
    """nginx as it was before some annotations and a path were changed."""
    changed = {
        "cors": {"notes": {}},
        "moved": {"notes": {"permanent-redirect": "https://old.test/x"}},
        "plain": {"paths": (Path("/", PREFIX_TYPE, "a"), Path("/shop", PREFIX_TYPE, "c"), Path("/only", EXACT, "c"))},
        "tls": {"tls": False},
    }
    await both.serve([replace(each, **changed.get(each.name, {})) for each in SITE])
    said = await both.rehearse("-o", "json")
    assert said.code == 1
    found = {(group["object"]["name"], group["rule"], group["field"]) for group in without_stand_in(said.json)}
    first = "spec.rules[0].http.paths[0]"
    assert {each for each in found if not each[2].startswith("header access-control-")} == {
        ("moved", first, "location"),
        ("plain", "spec.rules[0].http.paths[1]", "backend"),
        ("tls", first, "status"),
    }
    assert ("cors", first, "header access-control-allow-origin") in found
    by_name = {(group["object"]["name"], group["field"]): group for group in without_stand_in(said.json)}
    assert by_name["moved", "location"]["annotations"] == [{"name": "permanent-redirect", "value": "https://new.test/x"}]
    example = by_name["tls", "status"]["examples"][0]
    assert (example["from"], example["to"]) == ("200", "308")


async def test_what_people_asked_for_is_asked_again_from_nginx_own_log(both: Both) -> None:
    await both.serve(SITE)
    for host, target in (("plain.test", "/a/b?x=1"), ("plain.test", '/q"uo\\te?y="'), ("plain.test", "/a/b?x=1"), ("rest.test", "/api/v1")):
        await both.nginx.get(target, host=host, headers=[("User-Agent", '" 200 5 "-" "GET /forged HTTP/1.1'), ("Referer", "\\x22")])
    await both.nginx.get("/posted", host="plain.test", method="POST")
    before = both.log.read_text().count("\n")
    said = await both.rehearse("-o", "json", "--access-log", str(both.log), "--allow", "plain.test,rest.test")
    found = said.json
    assert found["log"]["lines"] == before == 5
    assert found["log"]["unreadable"] == 0
    assert {each["reason"]: each["requests"] for each in found["log"]["unasked"]}["another method than GET and HEAD"] == 1
    assert without_stand_in(found) == [], said.out
    asked = {line.split('"')[1] for line in both.log.read_text().splitlines()[before:]}
    assert asked == {"GET /a/b?x=1 HTTP/1.1", r"GET /q\x22uo\x5Cte?y=\x22 HTTP/1.1", "GET /api/v1 HTTP/1.1"}
