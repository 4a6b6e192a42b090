"""enable-cors: which origins a list admits, whatever it holds, and how much of it there is room for."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from xds import model
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.nginx.features.cors import MOST_ORIGINS, NAME
from xds.nginx.registry import drawn, read_settings, resolved
from xds.nginx.values import LONGEST_IN_ROUTE
from xds.patterns import regex
from xds.translate.regexes import cost_of

from .drawing import Nothing, complaints, filters, location, routes, settings

LABEL = st.text("abz019-", min_size=1, max_size=4)
ORIGIN = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(("https", "http", "app")),
    st.sampled_from(("", "*.")),
    st.lists(LABEL, min_size=1, max_size=3).map(".".join),
    st.sampled_from(("", ":8443")),
)


def meets(header: model.HeaderMatch, value: str | None) -> bool:
    """As Envoy does it, with RE2 for the whole value; a header that is not there is none that a route asks for."""
    if value is None:
        return header.inverted
    if header.regex:
        found = re2.fullmatch(header.value, value) is not None
    else:
        found = value.lower() == header.value.lower() if header.any_case else value == header.value
    return found is not header.inverted


def admitted(text: str, origin: str | None, method: str = "GET") -> bool:
    """Whether a request of this origin gets to a route for those of the list."""
    found = settings({"enable-cors": "true", "cors-allow-origin": text})
    sent = {":method": method} | ({"origin": origin} if origin is not None else {})
    route = next(r for r in routes(found) if all(meets(header, sent.get(header.name)) for header in r.headers))
    assert isinstance(route.action, model.Respond) is (method == "OPTIONS" and route.settings["cors"].admitted)
    return bool(route.settings["cors"].admitted)


def as_nginx(text: str, origin: str) -> bool:
    """nginx's own comparison: without regard to case, each wildcard one label."""
    wanted = [re.escape(entry.strip()).replace(r"\*", "[A-Za-z0-9-]+") for entry in text.split(",")]
    return re.fullmatch("|".join(wanted), origin, re.IGNORECASE) is not None


@given(st.lists(ORIGIN, min_size=1, max_size=4), ORIGIN, st.sampled_from(("GET", "OPTIONS")), st.data())
def test_a_list_admits_whom_nginx_admits(listed: list[str], other: str, method: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from((", ", ","))).join(listed)
    label = data.draw(LABEL)
    near = data.draw(st.sampled_from(listed)).replace("*", label)
    for origin in (near, near.upper(), f"x{near}", f"{near}.evil.test", near.replace(".", "x", 1), other.replace("*", label)):
        assert admitted(text, origin, method) is as_nginx(text, origin), origin
    assert not admitted(text, None, method)
    assert not admitted(text, "", method)


@pytest.mark.parametrize("text", ["*", "https://example.com, *", "*,https://example.com"])
def test_a_star_admits_everybody(text: str) -> None:
    assert admitted(text, None)
    assert admitted(text, "null")


@pytest.mark.parametrize("text", ["example.com", "https://a.*.com", ",", "null-and-void", "https://a b.com"])
def test_what_is_no_origin_admits_nobody_and_is_a_problem(text: str) -> None:
    found = complaints({"enable-cors": "true", "cors-allow-origin": text})
    assert [name for name, _ in found] == ["cors-allow-origin"]


@pytest.mark.parametrize(
    ("listed", "kept"),
    [
        ([f"https://{n}.test" for n in range(MOST_ORIGINS + 1)], MOST_ORIGINS),
        ([f"https://{n:02}{'x' * 85}.test" for n in range(30)], LONGEST_IN_ROUTE // 100),
    ],
    ids=["many", "long"],
)
def test_as_many_origins_as_there_is_room_for_are_admitted_and_the_rest_is_a_problem(listed: list[str], kept: int) -> None:
    annotations = {"enable-cors": "true", "cors-allow-origin": ",".join(listed)}
    assert read_settings(annotations, {})[0]["cors"].origins == tuple(listed[:kept])
    ((name, said),) = complaints(annotations)
    assert name == "cors-allow-origin"
    assert f"from '{listed[kept][:50]}" in said
    assert not complaints({**annotations, "cors-allow-origin": ",".join(listed[:kept])})


def test_wildcards_are_paid_for_once_a_route_and_names_are_not() -> None:
    def price(text: str) -> int:
        return sum(map(cost_of, routes(settings({"enable-cors": "true", "cors-allow-origin": text}), "/a", tls=True)))

    plain = sum(map(cost_of, routes(settings({}), "/a", tls=True)))
    expression = r"(?i)https\:\/\/[-A-Za-z0-9]+\.example\.com"
    assert price("*") == price("https://example.com, https://example.org") == plain
    assert price("https://*.example.com") == plain + 2 * regex.cost(expression), "the redirect to https, and the path itself"


def test_lists_that_all_paths_repeat_have_a_bound() -> None:
    headers = {"cors-allow-headers": ",".join(["X-Long-Name"] * 100)}
    origins = {"cors-allow-origin": ",".join(f"a://{number}" for number in range(100))}
    for written, count, there in ((headers, 400, True), (headers, 600, False), (origins, 98, True), (origins, 99, False)):
        found = settings({"enable-cors": "true", **written})
        paths = tuple(Path(f"/{number}", "Exact", Backend()) for number in range(count))
        item = Ingress(meta=Meta(namespace="default", name="web"), rules=(Rule("a.example.com", paths),))
        made, faults = resolved(found, item, Nothing())
        assert (NAME in made, [fault.name for fault in faults]) == (there, [] if there else ["enable-cors"])


def test_a_route_that_was_not_made_for_an_origin_shows_no_headers() -> None:
    found = settings({"enable-cors": "true", "cors-allow-origin": "https://example.com"})
    closed = replace(location(found), settings=found.but(closed="cannot be served"))
    (refused,) = drawn(closed, model.Route(closed.match, model.Respond(404), settings=found))
    assert [shows_headers(route) for route in (*routes(found), refused)] == [False, True, True, False]


def shows_headers(route: model.Route) -> bool:
    return any(each.name == NAME for each in filters(route.settings))


def test_a_bad_value_is_seen_before_cors_is_enabled() -> None:
    assert [name for name, _ in complaints({"cors-max-age": "soon"})] == ["cors-max-age"]
    assert "cors" not in settings({"cors-max-age": "5"})
