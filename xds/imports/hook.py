"""The import hook: which modules of libraries are loaded in a way of their own. The table of them is in `xds.imports`."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import RLock
from types import ModuleType, SimpleNamespace
from typing import Any

from xds.imports import plain_messages

_GRPCLIB = SimpleNamespace(ServiceBase=object, ServiceStub=object)
"""What the generated modules use of betterproto2.grpclib while they are imported."""


def _import_generated(name: str, *rest: Any) -> Any:
    """`__import__` for the generated modules."""
    if stand_in := plain_messages.STAND_INS.get(name):
        return stand_in
    if "betterproto2.grpclib" not in sys.modules:
        if name == "grpclib":
            return SimpleNamespace()
        if name == "betterproto2" and rest[2:3] == (("grpclib",),):
            return SimpleNamespace(grpclib=_GRPCLIB)
    return __import__(name, *rest)


def _import_betterproto2(name: str, *rest: Any) -> Any:
    """`__import__` for betterproto2, which works without pydantic where that is not installed."""
    if name == "pydantic":
        raise ImportError("xds uses messages without validators")
    return __import__(name, *rest)


def _import_kube_config(name: str, *rest: Any) -> Any:
    """`__import__` for the reader of a kubeconfig, which makes an ApiClient only for those who ask it for one."""
    if name == "kubernetes.aio.client":
        return SimpleNamespace(ApiClient=_api_client, Configuration=import_module(name).Configuration)
    return __import__(name, *rest)


def _api_client(*positional: Any, **named: Any) -> Any:
    return import_module("kubernetes.aio.client").ApiClient(*positional, **named)


class _WithImport(SourceFileLoader):
    """Runs a module with an `__import__` of its own. Python looks for that in `__builtins__`, which a module may bring along."""

    def __init__(self, name: str, path: str, replaced: Callable[..., Any]) -> None:
        super().__init__(name, path)
        self._replaced = replaced

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": self._replaced}
        super().exec_module(module)


class _AtFirstUse(SourceFileLoader):
    """Runs the body of a package when somebody uses a name of it. A module of it that is imported by its whole name is no such use."""

    def exec_module(self, module: ModuleType) -> None:
        _at_first_use(module, super().exec_module)


class _Generated(SourceFileLoader):
    """Runs a generated module with an `__import__` of its own, when somebody uses a name of it.

    Each imports all that its messages may have in them: two hundred modules, of which half are used.
    """

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import_generated}
        _at_first_use(module, super().exec_module)


def _at_first_use(module: ModuleType, run: Callable[[ModuleType], None]) -> None:
    """Have the body of a module run when somebody asks for a name that is not there yet.

    It runs in a twin, whose names come over all at once: no other thread finds the first classes of a module without what they refer to.
    """
    lock = RLock()
    body = ModuleType(module.__name__)
    begun: list[bool] = []

    def first_use(name: str) -> Any:
        with lock:  # another thread waits; the body itself asks for what it has already, or is about to import, which is not there
            if not begun:
                begun.append(True)
                vars(body).update({known: value for known, value in vars(module).items() if value is not first_use})
                run(body)
                vars(module).update(vars(body))
                if vars(module).get("__getattr__") is first_use:
                    del vars(module)["__getattr__"]
            return vars(body)[name] if name in vars(body) else object.__getattribute__(module, name)

    vars(module)["__getattr__"] = first_use


class _WithLateAuthorities(SourceFileLoader):
    """Runs a module whose TLS contexts read the authorities of the system late."""

    def exec_module(self, module: ModuleType) -> None:
        from xds.imports.late_authorities import late  # it imports ssl, which a command without aiohttp does not need

        with late():
            super().exec_module(module)


_LOADERS: dict[str, Callable[[str, str], SourceFileLoader]] = {
    "betterproto2": lambda name, path: _WithImport(name, path, _import_betterproto2),
    "kubernetes": _AtFirstUse,
    "kubernetes.aio": _AtFirstUse,
    "kubernetes.aio.config.kube_config": lambda name, path: _WithImport(name, path, _import_kube_config),
    "aiohttp.connector": _WithLateAuthorities,
    "xds.debug.v1": _Generated,
}
_GENERATED = "envoy_data_plane."


class Finder:
    """The import hook, for `sys.meta_path`. Whatever is not loaded from source files is loaded as always."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What `importlib` asks of each finder: how to load a module; None for all that other finders load."""
        loader = _Generated if name.startswith(_GENERATED) else _LOADERS.get(name)
        if loader is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = loader(spec.loader.name, spec.loader.path)
        return spec


def begin() -> None:
    """Import in this way from now on."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), Finder)
