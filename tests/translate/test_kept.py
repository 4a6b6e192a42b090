"""A Secret that was overwritten with what cannot be used: its last certificate stays, until it is mended or deleted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.units.test_any_order import CONSTANTS, FLAGS, OPENED, pems, site
from xds.kube.objects import Backend, Ingress, Meta, Object, Path, Rule, Secret, Tls, ref
from xds.kube.world import World, last_valid_key
from xds.problem import Ref
from xds.snapshot import SECRET, Snapshot
from xds.units import kept
from xds.units.record import Certificate
from xds.units.tables import Tables

FIRST = Ref("Secret", "one", "first")
GOOD, RENEWED = ({"tls.crt": chain, "tls.key": key} for chain, key in pems()[:2])
RUBBISH = {"tls.crt": b"rubbish", "tls.key": b"rubbish"}


def secret(data: dict[str, bytes], name: str = "first") -> Secret:
    return Secret(meta=Meta(namespace="one", name=name), type="kubernetes.io/tls", data=data)


def web(certificate: str = "first") -> Ingress:
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("s0", 80)),))
    return Ingress(meta=Meta(namespace="one", name="web"), rules=(rule,), tls=(Tls(("a.example.com",), certificate),))


class Life:
    """A World and its Tables, told what is kept as the control plane is."""

    def __init__(self, *put: Object) -> None:
        self.world = World(FLAGS, CONSTANTS)
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.take([*OPENED, *site(1), web(), *put])

    def take(self, put: Sequence[Object] = (), drop: Sequence[Ref] = ()) -> None:
        found = kept.changes(self.tables, put, drop)
        keys = self.world.apply(put, drop)
        for key, pair in found.items():
            keys |= self.world.set_constant(key, pair)
        self.tables.apply(keys).publish(self.snapshot)

    def shown(self, name: str = "one/first") -> bytes | None:
        there = name in self.snapshot[SECRET]
        return self.snapshot[SECRET][name].body if there else None

    def codes(self) -> set[str]:
        return {p.code.split(":")[0] for p in self.tables.problems() if p.about == FIRST or p.about.name == "web"}


@pytest.mark.parametrize("worse", [RUBBISH, {}, {"tls.crt": GOOD["tls.crt"], "tls.key": pems()[1][1]}, {"tls.crt": GOOD["tls.crt"]}])
def test_a_broken_renewal_takes_no_host_down(worse: dict[str, bytes]) -> None:
    life = Life(secret(GOOD))
    before = life.shown()
    life.take([secret(worse)])
    assert life.shown() == before is not None
    [problem] = [p for p in life.tables.problems() if p.about == FIRST and p.code.startswith("certificate-kept:")]
    assert "the certificate that it held before stays in place until that is fixed" in problem.sentence


def test_what_is_broken_twice_keeps_what_was_good_once() -> None:
    life = Life(secret(GOOD))
    before = life.shown()
    life.take([secret(RUBBISH)])
    life.take([secret({})])
    assert life.shown() == before


def test_a_mended_secret_is_served_and_the_problem_is_gone() -> None:
    life = Life(secret(GOOD))
    life.take([secret(RUBBISH)])
    life.take([secret(RENEWED)])
    assert life.shown() == Life(secret(RENEWED)).shown()
    assert life.codes() == Life(secret(RENEWED)).codes()
    assert life.world.get(last_valid_key("one", "first")) is None


def test_a_deleted_secret_is_served_no_longer_also_if_it_was_broken_and_comes_back_so() -> None:
    for data in (GOOD, RUBBISH):
        life = Life(secret(GOOD))
        life.take([secret(data)])
        life.take(drop=[FIRST])
        assert life.shown() is None
        assert "secret-missing" in life.codes()
        life.take([secret(RUBBISH)])
        assert life.shown() is None


def test_a_secret_that_was_never_good_keeps_nothing() -> None:
    """Also where it is that of the default certificate, in whose place the generated one is served."""
    life = Life(secret(RUBBISH))
    life.take([secret({})])
    assert life.shown() is None
    assert life.world.get(last_valid_key("one", "first")) is None
    assert "certificate-kept" not in life.codes()


def test_what_is_kept_of_a_secret_stays_while_no_host_needs_it_and_it_is_no_better() -> None:
    life = Life(web("second"), secret(GOOD, "second"))
    before = life.shown("one/second")
    life.take([secret(RUBBISH, "second")])
    life.take(drop=[ref(web())])
    life.take([secret({}, "second")])
    assert life.shown("one/second") is None
    life.take([web("second")])
    assert life.shown("one/second") == before is not None


def test_of_a_secret_that_nobody_serves_nothing_is_kept() -> None:
    life = Life(secret(GOOD, "other"))
    assert kept.changes(life.tables, [secret(RUBBISH, "other")], []) == {}


def test_what_was_mended_while_nobody_served_it_is_kept_no_longer() -> None:
    life = Life(secret(GOOD, "second"), web("second"))
    life.take([secret(RUBBISH, "second")])
    assert life.shown("one/second")
    life.take(drop=[ref(web())])
    life.take([secret(RENEWED, "second")])
    life.take([secret(RUBBISH, "second")])
    life.take([web("second")])
    assert life.shown("one/second") is None


def test_the_default_certificate_of_the_flags_is_kept_too() -> None:
    life = Life(secret(GOOD))
    before = life.shown("default")
    life.take([secret(RUBBISH)])
    assert life.shown("default") == before


def test_after_a_restart_what_was_kept_is_served_where_the_secret_is_still_broken() -> None:
    record = {"one/first": Certificate(GOOD["tls.crt"], GOOD["tls.key"])}
    broken = Life(secret(RUBBISH))
    [(key, pair)] = kept.restored(broken.tables, record).items()
    broken.tables.apply(broken.world.set_constant(key, pair)).publish(broken.snapshot)
    assert broken.shown() == Life(secret(GOOD)).shown()
    for mended in (Life(secret(RENEWED)), Life()):
        assert kept.restored(mended.tables, record) == {}
    assert kept.restored(broken.tables, {"one/first": Certificate(b"rubbish", b"rubbish"), "no name": record["one/first"]}) == {}
