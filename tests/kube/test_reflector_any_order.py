"""Whatever happens to objects and to answers, in any order: in the end a Reflector knows what the API server knows."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from xds.kube.apiserver.reflector import Delay, List, Watch

from .scripted import line, status
from .test_reflector import ALL, Led, Store, service

NAMES = "abcde"
ANSWERS = ("well", "cut", "half", "ends", "garbage", "error", "expired", "refused", "forbidden", "unauthorized", "busy")
CODES = {"refused": 500, "expired": 410, "forbidden": 403, "unauthorized": 401, "busy": 429}
steps = st.one_of(
    st.tuples(st.sampled_from(["put", "put", "spoil", "delete"]), st.sampled_from(NAMES)),
    st.tuples(st.just("compact"), st.just("")),
    st.tuples(st.just("answer"), st.sampled_from(ANSWERS)),
    st.tuples(st.just("answer"), st.just("well")),
)


class Conversation:
    """A Store and a Reflector; `answer` is the next thing that comes over the line between them."""

    def __init__(self) -> None:
        self.store = Store()
        self.led = Led()
        self.position = 0
        self.requests = 0

    def put(self, name: str) -> None:
        self.store.put("services", name, **service(self.store.version))

    def spoil(self, name: str) -> None:
        self.store.put("services", name, spec={"ports": "none"})

    def delete(self, name: str) -> None:
        if ("services", "default", name) in self.store.objects:
            self.store.delete("services", name)

    def compact(self, _: str) -> None:
        self.store.compact()

    def answer(self, how: str) -> None:
        reflector, led = self.led.reflector, self.led
        if reflector.is_watching:
            self.tell(how)
            return
        ask = led.next()
        if isinstance(ask, Delay):
            led.now += ask.seconds
            return
        self.requests += 1
        if how in CODES:
            led.refuse(CODES[how])
        elif how not in ("well", "ends"):
            reflector.failed(how, led.now)
        elif isinstance(ask, List):
            code, body = self.store.page(ALL, min(ask.limit, 2), ask.token)
            led.page(body) if code == 200 else led.refuse(code)
        else:
            self.open(ask)

    def open(self, ask: Watch) -> None:
        if int(ask.version) < self.store.compacted:
            self.led.refuse(410)
        else:
            self.position = int(ask.version)
            self.led.take(self.led.reflector.opened(self.led.now))

    def tell(self, how: str) -> None:
        reflector, led = self.led.reflector, self.led
        stream = b"".join(self.store.since(ALL, self.position))
        if self.position < self.store.compacted:
            stream = line("ERROR", status(410, "Expired", "compacted"))
        self.position = self.store.version
        rest: dict[str, bytes] = {"garbage": b"{]\n", "error": line("ERROR", status(500, "", "etcd")), "half": b""}
        led.read(stream[: len(stream) // 2] if how == "half" else stream + rest.get(how, b""))
        if reflector.is_watching and how == "ends":
            reflector.ended(led.now)
        elif reflector.is_watching and how != "well":
            reflector.failed(how, led.now)


@settings(max_examples=400)
@given(st.lists(steps, max_size=60))
@example([("put", "a"), ("answer", "well"), ("answer", "expired"), ("delete", "a")])
@example([("answer", "well"), ("put", "a"), ("spoil", "a")])
def test_in_the_end_a_reflector_knows_what_the_api_server_knows(script: list[tuple[str, str]]) -> None:
    talk = Conversation()
    for what, which in script:
        act: Callable[[str], None] = getattr(talk, what)
        act(which)
    for _ in range(40):
        talk.answer("well")
    assert talk.led.reflector.is_watching
    assert talk.led.objects == talk.store.world(ALL)
    bad = {name for (_, _, name), item in talk.store.objects.items() if json.dumps(item["spec"]) == '{"ports": "none"}'}
    assert {place.rpartition("/")[2] for place, codes in talk.led.problems.items() if codes} == bad
    assert not talk.led.reflector.is_denied


@given(st.lists(st.sampled_from([how for how in ANSWERS if how != "well"]), min_size=50, max_size=50))
def test_an_api_server_that_is_never_well_is_not_asked_in_a_hot_loop(answers: list[str]) -> None:
    talk = Conversation()
    talk.put("a")
    begun = talk.led.now
    for how in answers:
        talk.answer(how)
    assert talk.requests <= 3 + 2 * (talk.led.now - begun)
