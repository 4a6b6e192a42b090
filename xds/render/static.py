"""Resources in protobuf's JSON form, for operators, and for an Envoy that runs without a management server.

Works on JSON values in which every `Any` is unpacked. What does not belong here: YAML and files (`xds.cli`), the bootstrap
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
_AUTHORITY = "validation_context_sds_secret_config"


def as_json(type_url: str, body: bytes) -> Json:
    """A resource with proto field names; equal bytes give equal values. Raises KeyError for a type that is not rendered here.

    An `Any` without a type is `{}`: Envoy takes no JSON in which its type is an empty text.
    """
    # betterproto2's own casing would change some names from those of the .proto files.
    as_declared: Any = str
    found: Json = default_message_pool.url_to_type[type_url].parse(body).to_dict(casing=as_declared)
    empty = {"@type": ""}
    whole: Json = _everywhere(found, lambda message: {} if message == empty else message)
    return whole


def shown_secret(secret: Json) -> Json:
    """An SDS secret for operators: certificates as PEM, the key redacted."""
    if trust := secret.get("validation_context"):
        return {"name": secret["name"], "validation_context": _readable(trust)}
    return {"name": secret["name"], "tls_certificate": _readable(secret["tls_certificate"]) | {"private_key": REDACTED}}


def static_resources(
    listeners: Mapping[str, Json],
    routes: Mapping[str, Json],
    clusters: Mapping[str, Json],
    endpoints: Mapping[str, Json],
    secrets: Mapping[str, Json],
) -> Json:
    """The `static_resources` of a bootstrap: the same resources with all references inlined. It contains private keys.

    Each argument is name → resource. All listeners share one object for their routes, so that YAML can print it once.
    """

    def inline(message: Json) -> Json:
        made = dict(message)
        if "rds" in made:
            made["route_config"] = routes[made.pop("rds")["route_config_name"]]
        if _CERTIFICATES in made:
            made["tls_certificates"] = [_readable(secrets[named["name"]]["tls_certificate"]) for named in made.pop(_CERTIFICATES)]
        if combined := made.pop("combined_validation_context", None):
            signers = secrets[combined[_AUTHORITY]["name"]]["validation_context"]
            made["validation_context"] = combined["default_validation_context"] | _readable(signers)
        return made

    return {
        "listeners": [_everywhere(listeners[name], inline) for name in sorted(listeners)],
        "clusters": [_everywhere(_static_cluster(clusters[name], endpoints), inline) for name in sorted(clusters)],
    }


def _static_cluster(cluster: Json, endpoints: Mapping[str, Json]) -> Json:
    """A cluster with its endpoints inlined; clusters that are not of type EDS stay as they are."""
    if "eds_cluster_config" not in cluster:
        return cluster
    made = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    return made | {"type": "STATIC", "load_assignment": endpoints[cluster["name"]]}


def _readable(certificate: Json) -> Json:
    """A certificate with PEM as text instead of base64; Envoy accepts both."""
    return {key: {"inline_string": base64.b64decode(source["inline_bytes"]).decode()} for key, source in certificate.items()}


def _everywhere(value: Any, change: Callable[[Json], Json]) -> Any:
    """A copy with `change` applied to every message, innermost first; what `change` inserts is not copied."""
    if isinstance(value, dict):
        return change({key: _everywhere(inner, change) for key, inner in value.items()})
    if isinstance(value, list):
        return [_everywhere(inner, change) for inner in value]
    return value
