"""The manual of the metrics, generated from a registry: `python -m xds.cli.manual metrics > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from xds import request_metrics

_OURS = "xds_"
_OPENING = """\
# Metrics

<!-- Written by `python -m xds.cli.manual metrics`; change the declarations instead. -->

For Prometheus there are three pages:

- that of the control plane, at `/metrics` of its health port (`--healthz-port`, 10254), which comes first here;
- that of requests, beside each Envoy, at `/metrics` of port 10254 of its pod ([below](#metrics-of-requests));
- Envoy's own, at `/stats/prometheus` of port 9902.

`deploy/monitoring` has a dashboard and alerts.
"""
_REST = """
The registry also has those of every Python process: `process_*` (CPU, memory, file descriptors) and `python_*` (garbage collection,
version).

## Labels

- `type` is the short name of the discovery service: `cds` clusters, `eds` endpoints, `lds` listeners, `rds` routes, `sds` certificates.
- `severity` is `error` (it does not work as written), `warning` (it works, but differs from what was written, or will soon) or `note`.
- `feature` is the part of the dialect that a Problem is about, such as `rewrite_target`: the name of a module in `xds/nginx/features`. For
  other Problems it is the first part of their code, as in `xds check -o json`: `no-service`, `conflict`, `annotation-unknown`, …
- `secret` is the name of the Secret, `default` for the default certificate; `host` the first name in the certificate.

The number of series does not grow with the number of Ingresses: it stays well below 1,000.

## Metrics of requests

With `--enable-metrics` the Envoys count requests as ingress-nginx does, and `xds metrics` beside each of them serves what they count. It
has the names and labels that Grafana's boards for ingress-nginx, Flagger, Argo Rollouts and KEDA ask for. `xds up --enable-metrics` serves
them at `http://127.0.0.1:10255/metrics` (`--metrics-address`). A change of the flag drains the connections of the listeners once.

All names begin with `nginx_ingress_controller_`, all series have `controller_class`, `controller_namespace` and `controller_pod` (the
Envoy's pod).

"""
_REQUESTS = """
| label | is |
|---|---|
| `namespace`, `ingress` | the Ingress that owns the path; of a canary's requests too |
| `service` | the Service that this Ingress names for the path |
| `canary` | the backend that the canary led to, as `<namespace>-<service>-<port>`; "" where the path's own answered |
| `host`, `path` | as in the rule, such as `*.example.com`; never what a client sent |
| `method` | {methods}, or `{other}` |
| `status` | the code of the answer, of Envoy or a backend: a redirect and a refusal count as well |

The latency has the first four alone. Requests that no rule has taken are left out, as in ingress-nginx; `--metrics-per-undefined-host`
shows them, under no host.

Beside these there are `nginx_process_connections` (`state`: active, reading, writing, waiting), `nginx_process_connections_total`,
`nginx_process_requests_total`, `nginx_process_cpu_seconds_total`, `nginx_process_resident_memory_bytes`,
`nginx_process_virtual_memory_bytes`, `nginx_process_oldest_start_time_seconds`, `nginx_process_num_procs`, `nginx_process_read_bytes_total`
and `nginx_process_write_bytes_total`, about Envoy and its clients. `config_hash`, `config_last_reload_successful`,
`config_last_reload_successful_timestamp_seconds`, `success` and `errors` are about what Envoy has taken from the control plane, or refused.

With the flag, the control plane has on its own page `ssl_expire_time_seconds` and `ssl_certificate_info` of the hosts whose certificates
end first. It also has `orphan_ingress` of Ingresses whose Services are missing or not ready (both at most 500), `leader_election_status`
and `build_info`.

What differs from ingress-nginx:

- Sums of times come from Envoy's histograms, which know each time to two digits: they may be off by 5 %, on average by much less. Sums of
  bytes are exact, and have one bucket, `+Inf`; `--length-buckets` and `--size-buckets` have no effect.
- Times of the backend are those of its last try, in microseconds instead of milliseconds. Requests that no backend has answered have none.
- `connect_duration_seconds` counts the time of a connection for each request on it. ingress-nginx counts 0 for all but the first.
- `ingress_upstream_latency_seconds` has no quantiles.
- A wildcard host has its own label, and its requests are counted. ingress-nginx leaves them out unless `--metrics-per-host=false`.

The number of series is bounded. An Ingress has labels for its first {paths:,} paths; requests of all others have its name alone. All
Ingresses together have labels for {apart:,} paths: where they have more, the namespaces with the most give way first, but each
Ingress keeps one. Of a path the first {letters} characters are a label. The statistics of an Envoy may come to {counters:,} counters and
{histograms:,} histograms: beyond, new labels are not counted. What nothing has been added to for a day is forgotten.

What it costs an Envoy, measured by `python -m bench.metrics`, is in [bench](../bench/README.md). What `--exclude-socket-metrics` names is
not counted, and costs nothing: give the flag to `xds serve` and to `xds metrics`.
"""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: its name without the suffixes of its samples, its Prometheus type, the names of its labels, and its help text."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def described(registry: CollectorRegistry) -> Iterator[Described]:
    """Every metric of the registry, including those without a series yet."""
    for collector in registry._collector_to_names:  # noqa: SLF001 - no public API has the labels of a metric without series
        for family in collector.collect():
            labels = getattr(family, "_labelnames", ()) or getattr(collector, "_labelnames", ())
            yield Described(family.name, family.type, tuple(labels), family.documentation)


def page(registry: CollectorRegistry) -> str:
    """docs/metrics.md."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in sorted(described(registry), key=lambda metric: metric.name):
        if metric.name.startswith(_OURS):
            name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
            rows.append(f"| `{name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.text} |")
    counted = ["| metric | type | meaning |", "|---|---|---|"]
    counted += [f"| `{name}` | {_KINDS.get(name, 'histogram')} | {text} |" for name, text in request_metrics.MEANINGS.items()]
    return "\n".join([_OPENING, *rows, _REST.rstrip("\n"), "", *counted, _of_requests()])


_KINDS = {request_metrics.REQUESTS: "counter", request_metrics.LATENCY: "summary"}


def _of_requests() -> str:
    return _REQUESTS.format(
        methods=", ".join(f"`{method}`" for method in request_metrics.METHODS),
        other=request_metrics.OTHER,
        paths=request_metrics.MOST_PATHS,
        apart=request_metrics.MOST_APART,
        letters=request_metrics.LONGEST_PATH,
        counters=request_metrics.MOST_COUNTERS,
        histograms=request_metrics.MOST_HISTOGRAMS,
    )
