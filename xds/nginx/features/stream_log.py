"""log-format-stream and its relatives: the line of each TCP connection and UDP session of the L4 services. A change drains them."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Stream, StreamLog
from xds.nginx import log_format
from xds.nginx.feature import Feature, Fidelity, Key, Notes
from xds.nginx.features.access_log import ACCESS_LOG_PATH, DISABLE_ACCESS_LOG, STDERR, log_path
from xds.nginx.values import boolean

_DRAINS = "a change drains the connections of L4 services"


def _lacks(text: str) -> str:
    return f'Envoy has no value for {log_format.named(log_format.unknown_in_stream(text))}; "-" is written in its place'


LOG_FORMAT_STREAM = Key(
    "log-format-stream",
    log_format.parsed,
    f"The line for a TCP connection or UDP session; {_DRAINS}.",
    "$remote_addr $protocol $upstream_addr $bytes_sent",
    log_format.STREAM,
    Fidelity.APPROXIMATE,
    'a variable for which Envoy has no value is written as "-", and the status is always 200',
    lambda text, _paths: bool(log_format.unknown_in_stream(text)),
    because=_lacks,
)
STREAM_ACCESS_LOG_PATH = Key(
    "stream-access-log-path", log_path, f"Where TCP connections and UDP sessions are logged; {_DRAINS}.", "/dev/stderr", ""
)
DISABLE_STREAM_ACCESS_LOG = Key(
    "disable-stream-access-log", boolean, f"Whether TCP connections and UDP sessions are not logged; {_DRAINS}.", "true", default=False
)


def _read(notes: Notes) -> StreamLog:
    silent, path = notes.key(DISABLE_STREAM_ACCESS_LOG), notes.key(STREAM_ACCESS_LOG_PATH)
    line = "" if silent or notes.key(DISABLE_ACCESS_LOG) else notes.key(LOG_FORMAT_STREAM)
    return StreamLog(line, to_stderr=(path or notes.key(ACCESS_LOG_PATH)) in STDERR)


def _on_stream(log: StreamLog, entry: Stream) -> Stream:
    return replace(entry, log=log)


FEATURE = Feature(read=_read, keys=(LOG_FORMAT_STREAM, STREAM_ACCESS_LOG_PATH, DISABLE_STREAM_ACCESS_LOG), on_stream=_on_stream)
