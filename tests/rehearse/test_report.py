"""Differences are grouped by cause: the Ingress and rule, what may be behind it, what is known, and what `xds check` has about it."""

from __future__ import annotations

from fnmatch import filter as matching

from xds.json_forms import Json
from xds.nginx.registry import known_annotations, known_keys
from xds.problem import Ref
from xds.rehearse.derive import derived
from xds.rehearse.inquiries import Inquiry, Why
from xds.rehearse.report import MOST_EXAMPLES, SUSPECTS, Context, Tallied, document

from .worlds import Built, ingress, path, services

JOINED = {"status": "302", "header set-cookie": "a=…, b=…"}
APART = {"status": "302", "header set-cookie": "a=…\nb=…"}


def tallied(built: Built) -> Tallied:
    return Tallied(Context(built.read, built.tables.problems(), built.flags.annotations_prefix, built.flags.configmap))


def printed(found: Tallied, built: Built) -> Json:
    return document(found, ([], []), built.ingresses, complete=True, log=None)


def first(built: Built, host: str, *, why: Why = Why.RULE, via: str = "https") -> Inquiry:
    return next(each for each in derived(built.scene()) if each.host == host and each.why is why and each.via.value == via)


def signing_in(*, odd: dict[str, str] | None = None, tls: bool = False) -> Built:
    notes = {"auth-url": "http://10.0.0.9/check", "auth-signin": "https://login.test/start", **(odd or {})}
    return Built([*services("web"), ingress("i", {"a.test": [path("/")]}, notes, tls=tls)])


def test_a_known_difference_is_called_so() -> None:
    built = signing_in()
    found = tallied(built)
    found.add(first(built, "a.test"), [JOINED] * 3, [APART] * 3)
    (group,) = printed(found, built)["differences"]
    assert group["known"]["id"] == "auth-cookies-apart"
    assert group["annotations"] == [{"name": "auth-url", "value": "http://10.0.0.9/check"}]
    assert printed(found, built)["summary"]["known"] == 1


def test_nothing_is_called_known_where_check_has_an_error() -> None:
    built = signing_in(odd={"app-root": "nowhere"})
    found = tallied(built)
    found.add(first(built, "a.test"), [JOINED] * 3, [APART] * 3)
    (group,) = printed(found, built)["differences"]
    assert group["known"] is None
    assert "error" in {problem["severity"] for problem in group["problems"]}
    assert printed(found, built)["summary"]["differing"] == 1


def test_an_error_about_a_certificate_that_neither_side_has_hides_nothing() -> None:
    built = signing_in(tls=True)
    found = tallied(built)
    inquiry = first(built, "a.test")
    found.add(inquiry, [JOINED] * 3, [APART] * 3)
    generated = [f"Kubernetes Ingress Controller Fake Certificate (SHA-256 {n})" for n in "12"]
    found.add_certificates(inquiry, *generated)
    by_field = {group["field"]: group["known"] and group["known"]["id"] for group in printed(found, built)["differences"]}
    assert any(p.field.startswith("spec.tls") for p in built.tables.problems())
    assert by_field == {"certificate": "generated-certificate", "header set-cookie": "auth-cookies-apart"}
    found.add_certificates(inquiry, "a.test (SHA-256 3)", generated[1])
    assert printed(found, built)["summary"]["certificates"] == 1


def test_a_rule_that_has_no_route_here_is_the_cause_of_what_it_lost() -> None:
    lost = ingress("lost", {"a.test": [path("/mine")]}, {"server-snippet": "not allowed;"})
    built = Built([*services("web"), ingress("i", {"a.test": [path("/")]}), lost])
    found = tallied(built)
    found.add(first(built, "a.test", why=Why.LOST), [{"status": "200"}] * 3, [{"status": "404"}] * 3)
    (group,) = printed(found, built)["differences"]
    assert group["object"]["name"] == "lost"
    assert group["rule"] == "spec.rules[0].http.paths[0]"
    assert group["examples"][0]["answered_by"]["name"] == "i"
    assert any("server-snippet" in problem["field"] for problem in group["problems"])
    assert {each["name"] for each in group["annotations"]} == {"server-snippet"}


def test_one_cause_is_one_group_with_few_examples_whatever_the_order() -> None:
    built = Built([*services("web"), ingress("i", {"a.test": [path("/"), path("/b")]})])
    inquiries = [each for each in derived(built.scene()) if each.origin == Ref("Ingress", "default", "i")]
    documents = []
    for order in (inquiries, inquiries[::-1]):
        found = tallied(built)
        for each in order:
            found.add(each, [{"status": "200"}], [{"status": "500"}])
        documents.append(printed(found, built))
    assert documents[0] == documents[1]
    groups = documents[0]["differences"]
    assert len(groups) == len({group["rule"] for group in groups}) >= 2
    assert all(len(group["examples"]) <= MOST_EXAMPLES for group in groups)
    assert sum(group["requests"] for group in groups) == len(inquiries)
    assert documents[0]["summary"]["rules_asked"] == 2


def test_what_may_be_behind_a_difference_are_annotations_and_keys_that_there_are() -> None:
    names = {*known_annotations(), *known_keys()}
    assert [glob for _, globs in SUSPECTS for glob in globs if not matching(names, glob)] == []
