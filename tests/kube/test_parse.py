"""Documents → objects: every kind in every version, and what is wrong said in words."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from xds.kube import parse
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressClass,
    Namespace,
    Path,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
    ref,
)
from xds.problem import Place, Problem, Ref

NETWORKING = "networking.k8s.io/v1"
BETA = "networking.k8s.io/v1beta1"
VERSIONS = {
    "Ingress": NETWORKING,
    "IngressClass": NETWORKING,
    "EndpointSlice": "discovery.k8s.io/v1",
    **dict.fromkeys(("Service", "Endpoints", "Secret", "ConfigMap", "Namespace"), "v1"),
}


def document(kind: str, version: str = "", **fields: Any) -> dict[str, Any]:
    labels = {"labels": {"kubernetes.io/service-name": "x"}} if kind == "EndpointSlice" else {}
    return {"apiVersion": version or VERSIONS[kind], "kind": kind, "metadata": {"name": "x", **labels}, **fields}


def one(kind: str, version: str = "", **fields: Any) -> Any:
    """The one object of a document, which is the same from JSON."""
    written = document(kind, version, **fields)
    (found,) = parse.from_document(written)
    if kind != "Endpoints":
        assert parse.from_json(msgspec.json.encode(written)) == found
    return found


def problem(written: Any) -> Problem:
    (found,) = parse.from_document(written, Place("a.yaml", 2, 7))
    assert isinstance(found, Problem)
    assert found.place == Place("a.yaml", 2, 7)
    assert found.sentence.endswith(".")
    return found


def ingress(version: str = "", **spec: Any) -> Any:
    found = one("Ingress", version, spec=spec)
    assert isinstance(found, Ingress)
    return found


def backend(version: str, written: dict[str, Any]) -> Backend:
    (rule,) = ingress(version, rules=[{"http": {"paths": [{"path": "/", "backend": written}]}}]).rules
    found: Backend = rule.paths[0].backend
    return found


def test_a_slice_without_the_label_of_its_service_is_said_to_belong_to_none() -> None:
    slice_, found = parse.from_document(document("EndpointSlice", addressType="IPv4", endpoints=[], metadata={"name": "lost"}))
    assert isinstance(slice_, EndpointSlice)
    assert isinstance(found, Problem)
    assert (found.about.name, found.field, found.code) == ("lost", "metadata.labels[kubernetes.io/service-name]", "no-service")


def test_an_ingress_of_v1() -> None:
    found = ingress(
        ingressClassName="nginx",
        defaultBackend={"service": {"name": "rest", "port": {"number": 80}}},
        tls=[{"hosts": ["a.example", "b.example"], "secretName": "cert"}, {}],
        rules=[
            {"host": "A.example", "http": {"paths": [{"path": "/x", "pathType": "Exact", "backend": {"service": {"name": "s"}}}]}},
            {"host": "b.example"},
        ],
    )
    assert found.class_name == "nginx"
    assert found.default_backend == Backend("rest", 80)
    assert found.tls == (Tls(("a.example", "b.example"), "cert"), Tls())
    assert found.rules == (Rule("A.example", (Path("/x", "Exact", Backend("s")),)), Rule("b.example"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"service": {"name": "s", "port": {"number": 80}}}, Backend("s", 80)),
        ({"service": {"name": "s", "port": {"name": "http"}}}, Backend("s", "http")),
        ({"service": {"name": "s", "port": None}}, Backend("s", 0)),
        ({"resource": {"apiGroup": "k8s.example", "kind": "Bucket", "name": "b"}}, Backend(resource="Bucket/b")),
        ({"service": None}, Backend()),
        ({}, Backend()),
    ],
)
def test_backends_of_v1(written: dict[str, Any], expected: Backend) -> None:
    assert backend(NETWORKING, written) == expected


@pytest.mark.parametrize("version", [BETA, "extensions/v1beta1"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"serviceName": "s", "servicePort": 80}, Backend("s", 80)),
        ({"serviceName": "s", "servicePort": "http"}, Backend("s", "http")),
        ({"serviceName": "s", "servicePort": "80"}, Backend("s", 80)),
        ({"serviceName": "s"}, Backend("s", 0)),
        ({"resource": {"kind": "Bucket", "name": "b"}}, Backend(resource="Bucket/b")),
    ],
)
def test_backends_of_v1beta1(version: str, written: dict[str, Any], expected: Backend) -> None:
    assert backend(version, written) == expected


def test_the_default_backend_of_v1beta1_is_called_backend() -> None:
    assert ingress(BETA, backend={"serviceName": "s", "servicePort": 80}).default_backend == Backend("s", 80)


@pytest.mark.parametrize(
    ("version", "spec", "field"),
    [
        (NETWORKING, {"backend": {"serviceName": "s"}}, "spec.backend"),
        (NETWORKING, {"defaultBackend": {"serviceName": "s", "servicePort": 80}}, "spec.defaultBackend.serviceName"),
        (BETA, {"defaultBackend": {"serviceName": "s"}}, "spec.defaultBackend"),
        (BETA, {"backend": {"service": {"name": "s"}}}, "spec.backend.service"),
        (
            NETWORKING,
            {"rules": [{}, {"http": {"paths": [{"backend": {"serviceName": "s", "servicePort": 1}}]}}]},
            "spec.rules[1].http.paths[0].backend.serviceName",
        ),
    ],
)
def test_a_field_of_the_other_version_is_refused_and_the_right_one_is_named(version: str, spec: dict[str, Any], field: str) -> None:
    found = problem(document("Ingress", version, spec=spec))
    assert (found.field, found.code) == (field, "wrong-version")


def test_path_and_path_type_may_be_null_or_missing() -> None:
    paths = [{"path": None, "pathType": None}, {"path": "", "pathType": "Prefix"}, {}]
    (rule,) = ingress(rules=[{"host": None, "http": {"paths": paths}}]).rules
    assert rule == Rule("", (Path("", "", Backend()), Path("", "Prefix", Backend()), Path("", "", Backend())))


def test_null_is_as_good_as_missing_everywhere() -> None:
    assert ingress() == one("Ingress", spec=None) == ingress(rules=None, tls=None, ingressClassName=None, defaultBackend=None)
    assert one("Service", spec={"ports": None, "type": None, "clusterIPs": None}) == one("Service")


def test_an_unknown_path_type_is_a_problem() -> None:
    found = problem(document("Ingress", spec={"rules": [{"http": {"paths": [{"path": "/", "pathType": "prefix"}]}}]}))
    assert (found.field, found.code) == ("spec.rules[0].http.paths[0].pathType", "bad-value")
    assert "'prefix'" in found.sentence


@pytest.mark.parametrize("version", [NETWORKING, BETA])
def test_an_ingress_class(version: str) -> None:
    found = one("IngressClass", version, metadata={"name": "nginx", "namespace": "ignored"}, spec={"controller": "k8s.io/ingress-nginx"})
    assert isinstance(found, IngressClass)
    assert (ref(found), found.controller) == (Ref("IngressClass", "", "nginx"), "k8s.io/ingress-nginx")


def service(**spec: Any) -> Service:
    found = one("Service", spec=spec)
    assert isinstance(found, Service)
    return found


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_a_service_with_an_address(kind: str) -> None:
    found = service(
        type=kind,
        clusterIP="10.0.0.1",
        clusterIPs=["10.0.0.1", "fd00::1"],
        sessionAffinity="ClientIP",
        ports=[{"port": 80}, {"port": 81, "name": "web", "targetPort": "http"}, {"port": 53, "protocol": "UDP", "targetPort": 5353}],
    )
    assert (found.type, found.cluster_ips, found.headless, found.affinity) == (kind, ("10.0.0.1", "fd00::1"), False, "ClientIP")
    assert found.ports == (ServicePort(80), ServicePort(81, "web", "http"), ServicePort(53, "", 5353, "UDP"))


def test_a_service_with_only_the_old_field_for_its_address() -> None:
    assert service(clusterIP="10.0.0.1").cluster_ips == ("10.0.0.1",)


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIPs": ["None"]}])
def test_a_headless_service(spec: dict[str, Any]) -> None:
    found = service(**spec)
    assert (found.headless, found.cluster_ips) == (True, ())


def test_a_service_in_a_folder_has_no_address_and_is_not_headless() -> None:
    found = service(ports=[{"port": 80}])
    assert (found.headless, found.cluster_ips, found.type) == (False, (), "ClusterIP")


def test_an_external_name() -> None:
    found = service(type="ExternalName", externalName="db.example")
    assert (found.type, found.external_name, found.cluster_ips, found.headless) == ("ExternalName", "db.example", (), False)


@pytest.mark.parametrize(("written", "target"), [("8080", 8080), (8080, 8080), ("http", "http"), ("99999", "99999"), (None, 0), ("٣", "٣")])
def test_a_target_port_is_a_number_or_a_name(written: Any, target: int | str) -> None:
    assert service(ports=[{"port": 80, "targetPort": written}]).ports[0].target == target


@pytest.mark.parametrize("version", ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"])
def test_an_endpoint_slice(version: str) -> None:
    found = one(
        "EndpointSlice",
        version,
        metadata={"name": "s-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "s", "other": "x"}},
        addressType="IPv6",
        ports=[{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}, {"name": "", "port": None}],
        endpoints=[{"addresses": ["fd00::1"], "topology": {"zone": "a"}, "nodeName": "n", "hostname": "h"}],
    )
    assert isinstance(found, EndpointSlice)
    assert (found.service, found.address_type, found.legacy) == ("s", "IPv6", False)
    assert found.ports == (EndpointPort("http", 8080), EndpointPort("", None))
    assert found.endpoints == (Endpoint(("fd00::1",)),)
    assert found.meta.labels == {}


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        (None, True, True, False),
        ({}, True, True, False),
        ({"ready": None, "serving": None}, True, True, False),
        ({"ready": False}, False, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True, True),
        ({"ready": True, "serving": False}, True, False, False),
        ({"ready": "no", "terminating": "Yes"}, False, False, True),
    ],
)
def test_conditions_of_an_endpoint(conditions: Any, ready: bool, serving: bool, terminating: bool) -> None:
    found = one("EndpointSlice", addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"], "conditions": conditions}])
    assert found.endpoints == (Endpoint(("10.0.0.1",), ready, serving, terminating),)


def test_the_address_type_of_early_slices_is_found_out() -> None:
    assert one("EndpointSlice", addressType="IP", endpoints=[{"addresses": ["fd00::1"]}]).address_type == "IPv6"
    assert one("EndpointSlice", addressType="IP", endpoints=[{"addresses": ["10.0.0.1"]}]).address_type == "IPv4"


def test_an_address_that_is_none_is_a_problem() -> None:
    found = problem(document("EndpointSlice", addressType="IPv4", endpoints=[{}, {"addresses": ["10.0.0.1", "10.0.0.300"]}]))
    assert (found.field, found.code) == ("endpoints[1].addresses[1]", "bad-value")


def test_names_are_addresses_in_a_slice_of_names() -> None:
    assert one("EndpointSlice", addressType="FQDN", endpoints=[{"addresses": ["a.example"]}]).endpoints[0].addresses == ("a.example",)


def subsets(*written: dict[str, Any]) -> list[Any]:
    return parse.from_document(document("Endpoints", subsets=list(written)))


def test_endpoints_become_one_legacy_slice() -> None:
    (found,) = subsets(
        {"addresses": [{"ip": "10.0.0.1", "nodeName": "n"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]},
        {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 80}]},
    )
    assert ref(found) == Ref("Endpoints", "default", "x")
    assert (found.service, found.legacy, found.ports) == ("x", True, (EndpointPort("", 80),))
    expected = (Endpoint(("10.0.0.1",)), Endpoint(("10.0.0.2",), ready=False, serving=False), Endpoint(("10.0.0.3",)))
    assert found.endpoints == expected


def test_subsets_with_other_ports_are_slices_of_their_own() -> None:
    first, second = subsets(
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}, {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 81}]}
    )
    assert [ref(first), ref(second)] == [Ref("Endpoints", "default", "x"), Ref("Endpoints", "default", "x#1")]
    assert first.service == second.service == "x"
    assert second.ports == (EndpointPort("", 81),)


def test_endpoints_without_subsets_are_an_empty_slice() -> None:
    (found,) = subsets()
    assert (found.endpoints, found.ports, found.meta.name) == ((), (), "x")


def test_a_secret() -> None:
    encoded = base64.b64encode(b"one" * 40).decode()
    wrapped = encoded[:76] + "\n" + encoded[76:] + "\n"
    found = one("Secret", type="kubernetes.io/tls", data={"tls.crt": wrapped, "a": "YQ==", "none": None}, stringData={"a": "ä", "b": None})
    assert isinstance(found, Secret)
    assert (found.type, found.data) == ("kubernetes.io/tls", {"tls.crt": b"one" * 40, "none": b"", "a": "ä".encode(), "b": b""})


@pytest.mark.parametrize(
    "value", ["TOPSECRET!", "VE9QU0VDUkVU=", "VE9QU0VDUkVU====", "VE9QU0VDUkVUX", "VE9Q U0VD", "TOPSECRÄT", "-----BEGIN PRIVATE KEY-----"]
)
def test_a_secret_that_is_not_base64_is_a_problem_which_does_not_show_it(value: str) -> None:
    found = problem(document("Secret", data={"fine": "YQ==", "tls.key": value}))
    assert (found.field, found.code) == ("data[tls.key]", "bad-base64")
    assert value not in f"{found}{found!r}"


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_secret_of_the_wrong_type_does_not_show_its_value(field: str) -> None:
    for value in (4711, 47.11, ["TOPSECRET4711"], {"TOPSECRET": "4711"}):
        found = problem({**document("Secret"), field: {"fine": "YQ==", "key": value}})
        assert (found.field, found.code) == (f"{field}[key]", "wrong-type")
        assert "4711" not in f"{found}{found!r}"


def test_a_config_map_takes_what_somebody_forgot_to_quote() -> None:
    found = one("ConfigMap", data={"a": "x", "6379": 6379, "t": True, "f": 1.5, "n": None}, binaryData={"x": "YQ=="})
    assert isinstance(found, ConfigMap)
    assert found.data == {"a": "x", "6379": "6379", "t": "true", "f": "1.5", "n": ""}


def test_a_big_config_map_is_fine() -> None:
    assert len(one("ConfigMap", data={"a": "x" * 10_000_000}).data["a"]) == 10_000_000


def test_a_namespace_keeps_its_labels_and_is_not_in_a_namespace() -> None:
    found = one("Namespace", metadata={"name": "shop", "namespace": "x", "labels": {"team": "a", "none": None}})
    assert isinstance(found, Namespace)
    assert (ref(found), found.meta.labels) == (Ref("Namespace", "", "shop"), {"team": "a", "none": ""})


@pytest.mark.parametrize("namespace", [{}, {"namespace": None}, {"namespace": ""}])
def test_a_missing_namespace_is_the_default_one(namespace: dict[str, Any]) -> None:
    assert one("Service", metadata={"name": "x", **namespace}).meta.namespace == "default"


def test_annotations_with_a_slash_are_kept_for_an_ingress_without_what_kubectl_last_applied() -> None:
    annotations = {
        "kubernetes.io/ingress.class": "nginx",
        "nginx.ingress.kubernetes.io/rewrite-target": "/",
        "null.example/x": None,
        "plain": "x",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    metadata = {"name": "x", "annotations": annotations, "labels": {"a": "b"}}
    kept = {"kubernetes.io/ingress.class": "nginx", "nginx.ingress.kubernetes.io/rewrite-target": "/", "null.example/x": ""}
    assert one("Ingress", metadata=metadata).meta.annotations == kept
    assert one("Ingress", metadata=metadata).meta.labels == {}
    assert one("Service", metadata=metadata).meta.annotations == {}


@pytest.mark.parametrize(
    ("written", "created"),
    [
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00Z"),
        (None, ""),
    ],
)
def test_the_time_of_creation_is_in_utc(written: str | None, created: str) -> None:
    assert one("Service", metadata={"name": "x", "creationTimestamp": written}).meta.created == created


@pytest.mark.parametrize("written", ["yesterday", "2024-05-01", "2024-05-01T12:00:00", "0001-01-01T00:00:00+23:00"])
def test_a_time_of_creation_that_is_none_is_a_problem(written: str) -> None:
    found = problem(document("Service", metadata={"name": "x", "creationTimestamp": written}))
    assert (found.field, found.code) == ("metadata.creationTimestamp", "bad-value")


@pytest.mark.parametrize("metadata", [None, {}, {"name": None}, {"name": ""}, {"generateName": "x-"}])
@pytest.mark.parametrize("kind", VERSIONS)
def test_a_missing_name_is_a_problem(kind: str, metadata: Any) -> None:
    found = problem(document(kind, metadata=metadata))
    assert (found.about.kind, found.field, found.code) == (kind, "metadata.name", "missing")


@pytest.mark.parametrize("name", ["a/b", "A", "-a", "a-", "a..b", "a b", "a\n", "ä", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_a_problem(name: str) -> None:
    assert problem(document("Service", metadata={"name": name})).code == "bad-name"
    assert problem(document("Service", metadata={"name": "x", "namespace": name})).field == "metadata.namespace"


@pytest.mark.parametrize(
    ("written", "field", "part"),
    [
        (document("Ingress", spec={"rules": [{"host": 1}]}), "spec.rules[0].host", "must be text, but it is a whole number: put quotes"),
        (document("Ingress", spec={"rules": {"host": "a"}}), "spec.rules", "begin each entry with '- '"),
        (document("Ingress", spec={"rules": ["a"]}), "spec.rules[0]", "must be a mapping, but it is text"),
        (document("Ingress", spec={"rules": [None]}), "spec.rules[0]", "leave it out"),
        (document("Ingress", spec=[]), "spec", "must be a mapping, but it is a list"),
        (
            document("Ingress", metadata={"name": "x", "annotations": {"a/a": "ok", "a/b": None, "a/c": True}}),
            "metadata.annotations[a/c]",
            "must be text, but it is true or false: put quotes around the value",
        ),
        (document("Ingress", metadata={"name": "x", "annotations": {"a/c": []}}), "metadata.annotations[a/c]", "write one value"),
        (document("Service", metadata={"name": 1}), "metadata.name", "put quotes"),
        (document("Service", spec={"ports": [{"port": "80"}]}), "spec.ports[0].port", "write it without quotes"),
        (document("Service", spec={"ports": [{"name": "x"}]}), "spec.ports[0].port", "missing"),
        (document("Service", spec={"ports": [{"port": 70000}]}), "spec.ports[0].port", "from 0 to 65535"),
        (document("Service", spec={"ports": [{"port": 80, "targetPort": -1}]}), "spec.ports[0].targetPort", "from 0 to 65535"),
        (document("Service", spec={"ports": [{"port": 80, "targetPort": 1.5}]}), "spec.ports[0].targetPort", "a whole number or text"),
        (document("EndpointSlice", endpoints=[{"conditions": {"ready": "maybe"}}]), "endpoints[0].conditions.ready", "true or false"),
        (document("ConfigMap", data={"a": "x", "b": ["x"]}), "data[b]", "but it is a list"),
        (document("ConfigMap", data={1: "x"}), "data", "A key in this must be text"),
    ],
)
def test_a_wrong_type_is_one_problem_that_names_the_field_and_says_what_to_do(written: Any, field: str, part: str) -> None:
    found = problem(written)
    assert (found.field, found.code) == (field, "missing" if found.code == "missing" else "wrong-type")
    assert part in found.sentence


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("Service", {"spec": {"type": "clusterip"}}, "spec.type"),
        ("Service", {"spec": {"sessionAffinity": "Cookie"}}, "spec.sessionAffinity"),
        ("Service", {"spec": {"ports": [{"port": 1}, {"port": 2, "protocol": "tcp"}]}}, "spec.ports[1].protocol"),
        ("EndpointSlice", {"addressType": "ipv4"}, "addressType"),
        ("EndpointSlice", {"ports": [{"protocol": "tcp"}]}, "ports[0].protocol"),
        ("Endpoints", {"subsets": [{"ports": [{"protocol": "tcp"}]}]}, "subsets[0].ports[0].protocol"),
        ("Endpoints", {"subsets": [{"notReadyAddresses": [{"ip": "a"}]}]}, "subsets[0].notReadyAddresses[0].ip"),
    ],
)
def test_a_word_that_kubernetes_does_not_know_is_a_problem(kind: str, fields: dict[str, Any], field: str) -> None:
    found = problem(document(kind, **fields))
    assert (found.field, found.code) == (field, "bad-value")


def test_a_long_word_is_cut_in_the_sentence() -> None:
    assert len(problem(document("Service", spec={"type": "x" * 10_000})).sentence) < 300


@pytest.mark.parametrize(
    "written",
    [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": 1},
        {"apiVersion": "config.openshift.io/v1", "kind": "Ingress"},
        {"apiVersion": "acl.example/v1", "kind": "AllowList", "items": 1},
        {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "x"}}]},
        {"apiVersion": "config.openshift.io/v1", "kind": "IngressList", "items": [{"metadata": {"name": "x"}}]},
        {"apiVersion": "config.openshift.io/v1", "kind": "IngressList", "items": 1},
    ],
)
def test_other_kinds_are_skipped_quietly(written: Any) -> None:
    assert parse.from_document(written, Place("a.yaml", 0, 1)) == []
    assert parse.from_json(msgspec.json.encode({**written, "kind": "Pod"})) is None


@pytest.mark.parametrize("version", ["v1", "networking.k8s.io/v3", "extensions/v1", None, "", 1])
def test_a_version_that_a_kind_has_not_is_a_problem(version: Any) -> None:
    found = problem({"apiVersion": version, "kind": "Ingress", "metadata": {"name": "x"}})
    assert (found.about, found.field, found.code) == (Ref("Ingress", "default", "x"), "apiVersion", "unknown-version")
    known = isinstance(version, str) and version
    what = f"Ingress has no version {version!r}" if known else "This Ingress has no apiVersion"
    assert found.sentence == f"{what}; write apiVersion: networking.k8s.io/v1."


@pytest.mark.parametrize("written", [[], "text", 1, 1.5, True, None])
def test_a_document_that_is_no_mapping_is_a_problem_of_the_file(written: Any) -> None:
    found = problem(written)
    assert (found.about, found.field, found.code) == (Ref("File", "", "a.yaml"), "documents[2]", "no-manifest")


@pytest.mark.parametrize("kind", [None, 1, "", ["Service"]])
def test_a_document_without_a_kind_is_a_problem_of_the_file(kind: Any) -> None:
    assert problem({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}}).code == "no-kind"


def test_a_list_gives_what_its_entries_give_and_a_wrong_one_takes_no_other_along() -> None:
    nested = {"apiVersion": "v1", "kind": "List", "items": [document("Namespace")]}
    entries = [document("Service"), document("Service", spec=1), 7, document("ConfigMap"), nested]
    found = parse.from_document({"apiVersion": "v1", "kind": "List", "items": entries})
    assert [type(each) for each in found] == [Service, Problem, Problem, ConfigMap, Namespace]


def test_entries_of_a_typed_list_need_no_kind() -> None:
    found = parse.from_document({"apiVersion": BETA, "kind": "IngressList", "items": [{"metadata": {"name": "x"}}]})
    assert found == [one("Ingress", BETA)]


@pytest.mark.parametrize("kind", ["List", "IngressList"])
def test_a_list_may_be_empty_but_must_be_one(kind: str) -> None:
    version = NETWORKING if kind == "IngressList" else "v1"
    assert parse.from_document({"apiVersion": version, "kind": kind, "items": None}) == []
    assert problem({"apiVersion": version, "kind": kind, "items": {"a": 1}}).field == "items"
    assert problem({"apiVersion": version, "kind": kind}).field == "items"


def test_lists_within_lists_without_end_do_no_harm() -> None:
    written: Any = document("Service")
    for _ in range(5000):
        written = {"kind": "List", "items": [written]}
    assert parse.from_document(written) == [one("Service")]


def test_json_without_kind_is_read_as_what_the_list_said() -> None:
    raw = msgspec.json.encode({"metadata": {"name": "x"}})
    assert parse.from_json(raw, kind="Service", api_version="v1") == one("Service")
    wrong = parse.from_json(b'{"metadata":{"name":"x"},"spec":1}', kind="Service", api_version="v1")
    assert isinstance(wrong, Problem)
    assert (wrong.about, wrong.field) == (Ref("Service", "default", "x"), "spec")


def test_endpoints_of_an_api_server_are_left_to_their_slices() -> None:
    assert parse.from_json(msgspec.json.encode(document("Endpoints"))) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"nonsense", b"\xff", b'{"kind":"Service"\xff}', b'{"kind":"Secret","apiVersion":"v1","data":{"a":"\xff"}}', b"[]", b"1"],
)
def test_bytes_that_are_no_object_are_a_problem(raw: bytes) -> None:
    assert isinstance(parse.from_json(raw), Problem)


def test_json_that_is_deep_without_end_is_a_problem() -> None:
    raw = b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"unknown":' + b"[" * 200_000
    assert isinstance(parse.from_json(raw), Problem)
