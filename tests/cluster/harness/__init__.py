"""What the tests on a real cluster are made with: programs, a network of their own, a Kubernetes control plane, pods that answer.

Clients, Envoy and processes are those of `tests.envoy.harness`. `Cluster` ties it together. What does not belong here: what a test expects.
"""

from tests.cluster.harness.cluster import HTTP, HTTPS, LEASE, SPACE, Cluster, complaints, role_for
from tests.cluster.harness.helm import Helm
from tests.cluster.harness.kube import Kube
from tests.cluster.harness.network import API, NODE, NotPermitted, cut, mend, own_network
from tests.cluster.harness.programs import FOR_PODS, NEEDED, missing

__all__ = [
    "API",
    "FOR_PODS",
    "HTTP",
    "HTTPS",
    "LEASE",
    "NEEDED",
    "NODE",
    "SPACE",
    "Cluster",
    "Helm",
    "Kube",
    "NotPermitted",
    "complaints",
    "cut",
    "mend",
    "missing",
    "own_network",
    "role_for",
]
