"""What is held: in whichever order it comes and goes, the Snapshot is that of a fresh start with the same holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envoy_data_plane.envoy.config.listener.v3 import Listener as Message
from envoy_data_plane.google.protobuf import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.units.test_any_order import CONSTANTS, FLAGS, KINDS, OPENED, PREFIX, Event, Life, endpoints, events, pems, site
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Object, Path, Rule, Secret, Tls, ref
from xds.kube.world import World
from xds.problem import Ref
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET, TYPES, Part, Snapshot
from xds.units.parts import Chain, Entry, Frame, Held, Host, Value, digest
from xds.units.tables import Tables, Update

HTTPS = Part(LISTENER, names.HTTPS)


class Holding(Life):
    """A Life in which something is held, and `seen` has the contents that each Part once had."""

    def __init__(self, put: Sequence[Object] = (), held: Mapping[Part, Held] | None = None) -> None:
        self.world = World(FLAGS, CONSTANTS)
        self.tables = Tables(self.world, held)
        self.snapshot = Snapshot()
        self.seen: dict[Part, list[Value]] = {}
        self.take(put)

    def take(self, put: Sequence[Object] = (), drop: Sequence[Ref] = ()) -> None:
        self.publish(self.tables.apply(self.world.apply(put, drop)))

    def order(self, orders: Mapping[Part, Held | None]) -> Update:
        return self.publish(self.tables.hold(orders))

    def publish(self, update: Update) -> Update:
        update.publish(self.snapshot)
        assert not self.tables.build.faults
        for part, move in update.moved.items():
            if move.new is not None:
                self.seen.setdefault(part, []).append(move.new)
        return update

    def parts(self) -> list[Part]:
        """Everything that can be held, held or not."""
        t = self.tables
        found = {Part(ROUTE, names.ROUTES, host) for host in (None, *t.hosts.values)}
        found |= {Part(type_url, names.cluster(c)) for type_url in (CLUSTER, ENDPOINT) for c in t.clusters.values}
        found |= {Part(SECRET, name) for name in t.secrets.values}
        found |= {Part(PASSWORDS, name) for name in self.snapshot[PASSWORDS]}
        found |= {Part(LISTENER, name, piece) for name in self.snapshot[LISTENER] for piece in (None, *self.chains)}
        return sorted((found & self.seen.keys()) | t.holds.keys(), key=str)

    @property
    def chains(self) -> list[str]:
        return [part.piece for part in self.seen if part.piece is not None and part.type_url == LISTENER]

    def value(self, part: Part) -> Value | None:
        return self.tables.values([part]).get(part)

    def hold(self, part: Part, instead: Value | None) -> Update:
        """What is there now counts as refused."""
        return self.order({part: Held(digest(self.value(part)), instead, "no")})


orders = st.tuples(st.integers(0, 40), st.sampled_from([None, 0, 1, -1]))
steps = st.one_of(st.lists(events(), min_size=1, max_size=4), orders, orders)


@given(st.lists(steps, max_size=12))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_snapshot_depends_on_what_is_there_and_on_what_is_held(taken: list[list[Event] | tuple[int, int | None]]) -> None:
    life = Holding(OPENED)
    for step in taken:
        if isinstance(step, list):
            last = {event.gone or ref(event.item): event for event in step if event.gone or event.item}  # type: ignore[arg-type]
            life.take([e.item for e in last.values() if e.item], [e.gone for e in last.values() if e.gone])
        elif parts := life.parts():
            part = parts[step[0] % len(parts)]
            before = life.seen.get(part, [])
            if part in life.tables.holds:
                life.order({part: None})
            elif life.value(part) is not None:
                life.hold(part, None if step[1] is None or len(before) < 2 else before[step[1]])
    there = [item for kind in KINDS for item in life.world.objects(kind)]
    fresh = Holding(there, dict(life.tables.holds))
    assert life.state() == fresh.state()
    assert life.tables.holds == fresh.tables.holds
    assert life.problems() == fresh.problems()
    life.take(drop=[ref(item) for item in there])
    steady = {Part(LISTENER, names.HTTP), HTTPS, Part(ROUTE, names.ROUTES), Part(ROUTE, names.ROUTES, ""), Part(SECRET, "default")}
    assert life.tables.holds.keys() <= steady  # what is there without any object


def host(n: int) -> Part:
    return Part(ROUTE, names.ROUTES, f"h{n}.example.com")


def leading_to(n: int, service: int) -> Ingress:
    rule = Rule(f"h{n}.example.com", (Path("/", "Prefix", Backend(f"s{service}", 80)),))
    return Ingress(meta=Meta(namespace="one", name=f"i{n}"), rules=(rule,))


def test_clusters_that_held_bytes_name_stay_published_and_follow_their_endpoints() -> None:
    life = Holding(site(3))
    old = life.value(host(1))
    life.take([leading_to(1, 2)])
    assert "one/s1/80" not in life.snapshot[CLUSTER]
    life.hold(host(1), old)
    assert {"one/s1/80", "one/s2/80"} <= life.snapshot[CLUSTER].keys() == life.snapshot[ENDPOINT].keys()
    before = life.snapshot[ENDPOINT]["one/s1/80"].body
    life.take([endpoints(1, "10.0.0.9")])
    assert life.snapshot[ENDPOINT]["one/s1/80"].body != before


def test_a_hold_ends_when_the_content_changes_and_lasts_while_it_does_not() -> None:
    life = Holding(site(3))
    old = life.value(host(1))
    life.take([leading_to(1, 2)])
    life.hold(host(1), old)
    life.take([leading_to(1, 2), leading_to(0, 2)])
    assert life.tables.holds.keys() == {host(1)}
    life.take([leading_to(1, 0)])
    assert not life.tables.holds
    assert life.state() == Life([*site(3), leading_to(0, 2), leading_to(1, 0)]).state()


def test_a_hold_ends_with_what_it_is_about_and_that_is_told() -> None:
    """Also if nothing of it was published, so that nothing moves."""
    for instead in (None, Holding(site(1)).value(host(0))):
        life = Holding(site(3))
        life.hold(host(1), instead)
        update = life.publish(life.tables.apply(life.world.apply([], [ref(leading_to(1, 1))])))
        assert not life.tables.holds
        assert update.moved[host(1)].new is None


def test_a_hold_that_ends_with_what_was_held_is_told_though_nothing_moves() -> None:
    life = Holding(site(3))
    old = life.value(host(1))
    life.take([leading_to(1, 2)])
    life.hold(host(1), old)
    update = life.publish(life.tables.apply(life.world.apply([leading_to(1, 1)], [])))
    assert (update.moved[host(1)].old, update.moved[host(1)].new) == (old, old)
    assert life.state() == Life(site(3)).state()


def tls_site() -> list[Object]:
    chain, key = pems()[0]
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("s0", 80)),))
    secret = Secret(meta=Meta(namespace="one", name="first"), type="kubernetes.io/tls", data={"tls.crt": chain, "tls.key": key})
    return [*site(1), secret, Ingress(meta=Meta(namespace="one", name="t"), rules=(rule,), tls=(Tls(("a.example.com",), "first"),))]


def test_without_its_certificate_a_host_has_no_filter_chain_and_gets_it_with_the_next_one() -> None:
    """Its clients get the default certificate. A chain whose secret never comes would close their connections."""
    life = Holding(tls_site())
    part, chain = Part(SECRET, "one/first"), HTTPS._replace(piece="one/first")
    whole = life.state()
    assert life.value(chain) == Chain(("a.example.com",))
    life.hold(part, None)
    assert life.value(chain) is None
    assert "one/first" not in {r.name for r in life.snapshot[LISTENER][names.HTTPS].refers}
    life.order({part: None})
    assert life.state() == whole
    life.hold(part, None)
    chain_pem, key = pems()[1]
    renewed = Secret(meta=Meta(namespace="one", name="first"), type="kubernetes.io/tls", data={"tls.crt": chain_pem, "tls.key": key})
    life.take([renewed])
    assert life.value(chain) == Chain(("a.example.com",))
    assert "one/first" in {r.name for r in life.snapshot[LISTENER][names.HTTPS].refers}


def test_a_host_that_a_held_chain_still_has_is_served_under_the_certificate_that_it_has_now() -> None:
    life = Holding(tls_site())
    first, second = (HTTPS._replace(piece=f"one/{name}") for name in ("first", "second"))
    held = life.value(first)
    pairs = zip(("first", "second"), (pems()[2], pems()[0]), strict=True)
    secrets = [
        Secret(meta=Meta(namespace="one", name=n), type="kubernetes.io/tls", data={"tls.crt": c, "tls.key": k}) for n, (c, k) in pairs
    ]
    rules = tuple(Rule(host, (Path("/", "Prefix", Backend("s0", 80)),)) for host in ("a.example.com", "b.example.com"))
    tls = (Tls(("a.example.com",), "second"), Tls(("b.example.com",), "first"))
    life.take([*secrets, Ingress(meta=Meta(namespace="one", name="t"), rules=rules, tls=tls)])
    life.hold(first, held)
    assert (life.value(first), life.value(second)) == (held, Chain(("a.example.com",)))
    assert led_to(life) == {name: bytes(StringValue(value="one/second")) for name in ("a.example.com", "a.example.com.")}


def passing() -> list[Object]:
    """A host whose TLS passes through, beside one with a certificate."""
    meta = Meta(namespace="one", name="p", annotations={PREFIX + "ssl-passthrough": "true"})
    return [*tls_site(), Ingress(meta=meta, rules=(Rule("p.example.com", (Path("/", "Prefix", Backend("s0", 80)),)),))]


def protected() -> list[Object]:
    """A host that needs a password."""
    notes = {PREFIX + "auth-type": "basic", PREFIX + "auth-secret": "users"}
    rule = Rule("q.example.com", (Path("/", "Prefix", Backend("s0", 80)),))
    return [
        Ingress(meta=Meta(namespace="one", name="q", annotations=notes), rules=(rule,)),
        Secret(meta=Meta(namespace="one", name="users"), data={"auth": b"u:{PLAIN}p\n"}),
    ]


def led_to(life: Holding) -> dict[str, bytes]:
    """What the matcher of the https listener does with each name."""
    matcher = Message.parse(life.snapshot[LISTENER][names.HTTPS].body).filter_chain_matcher
    assert matcher
    assert matcher.matcher_tree
    assert matcher.matcher_tree.exact_match_map
    return {name: on.action.typed_config.value for name, on in matcher.matcher_tree.exact_match_map.map.items() if on.action}


def test_where_a_passthrough_is_left_out_its_hosts_lead_to_nothing_and_never_to_a_certificate() -> None:
    """What the clients of the host send is not for us to read."""
    life = Holding(passing())
    (piece,) = (piece for piece in life.chains if names.passed_to(piece))
    chain, whole = HTTPS._replace(piece=piece), life.state()
    assert life.value(chain) == Chain(("p.example.com",))
    cluster = names.passed_to(piece)
    assert cluster in life.snapshot[CLUSTER].keys() & life.snapshot[ENDPOINT].keys()
    life.hold(chain, None)
    listener = Message.parse(life.snapshot[LISTENER][names.HTTPS].body)
    assert [one.name for one in listener.filter_chains] == ["default", "one/first"]
    assert led_to(life)["p.example.com"] == bytes(StringValue(value=piece))
    assert cluster in life.snapshot[CLUSTER]
    life.order({chain: None})
    assert life.state() == whole
    life.take([], [Ref("Ingress", "one", "p")])
    assert life.state() == Life(tls_site()).state()


def test_a_config_map_that_changes_connections_changes_each_filter_chain_in_which_tls_ends() -> None:
    life = Holding(passing())
    chains = [HTTPS._replace(piece=piece) for piece in life.chains]
    put = [ConfigMap(meta=Meta(namespace="one", name="config"), data={"hsts": "false"})]
    before = Message.parse(life.snapshot[LISTENER][names.HTTPS].body).filter_chains
    life.take(put)
    after = Message.parse(life.snapshot[LISTENER][names.HTTPS].body).filter_chains
    assert [bytes(a) != bytes(b) for a, b in zip(after, before, strict=True)] == [True, True, False]
    assert (len(chains), life.state()) == (2, Life([*passing(), *put]).state())


def test_a_hold_of_a_filter_chain_that_is_gone_by_now_ends() -> None:
    life = Holding(tls_site())
    gone = HTTPS._replace(piece="passthrough:one/gone/80~00000000")
    update = life.order({gone: Held("1", None, "no")})
    assert gone not in life.tables.holds
    assert update.moved[gone].new is None


def test_each_kind_of_part_can_be_held_and_let_go() -> None:
    tcp = ConfigMap(meta=Meta(namespace="one", name="tcp"), data={"5000": "one/s0:80"})
    life = Holding([*passing(), tcp, *protected()])
    kinds = set()
    for part in life.parts():
        if (value := life.value(part)) is None:
            continue
        kinds.add(type(value))
        before = life.state()
        life.hold(part, None)
        assert life.state() != before
        assert part not in life.tables.values([part])
        life.order({part: None})
        assert life.state() == before
        life.hold(part, value)
        assert life.state() == before
        life.order({part: None})
    assert kinds == {Host, Entry, Frame, Chain, Message, bytes}
    assert set(TYPES) == {part.type_url for part in life.parts()}
