"""An Envoy without the Envoy: the client half of xDS on one ADS stream, as far as routing needs it, and without IO.

`FakeEnvoy` takes responses and gives requests; it can be put behind any transport. `Link` puts one before a Session, with a queue of
messages each way, so that a test decides what arrives when. Bodies are text, made by `cluster`, `listener` and `route`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.protocol.subscription import FULL_STATE
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, TYPES, Reference, Resource, Snapshot

World = Mapping[str, Mapping[str, bytes]]
"""Type → name → body."""
CHILDREN = (ENDPOINT, ROUTE, SECRET)


def cluster(edition: object, *, dns: bool = False) -> bytes:
    """A cluster; its endpoints have its name, unless DNS finds them."""
    return f"{'dns' if dns else 'eds'};{edition}".encode()


def listener(edition: object, secrets: Iterable[tuple[str, str]] = ()) -> bytes:
    """A listener; its routes have its name, its secrets are named with how they are asked for."""
    return ";".join([str(edition), *(f"{name}@{how}" for name, how in sorted(secrets))]).encode()


def route(edition: object, clusters: Iterable[str] = ()) -> bytes:
    """Routes to some clusters."""
    return ";".join([str(edition), *sorted(clusters)]).encode()


def parts(body: bytes) -> list[str]:
    """What a body names, after its first part."""
    return body.decode().split(";")[1:]


def resource(type_url: str, name: str, body: bytes) -> Resource:
    """As the control plane would publish it: a listener says what it refers to."""
    refers: list[Reference] = []
    if type_url == LISTENER:
        refers.append(Reference(ROUTE, name))
        refers += [Reference(SECRET, *secret.split("@")) for secret in parts(body)]
    return Resource.of(name, body, refers)


def put(snapshot: Snapshot, world: World) -> None:
    """This and nothing else is there now, and complete."""
    for type_url in TYPES:
        wanted = world.get(type_url, {})
        state = snapshot[type_url]
        state.update((resource(type_url, n, b) for n, b in wanted.items()), [n for n in state if n not in wanted])
    snapshot.ready = True


class FakeEnvoy:
    """`have` is what it holds by type and name; `active` the clusters that it can send requests to, `warming` those of which it has an
    edition that waits for endpoints; `starved` the secrets that a listener waits for.

    Unlike Envoy, it remembers the versions of what it took from a response that it rejected, or that it took some of a full state.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.have: dict[str, dict[str, bytes]] = {t: {} for t in TYPES}
        self.names: dict[str, set[str]] = {t: set() for t in CHILDREN}
        self.active: set[str] = set()
        self.warming: set[str] = set()
        self.starved: set[str] = set()
        self.accepted: dict[str, str] = {}  # state of the world: the version last accepted
        self._versions: dict[str, dict[str, str]] = {t: {} for t in TYPES}
        self._nonces: dict[str, str] = {}
        self._providers: set[str] = set()

    def connect(self) -> list[DiscoveryRequest]:
        """The first requests of a stream: types in the order of their first use, with what it holds of an earlier stream."""
        self._nonces.clear()
        self._warm(self.warming & self.have[ENDPOINT].keys())  # a time-out of Envoy's ends it with what it has
        self.starved.clear()
        requests = []
        for type_url in TYPES:
            names = tuple(sorted(self.names.get(type_url, ())))
            if type_url in CHILDREN and not names:
                continue
            if self.wire is Wire.SOTW:
                requests.append(DiscoveryRequest(type_url, names=names, version=self.accepted.get(type_url, "")))
            else:
                requests.append(DiscoveryRequest(type_url, subscribe=names, initial_versions=dict(self._versions[type_url])))
        return requests

    def receive(
        self, response: DiscoveryResponse, *, error: str | None = None, applies: Collection[str] = (), ack_first: bool = True
    ) -> list[DiscoveryRequest]:
        """Takes a response over, or rejects it and takes over only the names that it `applies` all the same."""
        type_url = response.type_url
        self._nonces[type_url] = response.nonce
        given = {r.name: r for r in response.resources}
        removed = set(response.removed)
        if self.wire is Wire.SOTW and type_url in FULL_STATE:
            removed = self.have[type_url].keys() - given.keys()
        if error is None:
            self.accepted[type_url] = response.version
        else:
            given = {n: r for n, r in given.items() if n in applies}
            removed &= set(applies)
            if given or removed:
                self.accepted[type_url] = f"parts of {response.version}"
        self._take(type_url, given, removed)
        ack = self._request(type_url, error)
        follow = [request for child in CHILDREN for request in self._follow(child)]
        return [ack, *follow] if ack_first else [*follow, ack]

    def concerned(self, response: DiscoveryResponse) -> set[str]:
        """The names about which a response says something, be it by absence."""
        absent = self.have[response.type_url] if self.wire is Wire.SOTW and response.type_url in FULL_STATE else response.removed
        return {*(r.name for r in response.resources), *absent}

    def _take(self, type_url: str, given: Mapping[str, Resource], removed: Collection[str]) -> None:
        have, versions = self.have[type_url], self._versions[type_url]
        watched = self.names.get(type_url)
        for name, r in given.items():
            if watched is not None and name not in watched:
                continue  # nobody waits for it any more
            if type_url == CLUSTER and have.get(name) != r.body:
                self.warming.add(name)
            have[name], versions[name] = r.body, r.version
            if type_url == ENDPOINT or (type_url == CLUSTER and r.body.startswith(b"dns")):
                self._warm({name})
            if type_url == SECRET:
                self.starved.discard(name)
        for name in removed:
            versions.pop(name, None)
            if type_url in FULL_STATE:
                have.pop(name, None)  # Envoy removes nothing else because of a response (D14, D15)

    def _warm(self, names: Collection[str]) -> None:
        self.active |= self.warming.intersection(names)
        self.warming.difference_update(names)

    def _wanted(self, child: str) -> set[str]:
        if child == ENDPOINT:
            return {n for n, body in self.have[CLUSTER].items() if body.startswith(b"eds")}
        if child == ROUTE:
            return set(self.have[LISTENER])
        return {secret.split("@")[0] for body in self.have[LISTENER].values() for secret in parts(body)}

    def _follow(self, child: str) -> list[DiscoveryRequest]:
        """Asks for what is referred to now, and no longer for what is not."""
        had, wanted = self.names[child], self._wanted(child)
        self.names[child] = wanted
        for name in had - wanted:
            self.have[child].pop(name, None)
            self._versions[child].pop(name, None)
        if child == ENDPOINT:
            self.warming &= wanted
            self.active &= self.have[CLUSTER].keys()
        if child == SECRET:
            self._provide(wanted)
        if had == wanted:
            return []
        if self.wire is Wire.SOTW:
            return [self._request(child)]
        return [DiscoveryRequest(child, subscribe=tuple(sorted(wanted - had)), unsubscribe=tuple(sorted(had - wanted)))]

    def _provide(self, wanted: set[str]) -> None:
        """A listener that asks for a secret in a new way waits until it comes again, but sends no request (envoy 47309)."""
        providers = {secret for body in self.have[LISTENER].values() for secret in parts(body)}
        self.starved |= {secret.split("@")[0] for secret in providers - self._providers}
        self.starved &= wanted
        self._providers = providers

    def _request(self, type_url: str, error: str | None = None) -> DiscoveryRequest:
        nonce = self._nonces.get(type_url, "")
        if self.wire is Wire.DELTA:
            return DiscoveryRequest(type_url, nonce, error)
        names = tuple(sorted(self.names.get(type_url, ())))
        return DiscoveryRequest(type_url, nonce, error, names=names, version=self.accepted.get(type_url, ""))


class Link:
    """A FakeEnvoy, a Session, and what is under way between them. `now` is the time; it passes only where a test says so."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.snapshot = Snapshot()
        self.envoy = FakeEnvoy(wire)
        self.now = 0.0
        self.streams = 0
        self.connect()

    def connect(self) -> None:
        """A new stream; what was under way is lost."""
        self.streams += 1
        self.session = Session(self.wire, self.snapshot, nonce_prefix=f"{self.streams}-")
        self.to_server: deque[DiscoveryRequest] = deque(self.envoy.connect())
        self.to_client: deque[DiscoveryResponse] = deque()

    def publish(self, world: World) -> None:
        """The Snapshot is this now, and the Session is notified."""
        put(self.snapshot, world)
        self.to_client.extend(self.session.publish(self.now))

    def server_reads(self) -> None:
        """The next request arrives."""
        self.to_client.extend(self.session.receive(self.to_server.popleft(), self.now))

    def client_reads(self, *, error: str | None = None, applies: Collection[str] = (), ack_first: bool = True) -> DiscoveryResponse:
        """The next response arrives."""
        response = self.to_client.popleft()
        self.to_server.extend(self.envoy.receive(response, error=error, applies=applies, ack_first=ack_first))
        return response

    def wait(self) -> None:
        """Time passes until the Session wants to be asked."""
        if self.session.deadline is not None:
            self.now = max(self.now, self.session.deadline)
            self.to_client.extend(self.session.expire(self.now))
