"""Every request is answered by the rule that it was derived from, as `xds explain` has it; each rule has its part; nothing is endless."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.exploring import examples
from tests.rehearse.worlds import BOTH, Built, ingress, path, services
from xds.kube.objects import ref
from xds.model import Via
from xds.problem import Ref, Severity
from xds.rehearse.derive import MOST_PATHS, derived
from xds.rehearse.inquiries import Inquiry, Why, in_turn, is_allowed, spread


def asked(built: Built, *, vias: tuple[Via, ...] = (Via.HTTP,), allow: tuple[str, ...] = ()) -> list[Inquiry]:
    return list(derived(built.scene(vias, allow)))


def targets(found: list[Inquiry], why: Why = Why.RULE, method: str = "GET") -> set[str]:
    return {each.target for each in found if each.why is why and each.method == method and not each.headers and each.origin}


def test_a_prefix_is_asked_for_with_and_without_a_slash_and_for_a_child() -> None:
    found = asked(Built([*services("web"), ingress("i", {"a.test": [path("/foo")]})]))
    assert targets(found) == {"/", "/foo", "/foo/", "/foo/rehearsal?rehearsal=1", "/rehearsal?rehearsal=1"}
    assert targets(found, Why.BESIDE) == {"/foorehearsal"}
    assert targets(found, method="HEAD") == {"/", "/foo"}


def test_an_exact_path_is_asked_for_and_what_it_must_not_take() -> None:
    found = asked(Built([*services("web"), ingress("i", {"a.test": [path("/foo", "Exact"), path("/", service="web")]})]))
    own = [each for each in found if each.rule == "spec.rules[0].http.paths[0]"]
    assert {(each.method, each.target) for each in own} == {("GET", "/foo"), ("HEAD", "/foo")}
    beside = next(each for each in found if each.target == "/foo/")
    assert (beside.why, beside.rule) == (Why.BESIDE, "spec.rules[0].http.paths[1]")
    assert beside.derived_from == (Ref("Ingress", "default", "i"), "spec.rules[0].http.paths[0]")


def test_expressions_are_asked_for_by_samples_that_they_match() -> None:
    found = asked(
        Built(
            [*services("web"), ingress("i", {"a.test": [path("/api/v[0-9]+(/|$)(.*)", "ImplementationSpecific")]}, {"use-regex": "true"})]
        )
    )
    assert {"/api/v1/", "/api/v11/a"} <= targets(found)
    assert "/api/v11a" not in {each.target for each in found}  # a sample that `$` does not allow


def test_a_wildcard_is_asked_for_by_a_name_that_nobody_has() -> None:
    hosts = {"*.a.test": [path("/")], "rehearsal.a.test": [path("/")]}
    found = asked(Built([*services("web"), ingress("i", hosts)]))
    assert {each.host for each in found if each.origin} == {"rehearsal1.a.test", "rehearsal.a.test"}


def test_both_schemes_are_asked_by_what_answers_each() -> None:
    found = asked(Built([*services("web"), ingress("i", {"a.test": [path("/")]}, tls=True)]), vias=BOTH)
    assert {each.via for each in found if each.host == "a.test"} == {Via.HTTP, Via.HTTPS}


def test_a_canary_is_asked_for_by_its_header_and_by_its_cookie() -> None:
    rules = {"a.test": [path("/")]}
    canary = {"a.test": [path("/", service="new")]}
    notes = {"canary": "true", "canary-by-header": "X-New", "canary-by-header-value": "yes", "canary-by-cookie": "new"}
    found = asked(Built([*services("web", "new"), ingress("i", rules), ingress("canary", canary, notes)]))
    by_headers = {each.headers: each.origin.name for each in found if each.headers and each.origin}
    assert by_headers[(("x-new", "yes"),)] == "canary"
    assert by_headers[(("cookie", "new=always"),)] == "canary"


def test_a_canary_by_weight_answers_by_chance() -> None:
    notes = {"canary": "true", "canary-weight": "20"}
    rules = {"a.test": [path("/")]}
    found = asked(Built([*services("web", "new"), ingress("i", rules), ingress("canary", {"a.test": [path("/", service="new")]}, notes)]))
    assert {each.by_chance for each in found if each.origin} == {True}


def test_an_origin_of_cors_is_asked_for() -> None:
    notes = {"enable-cors": "true", "cors-allow-origin": "https://shop.test, https://*.site.test"}
    found = asked(Built([*services("web"), ingress("i", {"a.test": [path("/")]}, notes)]))
    assert {(("origin", "https://shop.test"),), (("origin", "https://a.site.test"),)} <= {each.headers for each in found}


def test_names_that_a_host_has_besides_are_asked_for() -> None:
    notes = {"server-alias": "b.test", "from-to-www-redirect": "true"}
    found = asked(Built([*services("web"), ingress("i", {"a.test": [path("/")]}, notes)]))
    assert {"a.test", "b.test", "www.a.test"} <= {each.host for each in found}


def test_a_path_that_has_no_effect_here_is_asked_for_all_the_same() -> None:
    lost = ingress("z", {"a.test": [path("/"), path("/mine"), path("/x.y", "Exact")]}, {"configuration-snippet": "is not allowed;"})
    found = asked(Built([*services("web"), ingress("a", {"a.test": [path("/own")]}), lost]))
    mine = [each for each in found if each.derived_from == (ref(lost), "spec.rules[0].http.paths[1]")]
    assert [(each.why, each.target) for each in mine] == [(Why.LOST, "/mine")]
    assert all(each.origin != ref(lost) for each in mine)


def test_the_path_of_a_closed_host_is_asked_for_by_its_rule_though_no_ingress_answers() -> None:
    closed = ingress("i", {"a.test": [path("/")]}, {"auth-tls-secret": "default/absent"})
    found = [each for each in asked(Built([*services("web"), closed])) if each.host == "a.test"]
    assert {each.origin for each in found} == {None}
    assert [each.derived_from for each in found if each.target == "/" and each.method == "GET"] == [
        (ref(closed), "spec.rules[0].http.paths[0]")
    ]


def test_only_hosts_that_are_allowed_are_asked_for() -> None:
    rules = {name: [path("/")] for name in ("a.test", "b.test", "*.c.test")}
    built = Built([*services("web"), ingress("i", rules)])
    assert {each.host for each in asked(built, allow=("a.test",))} == {"a.test"}
    assert {each.host for each in asked(built, allow=("*.c.test", "B.test"))} == {"b.test", "rehearsal.c.test"}
    assert asked(built, allow=("test",)) == []


def test_ten_thousand_paths_of_one_ingress_leave_the_others_their_part() -> None:
    big = ingress("big", {"big.test": [path(f"/p{n}") for n in range(10_000)]}, namespace="loud")
    small = [ingress(f"i{n}", {f"h{n}.test": [path("/")]}, namespace=f"n{n}") for n in range(20)]
    built = Built([*services("web"), big, *small])
    first = list(itertools.islice(derived(built.scene((Via.HTTP,))), 60))
    count = Counter(each.host for each in first)
    assert {f"h{n}.test" for n in range(20)} <= count.keys()
    assert count["big.test"] <= 3


def test_of_a_host_with_many_paths_some_are_asked_for_from_all_over() -> None:
    big = ingress("big", {"big.test": [path(f"/p{n:03}") for n in range(400)]})
    found = derived(Built([*services("web"), big]).scene((Via.HTTP,), ("big.test",)))
    asked_for = {each.target[:5] for each in found if each.target.startswith("/p")}
    assert 80 <= len(asked_for) <= MOST_PATHS
    assert {target[2] for target in asked_for} == set("0123")


@pytest.mark.parametrize(
    "odd",
    ["/(a+)+$", "/x{1000}{1000}", "/" + "(a|b)*" * 500, "/" + "(" * 900 + ")" * 900, "/[^\\x00-\\x{10FFFF}]", "/a" + "b?" * 400],
    ids=len,
)
def test_a_path_whose_sample_would_be_endless_ends(odd: str) -> None:
    rules = {"a.test": [path(odd, "ImplementationSpecific"), path("/ok", "ImplementationSpecific")]}
    found = asked(Built([*services("web"), ingress("i", rules, {"use-regex": "true"})]))
    assert "/ok" in targets(found)
    assert all(len(each.target) < 2_000 for each in found)


def test_requests_have_nothing_that_ends_a_line() -> None:
    notes = {"canary": "true", "canary-by-header": "x", "canary-by-header-pattern": "^a|b$"}
    rules = {"a.test": [path("/a\r\nx: y", "ImplementationSpecific"), path("/é ?#", "Exact")]}
    found = asked(Built([*services("web"), ingress("i", rules), ingress("c", {"a.test": [path("/é ?#", "Exact")]}, notes)]))
    for each in found:
        assert each.target.isascii()
        assert each.target.isprintable()
        assert not set(" #") & set(each.target)
        assert all(value.isprintable() for _, value in each.headers)


@given(strategies.objects())
@settings(max_examples=examples(20))
def test_each_request_is_answered_by_the_rule_that_it_was_derived_from(objects: list[object]) -> None:
    built = Built(objects, strategies.FLAGS)
    found = list(itertools.islice(derived(built.scene()), 400))
    assert len({each.sent for each in found}) == len(found)
    for each in found:
        if each.headers:
            continue  # a URL has none
        route = built.explained(each.url, each.method)["route"]
        about = route["ingress"]
        assert (each.rule, each.origin and each.origin.name) == (route["rule"], about and about["name"]), each
        if each.why is Why.RULE and each.origin:
            assert each.derived_from == (each.origin, each.rule)


@given(strategies.objects())
@settings(max_examples=examples(20))
def test_each_rule_that_check_has_nothing_against_is_asked_for(objects: list[object]) -> None:
    built = Built(objects, strategies.FLAGS)
    found = list(itertools.islice(derived(built.scene((Via.HTTP,))), 2_000))
    reached = {each.derived_from for each in found} | {(each.origin, each.rule) for each in found}
    problems = {p.about for p in built.tables.problems() if p.severity is not Severity.NOTE}
    for item in built.ingresses:
        if ref(item) in problems:
            continue
        for n, rule in enumerate(item.rules):
            for m, each in enumerate(rule.paths):
                plain = each.type in ("Exact", "Prefix") and each.path.isascii() and each.path.isprintable() and len(each.path) < 400
                if plain and not set(each.path) & set("^$*+?()[]{}|\\%;. #") and "//" not in each.path:
                    assert (ref(item), f"spec.rules[{n}].http.paths[{m}]") in reached, each


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 8))
def test_those_who_share_take_turns(sizes: list[int], most: int) -> None:
    made = [[(n, m) for m in range(size)] for n, size in enumerate(sizes)]
    found = list(in_turn(iter(each) for each in made))
    assert sorted(found) == sorted(itertools.chain.from_iterable(made))
    assert [turn for _, turn in found] == sorted(turn for _, turn in found)
    few = spread(found, most)
    assert len(few) == min(most, len(found))
    assert not found or few[0] == found[0]


def test_a_name_is_allowed_by_itself_or_by_a_wildcard() -> None:
    assert is_allowed("a.test", ())
    assert is_allowed("x.a.test", ("*.a.test",))
    assert not is_allowed("a.test", ("*.a.test",))
    assert not is_allowed("xa.test", ("a.test",))
