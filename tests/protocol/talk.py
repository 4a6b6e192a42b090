"""A Session and its Snapshot in a shorthand for tests: `cds a=1 b=1 -c` is a CDS response with two clusters and a removal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.protocol.subscription import FULL_STATE
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Reference, Resource, Snapshot

KINDS = {"cds": CLUSTER, "eds": ENDPOINT, "lds": LISTENER, "rds": ROUTE, "sds": SECRET}
SHORT = {type_url: kind for kind, type_url in KINDS.items()}


def resource(text: str) -> Resource:
    """`web=1>rds:web,sds:s@2`: named web, with the body 1; it refers to routes, and to a secret in the manner 2."""
    text, _, refers = text.partition(">")
    name, _, body = text.partition("=")
    found = []
    for reference in filter(None, refers.split(",")):
        kind, _, target = reference.partition(":")
        target, _, how = target.partition("@")
        found.append(Reference(KINDS[kind], target, how))
    return Resource.of(name, body.encode(), found)


def shorthand(responses: Iterable[DiscoveryResponse]) -> list[str]:
    return [
        " ".join([SHORT[r.type_url], *(f"{x.name}={x.body.decode()}" for x in r.resources), *(f"-{n}" for n in r.removed)])
        for r in responses
    ]


class Talk:
    """Remembers the last nonce of each type, and on the old wire the names asked for, so that an answer need not repeat them."""

    def __init__(
        self, wire: Wire, *, ordered: bool = True, legacy_wildcards: Iterable[str] = FULL_STATE, snapshot: Snapshot | None = None
    ) -> None:
        self.wire = wire
        self.snapshot = snapshot or Snapshot()
        self.session = Session(wire, self.snapshot, ordered=ordered, legacy_wildcards=tuple(legacy_wildcards))
        self.now = 0.0
        self.nonces: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self.last: dict[str, list[str]] = {}

    def put(self, **kinds: str) -> None:
        """This and nothing else is in the Snapshot now."""
        for kind, type_url in KINDS.items():
            found = [resource(text) for text in kinds.get(kind, "").split()]
            self.snapshot[type_url].update(found, set(self.snapshot[type_url]) - {r.name for r in found})
        self.snapshot.ready = True

    def publish(self, **kinds: str) -> list[str]:
        self.put(**kinds)
        return self.record(self.session.publish(self.now))

    def ask(self, kind: str, *names: str, nonce: str | None = None, error: str | None = None, version: str = "") -> list[str]:
        """State of the world: these names, with the last nonce unless another one is given."""
        self.names[kind] = names
        nonce = self.nonces.get(kind, "") if nonce is None else nonce
        return self.record(self.session.receive(DiscoveryRequest(KINDS[kind], nonce, error, names=names, version=version), self.now))

    def sub(self, kind: str, *names: str, un: Iterable[str] = (), held: Mapping[str, str] | None = None, nonce: str = "") -> list[str]:
        """Delta: these names more, those fewer."""
        request = DiscoveryRequest(KINDS[kind], nonce, subscribe=names, unsubscribe=tuple(un), initial_versions=held or {})
        return self.record(self.session.receive(request, self.now))

    def ack(self, kind: str, error: str | None = None) -> list[str]:
        """Accepts the last response of this type, or rejects it."""
        if self.wire is Wire.SOTW:
            return self.ask(kind, *self.names.get(kind, ()), error=error)
        return self.record(self.session.receive(DiscoveryRequest(KINDS[kind], self.nonces[kind], error), self.now))

    def ack_of(self, kind: str, nonce: str, error: str | None = None) -> list[str]:
        """Delta: accepts or rejects the response with this nonce."""
        return self.record(self.session.receive(DiscoveryRequest(KINDS[kind], nonce, error), self.now))

    def nack(self, kind: str, error: str = "no") -> list[str]:
        return self.ack(kind, error)

    def passes(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.record(self.session.expire(self.now))

    def agree(self) -> list[str]:
        """Accepts all there is, until nothing more comes; returns what came."""
        came: list[str] = []
        while pending := [(kind, nonce) for kind in KINDS for nonce in self.in_flight(kind)]:
            for kind, nonce in pending:
                names = self.names.get(kind, ())
                request = DiscoveryRequest(KINDS[kind], nonce, names=names if self.wire is Wire.SOTW else ())
                came += self.record(self.session.receive(request, self.now))
        return came

    def in_flight(self, kind: str) -> tuple[str, ...]:
        """The nonces of the responses of this type that await an answer."""
        status = self.session.summaries.get(KINDS[kind])
        return status.nonces if status else ()

    def version(self, kind: str, name: str) -> str:
        return self.snapshot[KINDS[kind]][name].version

    def record(self, responses: list[DiscoveryResponse]) -> list[str]:
        self.last |= {kind: shorthand(r for r in responses if SHORT[r.type_url] == kind) for kind in {SHORT[r.type_url] for r in responses}}
        for response in responses:
            self.nonces[SHORT[response.type_url]] = response.nonce
            self.versions[SHORT[response.type_url]] = response.version
        return shorthand(responses)
