"""Writing through the API server: one object a call, as JSON.

What belongs here: the verbs (read, create, replace, patch), and the errors of the API server. What does not: when something is written and
what (`xds.report`, `xds.cli.certgen`), trying again, and connections (`xds.kube.apiserver.api`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from xds.kube.apiserver.api import Api

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
"""RFC 7386: null removes a field, and lists are replaced as a whole."""


class ApiError(Exception):
    """The API server rejected a request. `reason` is that of its Status, such as AlreadyExists, Conflict, Forbidden or NotFound.

    The text is a sentence with method and path. It has nothing of the body, which may hold a key.
    """

    def __init__(self, asked: str, status: int, reason: str, message: str) -> None:
        super().__init__(
            f"The API server answers {asked} with {status}{f' {reason}' if reason else ''}{f': {message}' if message else ''}."
        )
        self.asked = asked
        self.status = status
        self.reason = reason


async def read(api: Api, path: str) -> Json | None:
    """The object, or None where there is none. Raises ApiError, and what Api.get raises."""
    renewals = api.renewals
    async with api.get(path, {}) as answer:
        status, body = answer.status, await answer.read()
    if status == 401:
        await api.renew(renewals)
        async with api.get(path, {}) as answer:
            status, body = answer.status, await answer.read()
    return None if status == 404 else _understood(f"GET {path}", status, body)


async def create(api: Api, path: str, body: Mapping[str, Any]) -> Json:
    """Create an object in a collection, such as /api/v1/namespaces/a/secrets. Returns the created object.

    Raises ApiError (with reason AlreadyExists where it exists), and what Api.get raises.
    """
    return await _write(api, "POST", path, body)


async def replace(api: Api, path: str, body: Mapping[str, Any]) -> Json:
    """Replace an object. With a metadata.resourceVersion in the body, only that version is replaced.

    Raises ApiError (with reason Conflict where the object has changed), and what Api.get raises.
    """
    return await _write(api, "PUT", path, body)


async def patch(api: Api, path: str, body: Mapping[str, Any], content_type: str = MERGE) -> Json:
    """Change the fields of the body, and no others. Raises ApiError, and what Api.get raises."""
    return await _write(api, "PATCH", path, body, content_type)


async def _write(api: Api, method: str, path: str, body: Mapping[str, Any], content_type: str = "application/json") -> Json:
    """Credentials may have been renewed on disk. So after 401 they are read again, and the request is sent once more."""
    renewals = api.renewals
    status, text = await api.send(method, path, body, content_type=content_type)
    if status == 401:
        await api.renew(renewals)
        status, text = await api.send(method, path, body, content_type=content_type)
    return _understood(f"{method} {path}", status, text)


def _understood(asked: str, status: int, body: bytes) -> Json:
    """The object in a response. Raises ApiError where there is none."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError(asked, status, "", "the body is no JSON object")
    if not 200 <= status < 300:
        raise ApiError(asked, status, str(found.get("reason") or ""), str(found.get("message") or "").rstrip("."))
    return cast(Json, found)
