"""allow-cross-namespace-resources: whether annotations may name objects of other namespaces than that of their Ingress."""

from __future__ import annotations

from xds.nginx.feature import Feature, Key
from xds.nginx.values import boolean

ALLOW_CROSS_NAMESPACE_RESOURCES = Key(
    "allow-cross-namespace-resources",
    boolean,
    "Whether annotations may name objects of other namespaces.",
    "true",
    default=False,
)
FEATURE = Feature(
    read=lambda notes: notes.key(ALLOW_CROSS_NAMESPACE_RESOURCES) or None, keys=(ALLOW_CROSS_NAMESPACE_RESOURCES,), by_reference=bool
)
