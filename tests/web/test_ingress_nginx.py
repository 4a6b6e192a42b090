"""ingress-nginx' metrics about the controller: which certificates and Ingresses they show, and that they are few."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.envoy.harness.tls import make_certificate
from xds.config import Flags
from xds.problem import Problem, Ref, Severity
from xds.web import ingress_nginx
from xds.web.certificate_expiry import Certificates, Leaf

FLAGS = Flags(pod_namespace="ingress-xds", pod_name="xds-1")
PAIR = make_certificate(["a.example.com"])


class Known(Certificates):
    """Certificates that are there without a World."""

    def __init__(self, *leaves: Leaf) -> None:
        super().__init__()
        self._leaves = {leaf.secret: leaf for leaf in leaves}


def samples(
    *leaves: Leaf, hosts: Iterable[tuple[str, str]] = (), problems: Iterable[Problem] = (), leads: bool = True
) -> dict[str, list[tuple[dict[str, str], float]]]:
    collector = ingress_nginx.IngressNginx(FLAGS, lambda: hosts, Known(*leaves), problems, lambda: leads)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in collector.collect():
        name = family.name.removeprefix("nginx_ingress_controller_")
        found[name] = [(sample.labels, sample.value) for sample in family.samples]
    return found


def problem(code: str, name: str = "web", kind: str = "Ingress", **more: Any) -> Problem:
    return Problem(Ref(kind, "shop", name), "spec.rules[0]", code, "Something.", Severity.WARNING, **more)


def test_a_certificate_is_shown_by_each_of_its_hosts_with_who_issued_it() -> None:
    leaf = Leaf(1_900_000_000, "shop/tls", "a.example.com", PAIR.cert_pem)
    found = samples(leaf, hosts=[("a.example.com", "shop/tls"), ("b.example.com", "shop/tls"), ("c.example.com", "shop/gone")])
    ends = {labels["host"]: value for labels, value in found["ssl_expire_time_seconds"]}
    assert ends == {"a.example.com": 1_900_000_000, "b.example.com": 1_900_000_000}
    labels, value = found["ssl_certificate_info"][0]
    assert (value, labels["namespace"], labels["secret_name"], labels["public_key_algorithm"]) == (1, "shop", "tls", "ECDSA")
    assert labels["serial_number"].isdigit()
    assert labels["issuer_common_name"]


def test_only_those_that_end_first_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress_nginx, "MOST", 2)
    leaves = [Leaf(1_900_000_000 + n, f"shop/{n}", "", PAIR.cert_pem) for n in (3, 1, 2)]
    found = samples(*leaves, hosts=[(f"{n}.example.com", f"shop/{n}") for n in (3, 1, 2)])
    assert [labels["host"] for labels, _ in found["ssl_expire_time_seconds"]] == ["1.example.com", "2.example.com"]


def test_an_ingress_without_a_backend_is_an_orphan_once() -> None:
    found = samples(
        problems=[
            problem("no-service"),
            problem("no-service:other"),
            problem("no-endpoints"),
            problem("conflict"),
            problem("no-service", kind="ConfigMap"),
        ]
    )
    shown = [(labels["namespace"], labels["ingress"], labels["type"], value) for labels, value in found["orphan_ingress"]]
    assert shown == [("shop", "web", "no-endpoint", 1), ("shop", "web", "no-service", 1)]


@pytest.mark.parametrize("leads", [True, False])
def test_the_elected_replica_says_so(leads: bool) -> None:
    ((labels, value),) = samples(leads=leads)["leader_election_status"]
    assert (labels["name"], labels["controller_pod"], value) == ("ingress-controller-leader", "xds-1", leads)
