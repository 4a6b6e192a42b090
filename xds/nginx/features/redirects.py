"""permanent-redirect, temporal-redirect: a path that only redirects."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Location, Redirect, RedirectTo, Respond, Route
from xds.nginx.feature import Annotation, Complaint, Feature, Notes, Objects, Phase, Risk, Unreadable
from xds.nginx.messages import formatted, text_format
from xds.nginx.values import UNQUOTED, Untrimmed, matching, shown, whole
from xds.nginx.variables import as_format, known, only_text, too_many


@dataclass(frozen=True, slots=True)
class Moved:
    """A redirect to an address with variables, which is worked out for each request; `name` is that of the annotation."""

    name: str
    status: int
    location: str

    @property
    def answer(self) -> Respond:
        """What is answered, without the address."""
        return Respond(self.status, () if self.status in _WITH_LOCATION else _HTML)


_WEB = re.compile(r"http[-+.a-z0-9]*:", re.IGNORECASE)
"""The beginning of an address that ingress-nginx takes for one of the web."""
Answer = Redirect | Respond | Moved
_address = Untrimmed(matching(r"[-._~a-zA-Z0-9/:,?&=]*", "address such as https://example.com/new"))
_one_word = matching(rf"(?:{UNQUOTED}|\$\{{\w*\}})*", "address such as https://example.com$request_uri")
"""What nginx' `return` takes as one word. Where nothing is validated, ingress-nginx makes one of whatever the annotation has."""
_PERMANENT, _TEMPORAL = range(300, 309), range(300, 308)
_WITH_LOCATION = (301, 302, 303, 307, 308)
"""The statuses with which nginx' `return` redirects. With another one the address is the body."""
_HTML = (("Content-Type", "text/html"),)


def _with_variables(text: str) -> str:
    """An address that ingress-nginx' validation refuses, as it is usual: with `$request_uri` at its end."""
    return known(_one_word(text))


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
    unvalidated=_with_variables,
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
    "The whole address to which every request is redirected temporarily; it takes precedence over permanent-redirect.",
    "https://example.com/sorry",
    "",
    risk=Risk.MEDIUM,
    unreadable=Unreadable.LEAVES_OUT,
    unvalidated=_with_variables,
)
TEMPORAL_REDIRECT_CODE = Annotation(
    "temporal-redirect-code",
    _whole,
    "The status of temporal-redirect, from 300 to 307.",
    "307",
    302,
    beside="temporal-redirect",
    unreadable=Unreadable.LEAVES_OUT,
)


def _read(notes: Notes) -> Answer | None:
    """A temporal redirect, else a permanent one. Of one that is no whole address neither is left, as in ingress-nginx.

    Beside a temporal redirect ingress-nginx does not look at what is permanent.
    """
    temporal = _code(notes, TEMPORAL_REDIRECT_CODE, _TEMPORAL)
    if address := notes.get(TEMPORAL_REDIRECT):
        if not _WEB.match(address):
            notes.complain(TEMPORAL_REDIRECT, f"is {shown(address)}, which begins with neither http:// nor https://")
            return None
        return _answer(TEMPORAL_REDIRECT.name, temporal, address)
    permanent, address = _code(notes, PERMANENT_REDIRECT_CODE, _PERMANENT), notes.get(PERMANENT_REDIRECT)
    return _answer(PERMANENT_REDIRECT.name, permanent, address) if address else None


def _code(notes: Notes, annotation: Annotation[int], codes: range) -> int:
    code = notes.get(annotation)
    if code in codes:
        return code
    notes.complain(annotation, f"is {code}, which is not between {codes[0]} and {codes[-1]}")
    return annotation.default


def _answer(name: str, code: int, address: str) -> Answer:
    if not only_text(address):
        relative = address.startswith("/") and code in _WITH_LOCATION
        return Moved(name, code, f"$scheme://$host{address}" if relative else address)
    if code not in _WITH_LOCATION:
        return Respond(code, _HTML, "" if code == 304 else address)
    return Redirect(code, RedirectTo.HERE if address.startswith("/") else RedirectTo.URL, address)


def _resolve(answer: Answer, item: Ingress, _objects: Objects) -> Answer | Complaint:
    if isinstance(answer, Moved) and (why := too_many((answer.location,), item.most_locations)):
        return Complaint(answer.name, why)
    return answer


def _routes(answer: Answer, location: Location, _routes: tuple[Route, ...]) -> tuple[Route, ...]:
    action = answer.answer if isinstance(answer, Moved) else answer
    return (Route(location.match, action, location.origin, location.rule, settings=location.settings),)


def _on_route(answer: Answer, route: Route, envoy: EnvoyRoute) -> None:
    """Envoy gives each answer of its own with a status of redirects a Location, which leads to the request itself."""
    if route.action != (answer.answer if isinstance(answer, Moved) else answer):
        return
    if isinstance(answer, Moved) and answer.status in _WITH_LOCATION:
        envoy.response_headers_to_add.append(formatted("Location", as_format(answer.location, route)))
    elif not isinstance(answer, Redirect):
        envoy.response_headers_to_remove.append("location")
    if isinstance(answer, Moved) and answer.status not in (*_WITH_LOCATION, 304) and envoy.direct_response:
        envoy.direct_response.body_format = text_format(as_format(answer.location, route), empty=True)


FEATURE = Feature[Answer](
    read=_read,
    annotations=(PERMANENT_REDIRECT, PERMANENT_REDIRECT_CODE, TEMPORAL_REDIRECT, TEMPORAL_REDIRECT_CODE),
    phase=Phase.RETURN,
    resolve=_resolve,
    routes=_routes,
    on_route=_on_route,
)
