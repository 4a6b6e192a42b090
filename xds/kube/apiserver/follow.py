"""Sends the requests of a Reflector to an API server, and reports the responses to it.

What belongs here: the requests for one kind of objects, and sentences about their faults. What does not: every decision
(`xds.kube.apiserver.reflector`), connections (`xds.kube.apiserver.api`), and which kinds are watched (`xds.kube.apiserver.apiserver`,
`xds.report.envoy_nodes`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
from kubernetes.aio.config import ConfigException

from xds.config import Failure
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.reflector import Delay, List, Reflector, Watch
from xds.kube.source import Change

_log = logging.getLogger("xds")

_LONGEST_STATUS = 64 << 10
_AS_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"
_EXPECTED = (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigException)
_PERHAPS_OLD = (ConfigException, ValueError)
"""Faults of out-of-date credentials. A certificate that cannot be verified is a ValueError."""


async def follow(api: Api, reflector: Reflector, take: Callable[[Change], None], asked: Callable[[], None] = lambda: None) -> None:
    """Perform the actions of a Reflector, until cancelled.

    `take` receives the Change of each response, which may be empty. `asked` is called after each request, whatever its result.
    """
    renewals = api.renewals
    while True:
        match reflector.next(time.monotonic()):
            case Delay(seconds, needs_credentials):
                if needs_credentials:
                    await renew(api, renewals)
                await asyncio.sleep(seconds)
            case ask:
                renewals = api.renewals
                await _ask(api, reflector, ask, take)
                asked()


async def renew(api: Api, renewals: int) -> None:
    """Read the credentials again, unless another request did so since `renewals` was taken. A fault is logged."""
    try:
        await api.renew(renewals)
    except Failure as failure:
        _log.warning("%s", failure)


def why_not(api: Api, error: Exception) -> str:
    """Why there is no response, as a sentence. An unexpected exception is logged as an internal error."""
    if not isinstance(error, _EXPECTED):
        _log.error("internal error while the API server was asked; please report it", exc_info=error)
    match error:
        case aiohttp.ClientPayloadError():
            why = "the connection broke off"
        case TimeoutError():
            why = "too slow, or gone"
        case _:
            why = str(error) or type(error).__name__
    return f"{api.host} does not answer ({why})."


async def _ask(api: Api, reflector: Reflector, ask: List | Watch, take: Callable[[Change], None]) -> None:
    which = reflector.resource
    is_watch = isinstance(ask, Watch)
    lasting = ask.seconds if isinstance(ask, Watch) else None
    accept = _AS_METADATA.format("" if is_watch else "List") if which.only_metadata else "application/json"
    try:
        async with api.get(which.path, _query(reflector, ask), accept=accept, lasting=lasting) as answer:
            if answer.status != 200:
                body = await answer.content.read(_LONGEST_STATUS)
                retry_after = answer.headers.get("Retry-After", "")
                take(reflector.rejected(answer.status, body, retry_after, time.monotonic()))
            elif is_watch:
                await _listen(reflector, answer, take)
            else:
                body = await answer.read()
                take(await asyncio.to_thread(reflector.page, body, time.monotonic()))
    except Exception as error:  # noqa: BLE001 - a retry is right for any exception: without one, the kind would never be updated again
        reflector.failed(why_not(api, error), time.monotonic(), renew=isinstance(error, _PERHAPS_OLD))


async def _listen(reflector: Reflector, answer: aiohttp.ClientResponse, take: Callable[[Change], None]) -> None:
    take(reflector.opened(time.monotonic()))
    try:
        while reflector.is_watching and (chunk := await answer.content.readany()):
            take(reflector.data(chunk, time.monotonic()))
    except TimeoutError:
        pass  # the watch is overdue: the peer is gone, or ignores `timeoutSeconds`. The next request shows which
    if reflector.is_watching:
        reflector.ended(time.monotonic())


def _query(reflector: Reflector, ask: List | Watch) -> dict[str, str]:
    """The query parameters (Kubernetes API concepts: retrieving large result sets in chunks, efficient detection of changes)."""
    which = reflector.resource
    query = {"fieldSelector": which.selector} if which.selector else {}
    if which.labels:
        query["labelSelector"] = which.labels
    if isinstance(ask, Watch):
        return query | {
            "watch": "true",
            "resourceVersion": ask.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(ask.seconds))),
        }
    if ask.limit:
        query["limit"] = str(ask.limit)
    if ask.token:
        query["continue"] = ask.token
    return query
