"""The listeners for HTTP: the plain one, and the one for TLS with a filter chain for each certificate."""

from __future__ import annotations

from collections.abc import Collection

from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds.render import listeners, names
from xds.snapshot import LISTENER, ROUTE, SECRET, Part, Reference, Resource
from xds.translate.certificates import DEFAULT
from xds.units import units
from xds.units.memo import Build
from xds.units.parts import Chain, Value
from xds.units.tables.holds import Holds
from xds.units.tables.table import Single, Table, Touched, publish
from xds.units.tables.update import Update

_ROUTES = Reference(ROUTE, names.ROUTES)
_HTTPS = Part(LISTENER, names.HTTPS)


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


class HttpsListener:
    """The TLS listener, the filter chains that hosts lead to, and the certificates of these.

    A chain is there while a host wants it and its certificate exists: else clients of its hosts get the default certificate.
    """

    def __init__(self, build: Build, holds: Holds) -> None:
        self.secrets: Table[str, bytes] = Table(build, units.secret, SECRET, lambda name: Part(SECRET, name), holds)
        self._holds = holds
        self._bare: Single[Listener] = Single(build, units.https_listener, _HTTPS, holds)
        self._hosts: dict[str, dict[str, None]] = {}  # certificate → hosts that are to be served under it
        self._chains: dict[str, Chain] = {}
        self._bodies: dict[str, bytes] = {}
        self._due: set[str] = set()  # certificates whose chains may be out of date
        self.secrets.want([DEFAULT])

    def serve(self, host: str, old: str, new: str) -> None:
        """A host is to be served under the certificate `new`, no longer under `old`; "" is the default one, whose chain is always there."""
        if old == new:
            return
        if old:
            del self._hosts[old][host]
            if not self._hosts[old]:
                del self._hosts[old]
                self.secrets.want((), [old])
        if new:
            if new not in self._hosts:
                self._hosts[new] = {}
                self.secrets.want([new])
            self._hosts[new][host] = None
        self._due |= {old, new} - {""}

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self.secrets.look_again(parts)
        self._bare.look_again(parts)
        self._due |= {part.piece for part in parts if part[:2] == _HTTPS[:2] and part.piece is not None}

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring certificates, chains and listener up to date."""
        self._due |= {name for name, there in publish(self.secrets, touched, update) if there != (name in self._bodies)}
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
        chains = {p: self._chains[p.piece] for p in parts if p[:2] == _HTTPS[:2] and p.piece is not None and p.piece in self._chains}
        return {**chains, **self._bare.among(parts), **self.secrets.among(parts)}

    def _publish(self, bare: Listener, update: Update) -> None:
        for certificate in sorted(self._due):
            self._refresh_chain(certificate, bare, update)
        self._due.clear()
        body = listeners.https_bytes(bare, self._bodies, self._served_under())
        refers = [_ROUTES, Reference(SECRET, DEFAULT), *(Reference(SECRET, name) for name in sorted(self._bodies))]
        update.add(LISTENER, names.HTTPS, Resource.of(names.HTTPS, body, refers))

    def _refresh_chain(self, certificate: str, bare: Listener, update: Update) -> None:
        part = _HTTPS._replace(piece=certificate)
        old, hosts = self._chains.get(certificate), self._hosts.get(certificate)
        there = certificate in self.secrets.values
        new = self._holds.effective(part, Chain(tuple(sorted(hosts))) if hosts and there else None)
        if new is None:
            self._chains.pop(certificate, None)
            self._bodies.pop(certificate, None)
        else:
            self._chains[certificate] = new
            self._bodies[certificate] = listeners.chain_bytes(certificate, bare)
        if old != new:
            update.move(part, old, new)

    def _served_under(self) -> dict[str, str]:
        """Host → certificate. Where a held Part still has a host that is served under another one by now, that one has it."""
        found: dict[str, str] = {}
        for certificate in sorted(self._chains):
            now = self._hosts.get(certificate, {})
            for host in self._chains[certificate].hosts:
                if host in now or host not in found:
                    found[host] = certificate
        return found
