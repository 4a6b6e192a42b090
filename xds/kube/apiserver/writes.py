"""Writing through the API server: one object a call, as JSON.

What belongs here: the verbs (read, create, replace, patch), and what the API server says when it does not want to. What does not: when
something is written and what (`xds.report`, `xds.cli.certgen`), trying again, and connections (`xds.kube.apiserver.api`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from xds.kube.apiserver.api import Api

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
"""RFC 7386: what is null goes, lists are replaced as a whole."""
APPLY = "application/apply-patch+yaml"
"""Server-side apply; the path needs the query parameter fieldManager."""


class ApiError(Exception):
    """The API server did not do it. `reason` is its word for why, such as AlreadyExists, Conflict, Forbidden or NotFound.

    The text is a sentence with what was asked for; of what was written it has nothing.
    """

    def __init__(self, asked: str, status: int, reason: str, message: str) -> None:
        super().__init__(
            f"The API server answers {asked} with {status}{f' {reason}' if reason else ''}{f': {message}' if message else ''}."
        )
        self.asked = asked
        self.status = status
        self.reason = reason


async def read(api: Api, path: str) -> Json | None:
    """The object; None where there is none. Raises ApiError, and what Api.get raises."""
    renewals = api.renewals
    async with api.get(path, {}) as answer:
        status, body = answer.status, await answer.read()
    if status == 401:
        await api.renew(renewals)
        async with api.get(path, {}) as answer:
            status, body = answer.status, await answer.read()
    return None if status == 404 else _understood(f"GET {path}", status, body)


async def create(api: Api, path: str, body: Mapping[str, Any]) -> Json:
    """Make an object in a collection, such as /api/v1/namespaces/a/secrets; returns it as it is now.

    Raises ApiError (with reason AlreadyExists where it is there), and what Api.get raises.
    """
    return await _write(api, "POST", path, body)


async def replace(api: Api, path: str, body: Mapping[str, Any]) -> Json:
    """Replace an object; with its metadata.resourceVersion in the body only if nobody changed it meanwhile.

    Raises ApiError (with reason Conflict where somebody did), and what Api.get raises.
    """
    return await _write(api, "PUT", path, body)


async def patch(api: Api, path: str, body: Mapping[str, Any], content_type: str = MERGE) -> Json:
    """Change what the body says of an object, and nothing else. Raises ApiError, and what Api.get raises."""
    return await _write(api, "PATCH", path, body, content_type)


async def _write(api: Api, method: str, path: str, body: Mapping[str, Any], content_type: str = "application/json") -> Json:
    """Credentials may have been renewed on disk since they were read: 401 is no answer before they were read again."""
    renewals = api.renewals
    status, text = await api.send(method, path, body, content_type=content_type)
    if status == 401:
        await api.renew(renewals)
        status, text = await api.send(method, path, body, content_type=content_type)
    return _understood(f"{method} {path}", status, text)


def _understood(asked: str, status: int, body: bytes) -> Json:
    """The object in an answer. Raises ApiError where there is none."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError(asked, status, "", "what it says is no JSON object")
    if not 200 <= status < 300:
        raise ApiError(asked, status, str(found.get("reason") or ""), str(found.get("message") or "").rstrip("."))
    return cast(Json, found)
