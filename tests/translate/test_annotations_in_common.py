"""What features read of annotations is read once for all Ingresses that have them alike, and is what they would read of each alone."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Path, Rule
from xds.kube.world import World
from xds.model import Settings
from xds.nginx.registry import features, known_keys, read_keys, read_settings
from xds.translate.configuration import ingress_settings
from xds.units.memo import Recorder
from xds.units.tables import Tables

PREFIX = "nginx.ingress.kubernetes.io/"
PLAIN = {
    each.name: each.example
    for feature in features().values()
    if feature.resolve is None and feature.role is None
    for each in feature.annotations
    if each.unreadable.name != "LEAVES_OUT" and "snippet" not in each.name
}


def ingress(name: str, notes: Mapping[str, str]) -> Ingress:
    meta = Meta(namespace="one", name=name, annotations={PREFIX + key: text for key, text in notes.items()})
    return Ingress(meta=meta, rules=(Rule(f"{name}.test", (Path("/", "Prefix", Backend("web", 80)),)),))


class Served:
    """Ingresses, and a ConfigMap that may change."""

    def __init__(self) -> None:
        self.world = World(Flags(watch_ingress_without_class=True, configmap="one/controller"))
        self.tables = Tables(self.world)

    def put(self, *items: Ingress | ConfigMap) -> None:
        self.tables.apply(self.world.apply(items))
        assert not self.tables.build.faults

    def settings(self, name: str) -> Settings:
        return Recorder(self.tables.build).unit(ingress_settings, "one", name)


def config_map(data: Mapping[str, str]) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace="one", name="controller"), data=dict(data))


@settings(max_examples=examples(40), deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(PLAIN)), st.booleans(), min_size=1, max_size=5))
def test_ingresses_with_equal_annotations_have_one_setting_of_each_feature(chosen: dict[str, bool]) -> None:
    notes = {name: PLAIN[name] if good else "\x00" for name, good in chosen.items()}
    served = Served()
    served.put(ingress("a", notes), ingress("b", dict(reversed(notes.items()))))
    found = served.settings("a")
    assert found is served.settings("b")
    if "left out" not in found:
        assert found == read_settings(notes, {})[0]


def test_a_changed_config_map_is_read_with_the_same_annotations() -> None:
    served = Served()
    served.put(config_map({"proxy-body-size": "1m"}), ingress("a", {"proxy-connect-timeout": "7"}))
    before = served.settings("a")
    served.put(config_map({"proxy-body-size": "2m"}))
    after = served.settings("a")
    assert before["proxy_body_size"] != after["proxy_body_size"]
    served.put(config_map({"proxy-body-size": "1m"}))
    assert served.settings("a") == before


def test_long_annotations_are_not_kept() -> None:
    notes = {"proxy-connect-timeout": "7", "unknown": "x" * 3_000}
    served = Served()
    served.put(ingress("a", notes), ingress("b", notes))
    assert served.settings("a") == served.settings("b")
    assert served.settings("a") is not served.settings("b")


def test_all_that_a_config_map_may_say_can_be_hashed() -> None:
    values, _ = read_keys({key.name: key.example for key in known_keys().values()})
    hash(Settings(values))
    bad, complaints = read_keys({key.name: "\x00" for key in known_keys().values()})
    assert complaints
    hash(Settings(bad))
