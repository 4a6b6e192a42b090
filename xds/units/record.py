"""What must outlive a restart besides the objects (decision 1), as bytes: what is held because Envoy rejected it, and what is kept.

Kept are the last valid certificates and Ingresses of objects that are invalid now (`xds.units.kept`).

What does not belong here: where the bytes are stored. They contain private keys, so it must be a place for those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds import model
from xds.kube.objects import Ingress
from xds.nginx.feature import Notes
from xds.nginx.registry import features
from xds.problem import Ref
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET, Part
from xds.units.parts import Chain, Entry, Frame, Held, Host, Value, content, host_digest

_TYPES: Mapping[str, str] = {
    "cluster": CLUSTER,
    "endpoints": ENDPOINT,
    "listener": LISTENER,
    "route": ROUTE,
    "secret": SECRET,
    "passwords": PASSWORDS,
}
_WORDS: Mapping[str, str] = {type_url: word for word, type_url in _TYPES.items()}
_VERSION = 1
_LONGEST_WORDS = 2_000
MOST_OF_FORMS = 200_000
"""Bytes of the record that forms of Ingresses may take: it must fit into a Secret, with all that Envoy rejects."""
_OTHER = "it was written by another version"


class Certificate(msgspec.Struct, frozen=True):
    """The last valid certificate of a Secret that is invalid now: PEM chain and PEM key."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificate(…)"


class LastForm(msgspec.Struct, frozen=True):
    """The last valid form of an Ingress that is refused now. `form` has no uid and no version, which are these."""

    uid: str
    version: str
    form: Ingress


class RecordedState(NamedTuple):
    """What is held; contents (digests) that are not, because one Envoy has accepted what another one rejected; what is kept.

    Certificates are by namespace/name of their Secret, forms by that of their Ingress.
    """

    held: Mapping[Part, Held]
    good: Mapping[Part, str]
    certificates: Mapping[str, Certificate]
    forms: Mapping[str, LastForm]


class RecordedCluster(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `model.Cluster` with its policy as plain JSON."""

    namespace: str
    service: str
    port: int
    policy: tuple[tuple[str, Any], ...] = ()
    protocol: str = "TCP"
    send_proxy: bool = False
    external: bool = False
    asked_by: Ref | None = None
    by_address: bool = False
    host: str = ""
    aside: bool = False


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Part. `good`: it is not held, because one Envoy has accepted what another one rejected.

    With `there`, `body` is what is published instead, `after` the second half of a Frame, and `clusters` those that it needs. `along` has
    the names of the clusters with which it is held along.
    """

    type: str
    resource: str
    refused: str
    piece: str | None = None
    words: str = ""
    causes: tuple[Ref, ...] = ()
    good: bool = False
    there: bool = False
    body: bytes = b""
    after: bytes = b""
    clusters: tuple[RecordedCluster, ...] = ()
    hosts: tuple[str, ...] = ()
    along: tuple[str, ...] = ()
    passwords: tuple[model.Passwords, ...] = ()
    sharing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Line({self.type} {self.resource} {self.piece})"

    @property
    def part(self) -> Part:
        """The Part that the line is about."""
        return Part(_TYPES[self.type], self.resource, self.piece)


class _Stamp(msgspec.Struct, frozen=True):
    """What a record of every version has."""

    version: int


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole record."""

    version: int
    lines: tuple[Line, ...] = ()
    certificates: dict[str, Certificate] = {}
    forms: dict[str, msgspec.Raw] = {}


def encode(
    held: Mapping[Part, Held],
    good: Mapping[Part, str],
    certificates: Mapping[str, tuple[bytes, bytes]],
    forms: Mapping[str, msgspec.Raw] | None = None,
) -> bytes:
    """The record as JSON; equal arguments give equal bytes. `forms` are those of `affordable`."""
    lines = [_line(part, one) for part, one in held.items()]
    lines += [Line(_WORDS[part.type_url], part.resource, refused, part.piece, good=True) for part, refused in good.items()]
    lines.sort(key=lambda line: (line.type, line.resource, line.piece is not None, line.piece or "", line.good))
    kept = {name: Certificate(*pair) for name, pair in sorted(certificates.items())}
    return msgspec.json.encode(Record(_VERSION, tuple(lines), kept, dict(forms or {})))


def decode(body: bytes) -> RecordedState:
    """The content of a record. Raises ValueError where it is none of ours, or of a later version; the text quotes nothing of it."""
    try:
        if msgspec.json.decode(body, type=_Stamp).version != _VERSION:  # first, for the rest of it may have another shape
            raise ValueError(_OTHER)
        found = msgspec.json.decode(body, type=Record)
    except (msgspec.MsgspecError, UnicodeError):
        raise ValueError("it is no record of this program") from None
    if any(line.type not in _TYPES for line in found.lines):
        raise ValueError(_OTHER)
    held = {line.part: _held(line) for line in found.lines if not line.good}
    good = {line.part: line.refused for line in found.lines if line.good}
    return RecordedState(held, good, found.certificates, dict(_forms(found.forms)))


def affordable(forms: Mapping[str, LastForm]) -> dict[str, msgspec.Raw]:
    """As many forms as MOST_OF_FORMS allows, as JSON: the shortest first, so that no large Ingress takes the place of many others."""
    found: dict[str, msgspec.Raw] = {}
    left = MOST_OF_FORMS
    for size, name, body in sorted((len(body), name, body) for name, form in forms.items() for body in [msgspec.json.encode(form)]):
        left -= size
        if left < 0:
            break
        found[name] = msgspec.Raw(body)
    return dict(sorted(found.items()))


def _forms(found: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, LastForm]]:
    """Those that can be read: another version may know Ingresses of another shape, and without its form an Ingress is left out."""
    for name, body in found.items():
        with contextlib.suppress(msgspec.MsgspecError):
            yield name, msgspec.json.decode(body, type=LastForm)


def _held(line: Line) -> Held:
    along = frozenset(Part(CLUSTER, name) for name in line.along)
    return Held(line.refused, _value(line), line.words, causes=line.causes, along=along)


def _line(part: Part, held: Held) -> Line:
    fields: dict[str, Any] = {}
    match held.instead:
        case None:
            pass
        case Host() as host:
            ordered = sorted(host.clusters, key=lambda c: (names.cluster(c), repr(c)))
            needed = tuple(sorted(host.passwords, key=names.passwords))
            fields = {"body": host.body, "clusters": tuple(map(_plain, ordered)), "passwords": needed}
            fields["sharing"] = tuple(sorted(host.sharing))
        case Entry() as entry:
            fields = {"body": entry.body, "clusters": (_plain(entry.cluster),)}
        case Frame() as frame:
            fields = {"body": frame.before, "after": frame.after}
        case Chain() as chain:
            fields = {"hosts": chain.hosts}
        case value:
            fields = {"body": content(value)}
    if held.along:
        fields["along"] = tuple(sorted(part.resource for part in held.along))
    words = held.words[:_LONGEST_WORDS]
    there = held.instead is not None
    return Line(_WORDS[part.type_url], part.resource, held.refused, part.piece, words, held.causes, there=there, **fields)


def _value(line: Line) -> Value | None:
    """What is published instead: a value of the kind that Parts of this type and name have."""
    if not line.there:
        return None
    try:
        match line.type, line.resource, line.piece:
            case "route", _, None:
                return Frame(line.body, line.after)
            case "route", _, _:
                clusters = frozenset(map(_cluster, line.clusters))
                known = features().keys() & set(line.sharing)
                passwords = frozenset(line.passwords)
                return Host(line.body, host_digest(line.body), clusters, model.Terminate(), passwords, frozenset(known))
            case "listener", names.HTTPS, None:
                bare = Listener.parse(line.body)
                assert bare.filter_chains[0].filters, "the other chains are made after the first one"
                return bare
            case "listener", names.HTTPS, _:
                return Chain(line.hosts)
            case "listener", resource, _ if resource != names.HTTP:
                return Entry(line.body, _cluster(line.clusters[0]))
    except Exception:  # noqa: BLE001 - whatever the decoders raise, the record is none of ours
        raise ValueError(_OTHER) from None
    return line.body


def _plain(cluster: model.Cluster) -> RecordedCluster:
    policy = tuple((name, msgspec.to_builtins(value)) for name, value in cluster.policy)
    rest = cluster.protocol, cluster.send_proxy, cluster.external, cluster.asked_by, cluster.by_address, cluster.host, cluster.aside
    return RecordedCluster(cluster.namespace, cluster.service, cluster.port, policy, *rest)


def _cluster(plain: RecordedCluster) -> model.Cluster:
    policy = tuple((name, _setting(name, value)) for name, value in plain.policy)
    rest = plain.protocol, plain.send_proxy, plain.external, plain.asked_by, plain.by_address, plain.host, plain.aside
    return model.Cluster(plain.namespace, plain.service, plain.port, policy, *rest)


def _setting(name: str, value: Any) -> Any:
    """A setting of a feature from plain JSON: its type is that of the setting that the feature reads from its annotations' examples.

    What a feature puts into the policy of a cluster that it wants besides is text, and so is the setting of one without annotations.
    """
    feature = features()[name]
    if feature.clusters is not None or not feature.annotations:
        return value
    example = feature.read(Notes({annotation.name: annotation.example for annotation in feature.annotations}, {}))
    return None if value is None else msgspec.convert(value, type(example))
