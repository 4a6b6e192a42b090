"""The values of what Envoy can reject by itself (a Part), and what is held in its place.

A *held* Part is one whose present content Envoy has rejected. The Snapshot has what Envoy accepted before in its place, or nothing.
Contents are compared by digests, so that a hold ends as soon as a changed object changes the content (decisions 1 and 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds import model
from xds.problem import Ref
from xds.render import names
from xds.snapshot import CLUSTER, Part
from xds.wire.encode import encode


@dataclass(frozen=True, slots=True)
class Host:
    """A virtual host of the route table, and the resources that it needs.

    `body` is the field of the RouteConfiguration with its tag, `digest` a 128-bit hash of it; `tls` is where TLS of the host ends.
    `passwords` are the files that its routes name to the authorisation service, `sharing` the features that need something in the route
    table for them.
    """

    body: bytes
    digest: int
    clusters: frozenset[model.Cluster]
    tls: model.HostTls
    passwords: frozenset[model.Passwords] = frozenset()
    sharing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Frame:
    """A RouteConfiguration without its virtual hosts: the bytes before them, and those after."""

    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """The listener of a stream ConfigMap's entry, the cluster that its bytes name, and other clusters that are to exist for it."""

    body: bytes
    cluster: model.Cluster
    others: frozenset[model.Cluster] = frozenset()

    @property
    def clusters(self) -> frozenset[model.Cluster]:
        """All that are to exist."""
        return self.others | {self.cluster}


@dataclass(frozen=True, slots=True)
class Chain:
    """A filter chain of the https listener, of a certificate or a passthrough: the hosts (SNI) that are matched to it, sorted.

    They are part of the listener's matcher, not of the chain, so that the chain does not change with them.
    """

    hosts: tuple[str, ...]


Value = Host | Frame | Entry | Chain | Listener | bytes
"""The content of a Part. The https listener without its chains is a message, because chains are rendered from it."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why a Part is not what its objects ask for: `refused` is the digest of that content, `instead` what is published (None: nothing).

    `proven` is false while the culprit is being searched for among several Parts; `words` are Envoy's own. A Part that Envoy does not
    reject itself is held *along* with clusters that it names and that are left out: as long as they are, whatever else changes.
    """

    refused: str
    instead: Value | None = field(repr=False)  # it may be a private key
    words: str
    proven: bool = True
    causes: tuple[Ref, ...] = ()
    along: frozenset[Part] = frozenset()


@dataclass(frozen=True, slots=True)
class Move:
    """The content of a Part in the Snapshot has changed; None stands for no such Part."""

    old: Value | None = field(repr=False)
    new: Value | None = field(repr=False)


class Raw(NamedTuple):
    """For tests of what Envoy rejects: where the bytes of a Part contain `marker`, Envoy is sent `body`."""

    type_url: str
    marker: bytes
    body: bytes


def digest(value: Value | None) -> str:
    """A hash of the content, the same in any process; "" for nothing. What a Host needs besides its bytes is not part of it."""
    if value is None:
        return ""
    if isinstance(value, Host):
        return f"{value.digest:032x}"
    return hashlib.blake2b(content(value), digest_size=16).hexdigest()


def content(value: Value) -> bytes:
    """The bytes that Envoy receives, or may quote."""
    match value:
        case Host() | Entry():
            return value.body
        case Frame():
            return value.before + value.after
        case Chain():
            return "\n".join(value.hosts).encode()
        case Listener():
            return encode(value)
    return value


def same(one: Value | None, other: Value | None) -> bool:
    """Whether Envoy would be sent the same."""
    if isinstance(one, Host) and isinstance(other, Host):
        return one.digest == other.digest
    return one == other


def stand_in(held: Held, value: Value | None) -> Value | None:
    """What is published in place of a held Part: the content is the one before, the certificate that of now."""
    # What is held along goes on wanting the clusters that are left out, so that they are tried again when they change.
    match held.instead, value:
        case Host() as instead, Host():
            clusters = instead.clusters | value.clusters if held.along else instead.clusters
            return Host(instead.body, instead.digest, clusters, value.tls, instead.passwords, instead.sharing)
        case Entry() as instead, Entry() if held.along:
            return Entry(instead.body, instead.cluster, value.clusters)
    return held.instead


def names_cluster(value: Value | None) -> frozenset[Part]:
    """The clusters, as Parts, that a virtual host or the entry of a stream ConfigMap needs; none for other values."""
    return frozenset(Part(CLUSTER, names.cluster(c)) for c in value.clusters) if isinstance(value, Host | Entry) else frozenset()


def replaced(part: Part, value: Value | None, raws: Iterable[Raw]) -> Value | None:
    """The value, or what a test wants Envoy to be sent in its place; only values with bytes can be replaced."""
    for raw in raws:
        if isinstance(value, Host | Entry | bytes) and raw.type_url == part.type_url and raw.marker in content(value):
            match value:
                case Host():
                    return Host(raw.body, host_digest(raw.body), value.clusters, value.tls, value.passwords, value.sharing)
                case Entry():
                    return Entry(raw.body, value.cluster)
            return raw.body
    return value


def host_digest(body: bytes) -> int:
    """128 bits that stand for the bytes of a virtual host."""
    return int.from_bytes(hashlib.blake2b(body, digest_size=16).digest(), "little")
