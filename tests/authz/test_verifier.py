"""Who comes in, what is remembered, and that nobody's guesses stop others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from xds.authz import verifier as module
from xds.authz.turns import MOST, MOST_OF_ONE, Overloaded, Turns
from xds.authz.verifier import Admission, Verifier

from .test_hashes import HASHES, PASSWORD

USERS = {b"ada": HASHES["bcrypt 2y"], b"bob": HASHES["plain"]}


@pytest.fixture
async def verifier() -> AsyncIterator[Verifier]:
    found = Verifier(2)
    found.put("file", USERS)
    yield found
    found.close()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that were really verified."""
    asked: list[bytes] = []

    def verify(password: bytes, hashed: bytes) -> bool:
        asked.append(password)
        return real(password, hashed)

    real = module.verify
    monkeypatch.setattr(module, "verify", verify)
    return asked


async def judged(verifier: Verifier, user: bytes, password: bytes, client: str = "10.0.0.1") -> Admission:
    return await verifier.judge("file", (user, password), client)


async def test_who_has_the_password_comes_in(verifier: Verifier) -> None:
    for user in USERS:
        assert await judged(verifier, user, PASSWORD) is Admission.ADMITTED
        assert await judged(verifier, user, b"x") is Admission.REFUSED
    assert await judged(verifier, b"eve", PASSWORD) is Admission.REFUSED
    assert await verifier.judge("file", None, "") is Admission.REFUSED


async def test_a_verdict_is_found_once_also_for_those_who_ask_together(verifier: Verifier, verified: list[bytes]) -> None:
    for password in (PASSWORD, b"wrong"):
        verified.clear()
        found = await asyncio.gather(*(judged(verifier, b"ada", password) for _ in range(100)))
        assert (len(set(found)), verified) == (1, [password])


async def test_a_changed_file_remembers_nothing(verifier: Verifier, verified: list[bytes]) -> None:
    assert await judged(verifier, b"ada", PASSWORD) is Admission.ADMITTED
    verifier.put("file", {b"ada": HASHES["des"]})
    assert await judged(verifier, b"ada", PASSWORD) is Admission.ADMITTED
    verifier.put("file", {b"ada": b"{PLAIN}other"})
    assert await judged(verifier, b"ada", PASSWORD) is Admission.REFUSED
    assert verified == [PASSWORD] * 3


async def test_user_and_password_are_not_confused(verifier: Verifier) -> None:
    verifier.put("file", {b"ab": HASHES["apr1"], b"a": HASHES["apr1"]})
    assert await judged(verifier, b"ab", PASSWORD) is Admission.ADMITTED
    assert await judged(verifier, b"a", b"b" + PASSWORD) is Admission.REFUSED


async def test_guesses_push_out_guesses_only(verifier: Verifier, verified: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    await judged(verifier, b"ada", PASSWORD)
    for number in range(10):
        await judged(verifier, b"ada", b"%d" % number)
    verified.clear()
    assert await judged(verifier, b"ada", PASSWORD) is Admission.ADMITTED
    assert await judged(verifier, b"ada", b"9") is Admission.REFUSED
    assert verified == []
    await judged(verifier, b"ada", b"0")
    assert verified == [b"0"]


async def test_a_file_that_is_not_there_yet_is_waited_for(verifier: Verifier) -> None:
    asking = asyncio.create_task(verifier.judge("new", (b"bob", PASSWORD), ""))
    await asyncio.sleep(0)
    verifier.put("another", USERS)
    await asyncio.sleep(0)
    assert not asking.done()
    verifier.put("new", USERS)
    assert await asking is Admission.ADMITTED


async def test_a_file_that_never_comes_is_unknown(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    assert await verifier.judge("none", (b"bob", PASSWORD), "") is Admission.UNKNOWN
    monkeypatch.setattr(module, "PATIENCE", 1000)
    monkeypatch.setattr(module, "MOST_PATIENT", 0)
    assert await verifier.judge("none", (b"bob", PASSWORD), "") is Admission.UNKNOWN


async def test_a_file_that_is_gone_stays_for_a_moment_and_not_longer(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    monkeypatch.setattr(module, "GRACE", 1000)
    verifier.drop("file")
    assert await judged(verifier, b"bob", PASSWORD) is Admission.ADMITTED
    verifier.put("file", USERS)
    monkeypatch.setattr(module, "GRACE", 0)
    verifier.drop("file")
    verifier.put("file", USERS)  # it is there again: nothing is dropped
    await asyncio.sleep(0.001)
    assert await judged(verifier, b"bob", PASSWORD) is Admission.ADMITTED
    verifier.drop("file")
    await asyncio.sleep(0.001)
    assert await judged(verifier, b"bob", PASSWORD) is Admission.UNKNOWN


class Gate:
    """Work that is done when the gate is opened, and notes who did it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.order: list[str] = []

    def work(self, name: str) -> bool:
        assert self.open.wait(30)
        self.order.append(name)
        return True


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.open.set()


async def test_the_keys_take_turns(gate: Gate) -> None:
    turns = Turns(1)
    tasks = [asyncio.create_task(turns.run("eve", lambda n=n: gate.work(f"eve {n}"))) for n in range(5)]  # type: ignore[misc]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(turns.run("ada", lambda: gate.work("ada"))))
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*tasks) == [True] * 6
    assert gate.order.index("ada") == 2  # behind the one that ran already, and the one that had waited longer
    turns.close()


async def test_one_key_never_has_two_threads(gate: Gate) -> None:
    turns = Turns(2)
    guesses = [asyncio.create_task(turns.run("eve", lambda: gate.work("eve"))) for _ in range(5)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(turns.run("ada", lambda: True), 30)  # while the gate is closed
    gate.open.set()
    assert all(await asyncio.gather(*guesses))
    turns.close()


async def test_what_waits_is_bounded_for_one_and_for_all(gate: Gate) -> None:
    turns = Turns(1)
    tasks = [asyncio.create_task(turns.run("eve", lambda: gate.work("eve"))) for _ in range(MOST_OF_ONE + 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await asyncio.wait_for(asyncio.shield(tasks[-1]), 30)
    tasks += [asyncio.create_task(turns.run(number, lambda: gate.work("other"))) for number in range(MOST)]
    await asyncio.sleep(0)
    gate.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, Overloaded) for each in found) == 1 + MOST_OF_ONE
    turns.close()


async def test_work_that_raises_is_no_verdict() -> None:
    turns = Turns(1)
    with pytest.raises(Overloaded):
        await turns.run("a", lambda: bool(1 // 0))
    assert await turns.run("a", lambda: True)
    turns.close()
