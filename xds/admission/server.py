"""The HTTPS server that the API server asks before it stores an Ingress.

It answers from the World of the running control plane, between two steps of the Publisher. Before the first Snapshot it answers 503: then
the `failurePolicy` of the webhook's configuration decides. What does not belong here: what is refused (`review.py`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import replace
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from xds.addresses import SocketAddress
from xds.admission.review import Judgement, NoReview, Submission, answer, asked
from xds.kube.objects import Ingress, ref
from xds.machine.network import reason
from xds.problem import Problem
from xds.publish.publisher import Publisher
from xds.server.tls import stamp
from xds.snapshot import Snapshot
from xds.units.rehearsal import problems_with
from xds.units.tables import Tables
from xds.web.connections import Connections, Limits

_log = logging.getLogger("xds.admission")
LARGEST = 8 * 2**20
"""Bytes of a request: an object and its last state, each of which an API server stores up to 1.5 MB of, in JSON."""
_LIMITS = Limits(bytes=2 * LARGEST)
_HANDSHAKE = 5.0
"""Seconds for a client's part of TLS."""
_RELOAD = 5.0
"""Seconds between two looks at the certificate's files: a mounted Secret is replaced without a signal."""
_HEAVY = 200
"""Rules, paths, names of tls sections and annotations beyond which an Ingress is judged in a thread, so that streams are answered."""
_TOO_HEAVY = 5_000
"""The same, beyond which it is not judged: that would take as long as to serve it, and need not be paid for twice."""

_AS_KEPT = {"annotation-forbidden": "edit-refused"}
"""What the Problem of an Ingress is while its last valid form stays in its place, by the code that it has without that form."""


class Judge:
    """Finds the Problems of an Ingress that is not there yet, one Ingress after the other."""

    def __init__(self, tables: Tables, snapshot: Snapshot, publisher: Publisher, registry: CollectorRegistry) -> None:
        self._tables = tables
        self._snapshot = snapshot
        self._publisher = publisher
        self._turn = asyncio.Lock()
        """Of all reviews one at a time waits for the Publisher, so that each step of that waits for one of them at most."""
        text = "Ingresses that the validating webhook reviewed, by verdict."
        self._answered = Counter("xds_admission_reviews", text, ["verdict"], registry=registry)
        text = "Seconds that such a review took, including the wait for the last change."
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        self._took = Histogram("xds_admission_seconds", text, buckets=buckets, registry=registry)
        for verdict in ("admitted", "refused", "unreadable"):
            self._answered.labels(verdict)

    async def review(self, request: web.Request) -> web.Response:
        """Answer an AdmissionReview, whatever the path."""
        if not self._snapshot.ready:
            return web.Response(status=503, text="not ready: the objects have not been read yet")
        body = await request.read()
        with self._took.time():
            try:
                question = asked(body)
            except NoReview as error:
                self._answered.labels("unreadable").inc()
                return web.Response(status=400, text=f"{error}")
            made, admitted = await self._answer(question)
        self._answered.labels("admitted" if admitted else "refused").inc()
        if question.item is not None and not admitted:
            _log.info("the validating webhook has refused %s", ref(question.item))
        return web.Response(body=made, content_type="application/json")

    async def _answer(self, question: Submission) -> tuple[bytes, bool]:
        weight = _weight(question.item) if question.item is not None else 0
        if weight > _TOO_HEAVY:
            return answer(_unjudged(question, weight), self._find)
        async with self._turn, self._publisher.lock:
            if weight > _HEAVY:
                return await asyncio.to_thread(answer, question, self._find)
            return answer(question, self._find)

    def _find(self, item: Ingress) -> Judgement:
        build = self._tables.build
        then = problems_with(self._tables.world, build, item)
        return Judgement(then, [p for p in then if build.reports(p) or build.reports(replace(p, code=_AS_KEPT.get(p.code, p.code)))])


def _weight(item: Ingress) -> int:
    return sum(1 + len(rule.paths) for rule in item.rules) + sum(1 + len(tls.hosts) for tls in item.tls) + len(item.meta.annotations)


def _unjudged(question: Submission, weight: int) -> Submission:
    """The same question without the Ingress, and a Problem with the reason."""
    assert question.item is not None
    sentence = (
        f"It has {weight:,} rules, paths, names and annotations, more than {_TOO_HEAVY:,}, so it was not judged; "
        "`xds check` and its Events show what does not work as written."
    )
    return Submission(question.uid, problem=Problem(ref(question.item), "", "too-large-to-judge", sentence))


class AdmissionServer:
    """Serves a Judge at an address, with a certificate from files. `address` has the port that the system has chosen for 0."""

    def __init__(self, judge: Judge, address: SocketAddress, certificate: Path, key: Path) -> None:
        self.address = address
        self._files = certificate, key
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post("/{path:.*}", judge.review)
        self._runner = web.AppRunner(app, access_log=None)
        self._connections = Connections(self._runner, _LIMITS, "the validating webhook")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server: asyncio.Server | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError or ValueError with a sentence where that is not possible."""
        self._load()
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        host, port = self.address.host, self.address.port
        try:
            self._server = await loop.create_server(
                self._connection, host, port, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE, reuse_address=True
            )
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(f"the validating webhook cannot listen on {self.address}: {reason(error)}") from None
        self.address = SocketAddress(host, self._server.sockets[0].getsockname()[1])
        self._reloading = asyncio.create_task(self._reload(), name="certificate of the webhook")

    async def stop(self) -> None:
        """Close all connections. Does nothing before the start."""
        if self._reloading is not None:
            self._reloading.cancel()
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        self._connections.make_room()
        return self._connections.connection()

    def _load(self) -> None:
        """Take the certificate and its key from their files. Raises ValueError with a sentence, and then nothing has changed."""
        certificate, key = self._files
        try:
            # OpenSSL drops the previous key where the new one does not belong to the new certificate, so another context comes first
            for context in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), self._context):
                context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one; its text has no byte of a file
            raise ValueError(
                f"the certificate of the validating webhook, {certificate} with {key}, cannot be used: {error.strerror}"
            ) from None

    async def _reload(self) -> None:
        seen = stamp(*self._files)
        while True:
            await asyncio.sleep(_RELOAD)
            if (now := stamp(*self._files)) != seen:
                seen = now
                try:
                    self._load()
                except ValueError as error:
                    _log.error("%s; new connections get the previous one", error)
                else:
                    _log.info("the validating webhook has a new certificate from %s", self._files[0])
