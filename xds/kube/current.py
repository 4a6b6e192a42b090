"""The version of an object at its origin: what "as it is now" means. No cache is used.

What belongs here: a request to the API server, or reading the folders once more. What does not: watching changes
(`xds.kube.apiserver.apiserver`, `xds.kube.manifests`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from xds.kube.manifests import Folder, ManifestsError
from xds.kube.objects import Object, ref
from xds.problem import Ref

if TYPE_CHECKING:
    from xds.kube.apiserver.api import Api

Current = Callable[[Ref], Awaitable[str | None]]
"""The version of an object. None where there is none, "" where it is unknown."""
_PATHS = {"Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses", "ConfigMap": "/api/v1/namespaces/{}/configmaps"}
_log = logging.getLogger("xds")


class _Version(msgspec.Struct):
    """The part of an object that is parsed."""

    resource_version: str = msgspec.field(name="resourceVersion")


class _Item(msgspec.Struct):
    metadata: _Version


class _List(msgspec.Struct):
    items: list[_Item]


def version_of(item: Object) -> str:
    """The resourceVersion. For an object without one, as in a folder, a hash of its content."""
    return item.meta.version or hashlib.blake2b(msgspec.msgpack.encode(item, order="deterministic"), digest_size=8).hexdigest()


def has_come(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one or a later one. Versions of an API server are ascending numbers (KEP-5504), hashes are not."""
    if version.isdecimal() and wanted.isdecimal():
        return int(version) >= int(wanted)
    return version == wanted


async def of_api(api: Api, about: Ref) -> str | None:
    """Request it from the API server. This is a list of one object, because the role allows "list", and not "get"."""
    path = _PATHS[about.kind].format(quote(about.namespace, safe=""))
    try:
        async with api.get(path, {"fieldSelector": f"metadata.name={about.name}"}) as answer:
            status, body = answer.status, await answer.read()
        found = msgspec.json.decode(body, type=_List).items if status == 200 else None
    except Exception as error:  # noqa: BLE001 - without a response, the version in the World must do
        _log.debug("the version of %s at the API server is unknown: %s", about, error)
        return ""
    if found is None:
        return ""
    return found[0].metadata.resource_version if found else None


async def of_folders(folders: Sequence[Path], about: Ref) -> str | None:
    """Read all files once more, in a thread."""
    try:
        change = await asyncio.to_thread(Folder(folders).read)
    except ManifestsError:
        return ""
    return next((version_of(item) for item in change.put if ref(item) == about), None)
