"""The Reflector's promises (R1 to R8), without any network: what it asks, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from xds.kube.apiserver.reflector import LONGEST_EVENT, PAGE, Backoff, Delay, List, Reflector, Watch, Watched
from xds.kube.objects import Object, Service, ref
from xds.kube.source import Change
from xds.problem import Ref

from .scripted import Json, Selection, Store, bookmark, head, line, status

SERVICES = Watched("Service", "v1", "services", "no backend is known")
ALL = Selection("services")
BACKOFF = Backoff(first=1.0, longest=30.0, denied=60.0, longest_retry_after=60.0, reset_after=10.0, watch=300)
LONGEST = 300 * (0.75 + 0.999999 / 4)


class Led:
    """A Reflector with a clock that only moves when told, and whose chance is always the most that there is."""

    def __init__(self, resource: Watched = SERVICES) -> None:
        self.now = 1000.0
        self.reflector = Reflector(resource, self.now, lambda: 0.999999, BACKOFF)
        self.objects: dict[Ref, Object] = {}
        self.problems: dict[str, list[str]] = {}
        self.told: list[Change] = []

    def next(self) -> List | Watch | Delay:
        return self.reflector.next(self.now)

    def take(self, change: Change) -> None:
        self.told.append(change)
        for gone in change.drop:
            self.objects.pop(gone, None)  # what came and went meanwhile is dropped, too
        for item in change.put:
            self.objects[ref(item)] = item
        for place, problems in change.problems.items():
            self.problems[place] = [problem.code for problem in problems]

    def pause(self) -> float:
        """Wait as long as it asks for; returns the seconds."""
        before = self.now
        while isinstance(wait := self.next(), Delay):
            self.now += wait.seconds
        return round(self.now - before, 3)

    def list(self, store: Store) -> None:
        while isinstance(ask := self.next(), List):
            code, body = store.page(ALL, ask.limit, ask.token)
            assert code == 200
            self.page(body)

    def page(self, body: Json) -> None:
        self.take(self.reflector.page(json.dumps(body).encode(), self.now))

    def watch(self, *lines: bytes) -> None:
        """Open a watch, and read these lines."""
        assert isinstance(self.next(), Watch)
        self.take(self.reflector.opened(self.now))
        self.read(*lines)

    def read(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.take(self.reflector.data(chunk, self.now))

    def refuse(self, code: int, reason: str = "", retry_after: str = "") -> None:
        body = json.dumps(status(code, reason, "scripted")).encode()
        self.take(self.reflector.rejected(code, body, retry_after, self.now))

    def names(self) -> set[str]:
        return {which.name for which in self.objects}


def service(port: int = 80) -> Json:
    return {"spec": {"ports": [{"port": port}]}}


def filled(*names: str) -> Store:
    store = Store()
    for name in names:
        store.put("services", name, **service())
    return store


def event(kind: str, item: Json) -> bytes:
    return line(kind, {**head("services"), **item})


def versions(objects: Iterable[Object]) -> dict[str, str]:
    return {item.meta.name: item.meta.version for item in objects}


def listed(*names: str) -> tuple[Led, Store]:
    led, store = Led(), filled(*names)
    led.list(store)
    return led, store


def test_first_it_lists_a_page_then_what_follows_then_it_watches_from_the_version_of_the_list() -> None:
    store = filled(*(f"s{number:04}" for number in range(2 * PAGE + 1)))
    led, asked = Led(), []
    while isinstance(ask := led.next(), List):
        asked.append(ask)
        _, body = store.page(ALL, ask.limit, ask.token)
        assert not led.reflector.has_listed
        led.page(body)
    assert [(ask.limit, bool(ask.token)) for ask in asked] == [(PAGE, False), (PAGE, True), (PAGE, True)]
    assert len(led.objects) == len(led.reflector) == 2 * PAGE + 1
    assert led.reflector.has_listed
    assert ask == Watch(str(store.version), LONGEST)


def test_a_page_in_the_middle_that_cannot_be_had_is_asked_for_again_and_not_the_whole_list() -> None:
    store = filled(*(f"s{number:04}" for number in range(PAGE + 1)))
    led = Led()
    led.page(store.page(ALL, PAGE, "")[1])
    again = led.next()
    led.reflector.failed("cut", led.now)
    led.pause()
    assert led.next() == again
    led.list(store)
    assert len(led.objects) == PAGE + 1


def test_events_put_and_drop_one_object_each_and_move_the_version() -> None:
    led, store = listed("a")
    added, changed = store.put("services", "b", **service()), store.put("services", "a", **service(81))
    store.delete("services", "b")
    led.watch(event("ADDED", added), event("MODIFIED", changed), *list(store.since(ALL, store.version - 1)))
    assert [versions(change.put) for change in led.told[-3:]] == [{"b": "102"}, {"a": "103"}, {}]
    assert led.told[-1].drop == (Ref("Service", "default", "b"),)
    assert "managedFields" not in repr(led.objects)
    led.reflector.ended(led.now)
    led.pause()
    assert led.next() == Watch("104", LONGEST)


def test_a_bookmark_moves_the_version_and_tells_nothing() -> None:
    led, _ = listed("a")
    led.watch(bookmark("services", 500))
    assert not led.told[-1]
    led.reflector.ended(led.now)
    led.pause()
    assert led.next() == Watch("500", LONGEST)


def test_events_may_be_cut_anywhere_and_come_together() -> None:
    led, store = listed()
    items = [store.put("services", name, **service()) for name in "abc"]
    stream = b"".join(event("ADDED", item) for item in items)
    led.watch()
    for at in range(0, len(stream), 7):
        led.read(stream[at : at + 7])
    assert led.names() == {"a", "b", "c"}
    led, _ = listed()
    led.watch(stream)
    assert len(led.told[-1].put) == 3


def test_half_an_event_counts_as_none_and_comes_again() -> None:
    led, store = listed()
    stream = event("ADDED", store.put("services", "a", **service())) + event("ADDED", store.put("services", "b", **service()))
    led.watch(stream[:-20])
    assert led.names() == {"a"}
    led.reflector.failed("cut", led.now)
    led.pause()
    assert led.next() == Watch("101", LONGEST)
    led.take(led.reflector.opened(led.now))
    led.read(event("ADDED", store.objects["services", "default", "b"]))
    assert led.names() == {"a", "b"}


@pytest.mark.parametrize("by_event", [True, False])
def test_after_gone_a_list_says_what_vanished_and_only_what_changed_is_told_again(by_event: bool) -> None:
    led, store = listed("kept", "changed", "vanished")
    store.put("services", "changed", **service(81))
    store.delete("services", "vanished")
    store.put("services", "new", **service())
    if by_event:
        led.watch(line("ERROR", status(410, "Expired", "too old")))
        assert not led.reflector.is_watching
    else:
        led.refuse(410, "Expired")
    led.pause()
    assert led.next() == List(PAGE, "")
    led.list(store)
    assert versions(led.told[-1].put).keys() == {"changed", "new"}
    assert led.told[-1].drop == (Ref("Service", "default", "vanished"),)
    assert led.objects == store.world(ALL)


def test_what_vanished_before_a_list_broke_off_and_began_anew_is_dropped_once_a_list_is_whole() -> None:
    led, store = listed(*(f"s{number:04}" for number in range(PAGE + 1)))
    led.refuse(410)
    led.pause()
    store.put("services", "a-new-one", **service())
    led.page(store.page(ALL, PAGE, "")[1])
    assert "a-new-one" in led.names()
    store.delete("services", "a-new-one")
    store.delete("services", "s0500")
    store.compact()
    assert isinstance(led.next(), List)
    led.refuse(410, "Expired")
    assert not led.told[-1].drop, "a list that breaks off decides nothing"
    led.pause()
    assert led.next() == List(0, ""), "the next list is not paged, so that its token cannot expire"
    led.list(store)
    assert led.objects == store.world(ALL)
    led.refuse(410)
    led.pause()
    assert led.next() == List(PAGE, "")


def test_pages_that_lead_round_in_circles_are_given_up() -> None:
    store, led = filled("a"), Led()
    body = store.page(ALL, PAGE, "")[1]
    body["metadata"]["continue"] = "round"
    led.page(body)
    assert led.next() == List(PAGE, "round")
    led.page(body)
    assert led.pause() > 0
    assert led.next() == List(PAGE, "")


def test_pauses_double_up_to_half_a_minute_while_nobody_answers_and_the_version_is_kept() -> None:
    led, _ = listed("a")
    pauses = []
    for _ in range(8):
        assert led.next() == Watch("101", LONGEST)
        led.reflector.failed("refused", led.now)
        pauses.append(led.pause())
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_chance_makes_a_pause_shorter_by_up_to_a_half() -> None:
    reflector = Reflector(SERVICES, 0.0, lambda: 0.0, BACKOFF)
    reflector.failed("refused", 0.0)
    assert reflector.next(0.0) == Delay(0.5)


def test_watches_that_end_at_once_are_asked_for_ever_more_seldom() -> None:
    led, _ = listed("a")
    pauses = []
    for _ in range(6):
        led.watch()
        led.reflector.ended(led.now)
        pauses.append(led.pause())
    assert pauses == [1, 2, 4, 8, 16, 30]


def test_a_watch_that_told_something_new_makes_the_pause_short_again_and_one_that_lasted_needs_none() -> None:
    led, store = listed("a")
    for _ in range(3):
        led.watch()
        led.reflector.ended(led.now)
        led.pause()
    led.watch(event("ADDED", store.put("services", "b", **service())))
    led.reflector.ended(led.now)
    assert led.pause() == 1
    led.watch()
    led.now += BACKOFF.reset_after
    led.reflector.ended(led.now)
    assert led.pause() == 0


def test_a_bookmark_that_says_nothing_new_does_not_make_the_pause_short() -> None:
    led, _ = listed("a")
    pauses = []
    for _ in range(3):
        led.watch(bookmark("services", 101))
        led.reflector.ended(led.now)
        pauses.append(led.pause())
    assert pauses == [1, 2, 4]


@pytest.mark.parametrize("code", [403, 404, 410])
def test_an_api_server_that_is_back_and_has_no_past_or_no_roles_yet_is_asked_again_soon(code: int) -> None:
    led, store = listed("a")
    for _ in range(6):
        led.next()
        led.reflector.failed("refused", led.now)
        led.pause()
    led.refuse(code)
    assert led.pause() == 1
    led.refuse(code)
    assert led.pause() == 2, "but only what nobody answered is forgiven"
    led.reflector.failed("refused", led.now)
    led.refuse(code)
    assert led.pause() == 4
    led.list(store)
    assert led.names() == {"a"}


def test_a_watch_that_broke_off_after_it_was_good_is_forgiven_once() -> None:
    led, store = listed("a")
    led.watch(event("ADDED", store.put("services", "b", **service())))
    led.reflector.failed("cut", led.now)
    led.pause()
    pauses = []
    for _ in range(3):
        led.refuse(410)
        pauses.append(led.pause())
    assert pauses == [1, 2, 4]


def test_a_version_that_is_gone_as_soon_as_it_was_listed_is_no_hot_loop() -> None:
    led, store = listed("a")
    pauses = []
    for _ in range(4):
        led.watch(bookmark("services", store.version + 1), line("ERROR", status(410, "Expired", "too old")))
        pauses.append(led.pause())
        led.list(store)
    assert pauses == [1, 2, 4, 8]


@pytest.mark.parametrize(("said", "seconds"), [("7", 7), ("3600", 60), ("", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("-5", 1)])
def test_too_many_requests_wait_as_long_as_was_asked_for_but_not_for_ever(said: str, seconds: float) -> None:
    led, _ = listed("a")
    assert isinstance(led.next(), Watch)
    led.refuse(429, "TooManyRequests", said)
    assert led.pause() == seconds
    assert isinstance(led.next(), Watch), "the version is kept"


def test_unauthorized_reads_the_credentials_again_once_and_then_goes_on_where_it_was() -> None:
    led, _ = listed("a")
    assert isinstance(led.next(), Watch)
    led.refuse(401, "Unauthorized")
    wait = led.next()
    assert isinstance(wait, Delay)
    assert wait.renew
    assert led.next() == Delay(wait.seconds), "once is enough"
    assert led.pause() == 1
    assert led.next() == Watch("101", LONGEST)


@pytest.mark.parametrize(("code", "problem"), [(403, "forbidden"), (404, "not-served")])
def test_what_is_forbidden_or_not_served_is_a_problem_once_counts_as_known_and_is_tried_slowly(code: int, problem: str) -> None:
    led = Led()
    for _ in range(2):
        led.next()
        led.refuse(code)
        assert not led.reflector.is_settled
        led.pause()
    pauses = []
    for _ in range(7):
        led.next()
        led.refuse(code)
        pauses.append(led.pause())
    assert led.reflector.is_settled
    assert not led.reflector.has_listed
    told = [found for change in led.told for found in change.problems.values()]
    assert [[each.code for each in found] for found in told] == [[problem]]
    assert (told[0][0].about, told[0][0].field) == (Ref("Service", "", ""), "")
    assert "services" in str(told[0][0])
    assert "no backend is known" in str(told[0][0])
    assert pauses == [4, 8, 16, 32, 60, 60, 60]
    led.list(filled("a"))
    assert led.names() == {"a"}
    assert [*led.problems.values()] == [[]], "and the problem is gone once it is allowed"


def test_a_problem_of_rbac_names_verb_resource_and_namespace() -> None:
    led = Led(Watched("Ingress", "networking.k8s.io/v1", "ingresses", "no Ingress is served", namespace="shop"))
    for _ in range(3):
        led.pause()
        led.refuse(403)
    (problem,) = next(iter(led.told[-1].problems.values()))
    assert problem.sentence == ('The role does not allow "list" on ingresses.networking.k8s.io in namespace shop: no Ingress is served.')


def test_problems_of_objects_with_other_labels_are_told_apart() -> None:
    places = set()
    for labels in ("app=a", "app=b"):
        led = Led(replace(SERVICES, labels=labels))
        for _ in range(3):
            led.pause()
            led.refuse(403)
        places |= led.problems.keys()
    assert len(places) == 2


def test_where_only_watching_is_forbidden_listing_goes_on_and_the_problem_stays() -> None:
    led, store = listed("a")
    for _ in range(6):
        assert isinstance(led.next(), Watch)
        led.refuse(403)
        assert "a" in led.names()
        led.pause()
        assert led.next() == List(PAGE, "")
        store.put("services", "a", **service(store.version))
        led.list(store)
        assert led.objects == store.world(ALL)
    assert [*led.problems.values()] == [["forbidden"]]
    assert '"watch"' in str(next(p for change in led.told for found in change.problems.values() for p in found))
    led.watch()
    assert [*led.problems.values()] == [[]]


def test_an_api_server_that_only_has_faults_is_listed_anew_at_the_third_one() -> None:
    led, _ = listed("a")
    for _ in range(2):
        led.watch(line("ERROR", status(500, "InternalError", "etcd")))
        led.pause()
        assert isinstance(led.next(), Watch)
    led.refuse(504)
    led.pause()
    assert led.next() == List(PAGE, "")


def test_a_line_that_cannot_be_read_ends_the_watch_and_tells_what_came_before() -> None:
    led, store = listed()
    item = store.put("services", "a", **service())
    led.watch(event("ADDED", item) + b"{what?\n" + event("DELETED", item))
    assert led.names() == {"a"}
    assert not led.reflector.is_watching
    led.pause()
    assert led.next() == Watch("101", LONGEST)


def test_empty_lines_mean_nothing() -> None:
    led, store = listed()
    led.watch(b"\n\r\n" + event("ADDED", store.put("services", "a", **service())))
    assert led.names() == {"a"}
    assert led.reflector.is_watching


def test_an_event_without_end_is_given_up() -> None:
    led, _ = listed()
    led.watch(b" " * (LONGEST_EVENT // 2))
    assert led.reflector.is_watching
    led.read(b" " * (LONGEST_EVENT // 2 + 1))
    assert not led.reflector.is_watching


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"items": []}', b'{"metadata": {"resourceVersion": ""}}', b'{"metadata": {}, "items"'])
def test_a_list_that_cannot_be_read_changes_nothing(body: bytes) -> None:
    led, store = listed("a")
    led.refuse(410)
    led.pause()
    led.take(led.reflector.page(body, led.now))
    assert led.names() == {"a"}
    assert led.pause() > 0
    led.list(store)
    assert led.objects == store.world(ALL)


def test_an_object_that_cannot_be_read_is_a_problem_of_its_own_until_it_is_mended_or_gone() -> None:
    store = filled("a", "b")
    store.put("services", "bad", spec={"ports": [{"port": "eighty"}]})
    led = Led()
    led.list(store)
    assert led.names() == {"a", "b"}
    assert led.problems == {"Service default/bad": ["wrong-type"]}
    led.watch(event("MODIFIED", store.put("services", "a", spec={"ports": 1})))
    assert led.names() == {"b"}, "an object is judged as it is now"
    led.read(event("MODIFIED", store.put("services", "a", **service())))
    store.delete("services", "bad")
    led.read(*list(store.since(ALL, store.version - 1)))
    assert led.names() == {"a", "b"}
    assert led.problems == {"Service default/bad": [], "Service default/a": []}


def test_an_object_that_was_made_anew_is_told_again_whatever_its_version() -> None:
    led, store = listed("a")
    store.delete("services", "a")
    store.put("services", "a", metadata={"labels": {}}, **service(81))
    led.refuse(410)
    led.pause()
    body = store.page(ALL, PAGE, "")[1]
    body["items"][0]["metadata"]["resourceVersion"] = "101"
    led.page(body)
    assert [item.ports[0].port for item in led.objects.values() if isinstance(item, Service)] == [81]


def test_the_last_word_is_when_the_api_server_last_said_something() -> None:
    led, _ = listed("a")
    led.watch()
    led.now += 30
    led.read(bookmark("services", 200))
    spoken = led.now
    led.now += 5
    led.reflector.failed("cut", led.now)
    assert led.reflector.last_response == spoken
    assert led.reflector.fault == "cut"


def test_a_refusal_says_what_the_api_server_said_and_nothing_of_a_page_of_html() -> None:
    led = Led()
    led.refuse(503)
    assert led.reflector.fault == "The API server answered 503 (scripted)."
    led.take(led.reflector.rejected(502, b"<html>Bad Gateway", "", led.now))
    assert led.reflector.fault == "The API server answered 502."
