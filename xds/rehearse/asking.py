"""Asking both sides: the one place of this room that does IO.

Requests go to the two addresses and nowhere else: no name of a request is resolved, no redirect is followed, and no proxy is asked. They
begin at a bounded rate, and so many at most are under way. What a server sends is read up to bounds, and for a bounded time.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from cryptography import x509
from cryptography.x509.oid import NameOID
from yarl import URL

from xds.config import Failure
from xds.machine.network import reason
from xds.rehearse.comparing import Reply, Seen, Terms, differences, seen
from xds.rehearse.inquiries import Inquiry

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds that an answer may take."""
AGAIN = 2
"""How often both are asked again where their answers differ."""
AT_ONCE = 16
"""Requests to one side that may be under way at a time."""
AGENT = "xds-rehearse"
"""The User-Agent of requests that ask for no other."""
LARGEST_HEADERS = 256 * 1024
_MOST_READ = 256 * 1024
"""Bytes of a body that are read, so that servers see no client that breaks off; of larger ones it does."""
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError)


@dataclass(frozen=True)
class Side:
    """One of the two: its name in sentences, and where it listens, by scheme."""

    name: str
    addresses: Mapping[str, tuple[str, int]]

    @property
    def ports(self) -> Mapping[str, int]:
        """By scheme."""
        return {scheme: port for scheme, (_, port) in self.addresses.items()}


@dataclass(frozen=True)
class Exchange:
    """A request with the answers of both sides, the first ones first: one each, or, where those differ, some more."""

    inquiry: Inquiry
    theirs: Sequence[Seen]
    ours: Sequence[Seen]


class Pace:
    """When requests begin, at a rate (a second). Time that was not used is not made up for."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._next = -math.inf

    def begin(self, now: float) -> float:
        """The time, `now` or later, at which the next one begins. Times are in seconds."""
        begin = max(self._next, now)
        self._next = begin + self._pause
        return begin


class Interview:
    """Both sides, asked at a rate (requests a second to each); an async context manager."""

    def __init__(self, theirs: Side, ours: Side, rate: float, backend_header: str = "") -> None:
        self._sides = (theirs, ours)
        self._terms = tuple(Terms(side.ports, backend_header) for side in self._sides)
        self._pace = Pace(rate)
        self._sessions: tuple[aiohttp.ClientSession, ...] = ()

    async def __aenter__(self) -> Interview:
        for side in self._sides:
            for scheme in side.addresses:
                await _knock(side, scheme)
        self._sessions = tuple(_session() for _ in self._sides)
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions:
            await session.close()

    async def ask(self, inquiries: Iterable[Inquiry]) -> AsyncGenerator[Exchange]:
        """Ask both for all, and yield the answers in the order in which they are complete.

        The next request is made in a thread: a pipe may be slow, and no answer is to look late for that.
        """
        running: set[asyncio.Task[Exchange]] = set()
        source = iter(inquiries)
        try:
            while (inquiry := await asyncio.to_thread(next, source, None)) is not None:
                while len(running) >= AT_ONCE:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
                await self._turn()
                running.add(asyncio.create_task(self._exchange(inquiry)))
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()

    async def certificates(self, host: str) -> tuple[str, str]:
        """What each side shows as its certificate for a name."""
        await self._turn()
        theirs, ours = await asyncio.gather(*(_certificate(side, host) for side in self._sides))
        return theirs, ours

    async def _exchange(self, inquiry: Inquiry) -> Exchange:
        answers = [await self._both(inquiry)]
        if differences(*answers[0]):
            for _ in range(AGAIN):
                await self._turn()
                answers.append(await self._both(inquiry))
        return Exchange(inquiry, [theirs for theirs, _ in answers], [ours for _, ours in answers])

    async def _both(self, inquiry: Inquiry) -> tuple[Seen, Seen]:
        replies = await asyncio.gather(*(_reply(s, side, inquiry) for s, side in zip(self._sessions, self._sides, strict=True)))
        theirs, ours = (seen(reply, terms, is_head=inquiry.method == "HEAD") for reply, terms in zip(replies, self._terms, strict=True))
        return theirs, ours

    async def _turn(self) -> None:
        """Wait until the next request may begin."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self._pace.begin(now) - now)


def _session() -> aiohttp.ClientSession:
    """Each request has a connection of its own: none depends on the name in the TLS of another, or on when another's ended."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True, ssl=_any_certificate()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=PATIENCE),
        auto_decompress=False,
        trust_env=False,
        max_line_size=LARGEST_HEADERS,
        max_field_size=LARGEST_HEADERS,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )


def _any_certificate() -> ssl.SSLContext:
    """Certificates are compared, not trusted: they are for names, and these are addresses."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _reply(session: aiohttp.ClientSession, side: Side, inquiry: Inquiry) -> Reply:
    host, port = side.addresses[inquiry.via.value]
    url = URL(f"{inquiry.via.value}://{_in_url(host)}:{port}{inquiry.target}", encoded=True)
    headers = [("Host", _in_url(inquiry.host)), *({"user-agent": AGENT} | dict(inquiry.headers)).items()]
    name = inquiry.host if inquiry.via.value == "https" and ":" not in inquiry.host else None
    try:
        async with session.request(inquiry.method, url, headers=headers, allow_redirects=False, server_hostname=name) as answer:
            found = tuple((key.decode("latin-1").lower(), value.decode("latin-1").strip()) for key, value in answer.raw_headers)
            await _read(answer)
            return Reply(answer.status, found)
    except _NO_ANSWER as error:
        return Reply(error=_words(error))


async def _read(answer: aiohttp.ClientResponse) -> None:
    """Read a body, if it is not too large."""
    left = _MOST_READ
    with suppress(*_NO_ANSWER):  # the answer has begun, and its status and headers are what is compared
        async for chunk in answer.content.iter_any():
            left -= len(chunk)
            if left < 0:
                answer.close()
                return


def _words(error: Exception) -> str:
    """The fault in words that are the same for both sides, whichever way they do it."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError):
        return "no connection"
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return "no valid answer"
    return "the connection was closed"


async def _knock(side: Side, scheme: str) -> None:
    """Raises Failure where nothing listens."""
    host, port = side.addresses[scheme]
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
            await _close(writer)
    except (OSError, TimeoutError) as error:
        raise Failure(f"{side.name} {scheme}://{_in_url(host)}:{port} cannot be reached: {_reason(error)}.") from None


def _reason(error: OSError) -> str:
    return f"no answer within {PATIENCE:g} s" if isinstance(error, TimeoutError) and error.errno is None else reason(error)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side may end without the alert that closes TLS
        await writer.wait_closed()


async def _certificate(side: Side, host: str) -> str:
    """The common name (or first name) and the hash of the certificate; words where there is none."""
    where = side.addresses["https"]
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(*where, ssl=_any_certificate(), server_hostname=host)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            await _close(writer)
    except (OSError, TimeoutError, ValueError):
        return "none: the TLS handshake failed"
    return f"{_subject(der)} (SHA-256 {hashlib.sha256(der).hexdigest()[:16]})"


def _subject(der: bytes) -> str:
    try:
        names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return "a certificate that cannot be read"
    return str(names[0].value)[:100] if names else "a certificate without a common name"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
