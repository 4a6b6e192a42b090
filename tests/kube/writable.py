"""The scripted API server, with writes: create, replace and merge-patch as the real one does them, and faults for the next ones."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .scripted import Json, Scripted, head, json_response, status


@dataclass(frozen=True)
class Write:
    """What was asked; `verb` is create, update or patch, `part` the sub-resource."""

    verb: str
    plural: str
    namespace: str
    name: str
    part: str
    body: Json

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.plural, self.namespace, self.name)


@dataclass(frozen=True)
class Mishap:
    """What goes wrong with a write: it is refused with a `code`, done without an answer (`lost`), or neither (`hangs`)."""

    code: int = 0
    reason: str = ""
    lost: bool = False
    hangs: bool = False


class Writable:
    """An Scripted that can be written to. `forbidden` has verbs, and resources as roles name them.

    `deaf_to` has holders of a Lease whose writes are not answered. `gate`, where it is set, is waited for by each write; `most` is how
    many were on their way at a time.
    """

    def __init__(self) -> None:
        self.reading = Scripted()
        self.writes: list[Write] = []
        self.done: list[Write] = []
        self.mishaps: dict[str, deque[Mishap]] = defaultdict(deque)
        self.forbidden: set[tuple[str, str]] = set()
        self.deaf_to: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.flying = 0
        self.most = 0
        self._closing = asyncio.Event()

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        return self.reading.store.objects.get((plural, namespace, name))

    def all(self, plural: str) -> list[Json]:
        return [item for key, item in self.reading.store.objects.items() if key[0] == plural]

    def put(self, plural: str, name: str, namespace: str = "default", **body: Any) -> None:
        self.reading.put(plural, name, namespace, **body)

    def addresses(self, name: str, namespace: str = "default") -> list[str]:
        item = self.get("ingresses", name, namespace)
        assert item is not None
        entries = item.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        return [entry.get("ip") or entry["hostname"] for entry in entries]

    def asked(self, verb: str, plural: str) -> list[Write]:
        return [each for each in self.writes if (each.verb, each.plural) == (verb, plural)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await self.reading.answer(request)
        write = await _understood(request)
        self.writes.append(write)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return await self._answer(request, write)
        finally:
            self.flying -= 1

    async def _answer(self, request: web.Request, write: Write) -> web.StreamResponse:
        queue = self.mishaps[write.plural]
        mishap = queue.popleft() if queue else Mishap()
        resource = f"{write.plural}/{write.part}" if write.part else write.plural
        if mishap.hangs or write.body.get("spec", {}).get("holderIdentity") in self.deaf_to:
            await self._closing.wait()
        if (write.verb, resource) in self.forbidden:
            mishap = Mishap(403, "Forbidden")
        if mishap.code:
            return json_response(mishap.code, status(mishap.code, mishap.reason, f"scripted {mishap.code}"))
        code, body = self._do(write)
        if code < 300:
            self.done.append(write)
        if mishap.lost and request.transport is not None:
            request.transport.abort()
        return json_response(code, body)

    def _do(self, write: Write) -> tuple[int, Json]:
        old = self.reading.store.objects.get(write.key)
        if write.verb == "create":
            if old is not None:
                return 409, status(409, "AlreadyExists", f"{write.name} already exists")
            return 201, self._put(write, write.body)
        if old is None:
            return 404, status(404, "NotFound", f"{write.name} not found")
        version = write.body.get("metadata", {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified")
        if write.verb == "update":
            return 200, self._put(write, write.body)
        new = merged(old, {key: value for key, value in write.body.items() if key != "metadata"})
        # the sub-resource touches the status alone, the object itself everything but the status
        new = {**old, "status": new.get("status", {})} if write.part == "status" else {**new, "status": old.get("status", {})}
        if new == {"status": {}, **old}:
            return 200, {**head(write.plural), **old}  # what changes nothing is no write
        return 200, self._put(write, new)

    def _put(self, write: Write, body: Json) -> Json:
        metadata = {key: body["metadata"][key] for key in ("labels", "annotations") if key in body.get("metadata", {})}
        rest = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind")}
        self.reading.put(write.plural, write.name, write.namespace, **rest, **({"metadata": metadata} if metadata else {}))
        return {**head(write.plural), **self.reading.store.objects[write.key]}

    def close(self) -> None:
        self._closing.set()
        if self.gate is not None:
            self.gate.set()
        self.reading.close()


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new


async def _understood(request: web.Request) -> Write:
    parts = request.path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    assert parts[0] == "namespaces"
    namespace, plural, *rest = parts[1:]
    body = json.loads(await request.text())
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}[request.method]
    assert verb != "patch" or request.content_type == "application/merge-patch+json"
    name = rest[0] if rest else body["metadata"]["name"]
    return Write(verb, plural, namespace, name, rest[1] if len(rest) > 1 else "", body)


@asynccontextmanager
async def writable() -> AsyncIterator[Writable]:
    server = Writable()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.reading.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.close()
        await runner.cleanup()
