"""Which parts of Envoy's configuration an Ingress, or an entry of a stream ConfigMap, went into."""

from __future__ import annotations

from pathlib import Path

from tests.cli import site
from tests.envoy.harness.manifests import Manifest, config_map, endpoint_slice, ingress, secret_tls, service
from xds.config import Flags
from xds.offline import load
from xds.problem import Ref
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.units.tables import Tables
from xds.units.traces import Asked, all_served, is_served, parts_of

WEB, TCP = Ref("Ingress", "default", "web"), Ref("ConfigMap", "default", "tcp")
HTTP, HTTPS, DEFAULT = Part(LISTENER, "http"), Part(LISTENER, "https"), Part(SECRET, "default")


def tables(folder: Path, *objects: Manifest, enable_ssl_passthrough: bool = False) -> Tables:
    site.write(folder / "site", *objects)
    settings = Flags(
        manifests=(folder / "site",),
        watch_ingress_without_class=True,
        tcp_services_configmap="default/tcp",
        udp_services_configmap="default/tcp",
        enable_ssl_passthrough=enable_ssl_passthrough,
    )
    return load(settings).tables


def application(name: str) -> tuple[Manifest, ...]:
    return service(name), endpoint_slice(name, [("10.0.0.1", 8080)])


def host(name: str) -> Part:
    return Part(ROUTE, "ingress", name)


def backend(name: str) -> tuple[Part, Part]:
    return Part(CLUSTER, f"default/{name}/80"), Part(ENDPOINT, f"default/{name}/80")


def test_an_ingress_went_into_listeners_its_hosts_and_its_backends(tmp_path: Path) -> None:
    found = tables(tmp_path, ingress("web", "A.example.com", {"/": ("web", 80)}), *application("web"))
    assert parts_of(found, Asked(WEB)) == (host("a.example.com"), HTTP, HTTPS, DEFAULT, *backend("web"))


def test_of_a_host_with_a_certificate_it_is_that_and_its_filter_chain(tmp_path: Path) -> None:
    item = ingress("web", "a.example.com", {"/": ("web", 80)}, tls={"tls": ["a.example.com"]})
    found = tables(tmp_path, item, *application("web"), secret_tls("tls", site.certificate()))
    assert parts_of(found, Asked(WEB))[:4] == (
        host("a.example.com"),
        HTTP,
        Part(LISTENER, "https", "default/tls"),
        Part(SECRET, "default/tls"),
    )


def test_of_a_host_whose_tls_passes_through_it_is_a_filter_chain_and_its_cluster_for_whom_it_leads_to(tmp_path: Path) -> None:
    older, tls = "2026-01-01T00:00:00Z", {"tls": ["a.example.com"]}
    item = ingress("web", "a.example.com", {"/": ("web", 80)}, {"ssl-passthrough": "true"}, tls=tls, created=older)
    other = ingress("other", "a.example.com", {"/other": ("other", 80)}, created="2026-02-01T00:00:00Z")
    secret = secret_tls("tls", site.certificate())
    found = tables(tmp_path, item, other, *application("web"), *application("other"), secret, enable_ssl_passthrough=True)
    passed = "default/web/80~ad56966b"
    of_host = (host("a.example.com"), HTTP, Part(LISTENER, "https", f"passthrough:{passed}"))
    assert parts_of(found, Asked(WEB)) == (*of_host, Part(CLUSTER, passed), Part(ENDPOINT, passed), *backend("web"))
    assert parts_of(found, Asked(Ref("Ingress", "default", "other"))) == (*of_host, *backend("other"))


def test_of_a_host_whose_tls_is_closed_it_is_the_listener_as_a_whole(tmp_path: Path) -> None:
    item = ingress("web", "a.example.com", {"/x": ("web", 80)}, {"ssl-passthrough": "true"})
    found = tables(tmp_path, item, *application("web"), enable_ssl_passthrough=True)
    assert parts_of(found, Asked(WEB)) == (host("a.example.com"), HTTP, HTTPS, *backend("web"))


def test_the_backends_of_others_on_the_same_host_are_none_of_its_own(tmp_path: Path) -> None:
    others = ingress("api", "a.example.com", {"/api": ("api", 80)})
    found = tables(tmp_path, ingress("web", "a.example.com", {"/": ("web", 80)}), others, *application("web"), *application("api"))
    assert {p for p in parts_of(found, Asked(WEB)) if p.type_url == CLUSTER} == {Part(CLUSTER, "default/web/80")}


def test_of_an_external_name_there_are_no_endpoints(tmp_path: Path) -> None:
    external = service("web") | {"spec": {"type": "ExternalName", "externalName": "other.example.org"}}
    found = tables(tmp_path, ingress("web", "a.example.com", {"/": ("web", 80)}), external)
    assert [p for p in parts_of(found, Asked(WEB)) if p.type_url in (CLUSTER, ENDPOINT)] == [Part(CLUSTER, "default/web/80@default/web")]


def test_every_part_is_there(tmp_path: Path) -> None:
    objects = site.good(site.certificate())
    folder = site.write(tmp_path / "site", *objects)
    loaded = load(Flags(manifests=(folder,), watch_ingress_without_class=True))
    for asked in all_served(loaded.tables):
        for part in parts_of(loaded.tables, asked):
            assert part.resource in loaded.snapshot[part.type_url], part


def test_the_catch_all_is_a_host_as_well(tmp_path: Path) -> None:
    item = ingress("web", "", {"/": ("web", 80)})
    found = tables(tmp_path, item, *application("web"))
    assert host("") in parts_of(found, Asked(WEB))


def test_an_ingress_of_another_class_and_one_that_is_not_there_went_into_nothing(tmp_path: Path) -> None:
    foreign = ingress("web", "a.example.com", {"/": ("web", 80)}, {}, ingress_class="traefik")
    found = tables(tmp_path, foreign, *application("web"))
    for about in (WEB, Ref("Ingress", "default", "none")):
        assert not is_served(found, Asked(about))
        assert parts_of(found, Asked(about)) == ()
    assert all_served(found) == []


def test_an_entry_went_into_a_listener_for_each_protocol_and_the_backend(tmp_path: Path) -> None:
    found = tables(tmp_path, config_map("tcp", {"5432": "default/web:80", "53": "default/web:80"}), *application("web"))
    assert is_served(found, Asked(TCP, "5432"))
    (listener, cluster, endpoints) = parts_of(found, Asked(TCP, "5432"))
    assert listener == Part(LISTENER, "tcp/5432")
    assert (cluster.type_url, endpoints.type_url) == (CLUSTER, ENDPOINT)
    assert cluster.resource == endpoints.resource


def test_an_entry_that_does_not_work_is_ours_and_went_into_nothing(tmp_path: Path) -> None:
    found = tables(tmp_path, config_map("tcp", {"5432": "rubbish"}), config_map("other", {"5432": "rubbish"}))
    assert is_served(found, Asked(TCP, "5432"))
    assert parts_of(found, Asked(TCP, "5432")) == ()
    assert not is_served(found, Asked(TCP, "5433"))
    assert not is_served(found, Asked(TCP._replace(name="other"), "5432"))


def test_all_that_is_served_is_listed_in_order(tmp_path: Path) -> None:
    items = [ingress(name, f"{name}.example.com", {"/": ("web", 80)}) for name in ("b", "a")]
    found = tables(tmp_path, *items, config_map("tcp", {"10": "default/web:80", "9": "default/web:80"}), *application("web"))
    assert [str(asked) for asked in all_served(found)] == [
        "ConfigMap default/tcp, entry 9",
        "ConfigMap default/tcp, entry 10",
        "Ingress default/a",
        "Ingress default/b",
    ]


def test_asking_leaves_no_trace_in_the_build(tmp_path: Path) -> None:
    found = tables(tmp_path, *site.good(site.certificate()), *site.bad(), config_map("tcp", {"9": "default/web:80"}))
    before = len(found.build), found.problems(), found.build.problem_changes()
    for asked in all_served(found):
        parts_of(found, asked)
        is_served(found, asked)
    assert (len(found.build), found.problems()) == before[:2]
    assert found.build.problem_changes() == {}


def test_a_canary_went_into_the_host_of_its_primary_and_into_its_own_backend(tmp_path: Path) -> None:
    canary = ingress("next", "a.example.com", {"/": ("next", 80), "/none": ("web", 80)}, {"canary": "true", "canary-weight": "5"})
    primary = ingress("web", "a.example.com", {"/": ("web", 80)})
    found = tables(tmp_path, primary, canary, *application("web"), *application("next"))
    asked = Asked(Ref("Ingress", "default", "next"))
    assert asked in all_served(found)
    assert is_served(found, asked)
    assert parts_of(found, asked) == (host("a.example.com"), HTTP, HTTPS, DEFAULT, *backend("next"))
    assert parts_of(found, Asked(WEB)) == (host("a.example.com"), HTTP, HTTPS, DEFAULT, *backend("web"))
    alone = tmp_path / "alone"
    alone.mkdir()
    assert parts_of(tables(alone, canary, *application("next")), asked) == ()
