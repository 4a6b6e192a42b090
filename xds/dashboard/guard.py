"""What holds for every request and response of the dashboard, whatever the page: who may ask, and what a browser may do with the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from xds.addresses import ip_or_none

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOOPBACK_NAMES = ("localhost",)
_FROM_HERE = ("", "same-origin", "none")
"""Values of Sec-Fetch-Site: a browser that does not send it, a page of ours, a user who typed the address."""


def only_as(names: Collection[str]) -> Middleware:
    """Answer where the Host header is loopback or one of these names, and a page of somebody else is not the one that asks.

    A name of an attacker may resolve to this address (DNS rebinding); the browser then shows its page what it reads here.
    """
    known = {name.lower() for name in names}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_known(request.host, known):
            return web.Response(status=421, text="The dashboard does not answer to this host name: see --dashboard-names.\n")
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"  # a link elsewhere, whose page cannot read the answer
        if request.headers.get("Sec-Fetch-Site", "") not in _FROM_HERE and not navigates:
            return web.Response(status=403, text="The dashboard answers to its own pages only.\n")
        return await handler(request)

    return guard


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """A signal of aiohttp, for whatever is sent: errors as well."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "xds"


def _is_known(host: str, names: Collection[str]) -> bool:
    bare = _without_port(host).lower()
    address = ip_or_none(bare)
    return bare in names or (address.is_loopback if address else bare in _LOOPBACK_NAMES)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
