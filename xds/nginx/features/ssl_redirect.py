"""ssl-redirect, force-ssl-redirect: plain http is sent to https; preserve-trailing-slash, use-port-in-redirects: how that is written."""

from __future__ import annotations

from dataclasses import dataclass

from xds.model import Location, Redirect, RedirectTo, Route, Via
from xds.nginx.feature import Annotation, Feature, Fidelity, Key, Notes, Phase, Risk, with_key
from xds.nginx.values import boolean, choice, words

SSL_REDIRECT = with_key(
    Annotation("ssl-redirect", boolean, "Whether http is redirected to https on hosts that have a tls section.", "false", default=True)
)
FORCE_SSL_REDIRECT = with_key(
    Annotation(
        "force-ssl-redirect",
        boolean,
        "Whether http is redirected to https on hosts without tls as well.",
        "true",
        default=False,
        risk=Risk.MEDIUM,
    )
)
PRESERVE_TRAILING_SLASH = with_key(
    Annotation(
        "preserve-trailing-slash",
        boolean,
        "Whether the redirect to https keeps the last slash of the path.",
        "true",
        default=False,
        risk=Risk.MEDIUM,
    )
)
USE_PORT_IN_REDIRECTS = with_key(
    Annotation(
        "use-port-in-redirects",
        boolean,
        "Whether the redirect to https names the port.",
        "true",
        default=False,
        fidelity=Fidelity.APPROXIMATE,
        reason="the port is 443, on which clients reach https, and not that of the flag --https-port",
    )
)


def _code(text: str) -> int:
    return int(choice("301", "302", "307", "308")(text))


HTTP_REDIRECT_CODE = Key("http-redirect-code", _code, "The status of the redirect to https.", "301", 308)
NO_TLS_REDIRECT_LOCATIONS = Key[tuple[str, ...]](
    "no-tls-redirect-locations",
    words,
    "Beginnings of Ingress paths, separated by commas, that are never redirected to https.",
    "/.well-known/acme-challenge,/plain",
    ("/.well-known/acme-challenge",),
)


@dataclass(frozen=True, slots=True)
class SslRedirect:
    """When to redirect: where the host has tls, or (`force`) in any case; `exempt` are beginnings of paths that are left alone.

    `keep_slash` and `port` are about the Location.
    """

    with_tls: bool
    force: bool
    code: int
    exempt: tuple[str, ...]
    keep_slash: bool = False
    port: str = ""


def _read(notes: Notes) -> SslRedirect:
    with_tls, force = notes.get(SSL_REDIRECT), notes.get(FORCE_SSL_REDIRECT)
    code, exempt = notes.key(HTTP_REDIRECT_CODE), notes.key(NO_TLS_REDIRECT_LOCATIONS)
    return SslRedirect(
        with_tls, force, code, exempt, notes.get(PRESERVE_TRAILING_SLASH), ":443" if notes.get(USE_PORT_IN_REDIRECTS) else ""
    )


def _routes(setting: SslRedirect, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    asked = setting.force or (setting.with_tls and location.tls)
    if not asked or location.path.startswith(setting.exempt):
        return routes
    redirect = Redirect(setting.code, RedirectTo.HTTPS, setting.port, keep_slash=setting.keep_slash)
    return (Route(location.match, redirect, location.origin, location.rule, Via.HTTP, settings=location.settings), *routes)


FEATURE = Feature(
    read=_read,
    annotations=(SSL_REDIRECT, FORCE_SSL_REDIRECT, PRESERVE_TRAILING_SLASH, USE_PORT_IN_REDIRECTS),
    keys=(HTTP_REDIRECT_CODE, NO_TLS_REDIRECT_LOCATIONS),
    phase=Phase.SSL_REDIRECT,
    routes=_routes,
)
