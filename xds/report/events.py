"""Which Events are written about Ingresses, and when, without writing them.

What belongs here: what makes two Events the same one, counting, and how many there may be. What does not: writing
(`xds.report.reporter`), and what is wrong with an Ingress (a Problem says that).

N1  The same Problem of the same Ingress is the same Event, whoever writes it: its name is a hash of the Ingress' uid, the field and the
    code (decision 17). So whoever comes after a restart finds it there, and leaves its count alone.
N2  What happens again, or lasts so long that its Event would expire, counts up the same Event.
N3  No more than `TOTAL` in all, and `EACH` about an Ingress; of an Ingress what is more is dropped, as client-go's spam filter does.
N4  What went away before it could be written is not written. Warnings come before what is normal.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

from xds.problem import Problem, Ref, printable

WARNING, NORMAL = "Warning", "Normal"
REMIND = 45 * 60.0
"""Seconds after which a Problem that lasts is told again: an API server keeps Events for an hour."""
ATTEMPTS = 5
"""So often in a row one Event may meet an API server that cannot take it."""
_LONGEST_NAME, _LONGEST_MESSAGE = 253, 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_WORD = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many a second afterwards."""

    burst: int
    second: float


TOTAL = Rate(100, 20.0)
EACH = Rate(25, 1 / 300)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be said about an Ingress, whose `uid` is that of the object; `lasts`: it stays true until somebody says otherwise."""

    name: str
    about: Ref
    uid: str
    type: str
    reason: str
    message: str
    lasts: bool = False


def scheduled(about: Ref, uid: str) -> Event:
    """An Ingress is taken over (as ingress-nginx words it, nginx 4.15)."""
    return Event(_name(about, uid, "", "sync"), about, uid, NORMAL, "Sync", "Scheduled for sync")


def warning(problem: Problem, uid: str) -> Event:
    """A Problem of an Ingress: `class-missing` gives the reason ClassMissing, field and sentence the message."""
    reason = "".join(word[:1].upper() + word[1:] for word in _WORD.split(problem.code)) or "Problem"
    text = f"{problem.field}: {problem.sentence}" if problem.field else problem.sentence
    name = _name(problem.about, uid, problem.field, problem.code)
    return Event(name, problem.about, uid, WARNING, reason[:128], printable(text, _LONGEST_MESSAGE), lasts=True)


def _name(about: Ref, uid: str, field: str, code: str) -> str:
    """A DNS name that begins with the Ingress'."""
    tail = hashlib.blake2b("\0".join((uid, field, code)).encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{about.name[: _LONGEST_NAME - len(tail) - 1].rstrip('-.')}.{tail}"


@dataclass(frozen=True, slots=True)
class Create:
    """Write an Event that is not there."""

    event: Event


@dataclass(frozen=True, slots=True)
class Patch:
    """Write into an Event that is there: its message, and, where it happened again, this `count` and the time; 0 leaves both alone."""

    event: Event
    count: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """Write nothing for so many seconds."""

    seconds: float


class _Bucket:
    """Tokens: each write takes one."""

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
    told: float = -math.inf
    failures: int = 0


class EventRecorder:
    """What happened, and what of it is still to be written. One write at a time: each action of `next` is answered before the next one."""

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
        """This is so now, or is so again."""
        if self._uids.setdefault(event.about, event.uid) != event.uid:
            self.forget(event.about)  # another Ingress had this name
            self._uids[event.about] = event.uid
        entry = self._entries.get(event.name)
        if entry is None:
            entry = self._entries[event.name] = _Entry(event)
            self._of.setdefault(event.about, set()).add(event.name)
        elif entry.told > -math.inf:
            entry.is_again = True
        entry.event = event
        self._due[event.type][event.name] = None

    def over(self, name: str) -> None:
        """A Problem is gone."""
        entry = self._entries.get(name)
        if entry is not None:
            self._due[entry.event.type].pop(name, None)
            self._entries[name].event = _ended(entry.event)

    def forget(self, about: Ref) -> None:
        """An Ingress is gone, and its Events go by themselves."""
        self._objects.pop(about, None)
        self._uids.pop(about, None)
        for name in self._of.pop(about, ()):
            entry = self._entries.pop(name)
            self._due[entry.event.type].pop(name, None)

    def remind(self, now: float) -> None:
        """Time has passed: what lasts is told again before its Event expires (N2); first what was dropped until now."""
        old = [entry for entry in self._entries.values() if entry.event.lasts and now - entry.told >= REMIND]
        for entry in sorted(old, key=lambda entry: entry.is_there):
            if entry.event.name not in self._due[entry.event.type]:
                self.happened(entry.event)

    def next(self, now: float) -> Create | Patch | Throttled | None:
        """What is to be written now; None where there is nothing."""
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
                entry.told = now  # as good as told: to try at once again would be what the filter is against
                continue
            return Patch(entry.event, entry.count + 1 if entry.is_again else 0) if entry.is_there else Create(entry.event)
        return None

    def written(self, event: Event, count: int, now: float) -> None:
        """An Event is written, or was there as it should be; `count` is what it says now."""
        self._faults = 0
        self._total.take()
        entry = self._entries.get(event.name)
        if entry is None:
            return
        if bucket := self._objects.get(event.about):
            bucket.take()
        entry.is_there, entry.is_again, entry.failures = True, False, 0
        entry.count, entry.told = count, now
        if entry.event.message == event.message:
            self._due[event.type].pop(event.name, None)

    def exists(self, event: Event) -> None:
        """Create found the Event there (N1)."""
        if entry := self._entries.get(event.name):
            entry.is_there = True

    def missing(self, event: Event) -> None:
        """Patch did not find the Event: it has expired."""
        if entry := self._entries.get(event.name):
            entry.is_there = False

    def refused(self, event: Event, now: float) -> None:
        """The API server does not want this Event; while it lasts, it is tried again as if it had been written."""
        self._total.take()
        if entry := self._entries.get(event.name):
            entry.told, entry.failures = now, 0
            self._due[event.type].pop(event.name, None)

    def failed(self, event: Event, now: float, *, answered: bool) -> None:
        """The API server is busy, or is not there at all: all Events wait, longer each time. One that it cannot take is given up."""
        self._not_before = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._faults, 10))
        self._faults += 1
        entry = self._entries.get(event.name)
        if entry is not None and answered:
            entry.failures += 1
            if entry.failures >= ATTEMPTS:
                self.refused(event, now)


def _ended(event: Event) -> Event:
    return Event(event.name, event.about, event.uid, event.type, event.reason, event.message)
