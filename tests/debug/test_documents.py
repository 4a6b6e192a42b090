"""The fleet as a document: every client that has password files is in it."""

from __future__ import annotations

from xds.debug import v1
from xds.debug.documents import fleet_document, with_beside


def shown(*nodes: str) -> list[list[str]]:
    """The peers that stand together, of clients with these node.ids; peers are numbered."""
    envoys = [v1.Envoy(node_id=node, peer=str(number)) for number, node in enumerate(nodes)]
    return [[each["peer"] for each in with_beside(envoy)] for envoy in fleet_document(v1.FleetResponse(envoys=envoys))["envoys"]]


def test_a_service_stands_with_its_envoy_and_without_one_by_itself() -> None:
    assert shown("a", "a/authz", "b", "c/authz") == [["0", "1"], ["2"], ["3"]]


def test_a_second_service_of_a_name_is_shown() -> None:
    """It may be somebody else, who reads password files."""
    assert shown("a", "a/authz", "a/authz") == [["0", "1"], ["2"]]
    assert shown("b/authz", "b/authz") == [["0"], ["1"]]
