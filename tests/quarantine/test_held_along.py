"""What names a cluster that Envoy rejects: real tables, the search and real Sessions, before Envoys that send requests all the time.

An Envoy here keeps books of what its routes and stream listeners lead to. What it once served it goes on serving, whatever is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from tests.units.test_any_order import CONSTANTS, OPENED, PREFIX, endpoints
from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Object, Path, Rule, Service, ServicePort
from xds.kube.world import World
from xds.problem import Ref
from xds.protocol.discovery import Acknowledgement, DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.quarantine.dependents import MOST_DIVIDED, MOST_NEW
from xds.quarantine.ledger import Orders
from xds.quarantine.quarantine import Quarantine
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, TYPES, Part, Snapshot
from xds.units.memo import Unit
from xds.units.parts import Entry, Held, Host, digest
from xds.units.record import decode, encode
from xds.units.tables import Tables, Update
from xds.units.units import cluster as cluster_unit
from xds.units.units import host as host_unit
from xds.units.units import stream_listener

FLAGS = Flags(watch_ingress_without_class=True, configmap="one/config", tcp_services_configmap="one/tcp")
GOOD, BAD, ODD = 7, 55, 66
"""Connect time-outs: two that all Envoys take, `BAD` that none does, `ODD` that some refuse."""
PORT = 9000
SUBSCRIBED = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


def refusal(seconds: int) -> bytes:
    """How a cluster has this connect time-out."""
    return b'"\x02\x08' + bytes([seconds])


class Envoy:
    """One that refuses the clusters with a time-out in `refuses`, in words that `names` them or not; what else came with them it takes."""

    def __init__(self, site: Site, wire: Wire, refuses: Collection[int], *, names: bool, back: Envoy | None = None) -> None:
        self.site, self.wire, self.names = site, wire, names
        self.refuses = [refusal(seconds) for seconds in refuses]
        self.session = Session(wire, site.snapshot, nonce_prefix=f"{id(self)}-")
        self.have: dict[str, dict[str, bytes]] = back.have if back else {t: {} for t in SUBSCRIBED}
        self.served: set[str] = back.served if back else set()
        self.inbox: deque[DiscoveryResponse] = deque()
        self._asked: dict[str, set[str]] = {}
        self._nonces: dict[str, str] = {}
        for type_url in SUBSCRIBED:
            self._ask(type_url, "", None, brought=bool(back))

    def look(self) -> None:
        self.inbox.extend(self.session.publish(self.site.now))

    def answer(self) -> None:
        """Takes the next response."""
        response = self.inbox.popleft()
        have, type_url = self.have[response.type_url], response.type_url
        given = {r.name: r.body for r in response.resources}
        bad = [name for name, body in given.items() if type_url == CLUSTER and any(mark in body for mark in self.refuses)]
        full = self.wire is Wire.SOTW and type_url in (CLUSTER, LISTENER)
        for name in (have.keys() - given.keys()) if full else response.removed:
            have.pop(name, None)
        have |= {name: body for name, body in given.items() if name not in bad}
        words = "Error adding/updating cluster(s) " + ", ".join(f"{name}: no" for name in bad) if self.names else "no"
        self._ask(type_url, response.nonce, words if bad else None)
        if type_url == CLUSTER:
            self._ask(ENDPOINT, "", None)
        self.check()

    def _ask(self, type_url: str, nonce: str, error: str | None, *, brought: bool = False) -> None:
        wanted = {ROUTE: {names.ROUTES}, ENDPOINT: set(self.have[CLUSTER])}.get(type_url, {"*"})
        known = self._asked.get(type_url, set())
        self._asked[type_url] = wanted
        if nonce:
            self._nonces[type_url] = nonce
        if self.wire is Wire.SOTW:
            version = "of an earlier stream" if brought else ""
            request = DiscoveryRequest(
                type_url, nonce or self._nonces.get(type_url, ""), error, names=tuple(sorted(wanted)), version=version
            )
        else:
            versions = dict.fromkeys(self.have[type_url], "of an earlier stream") if brought else {}
            subscribe, unsubscribe = tuple(sorted(wanted - known)), tuple(sorted(known - wanted))
            request = DiscoveryRequest(type_url, nonce, error, subscribe=subscribe, unsubscribe=unsubscribe, initial_versions=versions)
        self.inbox.extend(self.session.receive(request, self.site.now))

    def check(self) -> None:
        """What worked works, but for what the site does not have any more."""
        leads = self.site.leads(self.have[ROUTE].get(names.ROUTES, b""), self.have[LISTENER])
        working = {what for what, clusters in leads.items() if clusters <= self.have[CLUSTER].keys()}
        lost = self.served - working
        assert not lost, (lost, {what: leads.get(what) for what in lost}, sorted(self.have[CLUSTER]))
        published = {name: resource.body for name, resource in self.site.snapshot[CLUSTER].items()}
        # What is new, and leads for a moment to a cluster that is about to be deleted or replaced, has not worked yet.
        current = {name for name, body in self.have[CLUSTER].items() if published.get(name) == body}
        self.served |= {what for what in working & self.site.there() if leads[what] <= current}


class Site:
    """A control plane without servers."""

    def __init__(self) -> None:
        self.world = World(FLAGS, CONSTANTS)
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.quarantine = Quarantine(self.tables, self.snapshot, self.serves)
        self.envoys: list[Envoy] = []
        self.rejections: deque[tuple[Envoy, Acknowledgement]] = deque()
        self.now = 0.0
        self.refusals = 0
        self._meaning: dict[bytes, tuple[str, set[str]]] = {}
        """What a virtual host or stream listener, by its bytes, is, and the clusters that it leads to."""
        self.put(*OPENED, *(service(n) for n in range(3)), *(endpoints(n, "10.0.0.1") for n in range(3)))
        self.snapshot.ready = True

    def connect(
        self, wire: Wire = Wire.DELTA, refuses: Collection[int] = (BAD,), *, names: bool = True, back: Envoy | None = None
    ) -> Envoy:
        envoy = Envoy(self, wire, refuses, names=names, back=back)
        self.envoys.append(envoy)
        return envoy

    # What there is

    def put(self, *objects: Object, drop: Sequence[Ref] = ()) -> None:
        causes = [Ref(type(item).__name__, item.meta.namespace, item.meta.name) for item in objects]
        self._publish(self.tables.apply(self.world.apply(objects, drop)), causes=causes)
        there = self.there()
        if drop:
            self._meaning = {body: found for body, found in self._meaning.items() if found[0] in there}
        for envoy in self.envoys:
            envoy.served &= there  # what is taken away may fail from now on, even if it comes back

    def obey(self, orders: Orders) -> None:
        if orders:
            self._publish(self.tables.hold(orders), ordered=orders)

    def _publish(self, update: Update, causes: Sequence[Ref] = (), ordered: Collection[Part] = ()) -> None:
        update.publish(self.snapshot)
        assert not self.tables.build.faults
        for unit, function in ((host_unit, self.tables.hosts), (stream_listener, self.tables.streams)):
            for key in function.values:
                real: Host | Entry = self.tables.build.value(Unit(unit, (key,)))
                what = key if isinstance(key, str) else names.stream(key.protocol, key.port)
                self._meaning[real.body] = what, {names.cluster(c) for c in real.clusters}
        self.obey(self.quarantine.published(update.moved, causes, ordered))

    def means(self, before: Site) -> None:
        """Envoys still have what that control plane has published."""
        self._meaning |= before._meaning

    def serves(self, which: int) -> bool:
        [envoy] = [envoy for envoy in self.envoys if id(envoy) == which]
        return envoy.session.accepted_all(ROUTE) >= 0

    def there(self) -> set[str]:
        """The hosts and ports that somebody wants."""
        return {*(h for h in self.tables.hosts.values if h), *(names.stream(e.protocol, e.port) for e in self.tables.streams.values)}

    def leads(self, table: bytes, listeners: dict[str, bytes]) -> dict[str, set[str]]:
        """Which clusters these lead to, by host and port."""
        return {
            what: clusters
            for body, (what, clusters) in self._meaning.items()
            if what and (body in table if "/" not in what else listeners.get(what) == body)
        }

    def parts(self) -> set[Part]:
        return {Part(CLUSTER, name) for name in self.snapshot[CLUSTER]} | self.tables.holds.keys()

    # What happens

    def answer(self, which: int) -> None:
        """One Envoy looks, and answers one response. What it accepts is heard of at once."""
        envoy = self.envoys[which % len(self.envoys)]
        envoy.look()
        if envoy.inbox:
            envoy.answer()
        for answer in envoy.session.take_acknowledgements():
            if answer.error is None:
                self.obey(self.quarantine.accepted(answer, id(envoy)))
            else:
                self.rejections.append((envoy, answer))
                self.refusals += 1

    def hear(self) -> None:
        """A rejection is heard of, when others have had a moment to accept the same."""
        if self.rejections:
            for which, _ in enumerate(self.envoys):
                for _ in range(20):
                    self.answer(which)
            envoy, answer = self.rejections.popleft()
            self.obey(self.quarantine.rejected(answer, id(envoy)))

    def leave(self, which: int) -> None:
        envoy = self.envoys.pop(which % len(self.envoys))
        self.rejections = deque(pair for pair in self.rejections if pair[0] is not envoy)
        self.obey(self.quarantine.left(id(envoy)))

    def settle(self) -> None:
        """Until nobody has anything to say; in less time than an Envoy is given to answer."""
        for _ in range(400):
            self.hear()
            for which, _ in enumerate(self.envoys):
                self.answer(which)
            if not self.rejections and not any(envoy.inbox for envoy in self.envoys):
                deadlines = [e.session.deadline for e in self.envoys if e.session.deadline is not None]
                if not deadlines:
                    return
                self.now = max(self.now, min(deadlines))
        raise AssertionError("it goes on for ever")


def service(n: int) -> Service:
    return Service(meta=Meta(namespace="one", name=f"s{n}"), ports=(ServicePort(80, "http", 8080),))


def ingress(n: int, seconds: int = 0, *to: int, host: int | None = None) -> Ingress:
    """Of host n; with a connect time-out of its own, or (0) that of all; the first path leads to Service 0, or to those that are named.

    With `host` it is another Ingress of that host, and has paths of its own.
    """
    annotations = {PREFIX + "proxy-connect-timeout": str(seconds)} if seconds else {}
    first = "/" if host is None else f"/of/{n}"
    paths = tuple(Path(f"{first}{k or ''}", "Prefix", Backend(f"s{service}", 80)) for k, service in enumerate(to or (0,)))
    rule = Rule(f"h{n if host is None else host}.test", paths)
    return Ingress(meta=Meta(namespace="one", name=f"i{n}", annotations=annotations), rules=(rule,))


def gone(n: int) -> Ref:
    return Ref("Ingress", "one", f"i{n}")


def default(seconds: int) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace="one", name="config"), data={"proxy-connect-timeout": str(seconds)})


def tcp(to: int, *, proxy: bool = False) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace="one", name="tcp"), data={str(PORT): f"one/s{to}:80" + ("::PROXY" if proxy else "")})


def clusters(envoy: Envoy) -> dict[str, set[str]]:
    return envoy.site.leads(envoy.have[ROUTE][names.ROUTES], envoy.have[LISTENER])


def name(n: int, seconds: int = 0, usual: int = 5) -> str:
    """The cluster of Service n under this time-out, where all have the usual one."""
    real = Site()
    real.put(default(usual), ingress(0, seconds, n))
    [found] = [names.cluster(c) for c in real.tables.hosts.values["h0.test"].clusters]
    return found


WORDS = pytest.mark.parametrize("quoted", [True, False], ids=["named", "searched for"])


@WORDS
@pytest.mark.parametrize("wire", Wire)
def test_a_host_whose_new_cluster_is_refused_stays_with_the_old_one(wire: Wire, quoted: bool) -> None:
    site = Site()
    envoy = site.connect(wire, names=quoted)
    site.put(*(ingress(n) for n in range(4)))
    site.settle()
    site.put(*(ingress(n, BAD if n == 1 else GOOD) for n in range(4)))
    site.settle()
    assert clusters(envoy) == {f"h{n}.test": {name(0, 0 if n == 1 else GOOD)} for n in range(4)}
    assert {part.piece or part.resource for part in site.quarantine.culprits} == {"h1.test", name(0, BAD)}
    site.put(ingress(1, GOOD))
    site.settle()
    assert clusters(envoy)["h1.test"] == {name(0, GOOD)}
    assert not site.tables.holds


@pytest.mark.parametrize("wire", Wire)
def test_what_is_held_along_for_the_time_of_a_search_goes_back_each_time(wire: Wire) -> None:
    """Two of six new clusters are refused, in words that name none: halves of them come and go."""
    site = Site()
    envoy = site.connect(wire, names=False)
    site.put(*(ingress(n, 0, n % 3) for n in range(6)))
    site.settle()
    bad = {1, 2}
    site.put(*(ingress(n, BAD if n in bad else GOOD + n, n % 3) for n in range(6)))
    site.settle()
    assert clusters(envoy) == {f"h{n}.test": {name(n % 3, 0 if n in bad else GOOD + n)} for n in range(6)}
    assert site.quarantine.culprits == site.tables.holds


def test_what_is_held_along_follows_its_endpoints_and_stays_while_its_own_content_changes() -> None:
    site = Site()
    envoy = site.connect()
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, BAD))
    site.settle()
    site.put(endpoints(0, "10.0.0.9"), ingress(0, BAD, 1))
    site.settle()
    assert clusters(envoy) == {"h0.test": {"one/s0/80"}}
    assert b"10.0.0.9" in envoy.have[ENDPOINT]["one/s0/80"]


def test_what_is_held_along_is_free_when_its_cluster_is_another_one() -> None:
    """The ConfigMap makes another cluster of it, under the same name: the host itself does not change."""
    site = Site()
    envoy = site.connect()
    site.put(default(GOOD), ingress(0, 5))
    site.settle()
    site.put(default(BAD), ingress(1, 5, 1))
    site.settle()
    site.put(ingress(0))
    site.settle()
    assert clusters(envoy) == {"h0.test": {name(0, 5, BAD)}, "h1.test": {name(1, 5, BAD)}}
    site.put(default(GOOD))
    site.settle()
    assert clusters(envoy) == {"h0.test": {"one/s0/80"}, "h1.test": {name(1, 5, BAD)}}
    assert not site.tables.holds


@pytest.mark.parametrize("wire", Wire)
def test_what_was_accepted_when_it_had_been_replaced_already_is_what_there_was_before(wire: Wire) -> None:
    site = Site()
    envoy = site.connect(wire)
    site.settle()
    site.put(ingress(0))
    while not any(response.type_url == ROUTE for response in envoy.inbox):
        site.answer(0)
    site.put(ingress(0, BAD))
    site.settle()
    assert clusters(envoy)["h0.test"] == {"one/s0/80"}


def test_what_was_accepted_before_its_cluster_was_refused_goes_back_to_what_worked_though_it_has_changed_since() -> None:
    """Where each type has a stream of its own, a route is accepted whether Envoy has the cluster or not."""
    site = Site()
    site.connect()
    site.put(ingress(0))
    site.settle()
    site.envoys.clear()
    site.put(ingress(0, BAD))
    state = site.snapshot[ROUTE]
    site.obey(site.quarantine.accepted(Acknowledgement(ROUTE, frozenset({names.ROUTES}), state.generation, state.version), "routes"))
    site.put(ingress(3, BAD, host=0))
    state = site.snapshot[CLUSTER]
    refused = Acknowledgement(CLUSTER, frozenset({name(0, BAD)}), state.generation, state.version, "no")
    site.obey(site.quarantine.rejected(refused, "clusters"))
    assert site.leads(site.snapshot[ROUTE][names.ROUTES].body, {})["h0.test"] == {"one/s0/80"}


def test_who_refuses_a_host_that_went_back_with_its_cluster_is_still_believed() -> None:
    """The response was on its way when the host went back. Taken for a refusal of what is proven, it would make its Envoy odd."""
    site = Site()
    site.connect()
    site.put(ingress(0), ingress(1))
    site.settle()
    site.envoys.clear()
    site.put(ingress(0, BAD))
    routes, state = site.snapshot[ROUTE].generation, site.snapshot[CLUSTER]
    refused = Acknowledgement(CLUSTER, frozenset({name(0, BAD)}), state.generation, state.version, "no")
    site.obey(site.quarantine.rejected(refused, "envoy"))
    assert site.quarantine.rejected(Acknowledgement(ROUTE, frozenset({names.ROUTES}), routes, "earlier", "no"), "envoy") == {}
    site.put(ingress(1, GOOD))
    late = Acknowledgement(ROUTE, frozenset({names.ROUTES}), site.snapshot[ROUTE].generation, "now", "no")
    assert site.quarantine.rejected(late, "envoy").keys() == {Part(ROUTE, names.ROUTES, "h1.test")}


def test_a_cluster_that_has_changed_since_one_envoy_refused_it_is_not_left_out_for_that() -> None:
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)):
        site.connect(refuses=refuses)
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD))
    for which in (0, 1, 0, 1):
        site.answer(which)
    [(envoy, answer)] = site.rejections
    site.put(ConfigMap(meta=Meta(namespace="one", name="config"), data={"load-balance": "ewma"}))
    site.answer(0)
    assert site.quarantine.rejected(answer, id(envoy)) == {}


def test_a_host_that_began_with_a_refused_cluster_goes_on_changing() -> None:
    """There is nothing that worked to which it could go back."""
    site = Site()
    envoy = site.connect()
    site.put(ingress(0, BAD))
    site.settle()
    site.put(ingress(3, host=0))
    site.settle()
    assert clusters(envoy)["h0.test"] == {name(0, BAD), "one/s0/80"}


def test_a_host_stays_a_culprit_while_another_of_its_clusters_is_searched_for() -> None:
    site = Site()
    site.connect()
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, BAD))
    site.settle()
    site.envoys.clear()
    site.put(ingress(0, BAD, 0, 1, 2))
    state = site.snapshot[CLUSTER]
    refused = Acknowledgement(CLUSTER, frozenset({name(1, BAD), name(2, BAD)}), state.generation, state.version, "no")
    site.obey(site.quarantine.rejected(refused, "envoy"))
    assert site.quarantine.searching
    assert len(site.quarantine.culprits[Part(ROUTE, names.ROUTES, "h0.test")].along) == 2


def test_what_is_refused_itself_is_not_held_along_with_what_it_names() -> None:
    """Another replica has found both: it would be free again as soon as the cluster is."""
    site = Site()
    site.connect()
    site.put(ingress(0))
    site.settle()
    host, cluster = Part(ROUTE, names.ROUTES, "h0.test"), Part(CLUSTER, name(0, BAD))
    before = site.tables.values([host])[host]
    site.envoys.clear()
    site.put(ingress(0, BAD))
    now = site.tables.values([host, cluster])
    held = {host: Held(digest(now[host]), before, "no"), cluster: Held(digest(now[cluster]), None, "no")}
    assert site.quarantine.learn(held, {}) == held


def test_a_host_goes_back_no_further_because_an_accepted_cluster_of_it_has_changed() -> None:
    site = Site()
    site.connect()
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, GOOD))
    site.settle()
    site.envoys.clear()
    site.put(ConfigMap(meta=Meta(namespace="one", name="config"), data={"load-balance": "ewma"}))
    site.put(ingress(3, GOOD, host=0))
    state = site.snapshot[ROUTE]
    refused = Acknowledgement(ROUTE, frozenset({names.ROUTES}), state.generation, state.version, "no")
    site.obey(site.quarantine.rejected(refused, "envoy"))
    assert site.leads(state[names.ROUTES].body, {})["h0.test"] == {name(0, GOOD)}
    assert Part(ROUTE, names.ROUTES, "h0.test") in site.tables.holds


def test_a_cluster_to_which_a_host_goes_back_is_as_it_was_when_it_was_accepted() -> None:
    """It was gone, and as the ConfigMap would have it now Envoy rejects it as well."""
    site = Site()
    envoy = site.connect(refuses=(BAD, ODD))
    site.put(ingress(0))
    site.settle()
    before = envoy.have[CLUSTER]["one/s0/80"]
    site.put(ingress(0, ODD))
    site.put(default(BAD))
    site.settle()
    assert clusters(envoy)["h0.test"] == {"one/s0/80"}
    assert envoy.have[CLUSTER]["one/s0/80"] == before


def test_a_new_host_is_not_held_along_for_its_other_paths_may_work() -> None:
    site = Site()
    envoy = site.connect()
    site.put(ingress(0, BAD), ingress(1))
    site.settle()
    assert clusters(envoy) == {"h0.test": {name(0, BAD)}, "h1.test": {"one/s0/80"}}


def test_a_stream_whose_new_cluster_is_refused_stays_with_the_old_one() -> None:
    site = Site()
    envoy = site.connect()
    site.put(tcp(0), ingress(0))
    site.settle()
    site.put(tcp(1))
    site.put(default(BAD))
    site.settle()
    assert clusters(envoy)[f"tcp/{PORT}"] <= envoy.have[CLUSTER].keys()


def test_what_is_held_along_outlives_a_restart() -> None:
    site = Site()
    first = site.connect()
    site.put(ingress(0), ingress(1), tcp(0))
    site.settle()
    site.put(ingress(0, BAD))
    site.settle()
    record = decode(encode(site.quarantine.culprits, {}, {}))
    again = Site()
    again.put(ingress(0, BAD), ingress(1), tcp(0))
    again.obey(again.quarantine.learn(record.held, {}))
    assert {t: dict(again.snapshot[t]) for t in TYPES} == {t: dict(site.snapshot[t]) for t in TYPES}
    assert again.quarantine.culprits == site.quarantine.culprits
    envoy = again.connect()
    again.settle()
    assert not envoy.session.rejections
    assert {t: envoy.have[t] for t in SUBSCRIBED} == {t: first.have[t] for t in SUBSCRIBED}


@pytest.mark.parametrize(("wire", "quoted"), [(Wire.DELTA, True), (Wire.DELTA, False), (Wire.SOTW, True)])
@pytest.mark.parametrize("first", ["who accepts", "who refuses"])
def test_a_new_cluster_that_one_of_two_envoys_refuses_takes_nothing_from_either(wire: Wire, quoted: bool, first: str) -> None:
    """The host goes back for both, until the one that refuses has left or the object is changed."""
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)) if first == "who accepts" else ((BAD, ODD), (BAD,)):
        site.connect(wire, refuses, names=quoted)
    site.put(ingress(0), ingress(1), tcp(0))
    site.settle()
    site.put(ingress(0, ODD), ingress(1, GOOD))
    site.settle()
    for envoy in site.envoys:
        assert (clusters(envoy)["h0.test"], clusters(envoy)["h1.test"]) == ({"one/s0/80"}, {name(0, GOOD)})
    assert {part.piece or part.resource for part in site.quarantine.culprits} == {"h0.test", name(0, ODD)}
    assert not site.quarantine.remembered
    site.leave(1 if first == "who accepts" else 0)
    site.settle()
    [envoy] = site.envoys
    assert clusters(envoy)["h0.test"] == {name(0, ODD)}
    assert not site.tables.holds


def test_all_that_an_envoy_refused_before_another_one_accepted_it_is_left_out() -> None:
    site = Site()
    for refuses in ((BAD, ODD), (BAD,)):
        site.connect(refuses=refuses)
    site.put(ingress(0), ingress(1, 0, 1))
    site.settle()
    for n in (0, 1):
        site.put(ingress(n, ODD, n))
        site.envoys[1].look()  # it has the new cluster before it, and is slow
        site.answer(0)
        envoy, answer = site.rejections.popleft()
        site.obey(site.quarantine.rejected(answer, id(envoy)))
    site.settle()
    assert {part for part in site.tables.holds if part.type_url == CLUSTER} == {Part(CLUSTER, name(n, ODD)) for n in (0, 1)}


def test_a_cluster_that_was_left_out_for_one_envoy_is_as_good_as_before_when_that_has_left() -> None:
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)):
        site.connect(refuses=refuses)
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD))
    site.settle()
    site.leave(1)
    third = site.connect(refuses=(BAD, ODD))
    state = site.snapshot[CLUSTER]
    refused = Acknowledgement(CLUSTER, frozenset({name(0, ODD)}), state.generation, state.version, "no")
    assert site.quarantine.rejected(refused, id(third)) == {}, "an Envoy has accepted it, and this one serves nothing yet"


@pytest.mark.parametrize("wire", Wire)
def test_a_new_cluster_that_is_held_before_another_envoy_accepts_it_takes_nothing_from_either(wire: Wire) -> None:
    site = Site()
    for refuses in ((BAD, ODD), (BAD,)):
        site.connect(wire, refuses)
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD))
    site.envoys[1].look()  # it has the new cluster before it, and is slow
    site.answer(0)
    envoy, answer = site.rejections.popleft()
    site.obey(site.quarantine.rejected(answer, id(envoy)))
    assert {part.type_url for part in site.quarantine.remembered} == {CLUSTER, ROUTE}
    site.settle()
    assert [clusters(envoy)["h0.test"] for envoy in site.envoys] == [{"one/s0/80"}] * 2
    assert not site.quarantine.remembered
    site.leave(0)
    site.settle()
    assert clusters(site.envoys[0])["h0.test"] == {name(0, ODD)}
    assert not site.tables.holds
    assert {part.resource for part in site.quarantine.good} == {name(0, ODD)}, "it was left out meanwhile, and is as good as it was"


def test_a_second_cluster_that_one_envoy_refuses_is_left_out_though_its_host_is_held_along_with_the_first() -> None:
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)):
        site.connect(refuses=refuses)
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD, 0))
    site.settle()
    site.put(ingress(0, ODD, 0, 1))
    site.settle()
    both = {Part(CLUSTER, name(n, ODD)) for n in (0, 1)}
    assert {part for part in site.tables.holds if part.type_url == CLUSTER} == both
    assert site.tables.holds[Part(ROUTE, names.ROUTES, "h0.test")].along == both


@pytest.mark.parametrize("wire", Wire)
def test_of_two_new_clusters_in_a_response_the_one_that_an_envoy_takes_is_not_left_out(wire: Wire) -> None:
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)):
        site.connect(wire, refuses)
    site.put(tcp(0, proxy=True))
    site.settle()
    site.put(ingress(0, ODD), tcp(0))  # the host is new, and cannot go back
    site.settle()
    assert not site.tables.holds
    assert "one/s0/80" in site.envoys[1].have[CLUSTER]


def test_one_envoy_keeps_a_few_clusters_from_the_others_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = range(60, 60 + MOST_DIVIDED + 2)
    site = Site()
    for refuses in ((BAD,), (BAD, *odd)):
        site.connect(refuses=refuses)
    monkeypatch.setattr(site.envoys[1], "check", lambda: None)  # beyond the limit it loses what it refuses
    site.put(*(ingress(seconds, 0, 0) for seconds in odd))
    site.settle()
    for seconds in odd:
        site.put(ingress(seconds, seconds, 0))
        site.settle()
    left_out = {part.resource for part in site.tables.holds if part.type_url == CLUSTER}
    assert left_out == {name(0, seconds) for seconds in odd[:MOST_DIVIDED]}
    assert clusters(site.envoys[0])[f"h{odd[-1]}.test"] == {name(0, odd[-1])}


def test_of_the_clusters_that_one_envoy_may_keep_from_the_others_those_count_that_are_left_out_now() -> None:
    site = Site()
    for refuses in ((BAD,), (BAD, *range(60, 60 + MOST_DIVIDED + 1))):
        site.connect(refuses=refuses)
    site.put(ingress(0))
    site.settle()
    for seconds in range(60, 60 + MOST_DIVIDED + 1):
        site.put(ingress(0, seconds))
        site.settle()
        assert {part.resource for part in site.tables.holds if part.type_url == CLUSTER} == {name(0, seconds)}
        site.put(ingress(0))
        site.settle()
        assert not site.tables.holds


def test_a_cluster_to_which_a_new_host_leads_as_well_is_not_left_out_for_one_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer for nobody, though others accept it."""
    site = Site()
    for refuses in ((BAD,), (BAD, ODD)):
        site.connect(refuses=refuses)
    monkeypatch.setattr(site.envoys[1], "check", lambda: None)  # it loses the host that could go back
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD), ingress(1, ODD))
    site.settle()
    assert not site.tables.holds
    assert clusters(site.envoys[0])["h1.test"] == {name(0, ODD)}


@pytest.mark.parametrize("others", [MOST_NEW - 1, MOST_NEW])
def test_a_response_of_very_many_clusters_takes_none_back(others: int) -> None:
    """It is what a new Envoy is told: to go back in parts would cost more than it saves."""
    site = Site()
    for _ in range(2):
        site.connect()
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD))
    site.settle()
    told = frozenset({name(0, ODD), *(f"other {n}" for n in range(others))})
    late = Acknowledgement(CLUSTER, told, site.snapshot[CLUSTER].generation, "earlier", "no")
    assert bool(site.quarantine.rejected(late, id(site.envoys[1]))) == (others < MOST_NEW)


def test_an_envoy_that_serves_nothing_yet_takes_nothing_back() -> None:
    site = Site()
    site.connect()
    site.put(ingress(0))
    site.settle()
    site.put(ingress(0, ODD))
    site.settle()
    site.connect(refuses=(BAD, ODD))
    site.settle()
    assert clusters(site.envoys[0])["h0.test"] == {name(0, ODD)}
    assert not site.tables.holds


@WORDS
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("remembered", [True, False])
def test_what_changes_after_a_restart_before_envoy_is_back_costs_nobody_a_thing(wire: Wire, quoted: bool, remembered: bool) -> None:
    """What was published for a moment only, refused or new, is not kept for it; nor is somebody else convicted for what is kept."""
    site = Site()
    first = site.connect(wire)
    site.put(ingress(0), ingress(1))
    site.settle()
    site.put(ingress(0, BAD), ingress(1, GOOD))
    site.settle()
    record = decode(encode(site.quarantine.culprits, {}, {}))
    again = Site()
    again.means(site)
    again.put(ingress(0, BAD if remembered else 0), ingress(1, GOOD))
    again.obey(again.quarantine.learn(record.held, {}))
    if not remembered:
        again.put(ingress(2, BAD))
        again.put(ingress(2, 9))
    again.put(ingress(0, 8), ingress(1, GOOD))
    envoy = again.connect(wire, names=quoted, back=first)
    again.settle()
    assert not again.tables.holds
    assert again.refusals == (0 if remembered or wire is Wire.DELTA else 1)
    expected = {"h0.test": {name(0, 8)}, "h1.test": {name(0, GOOD)}} | ({} if remembered else {"h2.test": {name(0, 9)}})
    assert clusters(envoy) == expected
    assert envoy.have[CLUSTER].keys() == set().union(*expected.values())


HOSTS = st.integers(0, 2)
SECONDS = st.sampled_from([0, 0, GOOD, BAD, BAD, ODD])
CHANGES: st.SearchStrategy[Callable[[Site], None]] = st.one_of(
    st.builds(lambda *of: lambda site: site.put(ingress(*of)), HOSTS, SECONDS, HOSTS),
    st.builds(lambda *of: lambda site: site.put(ingress(*of)), HOSTS, SECONDS, HOSTS),
    st.builds(lambda n: lambda site: site.put(drop=[gone(n)]), HOSTS),
    st.builds(lambda s: lambda site: site.put(default(s)), st.sampled_from([5, GOOD, BAD])),
    st.builds(lambda to, proxy: lambda site: site.put(tcp(to, proxy=proxy)), HOSTS, st.booleans()),
)
STEPS = st.one_of(CHANGES, st.sampled_from([("answer", 0), ("answer", 1), ("hear",), ("settle",)]))


FLEETS = st.lists(st.tuples(st.sampled_from(Wire), st.sampled_from([(BAD,), (BAD, ODD)])), min_size=1, max_size=2)


@given(st.lists(STEPS, max_size=14), FLEETS, st.booleans())
@example(
    steps=[
        lambda site: site.put(tcp(1)),
        ("answer", 0),
        lambda site: site.put(tcp(0)),
        lambda site: site.put(default(BAD)),
        lambda site: site.put(ingress(0, 0, 1)),
    ],
    fleet=[(Wire.SOTW, (BAD,))],
    quoted=False,
)
@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
def test_whatever_is_refused_what_worked_goes_on(steps: list[Any], fleet: list[tuple[Wire, tuple[int, ...]]], quoted: bool) -> None:
    site = Site()
    alike = len({refuses for _, refuses in fleet}) == 1
    for wire, refuses in fleet:
        site.connect(wire, refuses, names=quoted or not alike)
    site.settle()
    for step in steps:
        if isinstance(step, tuple):
            getattr(site, step[0])(*step[1:])
        else:
            step(site)
    site.settle()
    assert site.quarantine.culprits == site.tables.holds
    assert all(held.along or part.type_url == CLUSTER for part, held in site.tables.holds.items())
    wanted = {names.cluster(c): site.tables.build.value(Unit(cluster_unit, (c,))) for c in site.tables.clusters.called(site.parts())}
    refused = [{name for name, body in wanted.items() if any(refusal(s) in body for s in refuses)} for _, refuses in fleet]
    held = {part.resource for part in site.tables.holds if part.type_url == CLUSTER}
    assert set.intersection(*refused) <= held <= set.union(*refused)
    for envoy in site.envoys:
        assert envoy.have[CLUSTER].keys() >= wanted.keys() - set.union(*refused)
