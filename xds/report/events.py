"""Which Events are written about Ingresses, and when. Without IO.

What belongs here: the identity of an Event, its count, and the rate limits. What does not: writing (`xds.report.event_writer`), and what is
wrong with an Ingress (a Problem).

N1  The same Problem of the same Ingress is the same Event, from every replica. Its name is a hash of the Ingress' uid, the field and the
    code (decision 17). So a replica that has restarted finds the Event, and leaves its count alone.
N2  A repetition increases the count of the same Event. So does a Problem that lasts until its Event would expire.
N3  The rate limits are `TOTAL` for all Events, and `EACH` for one Ingress. More Events of one Ingress are dropped, as by client-go's spam
    filter.
N4  A Problem that ends before its Event is written gets none. Warnings come before normal Events.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

from xds.problem import Problem, Ref, printable

WARNING, NORMAL = "Warning", "Normal"
REMIND = 45 * 60.0
"""Seconds after which the Event of a lasting Problem is written again: an API server keeps Events for an hour."""
ATTEMPTS = 5
"""Writes of one Event that may fail in a row with a server error, before it is given up."""
_LONGEST_NAME, _LONGEST_MESSAGE = 253, 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_WORD = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: its size, and the tokens a second."""

    burst: int
    second: float


TOTAL = Rate(100, 20.0)
EACH = Rate(25, 1 / 300)


@dataclass(frozen=True, slots=True)
class Event:
    """An Event about an Ingress with this `uid`. `lasts`: it is about a state, which holds until `over`."""

    name: str
    about: Ref
    uid: str
    type: str
    reason: str
    message: str
    lasts: bool = False


def scheduled(about: Ref, uid: str) -> Event:
    """An Ingress is of our class now (in the words of ingress-nginx, nginx 4.15)."""
    return Event(_name(about, uid, "", "sync"), about, uid, NORMAL, "Sync", "Scheduled for sync")


def warning(problem: Problem, uid: str) -> Event:
    """The Event of a Problem. The code `class-missing` becomes the reason ClassMissing, field and sentence the message."""
    reason = "".join(word[:1].upper() + word[1:] for word in _WORD.split(problem.code)) or "Problem"
    text = f"{problem.field}: {problem.sentence}" if problem.field else problem.sentence
    name = _name(problem.about, uid, problem.field, problem.code)
    return Event(name, problem.about, uid, WARNING, reason[:128], printable(text, _LONGEST_MESSAGE), lasts=True)


def _name(about: Ref, uid: str, field: str, code: str) -> str:
    """A DNS name that begins with that of the Ingress."""
    tail = hashlib.blake2b("\0".join((uid, field, code)).encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{about.name[: _LONGEST_NAME - len(tail) - 1].rstrip('-.')}.{tail}"


@dataclass(frozen=True, slots=True)
class Create:
    """Create an Event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Patch:
    """Change an existing Event: its message, and, if it happened again, its count and time. A `count` of 0 leaves both alone."""

    event: Event
    count: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """Write nothing for so many seconds."""

    seconds: float


class _Bucket:
    """A token bucket: each write takes a token."""

    __slots__ = ("_rate", "_since", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._since = now

    def missing(self, now: float) -> float:
        """Seconds until there is a token; 0 where there is one."""
        self._tokens = min(self._rate.burst, self._tokens + (now - self._since) * self._rate.second)
        self._since = now
        return max(0.0, (1 - self._tokens) / self._rate.second)

    def take(self) -> None:
        self._tokens -= 1


@dataclass(slots=True)
class _Entry:
    event: Event
    is_there: bool = False
    is_again: bool = False
    count: int = 0
    written_at: float = -math.inf
    failures: int = 0


class EventRecorder:
    """The Events so far, and a queue of those to write. One write at a time: the caller reports the result of an action before `next`."""

    def __init__(self, now: float, total: Rate = TOTAL, each: Rate = EACH) -> None:
        self._total = _Bucket(total, now)
        self._each = each
        self._objects: dict[Ref, _Bucket] = {}
        self._entries: dict[str, _Entry] = {}
        self._of: dict[Ref, set[str]] = {}
        self._uids: dict[Ref, str] = {}
        self._due: dict[str, dict[str, None]] = {WARNING: {}, NORMAL: {}}
        self._not_before = -math.inf
        self._faults = 0

    def happened(self, event: Event) -> None:
        """This has happened, or has happened again."""
        if self._uids.setdefault(event.about, event.uid) != event.uid:
            self.forget(event.about)  # another Ingress had this name
            self._uids[event.about] = event.uid
        entry = self._entries.get(event.name)
        if entry is None:
            entry = self._entries[event.name] = _Entry(event)
            self._of.setdefault(event.about, set()).add(event.name)
        elif entry.written_at > -math.inf:
            entry.is_again = True
        entry.event = event
        self._due[event.type][event.name] = None

    def over(self, name: str) -> None:
        """A Problem has ended."""
        entry = self._entries.get(name)
        if entry is not None:
            self._due[entry.event.type].pop(name, None)
            self._entries[name].event = _ended(entry.event)

    def forget(self, about: Ref) -> None:
        """An Ingress was deleted. Kubernetes deletes its Events."""
        self._objects.pop(about, None)
        self._uids.pop(about, None)
        for name in self._of.pop(about, ()):
            entry = self._entries.pop(name)
            self._due[entry.event.type].pop(name, None)

    def remind(self, now: float) -> None:
        """Repeat the Events of lasting Problems before they expire (N2). Those that were dropped until now come first."""
        old = [entry for entry in self._entries.values() if entry.event.lasts and now - entry.written_at >= REMIND]
        for entry in sorted(old, key=lambda entry: entry.is_there):
            if entry.event.name not in self._due[entry.event.type]:
                self.happened(entry.event)

    def next(self, now: float) -> Create | Patch | Throttled | None:
        """What to write now. None where the queue is empty."""
        while due := self._due[WARNING] or self._due[NORMAL]:
            seconds = max(self._not_before - now, self._total.missing(now))
            if seconds > 0:
                return Throttled(seconds)
            name = next(iter(due))
            entry = self._entries[name]
            about = entry.event.about
            bucket = self._objects.get(about) or self._objects.setdefault(about, _Bucket(self._each, now))
            if bucket.missing(now) > 0:
                del due[name]
                entry.written_at = now  # counts as written: to retry at once would defeat the filter
                continue
            return Patch(entry.event, entry.count + 1 if entry.is_again else 0) if entry.is_there else Create(entry.event)
        return None

    def written(self, event: Event, count: int, now: float) -> None:
        """An Event was written, or did not differ. `count` is its count now."""
        self._faults = 0
        self._total.take()
        entry = self._entries.get(event.name)
        if entry is None:
            return
        if bucket := self._objects.get(event.about):
            bucket.take()
        entry.is_there, entry.is_again, entry.failures = True, False, 0
        entry.count, entry.written_at = count, now
        if entry.event.message == event.message:
            self._due[event.type].pop(event.name, None)

    def exists(self, event: Event) -> None:
        """Create found an Event of that name (N1)."""
        if entry := self._entries.get(event.name):
            entry.is_there = True

    def missing(self, event: Event) -> None:
        """Patch found no Event: it has expired."""
        if entry := self._entries.get(event.name):
            entry.is_there = False

    def rejected(self, event: Event, now: float) -> None:
        """The API server rejected this Event. If it lasts, it is retried after the time of a repetition."""
        self._total.take()
        if entry := self._entries.get(event.name):
            entry.written_at, entry.failures = now, 0
            self._due[event.type].pop(event.name, None)

    def failed(self, event: Event, now: float, *, answered: bool) -> None:
        """The API server is busy or away: all Events back off. `answered`: it failed on this one, which is given up after `ATTEMPTS`."""
        self._not_before = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._faults, 10))
        self._faults += 1
        entry = self._entries.get(event.name)
        if entry is not None and answered:
            entry.failures += 1
            if entry.failures >= ATTEMPTS:
                self.rejected(event, now)


def _ended(event: Event) -> Event:
    return Event(event.name, event.about, event.uid, event.type, event.reason, event.message)
