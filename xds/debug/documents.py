"""The JSON documents that `xds status` and `xds history` print, and that the dashboard shows: from the messages of the debug service.

docs/schemas describes them. What does not belong here: asking for the messages, and words for people.
"""

from __future__ import annotations

from datetime import UTC, datetime

from xds.debug import v1
from xds.json_forms import Json, object_json
from xds.passwords import AUTHZ_NODE
from xds.problem import Ref
from xds.server.metrics import SHORT

STATUS_VERSION = 1
"""Of the forms of `xds status`; docs/schemas/status.schema.json and status-object.schema.json describe them."""
HISTORY_VERSION = 1
"""Of the form of `xds history`; docs/schemas/history.schema.json describes it."""
_WIRES = {v1.Wire.STATE_OF_THE_WORLD: "sotw", v1.Wire.DELTA: "delta"}
_VERBS = {v1.Verb.ADDED: "added", v1.Verb.CHANGED: "changed", v1.Verb.REMOVED: "removed"}


def short(type_url: str) -> str:
    """What operators call the service of a type: cds, eds, …"""
    return SHORT.get(type_url, type_url)


def ref_of(found: v1.ObjectReference | None) -> Ref:
    """The object that a message names."""
    return Ref(found.kind, found.namespace, found.name) if found else Ref("", "", "")


def fleet_document(fleet: v1.FleetResponse) -> Json:
    """What one replica knows of itself and of the Envoys that are connected to it."""
    return {
        "version": STATUS_VERSION,
        "replica": fleet.replica,
        "xds": fleet.version,
        "ready": fleet.ready,
        "waiting": list(fleet.waiting),
        "staleness_seconds": {kind: fleet.staleness_seconds[kind] for kind in sorted(fleet.staleness_seconds)},
        "published": [{"type": short(p.type_url), "resources": p.resources, "version": p.version} for p in fleet.published],
        "envoys": _pairs([_envoy(envoy) for envoy in fleet.envoys]),
    }


def _pairs(envoys: list[Json]) -> list[Json]:
    """Each Envoy with the authorisation service beside it. A service without its Envoy stands by itself, as does a second one of its name:
    nobody gets password files unseen."""
    services = [envoy for envoy in envoys if envoy["node"].endswith(AUTHZ_NODE)]
    beside = {service["node"]: service for service in reversed(services)}
    paired = [envoy | {"authz": beside.get(envoy["node"] + AUTHZ_NODE)} for envoy in envoys if not envoy["node"].endswith(AUTHZ_NODE)]
    known = {id(envoy["authz"]) for envoy in paired}
    return paired + [service | {"authz": None} for service in services if id(service) not in known]


def with_beside(envoy: Json) -> list[Json]:
    """An Envoy and its authorisation service, if there is one."""
    return [envoy, *([envoy["authz"]] if envoy["authz"] else [])]


def _envoy(envoy: v1.Envoy) -> Json:
    return {
        "node": envoy.node_id,
        "cluster": envoy.cluster,
        "agent": envoy.user_agent,
        "peer": envoy.peer,
        "wire": _WIRES.get(envoy.wire, "unknown"),
        "since": _time(envoy.connected_since),
        "only": short(envoy.only_type_url) or None,
        "types": [_envoy_type(found) for found in envoy.types],
    }


def _envoy_type(found: v1.EnvoyType) -> Json:
    rejection = {"resources": list(found.rejection.resources), "error": found.rejection.error} if found.rejection else None
    return {
        "type": short(found.type_url),
        "accepted": found.accepted_version,
        "in_flight": len(found.nonces_in_flight),
        "wildcard": found.wildcard,
        "names": found.names,
        "in_sync": found.in_sync,
        "rejection": rejection,
    }


def _time(when: datetime | None) -> str | None:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if when else None


def programmed_document(found: v1.ProgrammedResponse) -> Json:
    """On how many Envoys an object is in effect, without its resources."""
    return {
        "object": object_json(ref_of(found.object)),
        "entry": found.entry or None,
        "resource_version": found.resource_version,
        "content_hash": found.content_hash,
        "programmed": found.programmed,
        "accepted": found.accepted,
        "envoys": found.envoys,
        "waiting": list(found.waiting_node_ids),
        "rejections": [{"node": r.node_id, "type": short(r.type_url), "error": r.error} for r in found.rejections],
        "held": found.held or None,
    }


def history_document(found: v1.HistoryResponse) -> Json:
    """The last changes, newest first."""
    return {"version": HISTORY_VERSION, "changes": [_change(change) for change in found.changes]}


def _change(change: v1.Change) -> Json:
    return {
        "number": change.number,
        "time": change.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if change.time else None,
        "causes": [
            {"object": object_json(ref_of(c.object)), "resource_version": c.resource_version, "verb": _VERBS.get(c.verb, "unknown")}
            for c in change.causes
        ],
        "causes_total": change.causes_total,
        "resources": [{"type": short(r.type_url), "names": list(r.names), "total": r.total} for r in change.resources],
        "build_milliseconds": round(change.build_milliseconds, 3),
        "accepted_milliseconds": None if change.accepted_milliseconds is None else round(change.accepted_milliseconds, 3),
        "waiting": change.waiting,
        "rejections": [{"node": r.node_id, "type": short(r.type_url), "error": r.error} for r in change.rejections],
        "rejections_total": change.rejections_total,
    }
