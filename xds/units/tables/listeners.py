"""The listeners for HTTP: the plain one, and the one for TLS with a filter chain for each certificate and each passthrough."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds.model import Cluster, HostTls, Passthrough, Terminate
from xds.nginx.messages import authority
from xds.render import listeners, names
from xds.snapshot import LISTENER, ROUTE, SECRET, Part, Reference, Resource
from xds.translate.certificates import DEFAULT
from xds.units import units
from xds.units.memo import Build
from xds.units.parts import Chain, Value
from xds.units.tables.backends import Backends
from xds.units.tables.holds import Holds
from xds.units.tables.table import Single, Table, Touched, publish
from xds.units.tables.update import Update

_ROUTES = Reference(ROUTE, names.ROUTES)
_HTTPS = Part(LISTENER, names.HTTPS)
_DEFAULT = Terminate()
"""Its chain is always there, and is that of every name which no other chain has."""


class HttpListener:
    """The plain listener."""

    def __init__(self, build: Build, holds: Holds) -> None:
        self._whole: Single[bytes] = Single(build, units.http_listener, Part(LISTENER, names.HTTP), holds)

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self._whole.look_again(parts)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring it up to date."""
        if self._whole.is_due(touched):
            body = self._whole.refresh(update)
            if body is not None:
                update.add(LISTENER, names.HTTP, Resource.of(names.HTTP, body, [_ROUTES]))

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        return {**self._whole.among(parts)}


class _Drawn(NamedTuple):
    """A filter chain as it is in the listener, with its name."""

    name: str
    chain: Chain
    pieces: tuple[bytes, ...]


class HttpsListener:
    """The TLS listener: the filter chains that hosts lead to, the certificates of those in which TLS ends, the clusters of the others.

    The chain of a certificate is there while a host wants it and its Secret holds one: else clients get the default certificate.
    Where TLS passes through, and the chain is not there, connections are closed: they are not for us to read.
    """

    def __init__(self, build: Build, holds: Holds, backends: Backends) -> None:
        self.secrets: Table[str, bytes] = Table(build, units.secret, SECRET, lambda name: Part(SECRET, name), holds)
        self._holds = holds
        self._backends = backends
        self._bare: Single[Listener] = Single(build, units.https_listener, _HTTPS, holds)
        self._hosts: dict[HostTls, dict[str, None]] = {}  # where TLS ends → the hosts of which it does; without the default chain
        self._catch_all: HostTls | None = None  # where TLS for no host of ours ends
        self._plain: dict[str, None] = {}  # the hosts with a name whose TLS ends in the default chain
        self._by_secret: dict[str, set[HostTls]] = {}  # SDS secret → where TLS ends that needs it
        self._drawn: dict[HostTls, _Drawn] = {}
        self._due: set[HostTls] = set()  # those whose chains may be out of date
        self.secrets.want([DEFAULT])

    def serve(self, host: str, old: HostTls | None, new: HostTls | None) -> None:
        """TLS of a host ends at `new` from now on, and no longer at `old`; None where there is no such host."""
        if old == new:
            return
        if not host:
            self._catch_all = new
        if host and _DEFAULT in (old, new):
            if new == _DEFAULT:
                self._plain[host] = None
            else:
                self._plain.pop(host, None)
            if self._names_all():
                self._due.add(_DEFAULT)
        if old is not None and old != _DEFAULT:
            del self._hosts[old][host]
            if not self._hosts[old]:
                del self._hosts[old]
                self._want(old, wanted=False)
            self._due.add(old)
        if new is not None and new != _DEFAULT:
            if new not in self._hosts:
                self._hosts[new] = {}
                self._want(new, wanted=True)
            self._hosts[new][host] = None
            self._due.add(new)

    def _names_all(self) -> bool:
        """Whether each host has to be named, because other names do not lead to the default chain."""
        return _refuses(self._bare.value) or self._catch_all not in (None, _DEFAULT)

    def _want(self, tls: HostTls, *, wanted: bool) -> None:
        """What a chain needs besides itself: a certificate, or a cluster."""
        if isinstance(tls, Terminate):
            needed = _secrets(tls)
            self.secrets.want(needed if wanted else (), () if wanted else needed)
            for name in needed:
                users = self._by_secret.setdefault(name, set())
                (users.add if wanted else users.discard)(tls)
                if not users:
                    del self._by_secret[name]
        elif tls.cluster is not None:
            self._backends.want([tls.cluster] if wanted else (), () if wanted else [tls.cluster])

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self.secrets.look_again(parts)
        self._bare.look_again(parts)
        pieces = {part for part in parts if part[:2] == _HTTPS[:2] and part.piece is not None}
        known = {part: tls for tls in (*self._hosts, *self._drawn) if (part := _part(tls)) in pieces} if pieces else {}
        self._due |= {*known.values()}
        for part in pieces - known.keys():
            self._holds.effective(part, None)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring certificates, chains and listener up to date."""
        for name, _there in publish(self.secrets, touched, update):
            self._due |= {tls for tls in self._by_secret.get(name, ()) if self._is_there(tls) != (tls in self._drawn)}
        bare = self._bare.value
        if self._bare.is_due(touched):
            bare = self._bare.refresh(update)
            self._due |= self._hosts.keys()
        elif not self._due:
            return
        if bare is not None:
            self._publish(bare, update)

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        pieces = {part for part in parts if part[:2] == _HTTPS[:2] and part.piece is not None}
        chains = {part: drawn.chain for tls, drawn in self._drawn.items() if (part := _part(tls)) in pieces} if pieces else {}
        return {**chains, **self._bare.among(parts), **self.secrets.among(parts)}

    def passed_to(self, clusters: Collection[Cluster]) -> set[str]:
        """The hosts of which TLS passes through to one of these clusters. Costs what there is."""
        passing = (tls for tls in self._hosts if isinstance(tls, Passthrough) and tls.cluster in clusters)
        return {host for tls in passing for host in self._hosts[tls]}

    def _publish(self, bare: Listener, update: Update) -> None:
        for tls in sorted(self._due, key=names.chain):
            self._refresh_chain(tls, bare, update)
        self._due.clear()
        chains = {drawn.name: drawn.pieces for drawn in self._drawn.values()}
        secrets = sorted({name for tls in self._drawn if isinstance(tls, Terminate) for name in _secrets(tls)} - {DEFAULT})
        refers = [_ROUTES, Reference(SECRET, DEFAULT), *(Reference(SECRET, name) for name in secrets)]
        body = listeners.https_bytes(bare, chains, self._leads_to())
        update.add(LISTENER, names.HTTPS, Resource.of(names.HTTPS, body, refers))

    def _refresh_chain(self, tls: HostTls, bare: Listener, update: Update) -> None:
        part, before, hosts = _part(tls), self._drawn.get(tls), self._hosts.get(tls)
        old = before.chain if before else None
        new = self._holds.effective(part, Chain(tuple(sorted(hosts))) if hosts and self._is_there(tls) else None)
        if new is None:
            self._drawn.pop(tls, None)
        else:
            self._drawn[tls] = _Drawn(names.chain(tls), new, listeners.chain_pieces(tls, bare))
        if old != new:
            update.move(part, old, new)

    def _is_there(self, tls: HostTls) -> bool:
        """Whether all that a chain names is there."""
        return isinstance(tls, Passthrough) or all(name in self.secrets.values for name in _secrets(tls))

    def _leads_to(self) -> dict[str, str]:
        """Host → filter chain. Where a held Part still has a host that leads to another one by now, it leads to that one.

        A host of which TLS passes through leads to that chain also where there is none: Envoy closes its connections then. Hosts of the
        default chain are named only where other names do not lead there.
        """
        found: dict[str, str] = {}
        for tls, drawn in sorted(self._drawn.items(), key=lambda pair: pair[1].name):
            now = self._hosts.get(tls, {})
            for host in drawn.chain.hosts:
                if host in now or host not in found:
                    found[host] = drawn.name
        found |= {host: names.chain(tls) for tls, hosts in self._hosts.items() if isinstance(tls, Passthrough) for host in hosts}
        return {**dict.fromkeys(self._plain, DEFAULT), **found} if self._names_all() else found


def _part(tls: HostTls) -> Part:
    return _HTTPS._replace(piece=names.chain(tls))


def _secrets(tls: Terminate) -> list[str]:
    """The SDS secrets that a chain in which TLS ends needs."""
    return [tls.certificate or DEFAULT, *([authority(tls.authority.secret)] if tls.authority else [])]


def _refuses(bare: Listener | None) -> bool:
    return bare is not None and listeners.rejects_unnamed(bare)
