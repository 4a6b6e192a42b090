"""An Ingress that was served keeps its last valid form while its annotations are refused, as ingress-nginx keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from tests.publish.wired import Wired
from tests.web.site import SETTINGS
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressClass,
    Meta,
    Object,
    Path,
    Rule,
    Service,
    ServicePort,
    ref,
)
from xds.kube.world import refused_edit_key
from xds.problem import Problem, Severity
from xds.snapshot import ROUTE, TYPES
from xds.units.record import MOST_OF_FORMS, LastForm, affordable, decode

FLAGS = replace(SETTINGS, configmap="default/config")
PREFIX = "nginx.ingress.kubernetes.io/"
PLAIN = {"proxy-read-timeout": "30"}
BLOCKED = {"upstream-vhost": "beta.test"}
"""What the ConfigMap may forbid later."""
REFUSED = {"connection-proxy-header": "upgrade"}
OTHER_REFUSED = {"permanent-redirect": "no address", "proxy-read-timeout": "31"}
WITH_RULE = {**REFUSED, "allowlist-source-range": "10.0.0.0/8"}
FORMS = (PLAIN, BLOCKED, REFUSED, OTHER_REFUSED, WITH_RULE)
STATE = dict[str, dict[str, bytes]]
BACKENDS: tuple[Object, ...] = tuple(
    item
    for name in "abcd"
    for item in (
        Service(meta=Meta(namespace="default", name=name), cluster_ips=("10.96.0.1",), ports=(ServicePort(80),)),
        EndpointSlice(
            meta=Meta(namespace="default", name=name), service=name, ports=(EndpointPort("", 80),), endpoints=(Endpoint(("10.0.0.1",)),)
        ),
    )
)


def web(name: str, annotations: Mapping[str, str], *, uid: str = "1", path: str = "/", version: str = "", created: str = "") -> Ingress:
    """Both hosts of "a" are those of "b" as well, so that the older one decides."""
    rules = tuple(Rule(host, (Path(path, "Prefix", Backend(name, 80)),)) for host in ("shared.test", f"{name}.test"))
    meta = Meta(namespace="default", name=name, annotations={PREFIX + key: text for key, text in annotations.items()}, version=version)
    return Ingress(meta=msgspec.structs.replace(meta, created=created), uid=uid, rules=rules)


def forbidding(words: str) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace="default", name="config"), data={"annotation-value-word-blocklist": words} if words else {})


def state(site: Wired) -> STATE:
    return {t: {name: bytes(r.body) for name, r in site.snapshot[t].items()} for t in TYPES}


async def started() -> Wired:
    """A control plane that has backends, and no Ingress yet."""
    site = Wired(FLAGS)
    await site.put(*BACKENDS)
    return site


async def shown(*objects: Object) -> STATE:
    """What a control plane serves that starts with these."""
    site = await started()
    await site.put(*objects)
    return state(site)


def edits(site: Wired) -> list[Problem]:
    return [problem for problem in site.publisher.problems() if problem.code == "edit-refused"]


async def test_a_refused_edit_changes_nothing_and_says_so() -> None:
    site = await started()
    await site.put(web("a", PLAIN, version="1"))
    before = state(site)
    await site.put(web("a", REFUSED, path="/other", version="2"))
    assert state(site) == before
    [problem] = edits(site)
    assert problem.field == f"metadata.annotations[{PREFIX}connection-proxy-header]"
    assert problem.severity is Severity.ERROR
    assert problem.sentence.endswith("; what was valid before stays in effect until that is fixed.")
    assert site.world.get(tuple(problem.about)).meta.version == "2"  # of which Envoys are up to date, and whose status is written
    await site.put(web("a", {"proxy-read-timeout": "31"}, path="/other", version="3"))
    assert state(site) == await shown(web("a", {"proxy-read-timeout": "31"}, path="/other"))
    assert not edits(site)


@pytest.mark.parametrize("annotations", [REFUSED, OTHER_REFUSED])
async def test_what_was_never_valid_is_left_out_and_so_is_another_object_of_the_name(annotations: dict[str, str]) -> None:
    site = await started()
    await site.put(web("a", annotations))
    assert state(site) == await shown()
    await site.put(web("a", PLAIN, uid="1"))
    await site.put(web("a", annotations, uid="2"))
    assert state(site) == await shown()
    assert not edits(site)
    await site.put(web("a", PLAIN, uid="2"))
    await site.put(web("a", annotations, uid="2"), drop=[ref(web("a", {}))])  # created anew, and nobody gave it a uid
    assert state(site) == await shown()


@pytest.mark.parametrize(
    ("before", "edit", "is_open"),
    [
        ({}, {"allowlist-source-range": "10.0.0.0/8"}, False),
        ({}, {"auth-type": "basic", "auth-secret": "users"}, False),
        ({}, {"auth-type": "rubbish"}, False),  # a rule that cannot be read is a rule
        ({}, {"auth-url": "http://auth.test/"}, False),
        ({}, {"auth-url": "not an address"}, False),
        ({}, {"auth-tls-secret": "default/ca"}, False),
        ({}, {"denylist-source-range": "rubbish"}, False),
        ({"allowlist-source-range": "0.0.0.0/0"}, {"allowlist-source-range": "10.0.0.0/8"}, False),
        ({"satisfy": "any", "allowlist-source-range": "10.0.0.0/8"}, {"allowlist-source-range": "10.0.0.0/8"}, False),
        ({"allowlist-source-range": "10.0.0.0/8"}, {"allowlist-source-range": " 10.0.0.0/8 "}, True),
        ({"allowlist-source-range": "10.0.0.0/8"}, {}, True),
        ({"auth-url": "http://auth.test/"}, {"auth-url": "http://auth.test/", "auth-signin": "http://no address"}, True),
        ({}, {"limit-rps": "5"}, True),
    ],
)
async def test_what_an_edit_would_have_protected_is_closed(before: dict[str, str], edit: dict[str, str], is_open: bool) -> None:
    """ingress-nginx keeps such a form open to everybody."""
    site = await started()
    await site.put(web("a", before))
    served = state(site)
    await site.put(web("a", {**REFUSED, **edit}))
    closed = await shown(web("a", {**before, "denylist-source-range": "rubbish"}))
    assert (state(site) == served) is is_open
    assert (state(site)[ROUTE] == closed[ROUTE]) is not is_open
    assert all(("stays in effect" in problem.sentence) is is_open for problem in edits(site))
    assert all(("answer 503" in problem.sentence) is not is_open for problem in edits(site))
    assert edits(site)


async def test_what_the_config_map_forbids_is_not_kept() -> None:
    """The administrator's word holds at once, also for what was kept; what is allowed again is served."""
    site = await started()
    await site.put(web("a", BLOCKED), web("b", BLOCKED), forbidding(""))
    await site.put(web("b", REFUSED))
    assert state(site) == await shown(web("a", BLOCKED), web("b", BLOCKED))
    await site.put(forbidding("beta"))
    assert state(site) == await shown()
    assert not edits(site)
    await site.put(forbidding("upgrade"))
    assert state(site) == await shown(web("a", BLOCKED), web("b", BLOCKED))
    await site.put(forbidding("beta"), web("b", OTHER_REFUSED))
    assert state(site) == await shown()
    await site.put(forbidding(""))
    assert state(site) == await shown(web("a", BLOCKED))


async def test_what_the_config_map_no_longer_forbids_takes_the_place_of_what_was_kept() -> None:
    site = await started()
    await site.put(web("a", PLAIN), forbidding("beta"))
    await site.put(web("a", BLOCKED, version="2"))
    assert state(site) == await shown(web("a", PLAIN))
    await site.put(forbidding(""))
    assert state(site) == await shown(web("a", BLOCKED))
    assert not edits(site)
    assert site.world.get(refused_edit_key("default", "a")) is None


async def test_an_edit_that_gives_an_ingress_to_another_class_ends_it() -> None:
    site = await started()
    theirs = IngressClass(meta=Meta(namespace="", name="theirs"), controller="another")
    await site.put(theirs, web("a", PLAIN))
    await site.put(msgspec.structs.replace(web("a", REFUSED), class_name="theirs"))
    assert state(site) == await shown()
    await site.put(web("a", PLAIN))
    await site.put(web("a", REFUSED))
    await site.put(msgspec.structs.replace(web("a", REFUSED), class_name="theirs"))
    assert state(site) == await shown()


async def test_conflicts_follow_the_form_that_is_served() -> None:
    """Of two that claim a path the older one has it; what it would claim by a refused edit it does not."""
    older, younger = (web(name, PLAIN, created=f"2026-01-0{day}T00:00:00Z") for day, name in enumerate("ab", 1))
    site = await started()
    await site.put(older, younger)
    before = state(site)
    await site.put(web("a", REFUSED, path="/other", created=older.meta.created))
    assert state(site) == before
    assert {p.about.name for p in site.publisher.problems() if p.code.startswith("conflict")} == {"b"}


async def test_a_status_that_is_written_meanwhile_changes_nothing_and_is_there() -> None:
    site = await started()
    await site.put(web("a", PLAIN, version="1"))
    await site.put(web("a", REFUSED, version="2"))
    before = state(site)
    await site.put(msgspec.structs.replace(web("a", REFUSED, version="3"), addresses=("192.0.2.1",)))
    assert state(site) == before
    assert site.world.get(("Ingress", "default", "a")).addresses == ("192.0.2.1",)
    assert len(edits(site)) == 1


async def test_replicas_agree_on_the_later_form_whoever_learns_of_the_other() -> None:
    one, other = await started(), await started()
    for site, version, form in ((one, "9", PLAIN), (other, "10", {"proxy-read-timeout": "60"})):
        await site.put(web("a", form, version=version))
        await site.put(web("a", REFUSED, version="11"))
    first, second = one.coordination.saved[-1], other.coordination.saved[-1]
    await one.publisher.learn(second)
    await other.publisher.learn(first)
    assert state(one) == state(other) == await shown(web("a", {"proxy-read-timeout": "60"}))
    assert one.coordination.saved[-1] == other.coordination.saved[-1] == second


async def test_after_a_restart_nothing_is_kept_of_what_is_valid_gone_or_another_object() -> None:
    site = await started()
    await site.put(web("a", PLAIN), web("b", PLAIN), web("c", PLAIN), web("d", BLOCKED))
    await site.put(*(web(name, REFUSED) for name in "abcd"))
    now = [web("a", {"proxy-read-timeout": "60"}), web("c", REFUSED, uid="2"), web("d", REFUSED), forbidding("beta,upgrade")]
    fresh = await started()
    await fresh.put(*now)
    await fresh.publisher.learn(site.coordination.saved[-1])
    assert state(fresh) == await shown(now[0])
    assert not fresh.world.refused_edits()


def test_the_record_has_the_short_forms_where_not_all_fit() -> None:
    long, short = web("a" * (MOST_OF_FORMS // 2), PLAIN), web("b", PLAIN)
    forms = {"default/a": LastForm("1", "1", long), "default/b": LastForm("1", "1", short)}
    assert affordable(forms).keys() == {"default/b"}
    assert sum(map(len, affordable({f"default/{n}": LastForm("1", "1", short) for n in range(5_000)}).values())) <= MOST_OF_FORMS


@dataclass
class Model:
    """What is to be served: of each name how it is written, by which uid, and its last valid form while that is refused."""

    forbids: bool = False
    written: dict[str, tuple[int, str]] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def valid(self, form: int) -> bool:
        return form == 0 or (form == 1 and not self.forbids)

    def served(self, name: str) -> int | None:
        form = self.last.get(name, self.written[name][0])
        return form if self.valid(form) else None

    def put(self, name: str, form: int, uid: str) -> None:
        before = self.served(name) if name in self.written and self.written[name][1] == uid else None
        self.last.pop(name, None)
        self.written[name] = (form, uid)
        if not self.valid(form) and before is not None:
            self.last[name] = before

    def drop(self, name: str) -> None:
        self.written.pop(name, None)
        self.last.pop(name, None)

    def forbid(self, what: bool) -> None:
        self.forbids = what
        for name, (form, _) in self.written.items():
            if self.valid(form):
                self.last.pop(name, None)

    def objects(self) -> list[Ingress]:
        """Ingresses that are served as they are written, and come to the same. What is closed is so for a rule that cannot be read."""
        found = []
        for name, (form, _) in self.written.items():
            if (shows := self.served(name)) is not None:
                is_closed = FORMS[form] is WITH_RULE
                found.append(web(name, {**FORMS[shows], **({"allowlist-source-range": "rubbish"} if is_closed else {})}))
        return found


class Step(NamedTuple):
    what: str
    name: str
    form: int
    uid: str


STEPS = st.builds(
    Step, st.sampled_from(("put", "put", "put", "drop", "forbid", "allow")), st.sampled_from("ab"), st.integers(0, 4), st.sampled_from("12")
)


async def play(batches: Sequence[Sequence[Step]]) -> None:
    site, model = await started(), Model()
    for number, batch in enumerate(batches):
        put: dict[str, Ingress | ConfigMap] = {}
        drop: set[str] = set()
        ordered = sorted(batch, key=lambda step: step.what in ("put", "drop"))  # the ConfigMap of a batch judges the others
        for step in {("config" if step.what in ("forbid", "allow") else step.name): step for step in ordered}.values():
            if step.what in ("forbid", "allow"):
                model.forbid(step.what == "forbid")
                put["config"] = forbidding("beta" if model.forbids else "")
            elif step.what == "put":
                model.put(step.name, step.form, step.uid)
                put[step.name] = web(step.name, FORMS[step.form], uid=step.uid, version=str(number))
            else:
                model.drop(step.name)
                drop.add(step.name)
        await site.put(*put.values(), drop=[ref(web(name, {})) for name in sorted(drop)])
        assert not site.tables.build.faults
    config = forbidding("beta" if model.forbids else "")
    wanted = await shown(config, *model.objects())
    assert state(site) == wanted
    refused = {name for name in model.last if model.served(name) is not None}
    assert {problem.about.name for problem in edits(site)} == refused
    again = await started()
    await again.put(config, *(web(name, FORMS[form], uid=uid) for name, (form, uid) in model.written.items()))
    if site.coordination.saved:
        await again.publisher.learn(site.coordination.saved[-1])
        assert decode(site.coordination.saved[-1]).forms.keys() == {f"default/{name}" for name in model.last}
    assert state(again) == wanted


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=3), max_size=8))
def test_any_order_of_edits_serves_what_was_valid_last_and_a_restart_changes_nothing(batches: list[list[Step]]) -> None:
    asyncio.run(play(batches))
