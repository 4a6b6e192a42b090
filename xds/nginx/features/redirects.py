"""permanent-redirect, temporal-redirect: a path that only redirects."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.model import Location, Redirect, RedirectTo, Respond, Route
from xds.nginx.feature import Annotation, Feature, Notes, Phase, Risk, Unreadable
from xds.nginx.values import Untrimmed, matching, shown, whole

_address = Untrimmed(matching(r"[-._~a-zA-Z0-9/:,?&=]*", "address such as https://example.com/new"))
_PERMANENT, _TEMPORAL = range(300, 309), range(300, 308)
_WITH_LOCATION = (301, 302, 303, 307, 308)
"""The statuses with which nginx' `return` redirects. With another one the address is the body."""
_HTML = (("Content-Type", "text/html"),)
_whole = whole(-(10**18), 10**18)
PERMANENT_REDIRECT = Annotation(
    "permanent-redirect",
    _address,
    "The address (or the path, on the same host) to which every request is redirected, before anything else is looked at; the requested "
    "path is not appended.",
    "https://example.com/new",
    "",
    risk=Risk.MEDIUM,
    unreadable=Unreadable.LEAVES_OUT,
)
PERMANENT_REDIRECT_CODE = Annotation(
    "permanent-redirect-code",
    _whole,
    "The status of permanent-redirect, from 300 to 308.",
    "308",
    301,
    unreadable=Unreadable.LEAVES_OUT,
)
TEMPORAL_REDIRECT = Annotation(
    "temporal-redirect",
    _address,
    "The whole address to which every request is redirected for now; it goes before permanent-redirect.",
    "https://example.com/sorry",
    "",
    risk=Risk.MEDIUM,
    unreadable=Unreadable.LEAVES_OUT,
)
TEMPORAL_REDIRECT_CODE = Annotation(
    "temporal-redirect-code",
    _whole,
    "The status of temporal-redirect, from 300 to 307.",
    "307",
    302,
    unreadable=Unreadable.LEAVES_OUT,
)


def _read(notes: Notes) -> Redirect | Respond | None:
    """A temporal redirect, else a permanent one. Of one that is no whole address neither is left, as in ingress-nginx."""
    temporal, permanent = _code(notes, TEMPORAL_REDIRECT_CODE, _TEMPORAL), _code(notes, PERMANENT_REDIRECT_CODE, _PERMANENT)
    if address := notes.get(TEMPORAL_REDIRECT):
        if not address.startswith(("http://", "https://")):
            notes.complain(TEMPORAL_REDIRECT, f"is {shown(address)}, which begins with neither http:// nor https://")
            return None
        return _answer(temporal, address)
    address = notes.get(PERMANENT_REDIRECT)
    return _answer(permanent, address) if address else None


def _code(notes: Notes, annotation: Annotation[int], codes: range) -> int:
    code = notes.get(annotation)
    if code in codes:
        return code
    notes.complain(annotation, f"is {code}, which is not between {codes[0]} and {codes[-1]}")
    return annotation.default


def _answer(code: int, address: str) -> Redirect | Respond:
    if code not in _WITH_LOCATION:
        return Respond(code, _HTML, "" if code == 304 else address)
    return Redirect(code, RedirectTo.HERE if address.startswith("/") else RedirectTo.URL, address)


def _routes(answer: Redirect | Respond, location: Location, _routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return (Route(location.match, answer, location.origin, location.rule, settings=location.settings),)


def _on_route(answer: Redirect | Respond, route: Route, envoy: EnvoyRoute) -> None:
    """Envoy gives each answer of its own with a status of redirects a Location, which leads to the request itself."""
    if isinstance(answer, Respond) and route.action == answer:
        envoy.response_headers_to_remove.append("location")


FEATURE = Feature[Redirect | Respond](
    read=_read,
    annotations=(PERMANENT_REDIRECT, PERMANENT_REDIRECT_CODE, TEMPORAL_REDIRECT, TEMPORAL_REDIRECT_CODE),
    phase=Phase.RETURN,
    routes=_routes,
    on_route=_on_route,
)
