"""The list of all paths: made in pieces, kept until something has changed, and never longer than it is worth; and the lag of Envoys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from xds.dashboard import index
from xds.dashboard.index import Index, Listing
from xds.dashboard.lag import lags
from xds.explain.owners import OwnedPath
from xds.problem import Problem, Ref, Severity
from xds.snapshot import CLUSTER, ROUTE


def about(name: str) -> Ref:
    return Ref("Ingress", "shop", name)


def row(host: str, owner: str = "web", **more: Any) -> OwnedPath:
    return OwnedPath(host, "/", "Prefix", about(owner), "web:80", **more)


class Hosts:
    """As much of a control plane as an Index reads; `most` hosts are done at a time, and every third has no path."""

    def __init__(self, count: int, most: int) -> None:
        self.steps = 1
        self.made = 0
        self.names = [f"{number:05}.example" for number in range(count)]
        self._most = most

    async def problems(self) -> Sequence[Problem]:
        return [Problem(about("web"), "spec", "a", "A note.", Severity.NOTE), Problem(about("web"), "spec", "b", "An error.")]

    async def hosts(self) -> Sequence[str]:
        self.made += 1
        return self.names

    async def owned_paths(self, hosts: Sequence[str], seconds: float) -> tuple[Sequence[OwnedPath], int]:
        done = hosts[: self._most]
        return [row(host) for host in done if int(host[:5]) % 3], len(done)


@pytest.mark.parametrize(("count", "most"), [(0, 1), (1, 1), (10, 1), (2_500, 700), (2_500, 5_000)])
async def test_every_path_is_there_once_however_it_is_cut(count: int, most: int) -> None:
    listing = await Index(Hosts(count, most)).listing()  # type: ignore[arg-type]
    assert [found.host for found in listing.rows] == [f"{number:05}.example" for number in range(count) if number % 3]
    assert listing.problems[0].severity is Severity.ERROR
    assert listing.worst == {about("web"): Severity.ERROR}


async def test_it_is_made_again_after_a_change_and_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(index.time, "monotonic", lambda: now[0])
    subject = Hosts(3, 1)

    async def slow() -> Sequence[str]:
        now[0] += 0.2
        return await Hosts.hosts(subject)

    subject.hosts = slow  # type: ignore[method-assign]
    made = Index(subject)  # type: ignore[arg-type]
    first = await made.listing()
    assert await made.listing() is first
    subject.steps += 1
    now[0] += 1.9
    assert await made.listing() is first  # ten times 0.2 s are not over
    now[0] += 0.2
    assert await made.listing() is not first
    assert subject.made == 2


async def test_who_asks_at_the_same_time_shares_it() -> None:
    subject = Hosts(1_000, 10)
    made = Index(subject)  # type: ignore[arg-type]
    found = await asyncio.gather(*(made.listing() for _ in range(5)))
    assert all(each is found[0] for each in found)
    assert subject.made == 1


def test_words_are_looked_for_in_host_path_owner_and_backend() -> None:
    rows = (row("a.example", "front"), row("b.example", others=(about("x"),)), row("www.a.example", "front", name_of="a.example"))
    listing = Listing(rows, (), {about("x"): Severity.WARNING, about("front"): Severity.NOTE})

    def hosts(*words: str, **how: str) -> list[str]:
        return [found.host for found in listing.found(*words, **how)]

    assert hosts("A.EXAMPLE") == ["a.example", "www.a.example"]
    assert hosts("shop/front web:80 www") == ["www.a.example"]
    assert hosts("", only="contested") == hosts("", only="problems") == ["b.example"]
    assert hosts("", only="anything else") == hosts("") == ["a.example", "b.example", "www.a.example"]
    assert hosts(" ".join(["a"] * index.MOST_WORDS + ["none"])) == hosts("a")  # further words do not count


def stream(node: str, **accepted: int) -> Any:
    types = {"rds": ROUTE, "cds": CLUSTER}
    by_type = {types[short]: generation for short, generation in accepted.items()}
    session = SimpleNamespace(summaries=by_type, accepted_all=lambda type_url: by_type.get(type_url, -1))
    return SimpleNamespace(node=SimpleNamespace(id=node), session=session)


def behind(*streams: Any) -> Mapping[str, Mapping[str, float]]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times: Mapping[str, Mapping[int, datetime]] = {ROUTE: {9: start + timedelta(seconds=7), 4: start}, CLUSTER: {2: start}}
    published: Callable[[str], Mapping[int, datetime]] = lambda type_url: times.get(type_url, {})  # noqa: E731
    subject: Any = SimpleNamespace(envoys=lambda: streams, times=published)
    return lags(subject, start + timedelta(seconds=10))


def test_an_envoy_is_behind_since_the_first_publication_that_it_has_not_accepted() -> None:
    assert behind(stream("a", rds=9, cds=2)) == {}
    assert behind(stream("a", rds=4, cds=2)) == {"a": {"rds": 3.0}}
    assert behind(stream("a", rds=5, cds=-1)) == {"a": {"rds": 3.0, "cds": 10.0}}
    assert behind(stream("a", rds=-1)) == {"a": {"rds": 10.0}}  # it does not ask for clusters


def test_of_several_streams_of_a_node_the_furthest_counts() -> None:
    assert behind(stream("a", rds=4), stream("a", rds=9), stream("b", rds=4)) == {"b": {"rds": 3.0}}
