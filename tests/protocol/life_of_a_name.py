"""What holds of every Subscription after every step: the table in the head of `xds.protocol.subscription`, and what goes with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from xds.protocol import subscription as module
from xds.protocol.discovery import NEVER
from xds.protocol.rejections import MOST_IN_FLIGHT
from xds.protocol.session import Session
from xds.protocol.subscription import Subscription


class Life(NamedTuple):
    """A row of the table."""

    exists: bool
    held: bool
    pending: bool
    in_flight: bool
    withheld: bool


def table() -> dict[Life, str]:
    """The combinations that the module allows → what each means."""
    text = module.__doc__ or ""
    head, rows = re.split(r"^ *-+  -+  -+  -+  -+$", text, maxsplit=1, flags=re.MULTILINE)
    assert tuple(head.split("\n")[-2].replace("in flight", "in_flight").split()) == Life._fields
    found = re.findall(r"^ +(yes|-) +(yes|-) +(yes|-) +(yes|-) +(yes|-) +(\S.*)$", rows, re.MULTILINE)
    return {Life(*(cell == "yes" for cell in cells)): meaning for *cells, meaning in found}


ALLOWED = table()


def life_of(s: Subscription, name: str) -> Life:
    """Where a name is, whether or not the client subscribes to it."""
    in_flight = any(sent.concerns(name) for sent in s.in_flight.values())
    return Life(name in s.state, name in s.held, name in s.pending, in_flight, name in s.withheld)


def broken(s: Subscription) -> Iterator[str]:
    """What does not hold, in sentences."""
    yield from _broken_books(s)
    if s.generation == s.state.generation:  # else it has not caught up, and what it knows is of an earlier generation
        for name in sorted({*s.state, *s.state.gone, *s.interest.missing, *s.pending, *s.withheld}):
            yield from _broken_life(s, name)


def _broken_life(s: Subscription, name: str) -> Iterator[str]:
    life = life_of(s, name)
    if s.started and name in s.interest:
        if life not in ALLOWED:
            yield f"{name} is {life}"
    elif life.held or life.pending or life.withheld:
        yield f"{name} is not subscribed, but {life}"
    if name in s.interest.by_name and name not in s.state:
        yield f"{name} is subscribed as a name that exists, and does not"
    if name in s.interest.missing and name in s.state:
        yield f"{name} is subscribed as a missing name, and exists"
    if life.pending and not life.exists and not s.can_remove:
        yield f"the removal of {name} is pending, but this wire cannot remove it"
    if life.withheld and life.exists:
        yield f"the removal of {name} is withheld, though it exists"
    if name in s.given_up and not life.exists:
        yield f"{name} is given up, and does not exist"


def _broken_books(s: Subscription) -> Iterator[str]:
    rules = {
        "a requested name is pending": s.requested <= s.pending.keys(),
        "what was rejected alone is sent apart": s.rejections.versions.keys() <= s.rejections.limits.keys(),
        "only a full state is rejected as a whole": s.is_full_state or not s.rejections.full_states,
        "names are forced only before the first request": not (s.started and s.forced),
        "a wildcard is due only where there is one": not s.wildcard_due or s.interest.wildcard,
        "nothing is sent before the first request": s.started or not (s.pending or s.in_flight or s.withheld or s.held),
        "only delta has several responses in flight": len(s.in_flight) <= (2 * MOST_IN_FLIGHT if s.delta else 1),
        "the last nonce is the newest": not s.in_flight or s.last_nonce in s.in_flight or s.delta,
        "an error has its response": (s.rejections.error is None) == (s.rejections.response is None),
        "generations do not run ahead": NEVER <= s.accepted <= s.generation <= s.state.generation,
        "what was reported is settled": s.reported <= s.generation,
        "names are last sent in a generation that was": all(NEVER <= at <= s.generation for at in s.pending.values()),
    }
    yield from (rule for rule, holds in rules.items() if not holds)


def check(session: Session) -> None:
    """Raises AssertionError with the sentences that are broken in a Session."""
    for type_url, subscription in session.subscriptions.items():
        assert not (found := list(broken(subscription))), (type_url, found, subscription)
