"""What to ask an API server about one kind of objects, and what its answers mean, without asking.

A Reflector is a machine: `next(now)` says what to do (list a page, watch, wait), and who does it tells what came of it: `page`, `opened`,
`data`, `ended`, `refused` or `failed`. What belongs here: every decision about lists, versions, faults and pauses. What does not: sockets,
clocks, chance (`xds.kube.apiserver.apiserver` brings them) and what objects mean.

The rules, of which each is a promise:

R1  An object is told once, and again only when its resourceVersion is another one.
R2  Whole lists decide what is gone: what was known before and is not in it vanished while nobody watched. A list that breaks off decides
    nothing.
R3  A watch begins at the version of the list, or of the last event that was read as a whole. Half an event counts as none.
R4  410 Gone, however it is said, forgets the version: a list follows. Where a list itself takes so long that its token expires, the next
    one is not paged.
R5  Two requests are never closer than a pause, which doubles with each fault up to a limit. Only a watch that told something new, or that
    lasted, makes it short again. (The pages of a list, and a watch behind a list, follow each other at once.) What nobody answered counts
    no longer once an API server is back, and says 410, 403 or 404: those that just started have no past, and no roles for a moment.
R6  Connections may fail as long as they like: the version is kept. An API server that answers with faults three times is listed anew.
R7  403 and 404 are believed at the third time, for an API server that just started says 403 for a moment. Then the kind counts as known,
    and there is a Problem; what was known stays. It is tried again slowly; where only watching is forbidden, by listing.
R8  401 asks for the credentials to be read again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from sys import intern

import msgspec
from msgspec import Raw, Struct

from xds.kube import parse
from xds.kube.objects import Object
from xds.kube.source import Batch, Change
from xds.problem import Problem, Ref, printable

PAGE = 500
"""Objects that are asked for at a time."""
FIRM = 3
"""So many times, and it is believed: 403 and 404 (R7), and that a version leads nowhere (R6)."""
LONGEST_EVENT = 32 << 20
"""Bytes; objects in etcd have 1.5 MB unless somebody raised that."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a Reflector is; all in seconds.

    `first`: the shortest pause, `longest`: the longest one; `denied`: the longest one after 403 and 404; `retry_after`: the longest
    that an API server may ask for; `lasted`: a watch that lived so long was a good one; `watch`: how long a watch is asked to last at
    most, and three quarters of it at least (see `xds.kube.apiserver.api` for why not longer).
    """

    first: float = 0.5
    longest: float = 30.0
    denied: float = 60.0
    retry_after: float = 60.0
    lasted: float = 10.0
    watch: float = 24.0


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects at an API server, or some of them: those of a `namespace` ("" for all), those that match a field `selector`,
    those with some `labels` (a label selector).

    `without` says what does not work where it is forbidden, as a sentence. `only_metadata` asks for PartialObjectMetadata.
    """

    kind: str
    api_version: str
    plural: str
    without: str
    namespaced: bool = True
    namespace: str = ""
    selector: str = ""
    labels: str = ""
    only_metadata: bool = False

    @property
    def is_selected(self) -> bool:
        """Whether it is some objects that a flag is about, instead of a kind, or all of a type."""
        return bool(self.labels) or self.selector.startswith("metadata.name=")

    @property
    def path(self) -> str:
        """Of its URL (Kubernetes API concepts, resource URIs)."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return f"{root}/namespaces/{self.namespace}/{self.plural}" if self.namespace else f"{root}/{self.plural}"

    def __str__(self) -> str:
        """As a role names it: `ingresses.networking.k8s.io`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


@dataclass(frozen=True, slots=True)
class List:
    """Ask for a page: at most `limit` objects (0: all), after the page that gave this token ("": the first)."""

    limit: int
    token: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Ask for all changes after a version, with bookmarks; the API server ends the answer after `seconds`."""

    version: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask nothing for so many `seconds`; with `renew`, read the credentials again first."""

    seconds: float
    renew: bool = False


class _ObjectMeta(Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _Head(Struct, frozen=True, gc=False):
    metadata: _ObjectMeta


class _ListMeta(Struct, frozen=True, gc=False, rename="camel"):
    resource_version: str
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Page(Struct, frozen=True):
    metadata: _ListMeta
    items: list[Raw] | None = None


class _Event(Struct, frozen=True):
    type: str
    object: Raw


class _Status(Struct, frozen=True, gc=False):
    code: int | None = None
    reason: str | None = None
    message: str | None = None


_HEAD, _PAGE = msgspec.json.Decoder(_Head), msgspec.json.Decoder(_Page)
_EVENT, _STATUS = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Status)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Read = Callable[[Raw], Object | Problem | None]
"""Makes an object of its JSON: never raises; None for what is none of ours."""


class Reflector:
    """One kind. `chance` gives numbers from 0 to 1 (1 excluded), so that many of us do not ask all at once; `now` is any steady clock.

    What is remembered of an object is its name and a mark of its version. Each method that may tell something returns a Change.
    `read` makes objects of what an API server says; without it, `xds.kube.parse` does.
    `word` is when the API server last said something, `fault` a sentence about the last request ("" where it was well), and `faults`
    counts the requests since the last good watch.
    """

    def __init__(
        self, resource: Resource, now: float, chance: Callable[[], float], pace: Pace | None = None, read: Read | None = None
    ) -> None:
        self.resource = resource
        self.word = now
        self.fault = ""
        self.faults = 0
        self.has_listed = False
        self.is_watching = False
        self._chance = chance
        self._pace = pace or Pace()
        self._read = read or partial(parse.from_json, kind=resource.kind, api_version=resource.api_version)
        self._known: dict[Ref, int] = {}
        self._broken: set[Ref] = set()
        self._version = ""
        self._token = ""
        self._limit = PAGE
        self._seen: set[Ref] = set()
        self._rest = b""
        self._told = False
        self._begun = now
        self._not_before = now
        self._renew = False
        self._denials = {"list": 0, "watch": 0}
        self._refusals = 0
        self._unanswered = 0

    @property
    def is_denied(self) -> bool:
        """Whether listing or watching is forbidden (R7)."""
        return max(self._denials.values()) >= FIRM

    @property
    def is_settled(self) -> bool:
        """Whether all objects of the kind are known, or are known to be forbidden."""
        return self.has_listed or self.is_denied

    def __contains__(self, which: object) -> bool:
        return which in self._known

    def __len__(self) -> int:
        return len(self._known)

    def next(self, now: float) -> List | Watch | Wait:
        """What is to be done now."""
        renew, self._renew = self._renew, False
        if renew or now < self._not_before:
            return Wait(max(0.0, self._not_before - now), renew)
        self._begun = now
        if self._version:
            self._rest = b""
            self._told = False
            return Watch(self._version, self._pace.watch * (0.75 + self._chance() / 4))
        if not self._token:
            self._seen.clear()
        return List(self._limit, self._token)

    def page(self, body: bytes, now: float) -> Change:
        """The answer to List, as a whole."""
        try:
            page = _PAGE.decode(body)
            entries = [(raw, _HEAD.decode(raw).metadata) for raw in page.items or ()]
            if not page.metadata.resource_version:
                raise msgspec.ValidationError("no resourceVersion")
        except _UNREADABLE:
            self._answered("The list cannot be read.", now)
            return Change()
        batch = Batch()
        self._heard("list", batch, now)
        before = len(self._seen)
        for raw, meta in entries:
            self._seen.add(self._take(raw, meta, batch))
        self._token = page.metadata.continue_ or ""
        if not self._token:
            self._complete(page.metadata.resource_version, batch)
        elif len(self._seen) == before:
            self._begin_anew()
            self._fault("A page of the list told nothing new.", now)
        return batch.take()

    def opened(self, now: float) -> Change:
        """The answer to Watch begins."""
        self.is_watching = True
        batch = Batch()
        self._heard("watch", batch, now)
        return batch.take()

    def data(self, chunk: bytes, now: float) -> Change:
        """Some bytes of a watch, cut anywhere. Where `is_watching` is false afterwards, nothing more is to be read."""
        self.word = now
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest
        batch = Batch()
        for line in lines:
            if line.strip() and not self._event(line, batch, now):
                break
        if self.is_watching and len(rest) > LONGEST_EVENT:
            self._answered("A watch told of an object that is too big.", now)
        return batch.take()

    def ended(self, now: float) -> None:
        """A watch ended as it should."""
        self._pause(now)

    def failed(self, why: str, now: float, *, renew: bool = False) -> None:
        """There was no answer, or it broke off. `renew`: the credentials (or what the API server's are checked by) may be old."""
        self._renew = renew
        self._fault(why, now)
        self._unanswered += 1

    def refused(self, status: int, body: bytes, retry_after: str, now: float) -> Change:
        """An answer with another status than 200; `retry_after` is that header, "" where there is none."""
        self.word = now
        said = _said(body)
        why = f"The API server answered {status}{f' ({printable(said, 300)})' if said else ''}."
        least = min(float(retry_after), self._pace.retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        if status in (403, 404):
            return self._deny(status, why, now)
        if status == 410:
            self._expired(why, now)
        elif status in (401, 429):
            self._renew = status == 401
            self._fault(why, now, least)
        else:
            self._answered(why, now, least)
        return Change()

    def _event(self, line: bytes, batch: Batch, now: float) -> bool:
        """One line of a watch; false where the watch is over."""
        try:
            event = _EVENT.decode(line)
            if event.type == "ERROR":
                return self._error(_STATUS.decode(event.object), now)
            meta = _HEAD.decode(event.object).metadata
        except _UNREADABLE:
            self._answered("A watch told what cannot be read.", now)
            return False
        if event.type in ("ADDED", "MODIFIED"):
            self._take(event.object, meta, batch)
        elif event.type == "DELETED":
            self._drop(self._ref(meta), batch)
        elif event.type != "BOOKMARK":
            return True
        if meta.resource_version and meta.resource_version != self._version:
            self._version = meta.resource_version
            self._told = True
            self._refusals = 0
        return True

    def _error(self, status: _Status, now: float) -> bool:
        why = f"The API server ended a watch with {status.code or 'an error'} ({printable(status.message or '', 300)})."
        if status.code == 410 or status.reason in ("Expired", "Gone"):
            self._expired(why, now)
        else:
            self._answered(why, now)
        return False

    def _take(self, raw: Raw, meta: _ObjectMeta, batch: Batch) -> Ref:
        which = self._ref(meta)
        mark = hash((meta.uid, meta.resource_version))
        if meta.resource_version and self._known.get(which) == mark:
            return which
        was_put = which in self._known and which not in self._broken
        self._known[which] = mark
        found = self._read(raw)
        if isinstance(found, Problem):
            self._broken.add(which)
            batch.tell(str(which), found)
            if was_put:
                batch.drop(which)
        elif found is not None:
            self._mend(which, batch)
            batch.put(found)
        return which

    def _drop(self, which: Ref, batch: Batch) -> None:
        if self._known.pop(which, None) is not None and not self._mend(which, batch):
            batch.drop(which)

    def _mend(self, which: Ref, batch: Batch) -> bool:
        """Whether an object could not be read until now."""
        if which not in self._broken:
            return False
        self._broken.discard(which)
        batch.tell(str(which))
        return True

    def _ref(self, meta: _ObjectMeta) -> Ref:
        space = (meta.namespace or "default") if self.resource.namespaced else ""
        return Ref(self.resource.kind, intern(space), intern(meta.name or ""))

    def _complete(self, version: str, batch: Batch) -> None:
        """The last page was read (R2)."""
        for gone in self._known.keys() - self._seen:
            self._drop(gone, batch)
        self._seen.clear()
        self._version = version
        self._limit = PAGE
        self.has_listed = True

    def _heard(self, verb: str, batch: Batch, now: float) -> None:
        """An answer as it should be."""
        self.word = now
        self.fault = ""
        if self._denials[verb] >= FIRM:
            batch.tell(self._place)
        self._denials[verb] = 0
        if verb == "list":
            self._refusals = 0

    def _answered(self, why: str, now: float, least: float = 0.0) -> None:
        """An answer, but none that can be used: after some of them in a row, all begins anew (R6)."""
        self._refusals += 1
        if self._refusals >= FIRM:
            self._begin_anew()
        self._fault(why, now, least)

    def _expired(self, why: str, now: float) -> None:
        self._is_back()
        if self._token:
            self._limit = 0
        self._begin_anew()
        self._fault(why, now)

    def _deny(self, status: int, why: str, now: float) -> Change:
        self._is_back()
        verb = "watch" if self._version else "list"
        self._denials[verb] += 1
        self._begin_anew()
        self._fault(why, now, longest=self._pace.denied)
        if self._denials[verb] != FIRM:
            return Change()
        which = self.resource
        if status == 403:
            where = f" in namespace {which.namespace}" if which.namespace else ""
            sentence = f'The role does not allow "{verb}" on {which}{where}: {which.without}.'
        else:
            sentence = f"The API server does not serve {which} in version {which.api_version}: {which.without}."
        code = "forbidden" if status == 403 else "not-served"
        return Change(problems={self._place: (Problem(Ref(which.kind, "", ""), "", code, sentence),)})

    @property
    def _place(self) -> str:
        return f"{self.resource.path} {self.resource.selector}{self.resource.labels}"

    def _is_back(self) -> None:
        """The pause is no longer that of an absence (R5)."""
        self.faults -= self._unanswered
        self._unanswered = 0

    def _begin_anew(self) -> None:
        """A whole list is next."""
        self._version = ""
        self._token = ""
        self._refusals = 0

    def _fault(self, why: str, now: float, least: float = 0.0, *, longest: float | None = None) -> None:
        self.fault = why
        self._pause(now, least, longest)

    def _pause(self, now: float, least: float = 0.0, longest: float | None = None) -> None:
        """Nothing is asked for a while (R5): counted from the beginning of a watch, and from the end of everything else."""
        lasted = self.is_watching and now - self._begun >= self._pace.lasted
        if lasted or (self.is_watching and self._told and self._version):
            self.faults = self._unanswered = 0
        pause = min(longest or self._pace.longest, self._pace.first * 2 ** min(self.faults, 20)) * (0.5 + self._chance() / 2)
        since = self._begun if self.is_watching else now
        self._not_before = max(now + least, since + pause)
        self.faults += 1
        self.is_watching = False


def _said(body: bytes) -> str:
    """The message of a Status; "" where the body is something else, such as the page of a proxy."""
    try:
        return _STATUS.decode(body).message or ""
    except _UNREADABLE:
        return ""
