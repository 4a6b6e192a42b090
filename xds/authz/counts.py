"""How many requests each client has open, for limit-connections: Envoy's conversation about one request (envoy.service.ext_proc.v3).

Envoy keeps a stream open for as long as the request lasts, so a count cannot be left behind: the stream ends with the request, with its
client, and with Envoy. What counts together is one Ingress and one client address. Whatever cannot be counted passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import lru_cache

from xds.authz.messages import message

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
MOST_OPEN = 3_000
"""Requests that are counted at a time, at some 25 KB each. Those beyond pass: a limit must not close what it protects."""
INGRESS, CLIENT, MOST, STATUS = "xds-ingress", "xds-client", "xds-most", "xds-status"
"""The metadata of a stream. Without an Ingress the request is not counted: its client is on the limit's allow list."""


class OpenRequests:
    """The requests that are open, by Ingress and client address. Belongs to one event loop."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()
        self._number = 0

    def __len__(self) -> int:
        """How many are counted."""
        return self._number

    async def converse(self, metadata: Mapping[str, str], received: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Answers to what Envoy sends about one request, which is counted until Envoy ends the stream."""
        await anext(received, b"")  # the request
        who, most = (metadata.get(INGRESS, ""), metadata.get(CLIENT, "")), _number(metadata.get(MOST, ""))
        if not (all(who) and most) or self._number >= MOST_OPEN:
            yield _passes("request_headers")
            return
        if self._open[who] >= most:
            yield _refusal(_number(metadata.get(STATUS, "")) or 503)
            return
        self._open[who] += 1
        self._number += 1
        try:
            yield _passes("request_headers")
            async for _trailers in received:
                yield _passes("response_trailers")
        finally:
            self._number -= 1
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0


@lru_cache
def _passes(what: str) -> bytes:
    made = message("ProcessingResponse")()
    getattr(made, what).SetInParent()
    raw: bytes = made.SerializeToString()
    return raw


@lru_cache(maxsize=256)
def _refusal(status: int) -> bytes:
    """Envoy adds nginx's page."""
    raw: bytes = message("ProcessingResponse")(immediate_response={"status": {"code": status}}).SerializeToString()
    return raw
