"""Which Secrets are fetched by name, and what is told of them, whatever order two watches and the answers come in."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nginx.drawing import Nothing
from xds.kube.apiserver.referred import NAMING_CONFIG_MAPS, NAMING_CONFIG_MAPS_OF_ALL, Referred, config_maps_of, secrets_of
from xds.kube.objects import ConfigMap, Ingress, Meta, Object, Secret, Tls, ref
from xds.kube.source import Change
from xds.nginx.feature import Annotation, Closed
from xds.nginx.registry import features, known_annotations, known_keys, read_settings, resolved
from xds.problem import Ref

PREFIX = "nginx.ingress.kubernetes.io"
NAMES = partial(secrets_of, prefix=PREFIX)
SECRET = Ref("Secret", "default", "passwords")


def ingress(name: str, *tls: str, **annotations: str) -> Ingress:
    return Ingress(
        meta=Meta(
            namespace="default", name=name, annotations={f"{PREFIX}/{key.replace('_', '-')}": value for key, value in annotations.items()}
        ),
        tls=tuple(Tls((), each) for each in tls),
    )


def secret(version: int, name: str = "passwords", kind: str = "Opaque") -> Secret:
    return Secret(meta=Meta(namespace="default", name=name, version=str(version)), type=kind)


def put(*items: Object) -> Change:
    return Change(put=items)


def drop(*which: Ref) -> Change:
    return Change(drop=which)


@pytest.mark.parametrize(
    ("item", "names"),
    [
        (ingress("a", "one", "two", "one", ""), {"default/one", "default/two"}),
        (ingress("a", auth_secret="passwords"), {"default/passwords"}),
        (ingress("a", auth_tls_secret=" other/authority "), {"other/authority"}),
        (ingress("a", proxy_ssl_secret="x/y", auth_secret_type="auth-map", auth_secret=""), {"x/y"}),
        (ingress("a", auth_secret="a/b/c"), set()),
    ],
)
def test_an_ingress_refers_to_secrets_by_tls_and_by_annotations(item: Ingress, names: set[str]) -> None:
    assert {f"{which.namespace}/{which.name}" for which in secrets_of(item, PREFIX)} == names


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("team/headers", {"team/headers"}),
        (" team/headers\n", {"team/headers"}),
        ("headers", set()),
        ("a/b/c", set()),
        ("/a", set()),
        ("a/", set()),
    ],
)
def test_an_ingress_refers_to_config_maps_by_annotations(written: str, names: set[str]) -> None:
    found = config_maps_of(ingress("a", custom_headers=written), PREFIX)
    assert {f"{which.namespace}/{which.name}" for which in found} == names


def test_every_annotation_whose_feature_reads_a_config_map_or_secret_is_followed() -> None:
    asked: set[str] = set()
    secrets: set[str] = set()

    class Asking(Nothing):
        def config_map(self, annotation: Annotation[Any], written: str) -> ConfigMap | Closed:
            asked.add(annotation.name)
            return super().config_map(annotation, written)

        def secret(self, annotation: Annotation[Any], written: str) -> Secret | Closed:
            secrets.add(annotation.name)
            return super().secret(annotation, written)

    for annotation in (a for feature in features().values() if feature.resolve for a in feature.annotations):
        beside = {annotation.beside: known_annotations()[annotation.beside].example} if annotation.beside else {}
        found, _ = read_settings({annotation.name: annotation.example, **beside}, {})
        resolved(found, ingress("a"), Asking())
    assert asked == set(NAMING_CONFIG_MAPS)
    assert all(name.endswith("-secret") for name in secrets)


def test_every_key_that_names_a_config_map_is_followed() -> None:
    assert {name for name, key in known_keys().items() if key.of_config_map} == set(NAMING_CONFIG_MAPS_OF_ALL)


def test_the_keys_of_a_flagged_config_map_refer_to_others() -> None:
    added = Ref("ConfigMap", "default", "added")
    config_maps = Referred(partial(config_maps_of, prefix=PREFIX))
    config_maps.metadata(put(ConfigMap(meta=Meta(namespace="default", name="added", version="1"), data={})))
    assert not config_maps.due
    flagged = Meta(namespace="default", name="xds")
    config_maps.keys(put(ConfigMap(meta=flagged, data={"add-headers": " default/added ", "proxy-set-headers": "odd"})))
    assert config_maps.due == {added}
    assert config_maps.begin(added)
    there = ConfigMap(meta=Meta(namespace="default", name="added", version="1"), data={"X-A": "b"})
    assert config_maps.fetched(added, there).put == (there,)
    assert config_maps.keys(put(ConfigMap(meta=flagged, data={}))).drop == (added,)
    config_maps.keys(put(ConfigMap(meta=flagged, data={"add-headers": "default/added"})))
    assert config_maps.keys(drop(ref(ConfigMap(meta=flagged, data={})))).drop == (ref(ConfigMap(meta=flagged, data={})),)
    assert not config_maps.due


def test_annotations_of_another_prefix_refer_to_nothing() -> None:
    assert not secrets_of(ingress("a", auth_secret="passwords"), "nginx.org")


@pytest.mark.parametrize("reference_first", [True, False])
def test_a_secret_is_due_once_it_is_there_and_somebody_refers_to_it(reference_first: bool) -> None:
    secrets = Referred(NAMES)
    happen = [lambda: secrets.ingresses(put(ingress("a", "passwords"))), lambda: secrets.metadata(put(secret(1)))]
    happen[not reference_first]()
    assert not secrets.due
    happen[reference_first]()
    assert secrets.due == {SECRET}
    assert secrets.begin(SECRET)
    assert not secrets.due
    assert secrets.fetched(SECRET, secret(1)).put == (secret(1),)


def test_metadata_of_the_version_that_is_held_is_no_reason_to_fetch_it_again() -> None:
    secrets = Referred(NAMES, (), frozenset({SECRET}))
    secrets.metadata(put(secret(1)))
    secrets.begin(SECRET)
    secrets.fetched(SECRET, secret(2))
    assert not secrets.metadata(put(secret(2))).put
    assert not secrets.due
    secrets.metadata(put(secret(3)))
    assert secrets.due == {SECRET}


def test_a_secret_goes_with_the_last_one_who_refers_to_it() -> None:
    secrets = Referred(NAMES)
    secrets.metadata(put(secret(1)))
    secrets.ingresses(put(ingress("a", "passwords"), ingress("b", auth_secret="passwords")))
    secrets.begin(SECRET)
    secrets.fetched(SECRET, secret(1))
    assert secrets.ingresses(put(ingress("a"))).drop == ()
    gone = Ref("Ingress", "default", "b")
    assert set(secrets.ingresses(drop(gone)).drop) == {gone, SECRET}


def test_an_answer_that_nobody_needs_any_more_is_not_told() -> None:
    secrets = Referred(NAMES)
    secrets.metadata(put(secret(1)))
    secrets.ingresses(put(ingress("a", "passwords")))
    secrets.begin(SECRET)
    secrets.ingresses(put(ingress("a")))
    assert not secrets.fetched(SECRET, secret(1))
    assert not secrets.again(SECRET)


def test_what_changed_while_it_was_fetched_is_due_again() -> None:
    secrets = Referred(NAMES, (), frozenset({SECRET}))
    secrets.metadata(put(secret(1)))
    secrets.begin(SECRET)
    secrets.metadata(put(secret(2)))
    secrets.fetched(SECRET, secret(1))
    assert secrets.due == {SECRET}


def held() -> tuple[Referred, set[Ref]]:
    """A Secret of another type that is referred to and was fetched; and the names of TLS Secrets, to be changed."""
    tls: set[Ref] = set()
    secrets = Referred(NAMES, tls, frozenset({SECRET}))
    secrets.metadata(put(secret(1)))
    secrets.begin(SECRET)
    assert secrets.fetched(SECRET, secret(1)).put
    return secrets, tls


def test_a_secret_that_was_made_anew_as_a_tls_one_is_not_dropped_when_the_old_one_is_said_to_be_gone() -> None:
    secrets, tls = held()
    tls.add(SECRET)
    assert secrets.whole(put(secret(3, kind="kubernetes.io/tls"))).put
    assert not secrets.metadata(drop(SECRET)).drop


def test_a_late_answer_does_not_replace_the_tls_one() -> None:
    secrets, tls = held()
    secrets.metadata(put(secret(2)))
    secrets.begin(SECRET)
    tls.add(SECRET)
    assert not secrets.fetched(SECRET, secret(2))


def test_where_a_tls_one_goes_the_one_of_another_type_that_was_made_anew_is_fetched() -> None:
    tls = {SECRET}
    secrets = Referred(NAMES, tls, frozenset({SECRET}))
    secrets.metadata(put(secret(2)))
    secrets.begin(SECRET)
    assert not secrets.fetched(SECRET, secret(2))
    tls.clear()
    assert secrets.whole(drop(SECRET)).drop == (SECRET,)
    assert secrets.due == {SECRET}


def test_what_is_gone_is_not_due() -> None:
    secrets, _ = held()
    secrets.metadata(put(secret(2)))
    assert secrets.metadata(drop(SECRET)).drop == (SECRET,)
    assert not secrets.begin(SECRET)


class Server:
    """One Secret that is deleted and made anew with changing types; what two watches say of it waits in two queues, requests in a third."""

    def __init__(self) -> None:
        self.version = 0
        self.now: Secret | None = None
        self.tls: set[Ref] = set()
        self.secrets = Referred(NAMES, self.tls)
        self.world: dict[Ref, Object] = {}
        self.queues: dict[str, deque[Change]] = {"tls": deque(), "metadata": deque()}
        self.fetching = False
        self.answer: Secret | None = None

    def make(self, kind: str) -> None:
        self.version += 1
        if self.now is not None and self.now.type != kind:
            self.queues["tls" if self.now.type == "tls" else "metadata"].append(drop(SECRET))
        self.now = secret(self.version, kind=kind)
        self.queues["tls" if kind == "tls" else "metadata"].append(put(self.now))

    def delete(self, _: str) -> None:
        if self.now is not None:
            self.queues["tls" if self.now.type == "tls" else "metadata"].append(drop(SECRET))
            self.now = None

    def hear(self, what: str) -> None:
        if not self.queues[what]:
            return
        change = self.queues[what].popleft()
        if what == "tls":
            self.tls.update(map(ref, change.put))
            self.tls.difference_update(change.drop)
        self.take(self.secrets.whole(change) if what == "tls" else self.secrets.metadata(change))

    def refer(self, how: str) -> None:
        self.take(self.secrets.ingresses(put(ingress("a", *([how] if how else [])))))

    def fetch(self, what: str) -> None:
        if what == "ask" and not self.fetching and self.secrets.due:
            self.fetching = self.secrets.begin(SECRET)
            self.answer = self.now
        elif what == "hear" and self.fetching:
            self.fetching = False
            self.take(self.secrets.fetched(SECRET, self.answer))
        elif what == "fail" and self.fetching:
            self.fetching = False
            self.secrets.again(SECRET)

    def take(self, change: Change) -> None:
        for which in change.drop:
            self.world.pop(which, None)
        self.world.update({ref(item): item for item in change.put if isinstance(item, Secret)})


steps = st.one_of(
    st.tuples(st.just("make"), st.sampled_from(["tls", "Opaque"])),
    st.tuples(st.just("delete"), st.just("")),
    st.tuples(st.just("hear"), st.sampled_from(["tls", "metadata"])),
    st.tuples(st.just("refer"), st.sampled_from(["passwords", "passwords", ""])),
    st.tuples(st.just("fetch"), st.sampled_from(["ask", "hear", "fail"])),
)


@settings(max_examples=400)
@given(st.lists(steps, max_size=40), st.booleans(), st.booleans())
def test_in_the_end_the_world_has_the_secret_as_it_is(script: list[tuple[str, str]], refers: bool, tls_first: bool) -> None:
    server = Server()
    for what, which in script:
        getattr(server, what)(which)
    server.refer("passwords" if refers else "")
    while any(server.queues.values()) or server.fetching or server.secrets.due:
        for what in ("tls", "metadata") if tls_first else ("metadata", "tls"):
            server.hear(what)
        server.fetch("hear" if server.fetching else "ask")
    wanted = server.now if server.now is not None and (refers or server.now.type == "tls") else None
    assert server.world == ({SECRET: wanted} if wanted else {})
