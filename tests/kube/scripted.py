"""An API server that speaks list and watch as the real one does, and misbehaves on demand.

`Store` is what it knows, without any network; `Scripted` serves it on loopback, and takes a Fault for the next requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from xds.kube import parse
from xds.kube.objects import Object, ref
from xds.problem import Problem, Ref

Json = dict[str, Any]
KINDS = {
    "ingresses": ("networking.k8s.io/v1", "Ingress"),
    "ingressclasses": ("networking.k8s.io/v1", "IngressClass"),
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "secrets": ("v1", "Secret"),
    "configmaps": ("v1", "ConfigMap"),
    "namespaces": ("v1", "Namespace"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
    "events": ("v1", "Event"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
}
CLUSTER_SCOPED = ("ingressclasses", "namespaces", "nodes")


@dataclass(frozen=True)
class Entry:
    """Something that happened, at a version."""

    version: int
    type: str
    plural: str
    object: Json


@dataclass(frozen=True)
class Selection:
    """What a request is about."""

    plural: str
    namespace: str = ""
    selector: str = ""
    only_metadata: bool = False
    labels: str = ""

    def takes(self, item: Json) -> bool:
        if self.namespace and item["metadata"].get("namespace") != self.namespace:
            return False
        fields = {"metadata.name": item["metadata"]["name"], "type": item.get("type", "")}
        for term in self.selector.split(",") if self.selector else ():
            name, operator, value = term.partition("!=") if "!=" in term else term.partition("=")
            if (fields[name] == value) is (operator == "!="):
                return False
        wanted = dict(term.split("=", 1) for term in self.labels.split(",") if term)
        return wanted.items() <= item["metadata"].get("labels", {}).items()

    def shown(self, item: Json) -> Json:
        return {"metadata": item["metadata"]} if self.only_metadata else item


class Store:
    """Objects and their history. `compact` forgets history and tokens, as etcd does after a while."""

    def __init__(self) -> None:
        self.version = 100
        self.compacted = 0
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.log: list[Entry] = []
        self._pages: dict[str, tuple[int, list[Json]]] = {}

    def put(self, plural: str, name: str, namespace: str = "default", **body: Any) -> Json:
        self.version += 1
        key = (plural, "" if plural in CLUSTER_SCOPED else namespace, name)
        old = self.objects.get(key)
        metadata: Json = {"name": name, "uid": old["metadata"]["uid"] if old else f"uid-{self.version}"}
        if key[1]:
            metadata["namespace"] = namespace
        metadata |= body.pop("metadata", {})
        metadata |= {"resourceVersion": str(self.version), "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]}
        metadata["creationTimestamp"] = old["metadata"]["creationTimestamp"] if old else "2026-01-01T00:00:00Z"
        item = self.objects[key] = {"metadata": metadata, **body}
        self.log.append(Entry(self.version, "MODIFIED" if old else "ADDED", plural, item))
        return item

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        key = (plural, "" if plural in CLUSTER_SCOPED else namespace, name)
        old = self.objects.pop(key)
        self.version += 1
        gone = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self.log.append(Entry(self.version, "DELETED", plural, gone))

    def compact(self) -> None:
        self.compacted = self.version
        self.log.clear()
        self._pages.clear()

    def page(self, which: Selection, limit: int, token: str) -> tuple[int, Json]:
        """Status and body of a list: all pages show the version of the first."""
        if token:
            if token not in self._pages:
                return 410, status(410, "Expired", "The provided continue parameter is too old")
            version, items = self._pages.pop(token)
        else:
            version = self.version
            items = [item for key, item in sorted(self.objects.items()) if key[0] == which.plural and which.takes(item)]
        metadata: Json = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            metadata["continue"] = f"token-{version}-{len(items)}-{len(self._pages)}"
            self._pages[metadata["continue"]] = (version, items[limit:])
            items = items[:limit]
        api_version, kind = KINDS[which.plural]
        return 200, {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": [*map(which.shown, items)]}

    def since(self, which: Selection, version: int) -> Iterator[bytes]:
        """The line of each event after a version."""
        for entry in self.log:
            if entry.version > version and entry.plural == which.plural and which.takes(entry.object):
                yield line(entry.type, {**head(which.plural), **which.shown(entry.object)})

    def world(self, *selections: Selection) -> dict[Ref, Object]:
        """What somebody who knows all of this has."""
        found: dict[Ref, Object] = {}
        for which in selections:
            for key, item in self.objects.items():
                if key[0] == which.plural and which.takes(item):
                    made = parse.from_json(json.dumps({**head(which.plural), **item}).encode())
                    assert made is not None
                    if not isinstance(made, Problem):
                        found[ref(made)] = made
        return found


def head(plural: str) -> Json:
    api_version, kind = KINDS[plural]
    return {"kind": kind, "apiVersion": api_version}


def line(kind: str, item: Json) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def bookmark(plural: str, version: int) -> bytes:
    return line("BOOKMARK", {**head(plural), "metadata": {"resourceVersion": str(version), "creationTimestamp": None}})


def status(code: int, reason: str, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


def secret(kind: str = "kubernetes.io/tls", **data: str) -> Json:
    return {"type": kind, "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


@dataclass(frozen=True)
class Request:
    """What was asked; `verb` is list, watch or get."""

    verb: str
    which: Selection
    query: Mapping[str, str]
    authorization: str


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request: another `status`, a `body` that breaks off or says nonsense, or no answer at all (`hangs`).

    `verb` "" is any. Bytes of `body` are sent as they are, before the connection is cut, unless `ends` says that it ends as it should.
    With `swallows` a watch is open, and never says anything. `only`: in requests with this in their field selector; `gate`: not before
    it is open.
    """

    verb: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ends: bool = False
    hangs: bool = False
    swallows: bool = False
    only: str = ""
    gate: asyncio.Event | None = None


def refusal(code: int, reason: str = "", verb: str = "", **headers: str) -> Fault:
    body = json.dumps(status(code, reason, f"scripted {code}")).encode()
    return Fault(verb, code, {key.replace("_", "-"): value for key, value in headers.items()}, body, ends=True)


class Scripted:
    """Serves a Store. `token`, where set, is the only one that is let in.

    What is forbidden: `forbidden` has verbs and plurals, `hidden` namespaces and plurals.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.requests: list[Request] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.forbidden: set[tuple[str, str]] = set()
        self.hidden: set[tuple[str, str]] = set()
        self.unserved: set[str] = set()
        self.token = ""
        self.bookmarks = True
        self.url = ""
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._open: dict[int, web.Request] = {}

    def put(self, plural: str, name: str, namespace: str = "default", **body: Any) -> None:
        self.store.put(plural, name, namespace, **body)
        self.wake()

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        self.store.delete(plural, name, namespace)
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Every connection breaks."""
        for request in list(self._open.values()):
            if request.transport is not None:
                request.transport.abort()

    def asked(self, verb: str, plural: str) -> list[Request]:
        return [each for each in self.requests if each.verb == verb and each.which.plural == plural]

    def watched(self, plural: str) -> bool:
        return any(_what(each)[0] == "watch" and _what(each)[1].plural == plural for each in self._open.values())

    async def answer(self, request: web.Request) -> web.StreamResponse:
        verb, which, name = _what(request)
        self.requests.append(Request(verb, which, dict(request.query), request.headers.get("Authorization", "")))
        self._open[id(request)] = request
        try:
            fault = self._fault(verb, which)
            if fault is not None:
                return await self._misbehave(request, fault)
            if verb == "watch":
                return await self._watch(request, which)
            if verb == "get":
                item = self.store.objects.get((which.plural, which.namespace, name))
                found = json_response(200, {**head(which.plural), **item}) if item else json_response(404, status(404, "NotFound", ""))
            else:
                limit, token = int(request.query.get("limit", "0")), request.query.get("continue", "")
                found = json_response(*self.store.page(which, limit, token))
            return found
        finally:
            del self._open[id(request)]

    def _fault(self, verb: str, which: Selection) -> Fault | None:
        if self.token and self.requests[-1].authorization.split()[1:] != [self.token]:
            return refusal(401, "Unauthorized")
        if which.plural in self.unserved:
            return Fault(status=404, body=b"404 page not found\n", ends=True)
        if (verb, which.plural) in self.forbidden or (which.namespace, which.plural) in self.hidden:
            return refusal(403, "Forbidden")
        queue = self.faults[which.plural]
        if queue and queue[0].verb in ("", verb) and queue[0].only in which.selector:
            return queue.popleft()
        return None

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.hangs:
            await self._closing.wait()
        if fault.gate is not None:
            await fault.gate.wait()
        response = web.StreamResponse(status=fault.status, headers={"Content-Type": "application/json", **fault.headers})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if fault.body:
            await response.write(fault.body)
        if fault.swallows:
            await self._closing.wait()
        if not fault.ends and request.transport is not None:
            request.transport.close()
        return response

    async def _watch(self, request: web.Request, which: Selection) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self.store.compacted:
            return json_response(410, status(410, "Expired", f"too old resource version: {version}"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        end = asyncio.get_running_loop().time() + int(request.query["timeoutSeconds"])
        while not self._closing.is_set():
            changed = self._changed
            if version < self.store.compacted:
                await response.write(line("ERROR", status(410, "Expired", "etcd was compacted")))
                break
            events, version = b"".join(self.store.since(which, version)), self.store.version
            if self.bookmarks:
                events += bookmark(which.plural, version)
            await response.write(events)
            try:
                async with asyncio.timeout_at(end):
                    await changed.wait()
            except TimeoutError:
                break
        return response

    def kubeconfig(self, path: Path, **user: Any) -> Path:
        """A file that leads here."""
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                    "clusters": [{"name": "here", "cluster": {"server": self.url}}],
                    "users": [{"name": "me", "user": user}],
                }
            )
        )
        return path

    def close(self) -> None:
        self._closing.set()
        self.wake()


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    server = Scripted()
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.close()
        await runner.cleanup()


async def until(wanted: Callable[[], bool], seconds: float = 120) -> None:
    """Look until it is so."""
    async with asyncio.timeout(seconds):
        while not wanted():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.002)


def json_response(code: int, body: Json) -> web.Response:
    return web.Response(status=code, body=json.dumps(body).encode(), content_type="application/json")


def _what(request: web.Request) -> tuple[str, Selection, str]:
    """Verb, what it is about, and the name of the one object that is asked for."""
    parts = request.path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace, parts = parts[1], parts[2:]
    plural, *names = parts
    only_metadata = "PartialObjectMetadata" in request.headers.get("Accept", "")
    which = Selection(plural, namespace, request.query.get("fieldSelector", ""), only_metadata, request.query.get("labelSelector", ""))
    verb = "get" if names else "watch" if request.query.get("watch") else "list"
    return verb, which, names[0] if names else ""
