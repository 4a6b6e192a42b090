"""A host is plain where nothing has to be known of it as a whole: then no Unit is made to find that out, and finding out finds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Path, Rule
from xds.kube.world import World
from xds.nginx.registry import features
from xds.translate.claims import host_settings, is_plain
from xds.translate.further_names import names_of
from xds.translate.guards import guard
from xds.units.memo import Recorder
from xds.units.tables import Tables

PREFIX = "nginx.ingress.kubernetes.io/"
HOST = "a.test"
EXAMPLES = sorted({each.name: each.example for feature in features().values() for each in feature.annotations}.items())
OF_HOSTS = {
    "server-alias": "b.test",
    "from-to-www-redirect": "true",
    "whitelist-source-range": "10.0.0.0/8",
    "auth-url": "http://auth.test/check",
    "server-snippet": "deny all;",
    "configuration-snippet": "deny all;",
}
"""Annotations of which each makes a host one that is not plain."""


def reader(*notes: Mapping[str, str], paths: Sequence[str] = ("/", "/b")) -> Recorder:
    """What Units read of Ingresses with these annotations, all of them on one host; each has a path of its own beside these."""
    items = [
        Ingress(
            meta=Meta(namespace="one", name=f"i{n}", annotations={PREFIX + key: text for key, text in own.items()}),
            rules=(Rule(HOST, tuple(Path(path, "Prefix", Backend("web", 80)) for path in (*paths, f"/own-{n}"))),),
        )
        for n, own in enumerate(notes)
    ]
    allowed = {"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"}
    world = World(Flags(watch_ingress_without_class=True, configmap="one/controller"))
    tables = Tables(world)
    tables.apply(world.apply([*items, ConfigMap(meta=Meta(namespace="one", name="controller"), data=allowed)]))
    assert not tables.build.faults
    return Recorder(tables.build)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([key for key, _ in EXAMPLES]), st.none(), max_size=4), min_size=1, max_size=3))
def test_of_a_plain_host_there_is_nothing_to_know(chosen: list[dict[str, None]]) -> None:
    known = dict(EXAMPLES)
    read = reader(*({key: known[key] for key in keys} for keys in chosen))
    found = (dict(host_settings(read, HOST)), guard(read, HOST), dict(names_of(read, HOST)))
    assert not is_plain(read, HOST) or found == ({}, None, {})


def test_what_is_about_hosts_makes_them_others_than_plain() -> None:
    assert is_plain(reader({}, {"proxy-read-timeout": "5"}), HOST)
    for key, text in OF_HOSTS.items():
        assert not is_plain(reader({}, {key: text}), HOST), key
