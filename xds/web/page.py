"""The manual of the metrics, generated from a registry: `python -m xds.cli.manual metrics > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

_OURS = "xds_"
_OPENING = """\
# Metrics

<!-- Written by `python -m xds.cli.manual metrics`; change the declarations instead. -->

On the health port, at `/metrics`, for Prometheus (`--healthz-port`, 10254). Requests are counted by Envoy, at `/stats/prometheus` of its
port 9902. `deploy/monitoring` has a dashboard and alerts.
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
    return "\n".join([_OPENING, *rows, _REST])
