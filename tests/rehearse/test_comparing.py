"""What of answers is compared; and what stays different when both are asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds.rehearse.comparing import NOT_COMPARED, ONLY_PRESENT, Difference, Reply, Seen, Terms, differences, seen, steady

TERMS = Terms({"http": 8080, "https": 8443})
PAGE = Path(__file__).parents[2] / "docs" / "rehearse.md"


def look(*headers: tuple[str, str], status: int = 200, terms: Terms = TERMS, is_head: bool = False) -> Seen:
    return seen(Reply(status, headers), terms, is_head=is_head)


@pytest.mark.parametrize("name", NOT_COMPARED)
def test_headers_of_connection_and_time_are_not_compared(name: str) -> None:
    assert look((name, "one")) == look((name, "two")) == look()


@pytest.mark.parametrize("name", ONLY_PRESENT)
def test_of_changing_headers_it_counts_whether_they_are_there(name: str) -> None:
    assert look((name, "one")) == look((name, "two")) != look()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.test/x", "https://a.test:443/x"),
        ("http://a.test/", "http://a.test:8080/"),
        ("https://a.test:8443/x?y", "https://a.test/x?y"),
        ("http://[::1]:80/x", "http://[::1]/x"),
    ],
)
def test_a_location_is_compared_without_the_ports_of_the_sides(one: str, other: str) -> None:
    assert look(("location", one), status=302) == look(("location", other), status=302)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.test/x", "http://a.test/x"),
        ("https://a.test:9443/", "https://a.test/"),
        ("https://a.test/?u=http://b.test:80/", "https://a.test/?u=http://b.test/"),
        ("/x", "http://a.test/x"),
        ("http://a.test:443/", "http://a.test/"),
    ],
)
def test_other_locations_differ(one: str, other: str) -> None:
    assert look(("location", one), status=302) != look(("location", other), status=302)


def test_of_a_cookie_the_name_and_the_attributes_count() -> None:
    one = look(("set-cookie", "s=abc; Path=/; HttpOnly; Expires=Mon, 30 Nov 2026 11:00:00 GMT"))
    assert one == look(("set-cookie", "s=xyz; httponly; expires=Tue, 01 Dec 2026 11:00:00 GMT; path=/"))
    assert one != look(("set-cookie", "s=abc; Path=/a; HttpOnly; Expires=Mon, 30 Nov 2026 11:00:00 GMT"))
    assert one != look(("set-cookie", "s=abc; Path=/; HttpOnly"))
    assert one != look(("set-cookie", "t=abc; Path=/; HttpOnly; Expires=Mon, 30 Nov 2026 11:00:00 GMT"))
    assert "abc" not in str(one)


def test_the_backend_is_named_by_its_header_else_by_server_timing_without_times() -> None:
    terms = Terms(TERMS.ports, "X-App")
    assert look(("x-app", "web"), terms=terms)["backend"] == "web"
    assert look(("server-timing", 'app;desc="web";dur=53.2, db;dur=1')) == look(("server-timing", 'app;desc="web";dur=1, db'))
    assert look(("server-timing", 'app;desc="web"')) != look(("server-timing", 'app;desc="new"'))


def test_a_length_counts_where_both_have_it_and_the_body_is_the_application_s() -> None:
    one, other = ("content-length", "5"), ("content-length", "6")
    assert [each.field for each in differences(look(one), look(other))] == ["header content-length"]
    assert differences(look(one), look()) == []
    for more in ({"status": 404}, {"status": 302}, {"is_head": True}):
        assert differences(look(one, **more), look(other, **more)) == []
    assert differences(look(one, ("content-encoding", "gzip")), look(other, ("content-encoding", "gzip"))) == []


def test_lists_are_compared_without_order_and_case() -> None:
    assert look(("vary", "Accept-Encoding, Origin")) == look(("vary", "origin"), ("vary", "accept-encoding"))


def test_of_another_status_nothing_is_reported_that_follows_from_it() -> None:
    found = differences(look(("x-a", "1"), ("location", "/x"), status=302), look(("x-b", "1")))
    assert found == [Difference("status", "302", "200")]


def test_another_backend_is_reported_beside_another_status() -> None:
    terms = Terms({}, "x-app")
    found = differences(look(("x-app", "a"), terms=terms), look(("x-app", "b"), status=404, terms=terms))
    assert [each.field for each in found] == ["backend", "status"]


def test_an_error_is_a_difference_by_itself() -> None:
    failed = seen(Reply(error="no connection"), TERMS, is_head=False)
    assert differences(look(), failed) == [Difference("error", None, "no connection")]
    assert differences(failed, failed) == []


def fields(theirs: list[Seen], ours: list[Seen], *, by_chance: bool = False) -> tuple[list[str], list[str]]:
    kept, unsteady = steady(theirs, ours, by_chance=by_chance)
    return [each.field for each in kept], unsteady


def test_what_stays_different_is_a_difference() -> None:
    assert fields([{"header x": "a"}] * 3, [{"header x": "b"}] * 3) == (["header x"], [])
    assert fields([{"header x": "a"}] * 3, [{"header x": v} for v in "bcd"]) == (["header x"], [])


def test_what_both_change_or_give_in_turn_is_unsteady() -> None:
    assert fields([{"header x": v} for v in "abc"], [{"header x": v} for v in "def"]) == ([], ["header x"])
    assert fields([{"backend": v} for v in "aba"], [{"backend": v} for v in "bbb"]) == ([], ["backend"])


def test_a_status_may_be_unsteady_by_chance_only() -> None:
    now_and_then: list[Seen] = [{"status": v} for v in ("503", "200", "200")]
    assert fields([{"status": "200"}] * 3, now_and_then) == (["status"], [])
    assert fields([{"status": "200"}] * 3, now_and_then, by_chance=True) == ([], ["status"])


def test_the_manual_lists_what_is_not_compared() -> None:
    text = PAGE.read_text()
    assert [name for name in (*NOT_COMPARED, *ONLY_PRESENT) if f"`{name}`" not in text] == []
