"""Resources in the JSON form of protobuf, for people to read and for an Envoy that runs without a management server.

Works on JSON values, in which `Any` is opened up. What does not belong here: YAML and files (`xds.cli`), the bootstrap
(`xds.render.bootstrap`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from envoy_data_plane.message_pool import default_message_pool

Json = dict[str, Any]

REDACTED = {"inline_string": "[redacted]"}
_CERTIFICATES = "tls_certificate_sds_secret_configs"


def as_json(type_url: str, body: bytes) -> Json:
    """A resource with proto field names; equal bytes give equal values. Raises KeyError for a type that nothing here renders."""
    # betterproto2's own casing would turn some names into others than the .proto files have.
    as_declared: Any = str
    found: Json = default_message_pool.url_to_type[type_url].parse(body).to_dict(casing=as_declared)
    return found


def shown_secret(secret: Json) -> Json:
    """An SDS secret for people: the chain as PEM, and no key."""
    return {"name": secret["name"], "tls_certificate": _readable(secret["tls_certificate"]) | {"private_key": REDACTED}}


def static_resources(
    listeners: Mapping[str, Json],
    routes: Mapping[str, Json],
    clusters: Mapping[str, Json],
    endpoints: Mapping[str, Json],
    secrets: Mapping[str, Json],
) -> Json:
    """The `static_resources` of a bootstrap: the same resources, but what they only name is written out in them. It holds private keys.

    Each argument is name → resource. All listeners share one value for their routes, so that YAML can write it once.
    """

    def inline(message: Json) -> Json:
        made = dict(message)
        if "rds" in made:
            made["route_config"] = routes[made.pop("rds")["route_config_name"]]
        if _CERTIFICATES in made:
            made["tls_certificates"] = [_readable(secrets[named["name"]]["tls_certificate"]) for named in made.pop(_CERTIFICATES)]
        return made

    return {
        "listeners": [_everywhere(listeners[name], inline) for name in sorted(listeners)],
        "clusters": [_static_cluster(clusters[name], endpoints) for name in sorted(clusters)],
    }


def _static_cluster(cluster: Json, endpoints: Mapping[str, Json]) -> Json:
    """Endpoints that came by EDS stand in the cluster; one whose endpoints the DNS knows has them already."""
    if "eds_cluster_config" not in cluster:
        return cluster
    made = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    return made | {"type": "STATIC", "load_assignment": endpoints[cluster["name"]]}


def _readable(certificate: Json) -> Json:
    """PEM is text: as such Envoy takes it as well, and people can read it."""
    return {key: {"inline_string": base64.b64decode(source["inline_bytes"]).decode()} for key, source in certificate.items()}


def _everywhere(value: Any, change: Callable[[Json], Json]) -> Any:
    """A copy in which every message went through `change`, from the inside to the outside; what `change` puts in is not copied."""
    if isinstance(value, dict):
        return change({key: _everywhere(inner, change) for key, inner in value.items()})
    if isinstance(value, list):
        return [_everywhere(inner, change) for inner in value]
    return value
