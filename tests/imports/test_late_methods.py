"""Dataclasses with late methods do what others do, from the first call on, and cost nothing more after it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import pytest

from tests.envoy.harness.process import ROOT, environment

IS_LATE = pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python compiles the methods of a class together")
BEHAVIOUR = """
import dataclasses, inspect
from dataclasses import dataclass, field

@dataclass(frozen=True, slots=True, order=True)
class Point:
    x: int
    y: int = field(default=0, compare=False)

@dataclass
class Base:
    name: str
    inner: "Base | None" = field(default=None, repr=False)

class Derived(Base):
    pass

@dataclass(eq=False)
class Mine:
    def __repr__(self):
        return "mine"

def attempt(do):
    try:
        return do()
    except Exception as error:
        return type(error).__name__, str(error).partition("0x")[0]

a, b = Point(1, 2), Point(1, 3)
loop = Base("loop"); loop.inner = loop
print(a == b, a != b, a == 1, hash(a) == hash(b), a < Point(2), a >= b, repr(a), inspect.signature(Point), Point.__match_args__)
print(attempt(lambda: setattr(a, "x", 2)), attempt(lambda: delattr(a, "x")), attempt(lambda: setattr(a, "z", 2)), attempt(lambda: a < 1))
print(Derived("n") == Derived("n"), Derived("n") == Base("n"), Derived("n"), attempt(lambda: hash(Base("n"))), Mine())
print(loop, dataclasses.replace(a, x=5), dataclasses.asdict(a), Point.__eq__.__qualname__, Base.__doc__, Point.__doc__, attempt(Point))
"""
MADE = "\n@dataclass\nclass Cyclic:\n    inner: object = None\nc = Cyclic(); c.inner = c; print(c, c)"


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    number: int = 0


def test_nobody_sees_a_difference() -> None:
    def printed(first: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", first + BEHAVIOUR + MADE], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert printed("import xds") == printed("")


@IS_LATE
def test_a_method_takes_its_own_place_with_the_first_call() -> None:
    @dataclass(frozen=True)
    class Fresh:
        name: str

    class Derived(Fresh):
        pass

    before = {name: vars(Fresh)[name] for name in ("__eq__", "__hash__")}
    assert Derived("a") == Derived("a")
    assert hash(Derived("a")) == hash(Derived("a"))
    assert all(vars(Fresh)[name] is not method for name, method in before.items())
    assert "__eq__" not in vars(Derived)
    assert inspect.getfile(vars(Fresh)["__eq__"]) == "<string>", "it is what dataclasses makes"


@IS_LATE
def test_threads_may_make_the_first_call_at_once() -> None:
    @dataclass(frozen=True)
    class Fresh:
        name: str

    together = Barrier(8)

    def compare(_: int) -> bool:
        together.wait(30)
        return Fresh("a") == Fresh("a") and hash(Fresh("a")) == hash(Fresh("a"))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(compare, range(8)))


def test_values_are_copied_and_pickled() -> None:
    value = Value("a", 1)
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == dataclasses.replace(value) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.name = "b"  # type: ignore[misc]
