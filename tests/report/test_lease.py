"""The rules of an Elector, one by one, and then many of them at once with every delay and loss that there is."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from xds.config import Flags
from xds.replicas.lease import Elector, Idle, LeaseRecord, Look, Take

TTL = 30.0
OTHER = LeaseRecord("other", 20, "then", "before", 3)


def elector(name: str = "me") -> Elector:
    return Elector(name, TTL, lambda: 0.999)


def record(step: Take, renewed: str) -> LeaseRecord:
    return LeaseRecord(step.holder, step.seconds, step.acquired or renewed, renewed, step.transitions)


def leading(at: float = 0.0) -> Elector:
    made = elector()
    made.next(at)
    made.found(None, "", at)
    step = made.next(at)
    assert isinstance(step, Take)
    made.taken(record(step, "t0"), "1", at)
    return made


def test_a_lease_that_is_not_there_is_created_and_makes_a_leader() -> None:
    made = elector()
    assert made.next(0.0) == Look()
    made.found(None, "", 0.1)
    assert made.next(0.1) == Take("me", 20, "", 0, "")
    assert not made.is_leader(0.1)
    made.taken(LeaseRecord("me", 20, "t", "t", 0), "1", 0.2)
    assert made.is_leader(0.2)


def test_a_leader_renews_without_looking_and_keeps_the_time_since_when_it_leads() -> None:
    made = leading()
    step = made.next(made.pause)
    assert step == Take("me", 20, "t0", 0, "1")


def test_trust_counts_from_before_the_request_was_sent() -> None:
    """E1: an answer that takes long makes no longer leader."""
    made = elector()
    made.next(0.0)
    made.found(None, "", 1.0)
    step = made.next(2.0)
    assert isinstance(step, Take)
    made.taken(record(step, "t"), "1", 9.0)
    assert made.trusted_until == 2.0 + 15.0


def test_whoever_cannot_renew_leads_until_its_trust_ends_and_not_longer() -> None:
    made = leading()
    made.next(14.0)
    made.failed(14.5)
    assert made.is_leader(14.9)
    assert not made.is_leader(15.0)


def test_a_leader_that_waits_is_woken_when_its_trust_ends() -> None:
    made = leading()
    made.next(13.0)
    made.failed(13.0)
    assert made.next(13.0) == Idle(2.0)


def test_another_holder_is_waited_for_as_long_as_its_lease_lasts_since_it_was_seen() -> None:
    """E2: what its clock says does not matter."""
    made = elector()
    made.next(100.0)
    made.found(OTHER, "7", 100.0)
    assert isinstance(made.next(119.9), Look)
    made.found(OTHER, "7", 119.9)
    assert isinstance(made.next(119.95), Idle)
    assert isinstance(made.next(120.0), Look)
    made.found(OTHER, "7", 120.0)
    assert made.next(120.0) == Take("me", 20, "", 4, "7")


def test_a_renewal_is_a_sign_of_life_and_another_version_alone_is_none() -> None:
    made = elector()
    made.next(100.0)
    made.found(OTHER, "7", 100.0)
    made.next(110.0)
    made.found(OTHER, "8", 110.0)
    made.next(119.0)
    made.found(replace(OTHER, renewed="now"), "9", 119.0)
    made.next(121.0)
    made.found(replace(OTHER, renewed="now"), "9", 121.0)
    assert isinstance(made.next(121.0), Idle)


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    made = elector()
    made.next(0.0)
    made.found(replace(OTHER, holder=""), "7", 0.0)
    assert made.next(0.0) == Take("me", 20, "", 4, "7")


def test_a_lease_without_a_duration_lasts_as_long_as_ours() -> None:
    made = elector()
    made.next(0.0)
    made.found(replace(OTHER, seconds=0), "7", 0.0)
    assert isinstance(made.next(0.0), Idle)


def test_after_a_conflict_the_lease_is_looked_at_before_it_is_taken() -> None:
    made = leading()
    made.next(5.0)
    made.conflict(5.0)
    assert isinstance(made.next(5.0), Idle)
    assert made.next(10.0) == Look()
    made.found(replace(OTHER, renewed="new"), "8", 10.0)
    assert not made.is_leader(10.0)


def test_a_renewal_whose_answer_was_lost_is_found_and_made_again() -> None:
    made = leading()
    made.next(5.0)
    made.failed(10.0)
    assert made.next(15.0) == Look()
    made.found(LeaseRecord("me", 20, "t0", "t5", 0), "2", 15.0)
    assert made.next(15.0) == Take("me", 20, "t0", 0, "2")


def test_who_waited_for_an_answer_in_vain_asks_again_at_once_and_who_was_refused_pauses() -> None:
    made = leading()
    wait = made.next(0.0)
    assert isinstance(wait, Idle)
    now = wait.seconds
    assert isinstance(made.next(now), Take)
    made.failed(now + made.pause)
    assert made.next(now + made.pause) == Look()
    made.failed(now + made.pause)
    assert isinstance(made.next(now + made.pause), Idle)


def test_a_leader_gives_the_lease_back_and_leads_no_more() -> None:
    made = leading()
    assert made.release(3.0) == Take("", 1, "", 0, "1")
    assert not made.is_leader(3.0)


def test_whoever_does_not_lead_gives_nothing_back() -> None:
    assert elector().release(0.0) is None
    assert leading().release(20.0) is None


def test_a_lease_lasts_a_while_however_short_it_is_asked_for() -> None:
    assert Elector("me", 0.0, lambda: 0.5).seconds == 3


@dataclass
class Fate:
    """What becomes of one request: seconds until it arrives, until its answer does, and whether that is lost."""

    there: float
    back: float
    lost: bool = False


class Play:
    """Candidates, one Lease, and virtual time. Each request has a Fate; who has waited for `pause` waits no longer."""

    def __init__(self, names: str, fates: Mapping[str, Iterator[Fate]], ttl: float = TTL) -> None:
        self.now = 0.0
        self.record: LeaseRecord | None = None
        self.version = 0
        self.dead: set[str] = set()
        self.candidates = {name: Elector(name, ttl, lambda: 0.999) for name in names}
        self.leaders: list[str] = []
        self._fates = fates
        self._clock = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for name in names:
            self._at(0.0, functools.partial(self._step, name))

    def leading(self) -> list[str]:
        return [name for name, one in self.candidates.items() if one.is_leader(self.now)]

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
            found = self.leading()
            assert len(found) <= 1, f"{found} at {self.now}"
            if found and self.leaders[-1:] != found:
                self.leaders += found
        self.now = until

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._clock), act))

    def _step(self, name: str) -> None:
        if name in self.dead:
            return
        one = self.candidates[name]
        match one.next(self.now):
            case Idle(seconds):
                self._at(self.now + max(seconds, 0.001), lambda: self._step(name))
            case step:
                self._ask(name, one, step)

    def _ask(self, name: str, one: Elector, step: Look | Take) -> None:
        fate = next(self._fates[name])
        is_over = [False]

        def after(act: Callable[[], None]) -> None:
            if not is_over[0] and name not in self.dead:
                is_over[0] = True
                act()
                self._step(name)

        def arrive() -> None:
            answer = self._answer(one, step)
            if not fate.lost:
                self._at(self.now + fate.back, lambda: after(answer))

        self._at(self.now + fate.there, arrive)
        self._at(self.now + one.pause, lambda: after(lambda: one.failed(self.now)))

    def _answer(self, one: Elector, step: Look | Take) -> Callable[[], None]:
        """What the API server does, and what whoever asked does with its answer."""
        seen, version = self.record, str(self.version)
        if isinstance(step, Look):
            return lambda: one.found(seen, version if seen else "", self.now)
        if (step.version or "0") != str(self.version):
            return lambda: one.conflict(self.now)
        self.version += 1
        written = self.record = LeaseRecord(step.holder, step.seconds, step.acquired or f"t{self.now}", f"t{self.now}", step.transitions)
        version = str(self.version)
        return lambda: one.taken(written, version, self.now)


delays = st.floats(0, 60, allow_nan=False)
late = st.builds(Fate, delays, delays, st.booleans())
fates = st.one_of(st.just(Fate(0.01, 0.01)), st.just(Fate(10_000.0, 0.0)), late)
runs = st.tuples(fates, st.integers(1, 8)).map(lambda run: [run[0]] * run[1])
scripts = st.lists(runs, min_size=1, max_size=6).map(lambda found: list(itertools.chain(*found)))


@settings(max_examples=300)
@given(st.lists(scripts, min_size=2, max_size=3), st.sampled_from([TTL, Flags().election_ttl]))
def test_there_are_never_two_leaders(found: list[list[Fate]], ttl: float) -> None:
    """Each candidate has its own fate, again and again."""
    names = "abc"[: len(found)]
    Play(names, {name: itertools.cycle(script) for name, script in zip(names, found, strict=True)}, ttl).run(200)


@given(st.floats(0, 60, allow_nan=False), st.floats(0.001, 0.5), st.sampled_from([TTL, Flags().election_ttl]))
def test_a_leader_that_dies_is_replaced_within_the_lease_time(when: float, latency: float, ttl: float) -> None:
    play = Play("ab", dict.fromkeys("ab", itertools.repeat(Fate(latency / 2, latency / 2))), ttl)
    play.run(5 + when)
    (leader,) = play.leading()
    play.dead.add(leader)
    play.run(5 + when + ttl)
    (follower,) = play.leading()
    assert follower != leader


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans()), max_size=60))
def test_a_leader_stays_one_while_it_gets_through_now_and_then(script: list[tuple[float, bool]]) -> None:
    """No flapping: answers that come in time keep it, even where every other one is lost."""

    def odds() -> Iterator[Fate]:
        yield from itertools.repeat(Fate(0.0, 0.0), 2)
        for (delay, lost), _ in zip(script, itertools.count(), strict=False):
            yield Fate(delay / 8, delay / 8, lost)
            yield Fate(0.0, 0.0)
            yield Fate(0.0, 0.0)
        yield from itertools.repeat(Fate(0.0, 0.0))

    play = Play("a", {"a": odds()})
    play.run(1)
    assert play.leading() == ["a"]
    for moment in range(1, 300):
        play.run(float(moment))
        assert play.leading() == ["a"], play.now


def test_by_default_a_leader_that_dies_is_replaced_within_15_seconds() -> None:
    assert Flags().election_ttl <= 15


def test_two_candidates_that_are_well_have_the_same_leader_all_the_time() -> None:
    play = Play("ab", dict.fromkeys("ab", itertools.repeat(Fate(0.01, 0.01))))
    play.run(600)
    assert len(play.leaders) == 1
