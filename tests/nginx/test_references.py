"""Objects that annotations name: what is read of them, what is not, and what becomes of an Ingress without them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Object, Path, Rule, Secret
from xds.kube.world import Key, Reader, World
from xds.model import CLOSED
from xds.nginx.feature import Annotation, Closed
from xds.nginx.features.custom_headers import LONGEST
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS
from xds.problem import Problem
from xds.translate.configuration import ingress_settings
from xds.translate.references import References
from xds.units.memo import Build, Unit

from .test_bad_values import HOSTILE, assert_sentence

PREFIX = "nginx.ingress.kubernetes.io/"
HEADERS = st.sampled_from(("X-One", "x-one", "Bad name", "Host", "X:Y"))
SETTINGS = Unit(ingress_settings, ("one", "web"))


def ingress(named: str, rules: tuple[Rule, ...] = ()) -> Ingress:
    return Ingress(meta=Meta(namespace="one", name="web", annotations={PREFIX + "custom-headers": named}), rules=rules)


def config_map(namespace: str, name: str, **data: str) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace=namespace, name=name), data={key.replace("_", "-"): value for key, value in data.items()})


def allowing(*headers: str, cross_namespace: bool = False) -> ConfigMap:
    data = {"allow_cross_namespace_resources": str(cross_namespace).lower()}
    return config_map("xds", "config", **data, **({"global_allowed_response_headers": ",".join(headers)} if headers else {}))


class Case:
    """The settings of one Ingress, over objects that come and go."""

    def __init__(self, *objects: Object) -> None:
        self.world = World(Flags(configmap="xds/config"))
        self.read: set[Key] = set()
        self.build = Build(self._look_up)
        self.build.keep(SETTINGS)
        self.apply(*objects)

    def apply(self, *objects: Object) -> None:
        self.build.stale_kept(self.world.apply(objects))
        self.settings = self.build.value(SETTINGS)

    def _look_up(self, key: Key) -> Any:
        self.read.add(key)
        return self.world.get(key)

    @property
    def problems(self) -> list[Problem]:
        return list(self.build.problems.get(SETTINGS, ()))

    @property
    def headers(self) -> dict[str, str] | None:
        return dict(self.settings["custom_headers"]) if "custom_headers" in self.settings else None


def test_headers_follow_their_config_map() -> None:
    case = Case(ingress("one/headers"), allowing("X-One", "X-Two"))
    assert CLOSED in case.settings
    case.apply(config_map("one", "headers", X_One="1"))
    assert (case.headers, CLOSED in case.settings, case.problems) == ({"X-One": "1"}, False, [])
    case.apply(config_map("one", "headers", X_Two=" 2\n"))
    assert case.headers == {"X-Two": "2"}
    case.apply(allowing("X-One"))
    assert case.headers is None
    assert CLOSED in case.settings
    assert [problem.code for problem in case.problems] == ["annotation-closes"]
    case.apply(allowing("X-Two"))
    assert (case.headers, case.problems) == ({"X-Two": "2"}, [])


def test_an_object_that_nobody_names_costs_nothing() -> None:
    case = Case(ingress("one/headers"), allowing("X-One"), config_map("one", "headers", X_One="1"))
    case.read.clear()
    case.apply(config_map("one", "other", X_One="2"), config_map("two", "headers", X_One="3"))
    assert case.read == set()


def test_an_object_of_another_namespace_is_not_even_read() -> None:
    case = Case(ingress("two/headers"), allowing("X-One"), config_map("two", "headers", X_One="1"))
    assert CLOSED in case.settings
    assert ("ConfigMap", "two", "headers") not in case.read
    case.apply(allowing("X-One", cross_namespace=True))
    assert case.headers == {"X-One": "1"}
    assert ("ConfigMap", "two", "headers") in case.read
    case.apply(allowing("X-One"))
    assert CLOSED in case.settings


@pytest.mark.parametrize("named", [*(text for text in HOSTILE if text.isprintable() and len(text) < 8000), "a/b/c", "/", "/a", "a/"])
def test_what_names_no_config_map_closes_in_one_short_sentence(named: str) -> None:
    case = Case(ingress(named), allowing("X-One"))
    assert CLOSED in case.settings
    assert len(case.problems) == 1
    assert_sentence(case.problems[0].sentence.removeprefix("custom-headers "))


@pytest.mark.parametrize("header", ["Host", "Content-Length", "Transfer-Encoding", "connection", "Trailer", "TE", "Upgrade"])
def test_what_belongs_to_the_connection_cannot_be_set(header: str) -> None:
    case = Case(ingress("one/headers"), allowing(header), config_map("one", "headers", **{header: "1"}))
    assert CLOSED in case.settings


def test_headers_have_a_bound_for_one_answer_and_for_all_routes() -> None:
    case = Case(ingress("one/headers"), allowing("A", "B"), config_map("one", "headers", A="x" * 8191, B="x" * 8191))
    assert case.headers is not None
    assert sum(len(name) + len(value) for name, value in case.headers.items()) == LONGEST
    case.apply(config_map("one", "headers", A="x" * 8191, B="x" * 8192))
    assert CLOSED in case.settings
    paths = tuple(Path(f"/{number}", "Exact", Backend()) for number in range(LONGEST_IN_ALL_LOCATIONS // LONGEST))
    case.apply(config_map("one", "headers", A="x" * 8191, B="x" * 8191), ingress("one/headers", (Rule("a.example.com", paths),)))
    assert CLOSED in case.settings


@hypothesis_settings(max_examples=examples(300))
@given(
    st.dictionaries(st.sampled_from(("X-One", "x-one", "Bad name", "Host", "X:Y")) | st.text(max_size=8), st.text(max_size=20), max_size=3)
)
def test_any_contents_are_headers_that_envoy_takes_or_close(data: dict[str, str]) -> None:
    case = Case(ingress("one/headers"), allowing("X-One", "Host"), ConfigMap(meta=Meta(namespace="one", name="headers"), data=data))
    if case.headers is None:
        assert CLOSED in case.settings
        assert case.problems[0].sentence.isprintable()
        return
    assert set(case.headers) <= {"X-One"}
    assert case.headers.keys() == data.keys()
    assert not set("".join(case.headers.values())) & set("\r\n\0")


NAMING = Annotation("auth-secret", str, "A Secret.", "users", "")
USERS = Secret(meta=Meta(namespace="one", name="users"), data={"auth": b"u:{PLAIN}hidden"})
ELSEWHERE = Secret(meta=Meta(namespace="two", name="users"), type="kubernetes.io/tls")


def named_secret(written: str, *, crosses: bool = False) -> Secret | Closed:
    world = World(Flags())
    world.apply([USERS, ELSEWHERE])
    build = Build(world.get)
    found = build.value(Unit(_named_secret, (written, crosses)))
    assert isinstance(found, Secret | Closed)
    return found


def _named_secret(read: Reader, written: str, crosses: bool) -> Secret | Closed:
    return References(read, "one", crosses=crosses).secret(NAMING, written)


@pytest.mark.parametrize("written", ["users", "one/users"])
def test_a_secret_is_named_with_and_without_its_namespace(written: str) -> None:
    assert named_secret(written) == USERS
    assert "hidden" not in repr(named_secret(written))


def test_a_secret_of_another_namespace_and_of_any_type_needs_the_key() -> None:
    assert named_secret("two/users", crosses=True) == ELSEWHERE
    refused = named_secret("two/users")
    assert isinstance(refused, Closed)
    assert "allow-cross-namespace-resources" in refused.sentence


@pytest.mark.parametrize("written", [*(text for text in HOSTILE), "a/b/c", "/", "/users", "one/", "", "none", "x" * 254])
@pytest.mark.parametrize("crosses", [True, False])
def test_what_names_no_secret_is_closed_in_one_short_sentence(written: str, crosses: bool) -> None:
    found = named_secret(written, crosses=crosses)
    assert isinstance(found, Closed)
    assert_sentence(found.sentence.replace("names Secret", "is"))
