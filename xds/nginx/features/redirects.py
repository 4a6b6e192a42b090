"""permanent-redirect, temporal-redirect: a path that only says where to go."""

from __future__ import annotations

from xds.model import Location, Redirect, RedirectTo, Route
from xds.nginx.feature import Annotation, Feature, Notes, Phase, Risk
from xds.nginx.values import matching, shown, whole

_address = matching(r"[-._~a-zA-Z0-9/:,?&=]*", "address such as https://example.com/new")


def _whole_address(text: str) -> str:
    if not _address(text).startswith(("http://", "https://")):
        raise ValueError(f"is {shown(text)}, which begins with neither http:// nor https://")
    return text


PERMANENT_REDIRECT = Annotation(
    "permanent-redirect",
    _address,
    "The address (or the path, on the same host) to which every request is redirected, before anything else is looked at; the requested "
    "path is not appended.",
    "https://example.com/new",
    "",
    risk=Risk.MEDIUM,
)
PERMANENT_REDIRECT_CODE = Annotation("permanent-redirect-code", whole(300, 308), "The status of permanent-redirect.", "308", 301)
TEMPORAL_REDIRECT = Annotation(
    "temporal-redirect",
    _whole_address,
    "The whole address to which every request is redirected for now; it goes before permanent-redirect.",
    "https://example.com/sorry",
    "",
    risk=Risk.MEDIUM,
)
TEMPORAL_REDIRECT_CODE = Annotation("temporal-redirect-code", whole(300, 307), "The status of temporal-redirect.", "307", 302)


def _read(notes: Notes) -> Redirect | None:
    """A temporal redirect, else a permanent one. Of one that cannot be read nothing is left, as in ingress-nginx: not the other either."""
    code, permanent_code = notes.get(TEMPORAL_REDIRECT_CODE), notes.get(PERMANENT_REDIRECT_CODE)
    address = notes.get(TEMPORAL_REDIRECT)
    if not address:
        code, address = permanent_code, notes.get(PERMANENT_REDIRECT)
        if notes.says(TEMPORAL_REDIRECT):
            return None
    return Redirect(code, RedirectTo.HERE if address.startswith("/") else RedirectTo.URL, address) if address else None


def _routes(redirect: Redirect, location: Location, _routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return (Route(location.match, redirect, location.origin, location.rule, settings=location.settings),)


FEATURE = Feature(
    read=_read,
    annotations=(PERMANENT_REDIRECT, PERMANENT_REDIRECT_CODE, TEMPORAL_REDIRECT, TEMPORAL_REDIRECT_CODE),
    phase=Phase.RETURN,
    routes=_routes,
)
