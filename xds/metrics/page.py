"""The page for Prometheus: ingress-nginx' metrics of requests, of the nginx process and of its configuration, from Envoy's statistics."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from xds.metrics.process import Process
from xds.metrics.statistics import Buckets, Statistics, unescaped
from xds.request_metrics import LATENCY, MEANINGS, NAMESPACE, REQUESTS, STATISTICS, Statistic, parted, shown


@dataclass(frozen=True, slots=True)
class Shown:
    """What an administrator wants to see. The first three are labels of all metrics."""

    namespace: str
    pod: str
    controller_class: str
    excluded: Collection[str] = ()
    undefined_hosts: bool = False
    status_classes: bool = False


class Reloads:
    """Whether Envoy took its last configuration, over several pages: Envoy counts what it took and what it refused."""

    def __init__(self) -> None:
        self._taken = self._refused = 0.0
        self._successful = True

    def successful(self, taken: float, refused: float) -> bool:
        """Whether the last one was taken, as far as two pages show: after a refusal nothing has been taken."""
        if taken != self._taken:
            self._successful = True
        elif refused > self._refused:
            self._successful = False
        self._taken, self._refused = taken, refused
        return self._successful


def page(found: Statistics, process: Process | None, shown: Shown, reloads: Reloads) -> str:
    """The text for Prometheus. Without a `process` its metrics are missing."""
    labels = {"controller_class": shown.controller_class, "controller_namespace": shown.namespace, "controller_pod": shown.pod}
    always = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    lines = [*_requests(found, shown, always), *_connections(found, always), *_configuration(found, always, reloads)]
    lines += _process(process, found, always) if process else []
    return "".join(f"{line}\n" for line in lines)


def _requests(found: Statistics, wanted: Shown, always: str) -> Iterator[str]:
    """The metrics of requests. Where two statistics get the same labels, their values are added."""
    named = _Labels(wanted, always)
    counts = named.added(found.counters.get(REQUESTS, {}))
    if REQUESTS not in {name.removeprefix(NAMESPACE) for name in wanted.excluded}:
        yield from _head(REQUESTS, "counter", MEANINGS[REQUESTS])
        yield from (f"{NAMESPACE}{REQUESTS}{{{labels}}} {value:.15g}" for labels, value in counts.items())
    for each in STATISTICS:
        for name in shown(each, wanted.excluded):
            yield from _head(name, "summary" if name == LATENCY else "histogram", MEANINGS[name])
            if not each.buckets:
                yield from _sums(name, named.added(found.counters.get(each.name, {})), counts)
            elif name == LATENCY:
                yield from _latency(each, found, named)
            else:
                yield from _histograms(name, each, named.joined(found.histograms.get(each.name, {})))


class _Labels:
    """From the text of Envoy's tag to labels: `status`, `method` and those of the route. A text is translated once."""

    def __init__(self, wanted: Shown, always: str) -> None:
        self._wanted = wanted
        self._always = always
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, text: str) -> tuple[str, str]:
        """All labels, and those that a latency has; twice "" for requests that are not shown."""
        if text not in self._known:
            self._known[text] = self._translated(unescaped(text))
        return self._known[text]

    def added(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums by labels."""
        sums: dict[str, float] = defaultdict(float)
        for text, value in values.items():
            if labels := self.of(text)[0]:
                sums[labels] += value
        return sums

    def joined(self, values: Mapping[str, Buckets], *, latency: bool = False) -> dict[str, Buckets]:
        """Histograms by labels."""
        made: dict[str, Buckets] = {}
        for text, value in values.items():
            if labels := self.of(text)[latency]:
                made[labels] = _both(made[labels], value) if labels in made else value
        return made

    def _translated(self, text: str) -> tuple[str, str]:
        status, _, rest = text.partition(" ")
        method, _, of_route = rest.partition(" ")
        route = parted(of_route)
        if route is None and not self._wanted.undefined_hosts:
            return "", ""
        namespace, ingress, service, canary, host, path = route or ("",) * 6
        if self._wanted.status_classes:
            status = f"{status[:1]}xx"
        names = {"namespace": namespace, "ingress": ingress, "service": service, "canary": canary}
        own = ",".join(f'{name}="{_escaped(value)}"' for name, value in names.items())
        rest = ",".join(
            f'{name}="{_escaped(value)}"' for name, value in {"host": host, "path": path, "method": method, "status": status}.items()
        )
        return f"{self._always},{own},{rest}", f"{self._always},{own}"


def _both(one: Buckets, other: Buckets) -> Buckets:
    bounds = {**one.at_most, **other.at_most}
    return Buckets({bound: one.at_most.get(bound, 0.0) + other.at_most.get(bound, 0.0) for bound in bounds}, one.sum + other.sum)


def _histograms(name: str, of: Statistic, histograms: Mapping[str, Buckets]) -> Iterator[str]:
    bounds: dict[str, str] = {}
    for labels, each in histograms.items():
        for bound, value in each.at_most.items():
            if bound not in bounds:
                bounds[bound] = bound if bound == "+Inf" else f"{float(bound) / of.per_second:g}"
            yield f'{NAMESPACE}{name}_bucket{{{labels},le="{bounds[bound]}"}} {value:.15g}'
        yield f"{NAMESPACE}{name}_sum{{{labels}}} {each.sum / of.per_second:.15g}"
        yield f"{NAMESPACE}{name}_count{{{labels}}} {each.at_most.get('+Inf', 0.0):.15g}"


def _sums(name: str, sums: Mapping[str, float], counts: Mapping[str, float]) -> Iterator[str]:
    """Histograms of one bucket: Envoy counts what they come to, which is exact, and requests."""
    for labels, value in sums.items():
        count = counts.get(labels, 0.0)
        yield f'{NAMESPACE}{name}_bucket{{{labels},le="+Inf"}} {count:.15g}'
        yield f"{NAMESPACE}{name}_sum{{{labels}}} {value:.15g}"
        yield f"{NAMESPACE}{name}_count{{{labels}}} {count:.15g}"


def _latency(of: Statistic, found: Statistics, named: _Labels) -> Iterator[str]:
    for labels, each in named.joined(found.histograms.get(of.name, {}), latency=True).items():
        yield f"{NAMESPACE}{LATENCY}_sum{{{labels}}} {each.sum / of.per_second:.15g}"
        yield f"{NAMESPACE}{LATENCY}_count{{{labels}}} {each.at_most.get('+Inf', 0.0):.15g}"


def _connections(found: Statistics, always: str) -> Iterator[str]:
    """nginx' connections. One of HTTP/2 may have many requests, so that those which wait for none are an estimate."""
    active, busy = found.total("http_downstream_cx_active"), found.total("http_downstream_rq_active")
    busy = min(active, busy)
    states = {"active": active, "reading": 0.0, "writing": busy, "waiting": active - busy}
    accepted = found.total("http_downstream_cx_total")
    yield from _head("nginx_process_connections", "gauge", "Connections of clients: active, writing (with a request) or waiting.")
    yield from (_line("nginx_process_connections", f'{always},state="{state}"', value) for state, value in states.items())
    yield from _head("nginx_process_connections_total", "counter", "Connections of clients so far.")
    yield from (_line("nginx_process_connections_total", f'{always},state="{state}"', accepted) for state in ("accepted", "handled"))
    yield from _head("nginx_process_requests_total", "counter", "Requests of clients so far, answered by Envoy or a backend.")
    yield _line("nginx_process_requests_total", always, found.total("http_downstream_rq_total"))


_DISCOVERED = ("listener_manager_lds", "cluster_manager_cds", "http_rds")


def _configuration(found: Statistics, always: str, reloads: Reloads) -> Iterator[str]:
    """What nginx' reloads are: listeners, clusters and routes that Envoy has taken from the control plane, or refused."""

    def total(what: str) -> float:
        return sum(found.total(f"{each}_{what}") for each in _DISCOVERED)

    taken, refused = total("update_success"), total("update_rejected")
    versions = sorted({value for each in _DISCOVERED for value in found.others.get(f"{each}_version", {}).values()})
    last = max((value for each in _DISCOVERED for value in found.others.get(f"{each}_update_time", {}).values()), default=0.0)
    metrics = (
        ("config_hash", "gauge", "The configuration that runs, as a number.", float(zlib.crc32(repr(versions).encode()))),
        (
            "config_last_reload_successful",
            "gauge",
            "Whether Envoy took the last configuration that it got.",
            float(reloads.successful(taken, refused)),
        ),
        (
            "config_last_reload_successful_timestamp_seconds",
            "gauge",
            "When Envoy last took a configuration, in seconds since 1970.",
            last / 1_000,
        ),
        ("success", "counter", "Configurations that Envoy has taken: listeners, clusters or routes.", taken),
        ("errors", "counter", "Configurations that Envoy has refused.", refused),
    )
    for name, kind, words, value in metrics:
        yield from _head(name, kind, words)
        yield _line(name, always, value)


def _process(process: Process, found: Statistics, always: str) -> Iterator[str]:
    metrics = (
        ("cpu_seconds_total", "counter", "CPU of Envoy, in seconds.", process.cpu),
        ("resident_memory_bytes", "gauge", "Memory of Envoy that is resident, in bytes.", float(process.resident)),
        ("virtual_memory_bytes", "gauge", "Addresses that Envoy has mapped, in bytes.", float(process.virtual)),
        ("oldest_start_time_seconds", "gauge", "When Envoy began, in seconds since 1970.", process.began),
        ("num_procs", "gauge", "Processes of Envoy; always 1.", 1.0),
        ("read_bytes_total", "counter", "Bytes that Envoy has read from clients.", found.total("http_downstream_cx_rx_bytes_total")),
        ("write_bytes_total", "counter", "Bytes that Envoy has written to clients.", found.total("http_downstream_cx_tx_bytes_total")),
    )
    for name, kind, words, value in metrics:
        yield from _head(f"nginx_process_{name}", kind, words)
        yield _line(f"nginx_process_{name}", always, value)


def _head(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {NAMESPACE}{name} {words}", f"# TYPE {NAMESPACE}{name} {kind}"


def _line(name: str, labels: str, value: float) -> str:
    return f"{NAMESPACE}{name}{{{labels}}} {value:.15g}"


_SPECIAL = re.compile(r'[\\"\n]')


def _escaped(value: str) -> str:
    """A label's value as Prometheus reads it."""
    return _SPECIAL.sub(lambda found: "\\n" if found[0] == "\n" else f"\\{found[0]}", value)
