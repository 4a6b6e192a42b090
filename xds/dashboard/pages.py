"""The pages: each takes the words of a URL, and makes the name of a template and the values for it.

What belongs here: which documents a page shows, and which part of a long list. What does not: HTTP (`server`), and markup (`templates/`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from xds.dashboard.index import Index
from xds.dashboard.lag import lags
from xds.dashboard.pulse import Pulse
from xds.dashboard.subject import Displayed
from xds.debug import v1
from xds.debug.documents import fleet_document, history_document, programmed_document, with_beside
from xds.debug.service import Debug, NotFound, NotReady
from xds.debug.subject import InvalidArgument
from xds.explain.owners import OwnedPath
from xds.json_forms import Json, object_json, problem_json
from xds.problem import Ref, Severity

ROWS = 50
"""Of one page of a list."""
LONGEST_QUERY = 200
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
T = TypeVar("T")


class View(NamedTuple):
    """What a template is given."""

    template: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """What a URL asks for: the `search` of a list, one of a few words to narrow it, the number of the page, and what is to be explained."""

    search: str = ""
    only: str = ""
    page: int = 1
    url: str = ""
    method: str = "GET"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Words:
        """Read those that there are; what is none counts as not given."""
        page, method = query.get("page", ""), query.get("method", "GET")
        return cls(
            search=query.get("q", "")[:LONGEST_QUERY],
            only=query.get("only", "")[:LONGEST_QUERY],
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,
            url=query.get("url", "")[:2_000].strip(),
            method=method if method in METHODS else "GET",
        )


class Missing(LookupError):
    """There is no such thing to show. The text is a sentence."""


class Pages:
    """The pages of a control plane."""

    def __init__(self, subject: Displayed, pulse: Pulse) -> None:
        self._subject = subject
        self._pulse = pulse
        self._debug = Debug(subject)
        self._index = Index(subject)

    async def hosts(self, words: Words) -> View:
        """Every path, whose it is and where it leads."""
        listing = await self._index.listing()
        found = await asyncio.to_thread(listing.found, words.search, only=words.only)
        shown = _part(found, words.page)
        rows = [_row(row, listing.severity(row), before) for row, before in zip(shown.rows, [None, *shown.rows], strict=False)]
        return View(
            "hosts", {"rows": rows, "hosts": listing.hosts, "all": len(listing.rows), "list": shown._replace(rows=()), "words": words}
        )

    async def problems(self, words: Words) -> View:
        """Everything that does not work as written."""
        listing = await self._index.listing()
        shown = _part(await asyncio.to_thread(listing.problems_with, words.search, only=words.only), words.page)
        rows = [problem_json(problem) for problem in shown.rows]
        return View("problems", {"rows": rows, "list": shown._replace(rows=()), "words": words})

    async def ingress(self, about: Ref) -> View:
        """One Ingress. Raises Missing."""
        found = await self._subject.ingress(about)
        if found is None:
            raise Missing(f"There is no {about} here.")
        programmed = None
        if self._subject.snapshot.ready and not self._subject.is_heavy(about):
            try:
                request = v1.ProgrammedRequest(namespace=about.namespace, name=about.name)
                programmed = programmed_document(await self._debug.programmed(request))
            except (NotFound, NotReady):
                programmed = None
        fields: dict[str, list[Json]] = {}
        for problem in found["problems"]:
            fields.setdefault(problem["field"].rpartition("/")[2].removesuffix("]"), []).append(problem)
        return View("ingress", {"found": found, "programmed": programmed, "fields": fields, "about": about})

    async def fleet(self, words: Words) -> View:
        """The Envoys of this replica, those first that need a look."""
        found = fleet_document(await self._debug.fleet(v1.FleetRequest()))
        behind = lags(self._subject, datetime.now(UTC))
        envoys = [_envoy(envoy, behind) for envoy in found["envoys"] if words.search.lower() in str(envoy["node"]).lower()]
        envoys.sort(key=lambda envoy: (not envoy["rejections"], not envoy["behind"]))
        shown = _part(envoys, words.page)
        return View("fleet", {"found": found, "rows": shown.rows, "list": shown._replace(rows=()), "words": words})

    async def changes(self, _words: Words) -> View:
        """The last changes."""
        return View("changes", {"found": history_document(await self._debug.history(v1.HistoryRequest()))})

    async def explain(self, words: Words) -> View:
        """What answers a URL."""
        found, fault, envoys = None, "", None
        if words.url:
            try:
                explained = await self._subject.explain(words.url, words.method)
                found, programmed = explained.document, explained.programmed
                envoys = {"all": programmed.envoys, "accepted": programmed.accepted, "waiting": [each.node for each in programmed.lacking]}
            except InvalidArgument as error:
                fault = str(error)
        return View("explain", {"found": found, "fault": fault, "envoys": envoys, "words": words, "methods": METHODS})

    async def surroundings(self, active: str) -> Mapping[str, Any]:
        """What every page shows around its own content. The stamp is that of a moment before the content is read."""
        stamp, now = self._pulse.stamp(), datetime.now(UTC)
        replica, listing = self._subject.replica(), await self._index.listing()
        counts = {severity.value: 0 for severity in Severity}
        for problem in listing.problems:
            counts[problem.severity.value] += 1
        nodes = {e.node.id for e in self._subject.envoys() if e.node and e.node.id == e.node.envoy}
        state = {"ready": self._subject.snapshot.ready, "waiting": replica.waiting, "envoys": len(nodes), "problems": counts}
        return {"active": active, "stamp": stamp, "now": now, "replica": replica, "state": state}


class _Part(NamedTuple):
    """One page of a list: `first` and `last` are the numbers of its rows, from 1."""

    rows: Sequence[Any]
    total: int
    page: int
    pages: int
    first: int
    last: int


def _part(rows: Sequence[Any], page: int) -> _Part:
    pages = max(1, -(-len(rows) // ROWS))
    page = min(max(1, page), pages)
    start = (page - 1) * ROWS
    return _Part(rows[start : start + ROWS], len(rows), page, pages, start + 1 if rows else 0, min(len(rows), start + ROWS))


def _row(row: OwnedPath, severity: Severity | None, before: OwnedPath | None) -> Json:
    """A path; `again`: its host stands in the row before as well."""
    return {
        **row._asdict(),
        "owner": object_json(row.owner),
        "others": [object_json(about) for about in row.others[:5]],
        "more": max(0, len(row.others) - 5),
        "canaries": [object_json(about) for about in row.canaries[:5]],
        "severity": severity.value if severity else "",
        "again": before is not None and before.host == row.host,
    }


def _envoy(envoy: Json, lag: Mapping[str, Mapping[str, float]]) -> Json:
    """An Envoy with the authorisation service beside it: what each has rejected, and what it is behind with for how many seconds."""
    types = [(each["node"], of_type) for each in with_beside(envoy) for of_type in each["types"]]
    behind = {t["type"]: lag.get(node, {}).get(t["type"], 0.0) for node, t in types if not t["in_sync"]}
    rejections = [{"node": node, "type": t["type"], **t["rejection"]} for node, t in types if t["rejection"]]
    return envoy | {"behind": behind, "rejections": rejections}


async def together(content: Awaitable[View], around: Awaitable[Mapping[str, Any]]) -> View:
    """A View with what stands around it, which is read first."""
    outside = await around
    await asyncio.sleep(0)
    inside = await content
    return View(inside.template, {**outside, **inside.values})
