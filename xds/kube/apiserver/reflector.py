"""What to request from an API server about one kind of objects, and what its responses mean. Without IO.

A Reflector is a state machine. `next(now)` returns what to do: list a page, watch, or wait. The caller does it, and reports the result by
`page`, `opened`, `data`, `ended`, `rejected` or `failed`. What belongs here: every decision about lists, versions, faults and backoff. What
does not: sockets, clocks and random numbers (`xds.kube.apiserver.follow` provides them), and what objects mean.

The rules, each of which is a promise:

R1  Each version of an object is reported once. An object with a known resourceVersion is skipped.
R2  Only a complete list removes objects. An object that is missing in it was deleted while no watch ran. A list that breaks off removes
    nothing.
R3  A watch starts at the version of the list, or of the last complete event. A truncated event does not count.
R4  410 Gone, as a status or as an ERROR event, drops the version, and a list follows. Where the token of a paged list expires, the next
    list is not paged: one that takes longer than a token lasts would never end.
R5  Backoff is exponential. After n faults in a row the next request waits 0.5 s * 2^n times a random factor from 0.5 to 1. The limit is 30
    s, and 60 s after 403 and 404. A watch that delivered a new version, or lasted 10 s, resets n. One that the API server closes at once,
    again and again, therefore costs three requests a minute instead of two a second. Nothing delays the next page of a list, or the watch
    after a list. Requests without a response count in n only until the API server responds with 403, 404 or 410. It does so for a moment
    after a start, and an outage of minutes must not add 30 s to that moment.
R6  Requests without a response never drop the version. Three faulty responses in a row do, and a list follows.
R7  403 and 404 are believed at the third time, because an API server responds with 403 while it starts. From then on the kind counts as
    settled, there is a Problem, and known objects stay. The Reflector retries with the longer backoff. Where only "watch" is forbidden, it
    lists instead.
R8  401 makes the caller read the credentials again.
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
"""Objects in one page of a list."""
CONFIRMATIONS = 3
"""How many times in a row a response must come before it is believed: 403 and 404 (R7), and faulty ones (R6)."""
LONGEST_EVENT = 32 << 20
"""Bytes of one event. etcd limits an object to 1.5 MB, unless its limit was raised."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a Reflector waits between requests (R5), and how long it watches. All in seconds."""

    first: float = 0.5
    """The wait after one fault."""
    longest: float = 30.0
    """The limit of the doubling."""
    denied: float = 60.0
    """The limit after 403 and 404."""
    longest_retry_after: float = 60.0
    """The limit of a Retry-After header."""
    reset_after: float = 10.0
    """A watch that lasted so long was a good one."""
    watch: float = 24.0
    """The longest time that a watch is requested for; the shortest is three quarters of it. `xds.kube.apiserver.api` has the reason."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind of objects at an API server, or some of them.

    `namespace` ("" for all), the field `selector` and `labels` (a label selector) restrict it. `without` ends the sentence of the Problem
    where it is forbidden: what does not work. `only_metadata` requests PartialObjectMetadata.
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
        """Whether a flag names these objects. Otherwise they are all of a kind, or of a type of Secrets."""
        return bool(self.labels) or self.selector.startswith("metadata.name=")

    @property
    def path(self) -> str:
        """The path of its URL (Kubernetes API concepts, resource URIs)."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return f"{root}/namespaces/{self.namespace}/{self.plural}" if self.namespace else f"{root}/{self.plural}"

    def __str__(self) -> str:
        """Its name in a role: `ingresses.networking.k8s.io`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


@dataclass(frozen=True, slots=True)
class List:
    """Request a page of at most `limit` objects (0: all), after the page that returned this token ("": the first page)."""

    limit: int
    token: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Request all changes after a version, with bookmarks. The API server ends the response after `seconds`."""

    version: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Delay:
    """Send no request for so many `seconds`. With `renew`, read the credentials again first."""

    seconds: float
    renew: bool = False


class _ObjectMeta(Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _ObjectHead(Struct, frozen=True, gc=False):
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


_HEAD, _PAGE = msgspec.json.Decoder(_ObjectHead), msgspec.json.Decoder(_Page)
_EVENT, _STATUS = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Status)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Read = Callable[[Raw], Object | Problem | None]
"""Parses an object. It never raises, and returns None for a kind that does not matter here."""


class Reflector:
    """Follows one kind.

    `chance` returns random numbers from 0 to 1 (1 excluded), so that replicas do not send their requests together. `now` is any steady
    clock. `read` parses an object; the default is `xds.kube.parse`. Each method that may report something returns a Change.

    Of each object only its name and a mark of its version are kept: the World has the objects.

    `last_response` is the time of the last response, `fault` a sentence about the last request ("" if it was good). `faults` counts the
    faults since the last good watch.
    """

    def __init__(
        self, resource: Watched, now: float, chance: Callable[[], float], backoff: Backoff | None = None, read: Read | None = None
    ) -> None:
        self.resource = resource
        self.last_response = now
        self.fault = ""
        self.faults = 0
        self.has_listed = False
        self.is_watching = False
        self._chance = chance
        self._backoff = backoff or Backoff()
        self._read = read or partial(parse.from_json, kind=resource.kind, api_version=resource.api_version)
        self._known: dict[Ref, int] = {}
        self._broken: set[Ref] = set()
        self._version = ""
        self._token = ""
        self._limit = PAGE
        self._seen: set[Ref] = set()
        self._rest = b""
        self._has_delivered = False
        self._started = now
        self._not_before = now
        self._renew_credentials = False
        self._denials = {"list": 0, "watch": 0}
        self._bad_responses = 0
        self._unanswered = 0

    @property
    def is_denied(self) -> bool:
        """Whether listing or watching is forbidden (R7)."""
        return max(self._denials.values()) >= CONFIRMATIONS

    @property
    def is_settled(self) -> bool:
        """Whether all objects of the kind are known, or reading them is forbidden."""
        return self.has_listed or self.is_denied

    def __contains__(self, which: object) -> bool:
        return which in self._known

    def __len__(self) -> int:
        return len(self._known)

    def next(self, now: float) -> List | Watch | Delay:
        """What to do now."""
        renew, self._renew_credentials = self._renew_credentials, False
        if renew or now < self._not_before:
            return Delay(max(0.0, self._not_before - now), renew)
        self._started = now
        if self._version:
            self._rest = b""
            self._has_delivered = False
            return Watch(self._version, self._backoff.watch * (0.75 + self._chance() / 4))
        if not self._token:
            self._seen.clear()
        return List(self._limit, self._token)

    def page(self, body: bytes, now: float) -> Change:
        """The response to List, complete."""
        try:
            page = _PAGE.decode(body)
            entries = [(raw, _HEAD.decode(raw).metadata) for raw in page.items or ()]
            if not page.metadata.resource_version:
                raise msgspec.ValidationError("no resourceVersion")
        except _UNREADABLE:
            self._bad_response("The list cannot be read.", now)
            return Change()
        batch = Batch()
        self._good_response("list", batch, now)
        before = len(self._seen)
        for raw, meta in entries:
            self._seen.add(self._take(raw, meta, batch))
        self._token = page.metadata.continue_ or ""
        if not self._token:
            self._complete(page.metadata.resource_version, batch)
        elif len(self._seen) == before:
            self._start_over()  # a proxy that ignores `continue` returns the same page for ever
            self._fault("A page of the list had no new object.", now)
        return batch.take()

    def opened(self, now: float) -> Change:
        """The response to Watch has begun."""
        self.is_watching = True
        batch = Batch()
        self._good_response("watch", batch, now)
        return batch.take()

    def data(self, chunk: bytes, now: float) -> Change:
        """Some bytes of a watch, cut anywhere. If `is_watching` is false afterwards, the caller stops reading."""
        self.last_response = now
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest
        batch = Batch()
        for line in lines:
            if line.strip() and not self._event(line, batch, now):
                break
        if self.is_watching and len(rest) > LONGEST_EVENT:
            self._bad_response(f"A watch had an event of more than {LONGEST_EVENT >> 20} MiB.", now)
        return batch.take()

    def ended(self, now: float) -> None:
        """A watch ended without an error."""
        self._back_off(now)

    def failed(self, why: str, now: float, *, renew: bool = False) -> None:
        """There was no response, or it broke off. `renew`: the credentials, or the authority of the API server's, may be out of date."""
        self._renew_credentials = renew
        self._fault(why, now)
        self._unanswered += 1

    def rejected(self, status: int, body: bytes, retry_after: str, now: float) -> Change:
        """A response with another status than 200. `retry_after` is that header, "" where there is none."""
        self.last_response = now
        message = _status_message(body)
        why = f"The API server answered {status}{f' ({printable(message, 300)})' if message else ''}."
        least = min(float(retry_after), self._backoff.longest_retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        if status in (403, 404):
            return self._denied(status, why, now)
        if status == 410:
            self._expired(why, now)
        elif status in (401, 429):
            self._renew_credentials = status == 401
            self._fault(why, now, least)
        else:
            self._bad_response(why, now, least)
        return Change()

    def _event(self, line: bytes, batch: Batch, now: float) -> bool:
        """One line of a watch. Returns False where the watch is over."""
        try:
            event = _EVENT.decode(line)
            if event.type == "ERROR":
                return self._error(_STATUS.decode(event.object), now)
            meta = _HEAD.decode(event.object).metadata
        except _UNREADABLE:
            self._bad_response("A watch had an event that cannot be read.", now)
            return False
        if event.type in ("ADDED", "MODIFIED"):
            self._take(event.object, meta, batch)
        elif event.type == "DELETED":
            self._drop(self._ref(meta), batch)
        elif event.type != "BOOKMARK":
            return True  # a type of a later Kubernetes: its version may not mean what ours does
        if meta.resource_version and meta.resource_version != self._version:
            self._version = meta.resource_version
            self._has_delivered = True
            self._bad_responses = 0  # R6 counts responses in a row: the version leads somewhere
        return True

    def _error(self, status: _Status, now: float) -> bool:
        why = f"The API server ended a watch with {status.code or 'an error'} ({printable(status.message or '', 300)})."
        if status.code == 410 or status.reason in ("Expired", "Gone"):
            self._expired(why, now)
        else:
            self._bad_response(why, now)
        return False

    def _take(self, raw: Raw, meta: _ObjectMeta, batch: Batch) -> Ref:
        """Report an object, unless this version of it is known (R1)."""
        which = self._ref(meta)
        mark = hash((meta.uid, meta.resource_version))  # an int instead of two strings: there may be 100,000 objects
        if meta.resource_version and self._known.get(which) == mark:
            return which
        was_put = which in self._known and which not in self._broken
        self._known[which] = mark
        found = self._read(raw)
        if isinstance(found, Problem):
            self._broken.add(which)
            batch.report(str(which), found)
            if was_put:
                batch.drop(which)  # its last state must not be served as if it were the present one
        elif found is not None:
            self._repaired(which, batch)
            batch.put(found)
        return which

    def _drop(self, which: Ref, batch: Batch) -> None:
        if self._known.pop(which, None) is not None and not self._repaired(which, batch):
            batch.drop(which)

    def _repaired(self, which: Ref, batch: Batch) -> bool:
        """Withdraw the Problem of an object that could not be parsed. Returns whether it had one."""
        if which not in self._broken:
            return False
        self._broken.discard(which)
        batch.report(str(which))
        return True

    def _ref(self, meta: _ObjectMeta) -> Ref:
        space = (meta.namespace or "default") if self.resource.namespaced else ""
        return Ref(self.resource.kind, intern(space), intern(meta.name or ""))  # the World keeps them: once, not once an event

    def _complete(self, version: str, batch: Batch) -> None:
        """The last page has come (R2)."""
        for gone in self._known.keys() - self._seen:
            self._drop(gone, batch)
        self._seen.clear()
        self._version = version
        self._limit = PAGE
        self.has_listed = True

    def _good_response(self, verb: str, batch: Batch, now: float) -> None:
        """A response with the status 200 that can be parsed."""
        self.last_response = now
        self.fault = ""
        if self._denials[verb] >= CONFIRMATIONS:
            batch.report(self._problem_place)
        self._denials[verb] = 0
        if verb == "list":
            self._bad_responses = 0

    def _bad_response(self, why: str, now: float, least: float = 0.0) -> None:
        """A response that cannot be used. After three of them in a row, a list follows (R6)."""
        self._bad_responses += 1
        if self._bad_responses >= CONFIRMATIONS:
            self._start_over()
        self._fault(why, now, least)

    def _expired(self, why: str, now: float) -> None:
        """410 Gone (R4)."""
        self._forget_outage()
        if self._token:
            self._limit = 0
        self._start_over()
        self._fault(why, now)

    def _denied(self, status: int, why: str, now: float) -> Change:
        """403 or 404 (R7)."""
        self._forget_outage()
        verb = "watch" if self._version else "list"
        self._denials[verb] += 1
        self._start_over()  # where only "watch" is denied, the next list comes after the longer backoff
        self._fault(why, now, longest=self._backoff.denied)
        if self._denials[verb] != CONFIRMATIONS:  # fewer: not believed yet; more: reported already
            return Change()
        which = self.resource
        if status == 403:
            where = f" in namespace {which.namespace}" if which.namespace else ""
            sentence = f'The role does not allow "{verb}" on {which}{where}: {which.without}.'
        else:
            sentence = f"The API server does not serve {which} in version {which.api_version}: {which.without}."
        code = "forbidden" if status == 403 else "not-served"
        return Change(problems={self._problem_place: (Problem(Ref(which.kind, "", ""), "", code, sentence),)})

    @property
    def _problem_place(self) -> str:
        return f"{self.resource.path} {self.resource.selector}{self.resource.labels}"

    def _forget_outage(self) -> None:
        """The API server responds again: the requests of its outage no longer count in the backoff (R5)."""
        self.faults -= self._unanswered
        self._unanswered = 0

    def _start_over(self) -> None:
        """Forget the version, so that a complete list is next."""
        self._version = ""
        self._token = ""
        self._bad_responses = 0

    def _fault(self, why: str, now: float, least: float = 0.0, *, longest: float | None = None) -> None:
        self.fault = why
        self._back_off(now, least, longest)

    def _back_off(self, now: float, least: float = 0.0, longest: float | None = None) -> None:
        """Delay the next request (R5). The delay of a watch counts from its start, so that a watch that lasted is resumed at once."""
        lasted = self.is_watching and now - self._started >= self._backoff.reset_after
        # Without a version, the watch has just ended with 410: what it delivered before is no reason to send the list at once.
        if lasted or (self.is_watching and self._has_delivered and self._version):
            self.faults = self._unanswered = 0
        delay = min(longest or self._backoff.longest, self._backoff.first * 2 ** min(self.faults, 20)) * (0.5 + self._chance() / 2)
        since = self._started if self.is_watching else now
        self._not_before = max(now + least, since + delay)
        self.faults += 1
        self.is_watching = False


def _status_message(body: bytes) -> str:
    """The message of a Status. It is "" where the body is something else, such as the page of a proxy."""
    try:
        return _STATUS.decode(body).message or ""
    except _UNREADABLE:
        return ""
