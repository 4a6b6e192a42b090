"""The documents of the API server: what is judged, what is refused, and what is only a warning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.admission.review import Judgement, NoReview, answer, asked
from xds.kube.objects import Ingress
from xds.problem import Problem, Ref, Severity

ABOUT = Ref("Ingress", "default", "web")
INGRESS = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "default", "name": "web"}, "spec": {}}


def body(item: Any = INGRESS, operation: str = "CREATE", version: str = "admission.k8s.io/v1") -> bytes:
    request = {"uid": "7", "operation": operation, "object": item}
    return json.dumps({"apiVersion": version, "kind": "AdmissionReview", "request": request}).encode()


def problem(code: str, severity: Severity = Severity.ERROR, sentence: str = "It is wrong.") -> Problem:
    return Problem(ABOUT, "spec.rules", code, sentence, severity)


def answered(*then: Problem, now: tuple[Problem, ...] = ()) -> dict[str, Any]:
    made, admitted = answer(asked(body()), lambda _: Judgement(then, now))
    review = json.loads(made)
    assert (review["apiVersion"], review["kind"], review["response"]["uid"]) == ("admission.k8s.io/v1", "AdmissionReview", "7")
    assert review["response"]["allowed"] is admitted
    response: dict[str, Any] = review["response"]
    return response


def test_what_has_no_problem_is_admitted_without_a_word() -> None:
    assert answered() == {"uid": "7", "allowed": True}


@pytest.mark.parametrize("code", ["conflict", "conflict:a.test", "annotation-forbidden", "host", "path"])
def test_what_can_only_be_an_error_is_refused_with_its_field_and_sentence(code: str) -> None:
    response = answered(problem(code))
    assert response["allowed"] is False
    assert response["status"]["message"] == "spec.rules: It is wrong."


@pytest.mark.parametrize("code", ["no-service", "annotation-closes", "annotation-verdict", "secret-missing:a.test"])
def test_what_may_become_right_is_a_warning(code: str) -> None:
    assert answered(problem(code)) == {"uid": "7", "allowed": True, "warnings": ["spec.rules: It is wrong."]}


def test_a_path_that_another_ingress_would_lose_refuses_as_well_and_nothing_else_of_another_does() -> None:
    other = Ref("Ingress", "default", "older")
    response = answered(Problem(other, "spec.rules", "conflict", "It would be lost."), Problem(other, "spec.rules", "host", "No."))
    assert response["status"]["message"] == "Ingress default/older spec.rules: It would be lost."
    assert "warnings" not in response
    assert answered(Problem(other, "spec.rules", "host", "No.")) == {"uid": "7", "allowed": True}


def test_a_note_is_nothing_and_a_warning_never_refuses() -> None:
    assert answered(problem("conflict", Severity.NOTE)) == {"uid": "7", "allowed": True}
    assert answered(problem("path", Severity.WARNING))["allowed"]


def test_what_stands_already_refuses_no_change_of_something_else() -> None:
    old = problem("conflict")
    assert answered(old, now=(old,)) == {"uid": "7", "allowed": True, "warnings": ["spec.rules: It is wrong."]}
    assert not answered(old, problem("host"), now=(old,))["allowed"]


def test_a_refusal_has_the_other_problems_as_warnings() -> None:
    response = answered(problem("conflict"), problem("no-service", Severity.WARNING, "Nobody is there."))
    assert response["warnings"] == ["spec.rules: Nobody is there."]
    assert response["status"]["message"] == "spec.rules: It is wrong."


def test_many_problems_are_counted_and_long_ones_cut() -> None:
    many = [Problem(ABOUT, f"spec.rules[{n}]", "no-service", "x" * 300) for n in range(50)]
    warnings = answered(*many)["warnings"]
    assert len(warnings) == 13
    assert warnings[-1] == "38 more; `xds check` lists them"
    assert max(map(len, warnings)) == 256
    assert sum(map(len, warnings)) <= 4096
    refused = answered(*(Problem(ABOUT, f"spec.rules[{n}]", "conflict", "no") for n in range(50)))
    assert refused["status"]["message"].endswith("\n30 more.")


def test_thousands_of_problems_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Publisher waits meanwhile, so that the author of one large Ingress would hold up the changes of all others."""
    then = [Problem(ABOUT, f"spec.rules[{n}]", "conflict" if n % 2 else "no-service", "No.") for n in range(4_000)]
    now = [Problem(ABOUT, f"spec.rules[{n}]", "conflict", "No.") for n in range(1, 2_000, 2)]
    compared, equal = 0, Problem.__eq__

    def counting(one: Problem, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(one, other)

    monkeypatch.setattr(Problem, "__eq__", counting)
    response = answered(*then, now=tuple(now))
    assert response["status"]["message"].endswith("\n980 more.")
    assert response["warnings"][-1].startswith("2988 more")
    assert compared <= 2 * len(then)


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT", ""])
def test_only_what_is_made_or_changed_is_judged(operation: str) -> None:
    question = asked(body(None, operation))
    assert question.item is None
    assert json.loads(answer(question, lambda _: pytest.fail("nothing is there to be judged"))[0])["response"]["allowed"]


def test_an_object_of_another_kind_is_admitted() -> None:
    assert asked(body({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})) == ("7", None, None)


def test_an_ingress_that_cannot_be_read_is_admitted_with_a_warning() -> None:
    question = asked(body(INGRESS | {"spec": {"rules": {}}}))
    response = json.loads(answer(question, lambda _: pytest.fail("it cannot be judged"))[0])["response"]
    assert response["allowed"]
    assert response["warnings"] == ["spec.rules: This must be a list, but it is a mapping: begin each entry with '- '."]


def test_the_ingress_is_the_new_one() -> None:
    question = asked(body())
    assert isinstance(question.item, Ingress)
    assert question.item.meta.name == "web"


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"null", b"\xff", b'{"apiVersion":"admission.k8s.io/v1"}', body(version="admission.k8s.io/v1beta1")]
)
def test_what_is_no_review_is_named_so(raw: bytes) -> None:
    with pytest.raises(NoReview, match="AdmissionReview"):
        asked(raw)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_no_object_is_an_error(item: Any) -> None:
    question = asked(body(item))
    assert json.loads(answer(question, lambda _: Judgement((), ()))[0])["response"]["allowed"]
