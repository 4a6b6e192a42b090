"""Whatever stands in a field: an object or a Problem, never an exception, and the neighbours are as they were."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from xds.kube import parse
from xds.problem import Place, Problem

SECRET = "c2VjcmV0LXZhbHVl"
BACKEND = {"service": {"name": "s", "port": {"number": 80, "name": "http"}}, "resource": {"kind": "K", "name": "r"}}
OLD_BACKEND = {"serviceName": "s", "servicePort": 80}
METADATA = {
    "name": "x",
    "namespace": "y",
    "creationTimestamp": "2024-05-01T12:00:00Z",
    "resourceVersion": "1",
    "annotations": {"a/b": "c"},
    "labels": {"kubernetes.io/service-name": "s"},
}
NETWORKING = "networking.k8s.io/v1"
FULL: list[dict[str, Any]] = [
    {
        "apiVersion": NETWORKING,
        "kind": "Ingress",
        "metadata": METADATA,
        "spec": {
            "ingressClassName": "nginx",
            "defaultBackend": BACKEND,
            "tls": [{"hosts": ["a.example"], "secretName": "t"}],
            "rules": [{"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}],
        },
    },
    {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": METADATA,
        "spec": {"backend": OLD_BACKEND, "rules": [{"http": {"paths": [{"path": "/", "backend": OLD_BACKEND}]}}]},
    },
    {"apiVersion": NETWORKING, "kind": "IngressClass", "metadata": METADATA, "spec": {"controller": "c"}},
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": METADATA,
        "spec": {
            "type": "ExternalName",
            "externalName": "e",
            "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1"],
            "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
        },
    },
    {
        "apiVersion": "discovery.k8s.io/v1beta1",
        "kind": "EndpointSlice",
        "metadata": METADATA,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True, "serving": True, "terminating": False}}],
    },
    {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": METADATA,
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "name": "p"}]}],
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": METADATA, "type": "t", "data": {"a": SECRET}, "stringData": {"b": "secret-value"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": METADATA, "data": {"a": "b"}},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": METADATA},
]


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(found for key, each in entries for found in places(each, (*way, key)))]


WAYS = [(number, way) for number, document in enumerate(FULL) for way in places(document)]

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def put(number: int, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    document = copy.deepcopy(FULL[number])
    here: Any = document
    for step in way[:-1]:
        here = here[step]
    here[way[-1]] = value
    return document


def test_the_full_objects_are_all_read() -> None:
    for document in FULL:
        assert not [found for found in parse.from_document(document) if isinstance(found, Problem)]


@given(st.sampled_from(WAYS), anything)
def test_anything_in_any_field_gives_objects_or_one_problem_and_neighbours_stay(where: tuple[int, tuple[Any, ...]], value: Any) -> None:
    written = put(*where, value)
    before, after = FULL[7], FULL[8]
    found = parse.from_document({"kind": "List", "items": [before, written, after]}, Place("a.yaml", 0, 1))
    assert found[0] == parse.from_document(before, Place("a.yaml", 0, 1))[0]
    assert found[-1] == parse.from_document(after, Place("a.yaml", 0, 1))[0]
    if parse.members(written) is None:
        problems = [each for each in found if isinstance(each, Problem) and each.code != parse.REFUSED]  # those come beside an object
        assert not problems or found[1:-1] == problems
        assert len(problems) <= 1
        assert all(each.sentence.endswith(".") and "secret-value" not in str(each) and SECRET not in str(each) for each in problems)


@given(st.sampled_from(WAYS), anything)
def test_json_and_documents_give_the_same(where: tuple[int, tuple[Any, ...]], value: Any) -> None:
    written = put(*where, value)
    if parse.members(written) is not None or (isinstance(written, dict) and written.get("kind") == "Endpoints"):
        return
    raw = msgspec.json.encode(written)
    found = parse.from_document(msgspec.json.decode(raw))
    from_json = parse.from_json(raw)
    assert from_json == (found[0] if found else None)
    if isinstance(from_json, Problem):
        assert isinstance(found[0], Problem)
        assert from_json.sentence == found[0].sentence
