"""Dataclasses whose methods, but for `__init__`, are compiled by their first call.

`dataclasses` writes each method of a class as text and compiles it: a frozen class has six, and there are two hundred such classes. That is
a tenth of the imports of a control plane, and a command calls few of these methods. `__init__` is made at once, since its signature is read
by others. Python 3.13 compiles all methods of a class together; there nothing is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

_Create = Callable[..., Callable[..., Any]]
"""`dataclasses._create_fn(name, parameters, lines, …)`: a function from its text."""


def begin() -> None:
    """Compile methods late from now on."""
    create: _Create | None = getattr(dataclasses, "_create_fn", None)
    if create is not None and getattr(create, "__module__", "") == dataclasses.__name__:
        vars(dataclasses)["_create_fn"] = _late(create)


def _late(create: _Create) -> _Create:
    def create_late(name: str, *text: Any, **options: Any) -> Callable[..., Any]:
        return create(name, *text, **options) if name == "__init__" else _method(name, lambda: create(name, *text, **options))

    return create_late


def _method(name: str, compiled: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """A method that takes the place of itself with its first call, in the class that it is of."""
    made: list[Callable[..., Any]] = []

    def method(self: Any, *positional: Any) -> Any:
        if not made:  # two threads may both compile it, with equal results
            made.append(compiled())
            made[0].__qualname__ = method.__qualname__
            for cls in type(self).__mro__:
                if vars(cls).get(name) is method:
                    setattr(cls, name, made[0])
        return made[0](self, *positional)

    method.__name__ = name
    return method
