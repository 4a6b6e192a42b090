"""What a password or a count of open requests costs a request: requests a second, and the milliseconds added, by Envoy and `xds authz`.

    python -m bench.passwords

wrk asks over 32 connections, or 8 that guess. A remembered verdict is the usual case: after its first request a client is known.
Without one,
each request has another wrong password, and waits for a hash of bcrypt (cost 10, 50 ms of a core). Needs wrk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.request_price import Missing, show
from bench.table import Table, number
from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, ingress, run, secret, wait_until

CONNECTIONS, GUESSING = 32, 8
"""Connections, and those that guess: beyond 16 guesses of one user that wait, further ones get 503 at once."""
_BCRYPT = "$2y$10$abcdefghijklmnopqrstuuSiTNUJ5yMd0/Uo0a9rtD9P5VlJ8V1Oe"
"""A hash to which no password is known: only its price matters."""
_KNOWN = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"
_PASSWORD = "open sesame"
_ANOTHER_EACH_TIME = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/", {["Host"] = "shut.test", ["Authorization"] = "Basic " .. encode("eve:" .. tostring(n) .. tostring(wrk))})
end
"""
_BASE64 = """
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
function encode(data)
  return ((data:gsub(".", function(x)
    local r, b = "", x:byte()
    for i = 8, 1, -1 do r = r .. (b % 2 ^ i - b % 2 ^ (i - 1) > 0 and "1" or "0") end
    return r
  end) .. "0000"):gsub("%d%d%d?%d?%d?%d?", function(x)
    if #x < 6 then return "" end
    local c = 0
    for i = 1, 6 do c = c + (x:sub(i, i) == "1" and 2 ^ (6 - i) or 0) end
    return letters:sub(c + 1, c + 1)
  end) .. ({"", "==", "="})[#data % 3 + 1])
end
"""


class Load(NamedTuple):
    """Requests a second, and milliseconds of the median and of the slowest hundredth."""

    per_second: float
    median: float
    p99: float


async def ask(site: Site, host: str, seconds: int, *, user: str = "", script: str = "") -> Load:
    """What wrk finds. Each connection sends the next request when it has its answer."""
    headers = ["-H", f"Host: {host}"]
    if user:
        headers += ["-H", "Authorization: Basic " + base64.b64encode(f"{user}:{_PASSWORD}".encode()).decode()]
    if script:
        (path := site.path / "ask.lua").write_text(script)
        headers = ["-s", str(path)]
    url = f"http://{site.http[0]}:{site.http[1]}/"
    code, said, err = await run(
        ["wrk", "-t1", f"-c{GUESSING if script else CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "--latency", *headers, url]
    )
    if code:
        raise AssertionError(err)
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    assert found, said
    return Load(float(found[1]), _milliseconds(said, "50%"), _milliseconds(said, "99%"))


def _milliseconds(said: str, which: str) -> float:
    found = re.search(rf"^\s*{which}\s+([\d.]+)(us|ms|s)\s*$", said, re.MULTILINE)
    assert found, said
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


async def measure(*, seconds: int = 3) -> Table:
    """All rows. Raises Missing."""
    code, *_ = await run(["which", "wrk"])
    if code:
        raise Missing("wrk cannot be found; on Debian: apt-get install wrk")
    table = Table(
        "A password and a count, through Envoy with one worker and its authorisation service",
        ("request", "/s", "median ms", "p99 ms", "p99 added ms"),
        note=f"{CONNECTIONS} connections of wrk, {seconds} s a row; all programs share the machine.",
    )
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        async with Site(Path(name)) as site:
            await _start(site)
            rows = {
                "to an open path": await ask(site, "open.test", seconds),
                "{SHA}": await ask(site, "shut.test", seconds, user="sha"),
                "bcrypt, remembered": await ask(site, "shut.test", seconds, user="ada"),
                "bcrypt of cost 10, never seen": await ask(site, "shut.test", seconds, script=_BASE64 + _ANOTHER_EACH_TIME),
                "{SHA}, while somebody guesses": await _beside_guesses(site, seconds),
                "with limit-connections": await ask(site, "counted.test", seconds),
                "refused by limit-connections": await ask(site, "full.test", seconds),
                "{SHA}, while others are counted": await _beside_counts(site, seconds),
            }
    base = rows["to an open path"].p99
    for name, load in rows.items():
        table.add(name, f"{load.per_second:,.0f}", number(load.median), number(load.p99), number(load.p99 - base))
    return table


async def _beside_guesses(site: Site, seconds: int) -> Load:
    guesses = asyncio.create_task(ask(site, "shut.test", seconds + 1, script=_BASE64 + _ANOTHER_EACH_TIME))
    try:
        return await ask(site, "shut.test", seconds, user="sha")
    finally:
        await guesses


async def _beside_counts(site: Site, seconds: int) -> Load:
    counted = asyncio.create_task(ask(site, "counted.test", seconds + 1))
    try:
        return await ask(site, "shut.test", seconds, user="sha")
    finally:
        await counted


async def _start(site: Site) -> None:
    sha = base64.b64encode(hashlib.sha1(_PASSWORD.encode()).digest()).decode()
    needed = {"auth-type": "basic", "auth-secret": "users"}
    site.folder.write(
        "all.yaml",
        *backend("web", await site.run(HttpApp("web"))),
        secret("users", {"auth": f"ada:{_KNOWN}\nsha:{{SHA}}{sha}\neve:{_BCRYPT}\n".encode()}),
        ingress("open", "open.test", {"/": ("web", 80)}),
        ingress("shut", "shut.test", {"/": ("web", 80)}, needed),
        ingress("counted", "counted.test", {"/": ("web", 80)}, {"limit-connections": "1000"}),
        ingress("full", "full.test", {"/": ("web", 80)}, {"limit-connections": "1"}),
    )
    await site.start_control_plane()
    await site.start_beside_authz()

    async def admitted() -> bool:
        headers = [("Authorization", "Basic " + base64.b64encode(f"ada:{_PASSWORD}".encode()).decode())]
        return (await site.get("/", host="shut.test", headers=headers)).status == 200

    await wait_until(admitted, "the password to be known", deadline=60)


def main(*_: str) -> int:
    """Print the table, or a sentence where something is missing."""
    return show("passwords", lambda: asyncio.run(measure()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
