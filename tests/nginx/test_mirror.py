"""Where copies of requests go, by what was written and what is there."""

from __future__ import annotations

from typing import Any

import pytest
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteAction

from tests.nginx.drawing import complaints, location
from xds.config import Flags
from xds.kube.objects import Backend, Endpoint, EndpointPort, EndpointSlice, Ingress, Meta, Object, Path, Rule, Service, ServicePort
from xds.kube.world import World
from xds.model import Cluster, Forward, PathKind, PathMatch, Route, Settings
from xds.nginx.features.mirror import FEATURE, MIRROR_TARGET, Mirror
from xds.nginx.registry import besides, cluster_name
from xds.problem import Ref
from xds.quarantine import blame
from xds.snapshot import CLUSTER, ENDPOINT, Part, Snapshot
from xds.translate.configuration import ingress_settings
from xds.units.memo import Recorder
from xds.units.tables import Tables
from xds.units.traces import Asked, parts_of

PREFIX = "nginx.ingress.kubernetes.io/"
WEB = Ref("Ingress", "one", "web")


def ingress(target: str, **more: str) -> Ingress:
    annotations = {PREFIX + "mirror-target": target, **{PREFIX + name.replace("_", "-"): value for name, value in more.items()}}
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("web", 80)),))
    return Ingress(meta=Meta(namespace="one", name="web", annotations=annotations), rules=(rule,))


def service(namespace: str, name: str, port: int = 80, **more: str) -> list[Object]:
    meta = Meta(namespace=namespace, name=name)
    ports = (ServicePort(port, target=8080),)
    endpoints = (Endpoint(("10.0.0.1",)),)
    slice_ = EndpointSlice(meta=meta, service=name, ports=(EndpointPort(port=8080),), endpoints=endpoints)
    return [Service(meta=meta, ports=ports, **more), slice_]  # type: ignore[arg-type]


class Case:
    """A host with a mirror, as an API server gives it unless `folder`."""

    def __init__(self, *objects: Object, folder: bool = False, **flags: Any) -> None:
        self.world = World(Flags(watch_ingress_without_class=True, manifests=("here",) if folder else (), **flags))
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.apply(*service("one", "web"), *objects)

    def apply(self, *objects: Object) -> None:
        self.tables.apply(self.world.apply(objects)).publish(self.snapshot)

    @property
    def copies(self) -> list[Cluster]:
        own: Settings = Recorder(self.tables.build).unit(ingress_settings, "one", "web")
        return list(besides(location(own)))

    @property
    def sentences(self) -> list[str]:
        return [problem.sentence for problem in self.tables.problems()]


def test_a_service_of_the_own_namespace_is_asked_at_its_endpoints_as_long_as_it_has_the_port() -> None:
    case = Case(ingress("http://copies.one.svc:8080/x"))
    assert (case.copies, case.sentences) == ([], ["mirror-target leads to Service one/copies, which does not exist; it has no effect."])
    case.apply(*service("one", "copies", 8080))
    (found,) = case.copies
    assert (found.namespace, found.service, found.port, found.host, found.aside) == ("one", "copies", 8080, "", True)
    assert cluster_name(found) in case.snapshot[ENDPOINT]
    assert case.sentences == []
    case.apply(*service("one", "copies", 81))
    assert case.copies == []
    assert set(case.snapshot[CLUSTER]) == {"one/web/80"}


@pytest.mark.parametrize("domain", ["svc", "svc.cluster.local", "svc.cluster.local."])
def test_a_service_of_another_namespace_is_a_name_like_others(domain: str) -> None:
    case = Case(ingress(f"http://copies.two.{domain}/x"), *service("two", "copies"))
    (found,) = case.copies
    assert (found.namespace, found.service, found.host) == ("one", "", f"copies.two.{domain}".rstrip("."))


def test_an_external_name_is_the_name_that_it_stands_for() -> None:
    case = Case(ingress("http://out.one.svc:81/x"), *service("one", "out", type="ExternalName", external_name="copies.example.org."))
    assert [(found.host, found.port) for found in case.copies] == [("copies.example.org", 81)]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "169.254.169.254", "[::1]", "[fe80::1]", "0.0.0.0", "127.1", "2130706433", "localhost", "[::ffff:7f00:1]", "224.0.0.1"],
)
def test_no_copy_goes_where_no_request_may(host: str) -> None:
    case = Case(ingress(f"http://{host}:8080/latest/meta-data"))
    assert case.copies == []
    assert case.sentences[0].startswith("mirror-target leads to ")
    assert set(case.snapshot[CLUSTER]) == {"one/web/80"}


def test_no_copy_goes_where_no_request_may_through_an_external_name() -> None:
    case = Case(ingress("http://out.one.svc/x"), *service("one", "out", type="ExternalName", external_name="169.254.169.254"))
    assert case.copies == []


@pytest.mark.parametrize("name", ["", "a b/c", "a\nb", "ä.example.org"])
def test_no_copy_goes_to_an_external_name_that_is_no_name(name: str) -> None:
    case = Case(ingress("http://out.one.svc/x"), *service("one", "out", type="ExternalName", external_name=name))
    assert case.copies == []
    assert case.sentences == [
        "mirror-target leads to Service one/out of type ExternalName, which stands for no name here; it has no effect."
    ]


def test_no_copy_goes_to_an_external_name_where_these_are_disabled() -> None:
    out = service("one", "out", type="ExternalName", external_name="copies.example.org")
    assert Case(ingress("http://out.one.svc/x"), *out, disable_svc_external_name=True).copies == []


def test_in_a_folder_loopback_is_where_applications_are_but_our_own_sockets_are_not() -> None:
    assert Case(ingress("http://127.0.0.1:8080/"), folder=True).copies
    assert not Case(ingress(f"http://127.0.0.1:{Flags().healthz_port}/"), folder=True).copies


def test_a_name_has_filters_that_judge_what_it_resolves_to_and_an_address_is_judged_before() -> None:
    case = Case(ingress("http://copies.example.org/"))
    (found,) = case.copies
    assert b"local RANGES = {" in case.snapshot[CLUSTER][cluster_name(found)].body


@pytest.mark.parametrize(
    ("host", "may_be_unmarked"),
    [("10.0.0.1", True), ("[fd00::1]", True), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("10.0.0.1:80", False), ("a.test", False)],
)
def test_a_host_is_an_address_only_where_the_script_sees_that_too(host: str, *, may_be_unmarked: bool) -> None:
    """IPv6 without brackets has letters and no bracket in front of them, as names have: each copy would pass for the first one."""
    route, envoy = Route(PathMatch(PathKind.PREFIX, "/"), Forward(Cluster("one", "web", 80))), EnvoyRoute(route=RouteAction())
    assert FEATURE.on_forward
    FEATURE.on_forward(Mirror(Cluster("one", "copies", 80), "/x", keeps_path=False, host=host, body=True), route, envoy)
    assert envoy.route
    (policy,) = envoy.route.request_mirror_policies
    written = {each.append.header.key for each in policy.request_headers_mutations if each.append and each.append.header}
    assert ("x-xds-copy-came-for" in written) is may_be_unmarked


@pytest.mark.parametrize("beside", [{}, {"mirror_request_body": "off"}])
def test_copies_change_no_cluster_but_their_own(beside: dict[str, str]) -> None:
    external = service("one", "web", type="ExternalName", external_name="web.example.org")[:1]
    plain = Case(*external, ingress("", **beside)).snapshot[CLUSTER]["one/web/80@one/web"]
    assert Case(*external, ingress("http://copies.example.org/", **beside)).snapshot[CLUSTER]["one/web/80@one/web"] == plain


def test_the_cluster_of_copies_is_part_of_what_an_ingress_went_into_and_its_ingress_is_to_blame() -> None:
    case = Case(ingress("http://copies.example.org:81/"))
    (found,) = case.copies
    part = Part(CLUSTER, cluster_name(found))
    assert part in parts_of(case.tables, Asked(WEB))
    assert blame.objects(case.tables, part) == [WEB]


def test_the_names_of_these_clusters_do_not_change() -> None:
    """A red test here means that clusters of running Envoys would be renamed."""
    targets = {
        "http://copies.one.svc:8080/x": "one/copies/8080~67c5c852",
        "https://copies.example.org$request_uri": "one/copies_example_org/443~51ff95fc",
        "http://[2001:db8::1]:81": "one/2001_db8__1/81~dfbed9bf",
    }
    for target, name in targets.items():
        case = Case(ingress(target), *service("one", "copies", 8080))
        assert [cluster_name(found) for found in case.copies] == [name]


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("", "<uri>"),
        ("$request_uri", "<uri>"),
        ("/$request_uri", "/<uri>"),
        ("/a${request_uri}z", "/a<uri>z"),
        ("/a%20b", "/a%%20b<?><query>"),
        ("/a$is_args$args", "/a<?><query>"),
        ("/a?x=$query_string", "/a?x=<query>"),
        ("$is_args$args", "/<?><query>"),
    ],
)
def test_the_path_of_copies_is_a_format_of_envoy(rest: str, path: str) -> None:
    target: Any = MIRROR_TARGET.parse(f"http://a.test{rest}")
    named = {
        "%FILTER_STATE(xds.copy.path:PLAIN)%": "<uri>",
        "%CEL(request.query)%": "<query>",
        "%CEL(request.query != '' ? '?' : '')%": "<?>",
    }
    found = target.path
    for text, name in named.items():
        found = found.replace(text, name)
    assert (found, target.keeps_path) == (path, "<uri>" in path)


def test_a_name_with_a_dot_is_another_one_than_with_an_underscore() -> None:
    names = [cluster_name(Case(ingress(f"http://a{mark}b/")).copies[0]) for mark in "._"]
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    "target",
    [
        "ftp://a.test/",
        "http://[::zz]/",
        "http://[:::]/",
        "http://[10.0.0.1]/",
        "http://",
        "http:///x",
        "http://a.test:0/",
        "http://a.test:70000/",
        "http://a.test/$host",
        "http://a.test/${",
        "a.test",
    ],
)
def test_what_is_no_target_is_said(target: str) -> None:
    assert [name for name, _ in complaints({"mirror-target": target})] == ["mirror-target"]
