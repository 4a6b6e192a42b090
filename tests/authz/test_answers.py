"""RememberedAnswers of authentication services that are remembered: which, for how long, for whom, and how many."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.authz import answers
from xds.authz.answers import RememberedAnswers

NOW = 1_800_000_000.0


class Clock:
    """The time, which goes on when it is told to."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def question(key: str = "alice", durations: str = "200=300,401=60", place: str = "p", proofs: str = "1=1", **headers: str) -> bytes:
    lines = [f"{place} {durations} {proofs} {key}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\n".join(lines).encode()


def head(status: int = 200, *headers: str) -> bytes:
    return "\n".join([str(status), *headers]).encode()


def remember(known: RememberedAnswers, asked: bytes, answer: bytes) -> None:
    assert asyncio.run(known.remember(b"%d\n" % len(asked) + asked + answer)) == b""


def recall(known: RememberedAnswers, asked: bytes) -> bytes:
    return asyncio.run(known.recall(asked))


def lasts(answer: bytes, asked: bytes = question()) -> float:
    """Seconds for which an answer is remembered."""
    clock = Clock()
    known = RememberedAnswers(clock)
    remember(known, asked, answer)
    for seconds in (0, 1, 59, 60, 299, 300, 1799):
        clock.now = NOW + seconds
        if not recall(known, asked):
            return seconds
    return 1800


def test_an_answer_is_recalled_as_it_was_under_its_key_and_at_its_place() -> None:
    known, said = RememberedAnswers(), head(200, "x-user: alice", "x-user: root")
    remember(known, question(), said)
    assert recall(known, question()) == said
    for other in (question("bob"), question(place="q"), question(""), question("alice "), question(place="p 1", key="alice")):
        assert recall(known, other) == b""


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (head(200), 300),
        (head(401, "www-authenticate: Basic"), 60),
        (head(403), 0),
        (head(500), 0),
        (head(200, "set-cookie: a=b"), 0),
        (head(200, "cache-control: no-cache"), 0),
        (head(200, "cache-control: max-age=60, Private"), 0),
        (head(200, "cache-control: no-store", "x-accel-expires: 60"), 60),
        (head(200, "cache-control: max-age=60"), 60),
        (head(403, "cache-control: max-age=60"), 60),
        (head(200, "cache-control: max-age=1, s-maxage=60"), 60),
        (head(200, "cache-control: max-age=0"), 0),
        (head(200, "cache-control: max-age=soon"), 0),
        (head(200, "x-accel-expires: 0"), 0),
        (head(200, f"x-accel-expires: @{int(NOW) + 60}"), 60),
        (head(200, "expires: Fri, 15 Jan 2027 08:01:00 GMT"), 60),
        (head(200, "expires: 0"), 0),
        (head(200, "expires: Fri, 15 Jan 2027 08:01:00 GMT", "cache-control: max-age=300"), 300),
        (head(200, "vary: *"), 0),
        (head(200, "vary: " + "x" * 129), 0),
        (head(200, "x-user: " + "x" * answers.LARGEST), 0),
        (b"", 0),
        (b"OK", 0),
    ],
)
def test_how_long_an_answer_is_remembered_is_what_nginx_makes_of_it(answer: bytes, seconds: int) -> None:
    assert lasts(answer) == seconds


def test_an_answer_that_nobody_asks_for_is_forgotten_before_it_ends() -> None:
    clock = Clock()
    known = RememberedAnswers(clock)
    remember(known, question(durations="200=86400"), head())
    for _ in range(4):
        clock.now += answers.IDLE - 1
        assert recall(known, question(durations="200=86400"))
    clock.now += answers.IDLE
    assert not recall(known, question(durations="200=86400"))
    assert len(known) == 0


def test_a_value_of_a_header_is_none_of_another_header() -> None:
    known = RememberedAnswers()
    remember(known, question(a="b"), head(200, "vary: a, b"))
    assert recall(known, question(a="b"))
    assert not recall(known, question(b="b"))


def test_with_vary_an_answer_is_for_the_same_headers_only() -> None:
    known = RememberedAnswers()
    french, english = (question(accept_language=each, cookie="s=1") for each in ("fr", "en"))
    remember(known, french, head(200, "vary: Accept-Language, X-Other", "x-user: fr"))
    assert recall(known, english) == b""
    remember(known, english, head(200, "vary: x-other,accept-language", "x-user: en"))
    assert [recall(known, each)[-2:] for each in (french, english)] == [b"fr", b"en"]
    assert recall(known, question(accept_language="fr", x_other="1")) == b""


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"\n\n", b"p 200=300 1=1", question(proofs="1="), question(proofs="2=1"), question(proofs="1=0")]
)
def test_a_question_without_a_proven_key_is_not_remembered(raw: bytes) -> None:
    known = RememberedAnswers()
    remember(known, raw, head())
    assert (recall(known, raw), len(known)) == (b"", 0)


def test_the_number_of_answers_and_their_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST", 3)
    known = RememberedAnswers()
    for key in "abcd":
        remember(known, question(key), head())
        assert recall(known, question("a"))
    assert [key for key in "abcd" if recall(known, question(key))] == ["a", "c", "d"]
    monkeypatch.setattr(answers, "MOST_BYTES", 2 * 1600)
    for key in "efgh":
        remember(known, question(key), head(200, "x: " + "y" * 1000))
    assert [key for key in "abcdefgh" if recall(known, question(key))] == ["g", "h"]


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_whatever_is_sent_nothing_is_raised(raw: bytes) -> None:
    known = RememberedAnswers()
    asyncio.run(known.remember(raw))
    assert recall(known, raw) == b""
