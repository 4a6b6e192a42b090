"""Which Events are written, how often, and what makes two of them the same one."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from xds.problem import Problem, Ref
from xds.report.events import (
    ATTEMPTS,
    EACH,
    REMIND,
    TOTAL,
    Create,
    Event,
    EventRecorder,
    Patch,
    Rate,
    Throttled,
    scheduled,
    warning,
)

WEB = Ref("Ingress", "shop", "web")
PROBLEM = Problem(WEB, "spec.rules[0].host", "bad-host", "This is no host.")


def event(number: int = 0, about: Ref = WEB) -> Event:
    return warning(Problem(about, f"spec.rules[{number}]", "bad-host", "This is no host."), "uid-1")


def drain(recorder: EventRecorder, now: float) -> list[Create | Patch]:
    """All that may be written now, written."""
    found: list[Create | Patch] = []
    while isinstance(action := recorder.next(now), Create | Patch):
        found.append(action)
        recorder.written(action.event, max(1, getattr(action, "count", 1)), now)
    return found


def test_an_event_says_what_is_wrong_where_with_a_reason_in_one_word() -> None:
    made = warning(PROBLEM, "uid-1")
    assert (made.type, made.reason, made.message) == ("Warning", "BadHost", "spec.rules[0].host: This is no host.")
    assert (made.about, made.uid) == (WEB, "uid-1")


def test_an_event_about_a_whole_ingress_has_its_sentence_alone() -> None:
    assert warning(Problem(WEB, "", "nothing", "It is empty."), "u").message == "It is empty."


def test_taking_over_is_told_as_ingress_nginx_tells_it() -> None:
    made = scheduled(WEB, "uid-1")
    assert (made.type, made.reason, made.message, made.lasts) == ("Normal", "Sync", "Scheduled for sync", False)


def test_the_name_of_an_event_is_made_of_uid_field_and_code() -> None:
    """N1: the sentence may change (decision 17)."""
    name = warning(PROBLEM, "uid-1").name
    assert warning(Problem(WEB, PROBLEM.field, PROBLEM.code, "Other words."), "uid-1").name == name
    others = [
        warning(PROBLEM, "uid-2").name,
        warning(Problem(WEB, "spec.rules[1].host", PROBLEM.code, ""), "uid-1").name,
        warning(Problem(WEB, PROBLEM.field, "other", ""), "uid-1").name,
        scheduled(WEB, "uid-1").name,
    ]
    assert len({name, *others}) == 5


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", fullmatch=True).filter(lambda name: len(name) <= 253), st.text(), st.text())
def test_the_name_of_an_event_is_one_that_the_api_server_takes(name: str, field: str, code: str) -> None:
    made = warning(Problem(Ref("Ingress", "shop", name), field, code, "…" * 2000), "uid")
    assert len(made.name) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", made.name)
    assert "-." not in made.name.removeprefix(name)
    assert len(made.message) <= 1024
    assert 0 < len(made.reason) <= 128


def test_a_name_that_is_cut_does_not_end_in_a_dash() -> None:
    made = event(about=Ref("Ingress", "shop", "a" * 235 + "-" + "b" * 17))
    assert "-." not in made.name


def test_what_happens_is_written_once() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    recorder.happened(event())
    assert drain(recorder, 0.0) == [Create(event())]
    assert recorder.next(0.0) is None


def test_what_happens_again_counts_up_the_event_that_is_there() -> None:
    """N2."""
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    drain(recorder, 0.0)
    recorder.over(event().name)
    recorder.happened(event())
    assert drain(recorder, 1.0) == [Patch(event(), 2)]


def test_an_event_that_somebody_wrote_before_us_is_not_counted_up() -> None:
    """N1: after a restart."""
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    assert recorder.next(0.0) == Create(event())
    recorder.exists(event())
    assert recorder.next(0.0) == Patch(event(), 0)
    recorder.written(event(), 5, 0.0)
    assert recorder.next(0.0) is None
    recorder.happened(event())
    assert recorder.next(0.0) == Patch(event(), 6)


def test_an_event_that_has_expired_is_created_anew() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    drain(recorder, 0.0)
    recorder.happened(event())
    assert isinstance(recorder.next(1.0), Patch)
    recorder.missing(event())
    assert recorder.next(1.0) == Create(event())


def test_a_problem_that_lasts_is_told_again_before_its_event_expires() -> None:
    """N2."""
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    drain(recorder, 0.0)
    recorder.remind(REMIND - 1)
    assert recorder.next(REMIND - 1) is None
    recorder.remind(REMIND)
    assert drain(recorder, REMIND) == [Patch(event(), 2)]


def test_what_is_over_or_does_not_last_is_not_told_again() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    recorder.happened(scheduled(WEB, "uid-1"))
    drain(recorder, 0.0)
    recorder.over(event().name)
    recorder.remind(2 * REMIND)
    assert recorder.next(2 * REMIND) is None


def test_a_problem_that_is_gone_before_its_turn_is_not_told() -> None:
    """N4."""
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    recorder.over(event().name)
    assert recorder.next(0.0) is None


def test_warnings_come_before_what_is_normal() -> None:
    """N4."""
    recorder = EventRecorder(0.0)
    recorder.happened(scheduled(WEB, "uid-1"))
    recorder.happened(event())
    assert [action.event.type for action in drain(recorder, 0.0)] == ["Warning", "Normal"]


def test_there_are_no_more_in_all_than_the_rate_allows() -> None:
    """N3."""
    recorder = EventRecorder(0.0)
    for number in range(TOTAL.burst + 50):
        recorder.happened(event(about=Ref("Ingress", "shop", f"i{number}")))
    assert len(drain(recorder, 0.0)) == TOTAL.burst
    pause = recorder.next(0.0)
    assert isinstance(pause, Throttled)
    assert 0 < pause.seconds <= 1 / TOTAL.second
    assert len(drain(recorder, 1.0)) == TOTAL.second


def test_one_ingress_does_not_use_up_what_is_for_all() -> None:
    """N3: what is more about it is dropped, until it is told again."""
    recorder = EventRecorder(0.0)
    for number in range(EACH.burst + 10):
        recorder.happened(event(number))
    other = event(about=Ref("Ingress", "shop", "other"))
    recorder.happened(other)
    written = drain(recorder, 0.0)
    assert len(written) == EACH.burst + 1
    assert written[-1] == Create(other)
    recorder.remind(1.0)
    assert recorder.next(1000.0) is None
    recorder.remind(REMIND)
    assert Create(event(EACH.burst)) in drain(recorder, REMIND)


def test_a_sentence_that_changed_while_it_was_written_is_written_next() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    action = recorder.next(0.0)
    assert action == Create(event())
    other = warning(Problem(WEB, "spec.rules[0]", "bad-host", "Other words."), "uid-1")
    recorder.happened(other)
    recorder.written(event(), 1, 0.0)
    assert recorder.next(0.0) == Patch(other, 0)


def test_an_api_server_that_does_not_answer_is_asked_less_and_less_and_nothing_is_lost() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    now, pauses = 0.0, []
    for _ in range(10):
        action = recorder.next(now)
        assert action == Create(event())
        recorder.failed(event(), now, answered=False)
        pause = recorder.next(now)
        assert isinstance(pause, Throttled)
        pauses.append(pause.seconds)
        now += pause.seconds
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
    recorder.next(now)
    recorder.written(event(), 1, now)
    assert recorder.next(now) is None


def test_an_event_that_the_api_server_fails_at_is_given_up_and_the_next_one_written() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event(1))
    recorder.happened(event(2))
    now = 0.0
    for _ in range(ATTEMPTS):
        assert recorder.next(now) == Create(event(1))
        recorder.failed(event(1), now, answered=True)
        now += 100
    assert recorder.next(now) == Create(event(2))


def test_an_event_that_is_refused_is_not_tried_again_at_once() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    recorder.next(0.0)
    recorder.rejected(event(), 0.0)
    assert recorder.next(0.0) is None
    recorder.remind(REMIND)
    assert isinstance(recorder.next(REMIND), Create)


def test_an_ingress_that_is_gone_leaves_nothing_behind() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event(1))
    drain(recorder, 0.0)
    recorder.happened(event(2))
    recorder.forget(WEB)
    recorder.remind(2 * REMIND)
    assert recorder.next(2 * REMIND) is None
    recorder.written(event(2), 1, 0.0)
    recorder.over(event(1).name)
    assert recorder.next(0.0) is None


def test_an_ingress_that_is_made_anew_has_events_of_its_own_only() -> None:
    recorder = EventRecorder(0.0)
    recorder.happened(event())
    drain(recorder, 0.0)
    new = warning(PROBLEM, "uid-2")
    recorder.happened(new)
    assert drain(recorder, 0.0) == [Create(new)]
    recorder.remind(REMIND)
    assert drain(recorder, REMIND) == [Patch(new, 2)]


steps = st.lists(
    st.tuples(
        st.sampled_from(["happened", "over", "forget", "remind", "act", "act"]),
        st.integers(0, 4),
        st.sampled_from(["ok", "gone", "down", "no"]),
    ),
    max_size=60,
)


class Ideal:
    """An API server's Events, and who writes them; `outcome` says what becomes of a write."""

    def __init__(self) -> None:
        self.recorder = EventRecorder(0.0, Rate(1000, 1000.0), Rate(1000, 1000.0))
        self.counts: dict[str, int] = {}
        self.now = 0.0

    def act(self, outcome: str) -> bool:
        action = self.recorder.next(self.now)
        if isinstance(action, Throttled):
            self.now += action.seconds
        elif action is not None and outcome == "ok":
            self.write(action)
        elif action is not None:
            self.recorder.failed(action.event, self.now, answered=outcome == "no")
            if outcome == "gone":
                self.counts.clear()
        return action is not None

    def write(self, action: Create | Patch) -> None:
        name = action.event.name
        if isinstance(action, Create) and name in self.counts:
            self.recorder.exists(action.event)
        elif isinstance(action, Patch) and name not in self.counts:
            self.recorder.missing(action.event)
        else:
            count = 1 if isinstance(action, Create) else action.count or self.counts[name]
            assert isinstance(action, Create) or count - self.counts[name] in (0, 1)
            self.counts[name] = count
            self.recorder.written(action.event, count, self.now)


@given(steps)
def test_in_the_end_every_problem_that_lasts_has_its_event(script: list[tuple[str, int, str]]) -> None:
    """Whatever happens in whatever order, with an API server that forgets Events and fails."""
    life = Ideal()
    wanted: set[str] = set()
    for what, number, outcome in script:
        life.now += 1
        match what:
            case "happened":
                life.recorder.happened(event(number))
                wanted.add(event(number).name)
            case "over":
                life.recorder.over(event(number).name)
                wanted.discard(event(number).name)
            case "forget":
                life.recorder.forget(WEB)
                wanted.clear()
            case "remind":
                life.now += REMIND
                life.recorder.remind(life.now)
            case _:
                life.act(outcome)
    life.now += REMIND
    life.recorder.remind(life.now)
    while life.act("ok"):
        pass
    assert wanted <= life.counts.keys()
