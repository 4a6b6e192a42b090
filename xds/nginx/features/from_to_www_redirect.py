"""from-to-www-redirect: www.example.com leads to example.com, or the other way round; whichever of them no Ingress has a rule for."""

from __future__ import annotations

from xds.kube.objects import Ingress
from xds.model import Name, Redirect, RedirectTo
from xds.nginx.feature import Annotation, Complaint, Feature, Notes, Objects, Phase, Scope, Unreadable
from xds.nginx.features.ssl_redirect import HTTP_REDIRECT_CODE
from xds.nginx.values import boolean

_WWW = "www."
FROM_TO_WWW_REDIRECT = Annotation(
    "from-to-www-redirect",
    boolean,
    "Whether www.example.com leads to the host example.com, or example.com to the host www.example.com. The status is http-redirect-code.",
    "true",
    default=False,
    scope=Scope.HOST,
    unreadable=Unreadable.LEAVES_OUT,
)


def _read(notes: Notes) -> int | None:
    """The status of the redirect."""
    return notes.key(HTTP_REDIRECT_CODE) if notes.get(FROM_TO_WWW_REDIRECT) else None


def _resolve(status: int, item: Ingress, _objects: Objects) -> int | Complaint:
    if item.rules and all(rule.host.startswith("*.") or not rule.host for rule in item.rules):
        return Complaint(FROM_TO_WWW_REDIRECT.name, "is for hosts with a name of their own, and no rule has one")
    return status


def _names(status: int, host: str) -> tuple[Name, ...]:
    if not host or host.startswith("*."):
        return ()
    other = host.removeprefix(_WWW) if host.startswith(_WWW) else _WWW + host
    return (Name(other, Redirect(status, RedirectTo.NAME, host)),)


FEATURE = Feature(read=_read, annotations=(FROM_TO_WWW_REDIRECT,), phase=Phase.HOST, resolve=_resolve, names=_names)
