"""What outlives a restart: it comes back as it was, and what is none of ours is refused whole."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener
from hypothesis import given
from hypothesis import strategies as st

from tests.units.test_any_order import KINDS, PREFIX, Life, pems, site
from tests.units.test_holds import Holding, tls_site
from xds import model
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Path, Rule, Service, ServicePort
from xds.nginx.registry import cluster_features, features, known_annotations, sharing
from xds.problem import Ref
from xds.render.listeners import https
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.units.parts import Chain, Entry, Frame, Held, Host, Value, digest, host_digest
from xds.units.record import Certificate, Record, decode, encode
from xds.wire.encode import encode as encoded

WITHOUT_FILTERS = encoded(Listener(name="https", filter_chains=[FilterChain(name="default")]))
"""A frame of the https listener from which no chain can be rendered."""
texts = st.text(max_size=20)
clusters = st.builds(
    model.Cluster,
    texts,
    texts,
    st.integers(1, 65535),
    st.sampled_from([(), (("load_balance", "ewma"),), (("upstream_hash_by", ("$uri", "x")), ("service_upstream", True))]),
    st.sampled_from(["TCP", "UDP"]),
    st.booleans(),
    by_address=st.booleans(),
)
hosts = st.builds(
    lambda body, found, shares: Host(body, host_digest(body), found, model.Terminate(), sharing=shares),
    st.binary(),
    st.frozensets(clusters, max_size=3),
    st.frozensets(st.sampled_from(sorted(sharing()))),
)
lines: st.SearchStrategy[tuple[Part, Value]] = st.one_of(
    st.tuples(st.builds(Part, st.just(ROUTE), st.just("ingress"), texts), hosts),
    st.tuples(st.just(Part(ROUTE, "ingress")), st.builds(Frame, st.binary(), st.binary())),
    st.tuples(st.builds(Part, st.just(LISTENER), st.just("https"), texts), st.builds(Chain, st.lists(texts).map(tuple))),
    st.tuples(st.just(Part(LISTENER, "tcp/1")), st.builds(Entry, st.binary(), clusters)),
    st.tuples(st.builds(Part, st.sampled_from([CLUSTER, ENDPOINT, SECRET]), texts), st.binary()),
    st.tuples(st.just(Part(LISTENER, "http")), st.binary()),
)
causes = st.lists(st.builds(Ref, texts, texts, texts), max_size=2).map(tuple)


@given(st.lists(lines), st.lists(st.booleans()), causes, texts)
def test_what_is_written_is_read(found: list[tuple[Part, Value]], absent: list[bool], why: tuple[Ref, ...], words: str) -> None:
    there = [not gone for gone in absent] + [True] * len(found)
    held = {
        part: Held(digest(value), value if is_there else None, words, causes=why)
        for (part, value), is_there in zip(found, there, strict=False)
    }
    good = {Part(ROUTE, "ingress", "good"): "1", Part(CLUSTER, "good"): "2"}
    body = encode(held, good, {"a/b": (b"chain", b"key")})
    read = decode(body)
    assert (read.held, read.good, read.certificates) == (held, good, {"a/b": Certificate(b"chain", b"key")})
    assert encode(dict(reversed(held.items())), dict(reversed(good.items())), {"a/b": (b"chain", b"key")}) == body


def test_clusters_are_written_in_the_order_of_their_names() -> None:
    wanted = frozenset(model.Cluster("one", f"s{n:02}", 80) for n in range(30))
    body = encode({Part(ROUTE, "ingress", "a"): Held("1", Host(b"", host_digest(b""), wanted, ""), "no")}, {}, {})
    [line] = json.loads(body)["lines"]
    assert [cluster["service"] for cluster in line["clusters"]] == [f"s{n:02}" for n in range(30)]


def test_of_very_long_words_the_beginning_is_written() -> None:
    part = Part(CLUSTER, "one/s0/80")
    read = decode(encode({part: Held("1", None, "no" * 2_000)}, {}, {}))
    assert read.held[part].words == "no" * 1_000


def test_the_frame_of_the_https_listener_comes_back_with_the_same_bytes() -> None:
    frame = https("::", 443, model.Settings())
    held = {Part(LISTENER, "https"): Held(digest(frame), frame, "no")}
    read = decode(encode(held, {}, {})).held[Part(LISTENER, "https")]
    assert digest(read.instead) == digest(frame)
    assert encoded(read.instead) == encoded(frame)  # type: ignore[arg-type]


def features_of_clusters() -> list[str]:
    """The annotations of the features that make clusters differ."""
    return sorted(a.name for name in cluster_features() for a in features()[name].annotations)


@pytest.mark.parametrize("name", features_of_clusters())
def test_a_cluster_comes_back_with_its_policy(name: str) -> None:
    """So that what held bytes name can be built, though no Ingress asks for it any longer."""
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("s0", 80)),))
    annotation = {PREFIX + name: known_annotations()[name].example}
    life = Life([*site(1), Ingress(meta=Meta(namespace="one", name="x", annotations=annotation), rules=(rule,))])
    part = Part(ROUTE, "ingress", "a.example.com")
    host = life.tables.values([part])[part]
    assert isinstance(host, Host)
    assert decode(encode({part: Held("1", host, "")}, {}, {})).held[part].instead == host


def test_a_cluster_of_an_external_name_comes_back_with_the_ingress_after_which_it_is_called() -> None:
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("away", 80)),))
    away = Service(meta=Meta(namespace="one", name="away"), type="ExternalName", external_name="example.org", ports=(ServicePort(80),))
    annotations = {PREFIX + "backend-protocol": "AUTO_HTTP"}
    life = Life([*site(1), away, Ingress(meta=Meta(namespace="one", name="x", annotations=annotations), rules=(rule,))])
    part = Part(ROUTE, "ingress", "a.example.com")
    host = life.tables.values([part])[part]
    assert isinstance(host, Host)
    assert {cluster.asked_by for cluster in host.clusters} == {Ref("Ingress", "one", "x")}
    assert decode(encode({part: Held("1", host, "")}, {}, {})).held[part].instead == host


def test_everything_that_a_control_plane_holds_is_held_again_after_a_restart() -> None:
    """Each Part in turn, at an older content: the same Snapshot from the record and the World alone."""
    more = ConfigMap(meta=Meta(namespace="one", name="tcp"), data={"5000": "one/s0:80"})
    settings = ConfigMap(meta=Meta(namespace="one", name="config"), data={"proxy-connect-timeout": "7", "client-header-timeout": "7"})
    life = Holding([*tls_site(), more])
    before = {part: life.value(part) for part in life.parts()}
    rule = Rule("a.example.com", (Path("/x", "Prefix", Backend("s0", 80)),))
    life.take([settings, Ingress(meta=Meta(namespace="one", name="t2"), rules=(rule,))])
    for part, old in before.items():
        life.hold(part, old)
    again = Holding([item for kind in KINDS for item in life.world.objects(kind)], decode(encode(life.tables.holds, {}, {})).held)
    assert again.state() == life.state()


def test_neither_keys_nor_what_is_quoted_show() -> None:
    chain, key = pems()[0]
    held = {Part(SECRET, "a/b"): Held("1", key, "")}
    body = encode(held, {}, {"a/b": (chain, key)})
    secret = key.splitlines()[1].decode()
    shown = repr(decode(body)) + repr(held) + repr(msgspec.json.decode(body, type=Record))
    assert secret not in shown
    with pytest.raises(ValueError, match=r"^it is no record of this program$"):
        decode(body.replace(b'"refused":"1"', b'"refused":1'))


@pytest.mark.parametrize("later", [b'{"version":2}', b'{"version":2,"lines":{},"certificates":[]}', b'{"lines":1,"version":0}'])
def test_a_record_of_another_version_is_told_from_rubbish_whatever_its_shape(later: bytes) -> None:
    """After a rollback the log says what is not read, and why."""
    with pytest.raises(ValueError, match=r"^it was written by another version$"):
        decode(later)


@given(
    st.one_of(
        st.binary(),
        st.recursive(st.none() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)).map(
            lambda x: json.dumps(x).encode()
        ),
    )
)
def test_rubbish_is_a_value_error(body: bytes) -> None:
    try:
        found = decode(body)
    except ValueError:
        return
    assert not any(found)  # an object in which nothing is ours is an empty record


@pytest.mark.parametrize(
    "line",
    [
        {"type": "no such type", "resource": "a", "refused": "1"},
        {"type": "listener", "resource": "https", "refused": "1", "there": True, "body": "Cg=="},
        {"type": "listener", "resource": "https", "refused": "1", "there": True, "body": base64.b64encode(WITHOUT_FILTERS).decode()},
        {"type": "listener", "resource": "tcp/1", "refused": "1", "there": True, "body": ""},
        {
            "type": "route",
            "resource": "ingress",
            "piece": "a",
            "refused": "1",
            "there": True,
            "clusters": [{"namespace": "a", "service": "b", "port": 1, "policy": [["no such feature", 1]]}],
        },
        {
            "type": "route",
            "resource": "ingress",
            "piece": "a",
            "refused": "1",
            "there": True,
            "clusters": [{"namespace": "a", "service": "b", "port": 1, "policy": [["load_balance", []]]}],
        },
    ],
)
def test_what_another_version_wrote_is_a_value_error(line: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^it was written by another version$"):
        decode(json.dumps({"version": 1, "lines": [line]}).encode())
    with pytest.raises(ValueError, match=r"^it was written by another version$"):
        decode(json.dumps({"version": 2}).encode())
