"""When a 403 is believed."""

from __future__ import annotations

from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.reflector import CONFIRMATIONS

LEAST = 5.0


def denied(denials: Denials, *times: float, place: str = "a") -> list[bool]:
    return [denials.denied(place, now) for now in times]


def test_it_is_believed_at_the_third_time_and_not_sooner_than_after_a_while() -> None:
    assert denied(Denials(LEAST), 0, 10) == [False, False]
    assert denied(Denials(LEAST), 0, 0, 0, 4.9, 5) == [False, False, False, False, True]
    assert CONFIRMATIONS == 3


def test_an_answer_in_between_begins_anew() -> None:
    denials = Denials(LEAST)
    denied(denials, 0, 4)
    denials.allowed("a")
    assert denied(denials, 6, 8, 10, 11) == [False, False, False, True]


def test_what_is_believed_goes_on_being_believed_until_it_is_allowed() -> None:
    denials = Denials(LEAST)
    denied(denials, 0, 3, 6)
    assert denied(denials, 100) == [True]
    denials.allowed("a")
    assert denied(denials, 200) == [False]


def test_an_answer_elsewhere_does_not_make_up_for_it() -> None:
    denials = Denials(LEAST)
    denied(denials, 0, 3)
    denials.allowed("b")
    assert denied(denials, 6) == [True]


def test_while_nothing_is_allowed_no_other_place_is_doubted() -> None:
    denials = Denials(LEAST)
    denied(denials, 0, 3, 6)
    assert denied(denials, 6, place="b") == [True]
    denials.allowed("c")
    assert denied(denials, 7, place="d") == [False]
    assert denied(denials, 7, place="a") == [True]
