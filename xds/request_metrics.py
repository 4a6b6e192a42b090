"""The counters of requests, between three that must agree: routes and listeners name them, Envoy counts, and `xds metrics` shows.

What belongs here: the names of Envoy's statistics, what ingress-nginx calls each, and the one tag that has all labels. One tag, because
Envoy formats each of them for each statistic of each request.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote

NAMESPACE = "nginx_ingress_controller_"
"""How the names of all of ingress-nginx' metrics begin."""
SCOPE = "ingress"
"""How the names of the statistics begin."""
TAG = "labels"
METADATA, LABELS = "xds.metrics", "labels"
"""Where a route has the labels of its requests: the namespace of its metadata, and the field."""
OTHER = "OTHER"
"""The method of requests with one that is not among METHODS: clients may send as many as they like."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT")
REQUESTS = "requests"
"""The statistic of all requests. The others have no count of their own."""
MOST_COUNTERS = 60_000
"""Counters of all labels together; each takes Envoy some 200 bytes."""
MOST_HISTOGRAMS = 20_000
"""Histograms of all labels together; each takes Envoy some 5 kB for each worker. Beyond, requests are counted, and their times are not."""
MOST_PATHS = 1_000
"""Paths of one Ingress whose requests are counted apart; those of all others are counted together."""
MOST_APART = 5_000
"""Paths of all Ingresses together that are counted apart: four histograms for each, with one method and status, fill MOST_HISTOGRAMS. Where
there are more, the namespaces with the most have some of theirs counted together (`xds.kube.path_shares`)."""
LONGEST_PATH = 200
"""Characters of a path that a label has: each statistic has the labels in its name."""
_NOTHING = "-"
_CONFIGURATION = r"listener_manager\.lds|cluster_manager\.cds|http\.https?\.rds"
_OF_ENVOY = rf"^({SCOPE}\.|http\.https?\.downstream_(cx|rq)_|({_CONFIGURATION})\.|server\.)"
STATS_PATH = f"/stats/prometheus?filter={quote(_OF_ENVOY, safe='')}"
"""The one page of statistics that Envoy gives `xds metrics`, as it is asked for: those that it shows."""
PROCESS_PATH = "/process"
"""The page with /proc/self/stat of Envoy."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic, and what is shown of it: names without NAMESPACE.

    `shows` are histograms. `per_second` is how many of its units make the unit of these; of a sum without buckets it is 1.
    `upstream`: only requests that a backend has answered count. `value` is Envoy's format for it.
    """

    name: str
    shows: tuple[str, ...]
    value: str
    per_second: int = 1
    buckets: bool = True
    upstream: bool = False


LATENCY = "ingress_upstream_latency_seconds"
"""A summary, all others are histograms."""
_MILLISECONDS, _MICROSECONDS = 1_000, 1_000_000
STATISTICS = (
    Statistic("request_duration", ("request_duration_seconds",), "%DURATION%", _MILLISECONDS),
    Statistic(
        "response_duration",
        ("response_duration_seconds",),
        "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
        _MICROSECONDS,
        upstream=True,
    ),
    Statistic(
        "header_duration",
        ("header_duration_seconds",),
        "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
        _MICROSECONDS,
        upstream=True,
    ),
    Statistic(
        "connect_duration",
        ("connect_duration_seconds", LATENCY),
        "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%",
        _MICROSECONDS,
        upstream=True,
    ),
    Statistic("request_bytes", ("request_size",), "%DOWNSTREAM_WIRE_BYTES_RECEIVED%", buckets=False),
    Statistic("response_bytes", ("response_size", "bytes_sent"), "%DOWNSTREAM_WIRE_BYTES_SENT%", buckets=False),
)

MEANINGS = {
    REQUESTS: "Requests of clients.",
    "request_duration_seconds": "Seconds from the first byte of a request to the last of its response.",
    "response_duration_seconds": "Seconds from the request to a backend until the last byte of its response.",
    "header_duration_seconds": "Seconds from the request to a backend until the first byte of its response.",
    "connect_duration_seconds": "Seconds in which the connection to the backend was established, for each request on it.",
    LATENCY: "Seconds in which connections to backends were established; deprecated, as connect_duration_seconds.",
    "request_size": "Bytes of requests, with headers.",
    "response_size": "Bytes of responses, with headers.",
    "bytes_sent": "Bytes of responses, with headers; deprecated, as response_size.",
}
"""What each metric is about, by its name without NAMESPACE."""


def shown(statistic: Statistic, excluded: Collection[str]) -> tuple[str, ...]:
    """The metrics of a statistic that `--exclude-socket-metrics` leaves, which names them with NAMESPACE or without."""
    without = {name.removeprefix(NAMESPACE) for name in excluded}
    return tuple(name for name in statistic.shows if name not in without)


def unknown_metrics(excluded: Collection[str]) -> list[str]:
    """Those names of `--exclude-socket-metrics` that no metric has."""
    return [name for name in excluded if name.removeprefix(NAMESPACE) not in MEANINGS]


def joined(namespace: str, ingress: str, service: str, canary: str, host: str, path: str) -> str:
    """The labels of a route in one text. The path comes last, since it alone may have spaces."""
    return " ".join(part or _NOTHING for part in (namespace, ingress, service, canary, host, path[:LONGEST_PATH]))


def parted(text: str) -> tuple[str, ...] | None:
    """The labels of `joined`, "" for what is not there; None where the text has none."""
    parts = text.split(" ", 5)
    return tuple("" if part == _NOTHING else part for part in parts) if len(parts) == 6 else None
