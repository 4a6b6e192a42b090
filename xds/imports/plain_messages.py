"""The message classes of envoy-data-plane as plain dataclasses, each completed by its first use.

envoy-data-plane declares its messages as dataclasses of pydantic. Their validators took two thirds of the start of every command, and
validated again what mypy has checked, and what `xds.wire.encode` refuses. betterproto2 supports plain dataclasses as well. So the import
hook (`xds.imports.hook`) gives the generated modules stand-ins for pydantic. Both kinds of messages have the same fields and bytes
(`tests/imports/test_plain_messages.py`).

A command uses few of the hundreds of classes, and completing all would take a tenth of a second. What does not belong here: a message by
name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

_NOT_OF_THE_CLASS = frozenset({"__dict__", "__weakref__", "_abc_impl", "__init__", "__dataclass_fields__"})
"""What Python adds to a class, or `_declared`; the twin gets its own."""


def _dataclass(**_: object) -> Callable[[type], type]:
    """`pydantic.dataclasses.dataclass` for the generated classes, which all have the same options."""
    return _declared


def _declared(cls: type) -> type:
    cls.__init__ = _first_init  # type: ignore[misc]
    cls.__dataclass_fields__ = _FirstFields()  # type: ignore[attr-defined]
    return cls


class _FirstFields:
    """The `__dataclass_fields__` of a class until somebody reads them."""

    def __get__(self, message: object, cls: type) -> dict[str, dataclasses.Field[Any]]:
        _complete(cls)
        fields: dict[str, dataclasses.Field[Any]] = vars(cls)["__dataclass_fields__"]
        return fields


def _first_init(self: Any, *positional: Any, **named: Any) -> None:
    """The `__init__` of a class until its first message."""
    _complete(type(self))
    self.__init__(*positional, **named)


def _complete(cls: type) -> None:
    """Add what `dataclasses.dataclass` adds, and remember the types of the fields, which betterproto2 would evaluate for each message.

    It processes a twin of the class: while one thread does this, others may use the class, or do the same, with equal results.
    """
    body = {name: value for name, value in vars(cls).copy().items() if name not in _NOT_OF_THE_CLASS}
    twin: Any = dataclasses.dataclass(init=False, eq=False, repr=False)(type(cls)(cls.__name__, cls.__bases__, body))
    cls.__dataclass_fields__ = twin.__dataclass_fields__  # type: ignore[attr-defined]
    cls._type_hints = staticmethod(cache(cls._type_hints))  # type: ignore[attr-defined]
    cls.__init__ = _init(cls)  # type: ignore[misc]


def _init(cls: Any) -> Callable[..., None]:
    """The `__init__` that dataclasses would write and compile, which takes a third of the time of the first messages."""
    makers: dict[str, Any] = {entry.name: entry.default_factory for entry in dataclasses.fields(cls)}  # betterproto2 gives each one
    names = tuple(makers)

    def __init__(self: Any, /, *positional: Any, **named: Any) -> None:  # noqa: N807 - it is one
        given = dict(zip(names, positional, strict=False))
        unknown = [*positional[len(names) :], *(name for name in named if name not in makers or name in given)]
        if unknown:
            kind = "positional argument" if len(positional) > len(names) else "keyword argument"
            raise TypeError(f"{cls.__name__}.__init__() got an unexpected {kind} {unknown[0]!r}")
        given |= named
        vars(self).update({name: given[name] if name in given else make() for name, make in makers.items()})
        self.__post_init__()

    return __init__


STAND_INS = {
    "pydantic": SimpleNamespace(
        AfterValidator=lambda validate: validate, Field=lambda **bounds: None, model_validator=lambda mode: lambda method: method
    ),
    "pydantic.dataclasses": SimpleNamespace(dataclass=_dataclass),
    "dataclasses": SimpleNamespace(dataclass=_dataclass),
}
"""What the generated modules use of pydantic, and the one of our own `protos/` of dataclasses. They name validators and bounds in
annotations only, which others evaluate for the types."""
