"""What a request would pay if a key of its host chose one route table of several, and how evenly that key spreads hosts (decision 28).

    python -m bench.scope_key        three minutes; needs wrk and nginx, as bench.request_price does

The key is a header that an early header mutation writes, and by which scoped routes choose. Envoy has no default scope, so the keys are a
finite set that every possible host leads into. Each row is our configuration with one more thing, as `bench.request_price` measures it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import string
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from bench import objects, proxies
from bench.machine import description
from bench.proxies import Json, without, without_fields
from bench.request_price import Missing, Proxy, cores, envoy, need_programs, nginx, prices
from bench.table import Mark, Table, marked, number
from tests.envoy.harness import Ports

MARK = Mark(1, "µs")
_HEADER = "x-part"
_ALPHABET = string.ascii_lowercase + string.digits + "-."
CLASSES = ("a-cg-im-os-u1-37-8", "b-de-gk-np-tv-x02-57", "a-m0-4", "d-fj-lp-rv-x0246", "a-dh-mt-z1-49")
"""Characters as in a regular expression. Bit i of a host's key: whether it has an even number of characters of class i, in any case."""
PARTS = 2 ** len(CLASSES)


@cache
def _pattern(characters: str) -> str:
    """Matches a host, with or without a port, that has an even number of these. Envoy allows an expression 100 instructions."""
    counted = "".join(c for c in _ALPHABET if re.fullmatch(f"[{characters}]", c))
    some, others = _class(counted), _class("".join(set(_ALPHABET) - set(counted)))
    return f"^(?:{others}|{some}{others}*{some})*(?::|$)"


def _class(characters: str) -> str:
    """A class of these characters and their capitals, as ranges: one instruction each."""
    codes = sorted({ord(c) for each in characters for c in (each, each.upper())})
    runs = [[code for _, code in run] for _, run in itertools.groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    return "[" + "".join(rf"\\x{run[0]:02x}-\\x{run[-1]:02x}" for run in runs) + "]"


def part_of(host: str) -> int:
    """The key of a host, 0 to PARTS - 1; what Envoy computes from `hashed()`."""
    found = (re.match(_pattern(each).replace("\\\\", "\\"), host) for each in CLASSES)
    return sum(1 << bit for bit, matched in enumerate(found) if matched)


def hashed() -> str:
    """The format of that key."""
    bits = (f"(request.host.matches('{_pattern(each)}') ? {1 << bit} : 0)" for bit, each in enumerate(CLASSES))
    return f"%CEL({' + '.join(bits)})%"


KEYS: Mapping[str, tuple[str, bool]] = {
    "a header that is always the same": ("0", False),
    "the first two characters of the host": ("%REQ(:authority):2%", False),
    "an expression that is always the same": ("%CEL('0')%", False),
    "one bit of a hash": (f"%CEL(request.host.matches('{_pattern(CLASSES[0])}') ? 1 : 0)%", False),
    f"a hash of {len(CLASSES)} bits": (hashed(), False),
    f"that hash, and {PARTS} scopes": (hashed(), True),
    "two characters, extracted": (r"%CEL(re.extract(request.host, '^(?:www[.])?(..)', '\\1'))%", False),
}
"""What is measured: the format of the key, and whether scopes choose by it."""


def with_key(key: str, *, scoped: bool) -> Callable[[Json], None]:
    """A change of our connection manager: this key, and `scoped`, the same route table under each."""

    def change(manager: Json) -> None:
        last = manager["early_header_mutation_extensions"][-1]["typed_config"]["mutations"]
        last.append({"append": {"header": {"key": _HEADER, "value": key}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}})
        table = manager["route_config"]
        table["request_headers_to_remove"].append(_HEADER)
        if scoped:
            del manager["route_config"]
            manager["scoped_routes"] = {
                "name": "parts",
                "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": _HEADER, "index": 0}}]},
                "scoped_route_configurations_list": {
                    "scoped_route_configurations": [
                        {"name": f"{n}", "key": {"fragments": [{"string_key": f"{n}"}]}, "route_configuration": table | {"name": f"{n}"}}
                        for n in range(PARTS)
                    ]
                },
            }

    return change


def measure(*, seconds: int = 3, rounds: int = 5) -> Table:
    """The price of each key. Raises Missing."""
    need_programs()
    table = Table(
        "A key of the host, µs of CPU a request",
        ("what", "µs", "added", "mark", ""),
        note=f"The median of {rounds} rounds of {seconds} s, in turns; one host, without the access log.",
    )
    ports = Ports()
    with contextlib.ExitStack() as stack:
        stack.callback(ports.release)
        back, port = ports.take(), ports.take()
        stack.enter_context(nginx(lambda folder: proxies.answering_nginx(back, folder), back, cores()[1]))
        running: dict[str, Proxy] = {}
        changes = {"no key": without_fields(), **{name: with_key(key, scoped=scoped) for name, (key, scoped) in KEYS.items()}}
        for name, change in changes.items():
            port = ports.take()
            config = without(proxies.ours(port, ports.take(), back, proxies.hosts(1)), without_fields("access_log"))
            running[name] = stack.enter_context(envoy(without(config, change), port))
        found = prices(running, 1, seconds=seconds, rounds=rounds)
    base = found["no key"]
    table.add("no key", number(base), "", "", "")
    for name in KEYS:
        table.add(name, number(found[name]), *marked(found[name] - base, "", MARK))
    return table


def host_sets(n: int) -> Iterator[tuple[str, Sequence[str]]]:
    """Hosts as they are named: `n` of each kind."""
    lucky = random.Random(1)
    words = ["".join(lucky.choices(string.ascii_lowercase, k=lucky.randint(4, 14))) for _ in range(n)]
    yield "web-1.example.com", [objects.host(i) for i in range(n)]
    yield "tenant-00001.example.com", [f"tenant-{i:05d}.example.com" for i in range(n)]
    yield "www.name.com", [f"www.{word}.{lucky.choice(('com', 'org', 'net', 'io'))}" for word in words]
    yield "uuid.apps.example.com", [f"{uuid.UUID(int=lucky.getrandbits(128))}.apps.example.com" for _ in range(n)]
    yield "pr-123-app.preview.example.com", [f"pr-{i}-app.preview.example.com" for i in range(n)]


def measure_spread(n: int = 10_000) -> Table:
    """How hosts are spread over the parts."""
    table = Table(
        f"Hosts over {PARTS} parts by the hash",
        ("hosts", "parts with hosts", "the largest", "where a host is"),
        note=f"{n:,} hosts of each kind. Sizes as multiples of an even share; the last is the mean over hosts, so what a change moves.",
    )
    for name, hosts in host_sets(n):
        sizes = Counter(map(part_of, hosts))
        share = len(hosts) / PARTS
        met = sum(size * size for size in sizes.values()) / len(hosts)
        table.add(name, number(len(sizes)), f"{max(sizes.values()) / share:.2f}", f"{met / share:.2f}")
    return table


def main() -> int:
    """Print both tables, or a sentence where something is missing."""
    print(description(), flush=True)
    print(f"\n{measure_spread()}", flush=True)
    try:
        print(f"\n{measure()}", flush=True)
    except Missing as error:
        print(f"bench.scope_key: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
