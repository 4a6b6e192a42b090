"""service-upstream: requests go to the Service's own address instead of its endpoints."""

from __future__ import annotations

from xds.nginx.feature import Annotation, Feature, Scope, with_key
from xds.nginx.values import boolean

SERVICE_UPSTREAM = with_key(
    Annotation(
        "service-upstream",
        boolean,
        "Whether requests go to the cluster IP of the Service, so that kube-proxy chooses the endpoint.",
        "true",
        default=False,
        scope=Scope.UPSTREAM,
    )
)
FEATURE = Feature(read=lambda notes: notes.get(SERVICE_UPSTREAM), annotations=(SERVICE_UPSTREAM,), cluster=True, by_address=bool)
