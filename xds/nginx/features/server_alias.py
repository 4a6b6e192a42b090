"""server-alias: further names under which a host is served."""

from __future__ import annotations

import re

from xds.model import Name
from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, Phase, Risk, Scope, Unreadable
from xds.nginx.values import shown, words

MOST_ALIASES = 100
"""Aliases of one Ingress that have an effect: each repeats the paths of the host in every Envoy."""
_FORM = re.compile(r"[-._~a-zA-Z0-9/:^$\[\](){}*+?|&=\\]*")
_NAME = re.compile(r"(\*\.)?([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?")


def _aliases(text: str) -> tuple[str, ...]:
    """The names as ingress-nginx takes them, in lower case."""
    found = words(text)
    for name in found:
        if not _FORM.fullmatch(name):
            raise ValueError(f"is {shown(text)}, where {shown(name)} is no host such as www.example.com")
    return tuple(dict.fromkeys(name.lower() for name in found))


def _is_name(text: str) -> bool:
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def _is_regex(name: str) -> bool:
    return name.startswith("~")


SERVER_ALIAS = Annotation[tuple[str, ...]](
    "server-alias",
    _aliases,
    "Further names of the host, separated by commas; one may begin with `*.`, which stands for one label or more.",
    "www.example.com, shop.example.com",
    (),
    Fidelity.APPROXIMATE,
    "names that are regular expressions have no effect",
    lambda names, _paths: any(map(_is_regex, names)),
    scope=Scope.HOST,
    risk=Risk.HIGH,
    unreadable=Unreadable.LEAVES_OUT,
)


def _read(notes: Notes) -> tuple[str, ...] | None:
    found = notes.get(SERVER_ALIAS)
    for name in found:
        if _is_regex(name):
            notes.complain(SERVER_ALIAS, f"has {shown(name)}, and no regular expression can be a name here; write the names, or use *.")
        elif not _is_name(name):
            notes.complain(SERVER_ALIAS, f"has {shown(name)}, which is no host such as www.example.com")
    names = tuple(name for name in found if _is_name(name))
    if len(names) > MOST_ALIASES:
        notes.complain(SERVER_ALIAS, f"has {len(names)} names; those after the first {MOST_ALIASES} are left out")
    return names[:MOST_ALIASES] or None


def _names(aliases: tuple[str, ...], host: str) -> tuple[Name, ...]:
    return tuple(map(Name, aliases)) if host else ()


FEATURE = Feature(read=_read, annotations=(SERVER_ALIAS,), phase=Phase.HOST, names=_names)
