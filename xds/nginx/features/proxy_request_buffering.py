"""proxy-request-buffering: requests are passed on as they arrive, whatever it says. With `off` one with a body is for one endpoint only.

So its setting is what `next_upstream` reads of a route: nginx cannot send again what it has not kept.
"""

from __future__ import annotations

from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, with_key
from xds.nginx.values import choice

NAME = "proxy_request_buffering"
PROXY_REQUEST_BUFFERING = with_key(
    Annotation(
        "proxy-request-buffering",
        choice("on", "off"),
        "Whether a request is read wholly before the backend gets it. With off, one with a body is sent to one endpoint only.",
        "off",
        "on",
        Fidelity.APPROXIMATE,
        "requests are passed on as they arrive, so that one whose body is larger than Envoy's buffer is not tried again",
        lambda value, _paths: value != "off",
    )
)


def is_off(notes: Notes) -> bool:
    """Whether a request with a body is not to be tried again once some of it may be sent."""
    return notes.get(PROXY_REQUEST_BUFFERING) == "off"


def _read(notes: Notes) -> bool | None:
    return is_off(notes) or None


FEATURE = Feature(read=_read, annotations=(PROXY_REQUEST_BUFFERING,))
