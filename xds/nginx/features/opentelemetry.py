"""OpenTelemetry: Envoy sends a span of each sampled request to a collector, and the trace goes on at the backend (traceparent).

Where spans go is part of the listeners, and a matter of the ConfigMap alone: a change of these keys drains connections. An Ingress
only says whether its requests are sampled, and what their spans are called.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceGoogleGrpc, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import Tracing as RouteTracing
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerTracing,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation as EarlyHeaderMutation
from envoy_data_plane.envoy.extensions.tracers.opentelemetry.samplers.v3 import (
    AlwaysOnSamplerConfig,
    ParentBasedSamplerConfig,
    TraceIdRatioBasedSamplerConfig,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType, Percent

from xds.kube.objects import Ingress
from xds.model import Route, Via
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, Key, Notes, Objects, Risk, Unreadable, same_key
from xds.nginx.values import boolean, choice, matching, shown, whole
from xds.nginx.variables import as_format, known
from xds.wire.encode import pack

_MILLION = 1_000_000
_DRAINS = "a change drains connections"
_TRACE = ("traceparent", "tracestate")
_SAMPLERS = "envoy.tracers.opentelemetry.samplers"


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"is {shown(text)}, which is no number") from None
    if not text.isascii() or not 0 <= found <= 1:
        raise ValueError(f"is {shown(text)}, which is not between 0 and 1")
    return found


ENABLE_OPENTELEMETRY = Annotation(
    "enable-opentelemetry",
    boolean,
    "Whether requests are traced; the ConfigMap must have otlp-collector-host.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason="a request is not traced if it came with an X-Request-ID that does not begin with eight hexadecimal digits, as UUIDs do",
)
OF_ALL = same_key(ENABLE_OPENTELEMETRY)
_of_annotation = matching(r"[A-Za-z0-9_ -]*", "name of letters, digits, _ and -")
_of_key = matching(r"[^\n]*", "line")
NAME_OF_ALL = Key(
    "opentelemetry-operation-name", lambda text: known(_of_key(text)), "The name of spans.", "$request_method $service_name", ""
)
OPERATION_NAME = Annotation(
    "opentelemetry-operation-name",
    _of_annotation,
    "The name of a request's span, where enable-opentelemetry is true.",
    "checkout",
    "",
    risk=Risk.MEDIUM,
    beside="enable-opentelemetry",
    unreadable=Unreadable.LEAVES_OUT,
    key=NAME_OF_ALL,
)
TRUST_INCOMING_SPAN = Key(
    "opentelemetry-trust-incoming-span", boolean, f"Whether a client's trace is continued; {_DRAINS}.", "false", default=True
)
COLLECTOR_HOST = Key(
    "otlp-collector-host",
    matching(r"[-A-Za-z0-9._]+|\[?[0-9A-Fa-f:.]+\]?", "host name or IP address"),
    f"The host of the collector to which spans are sent, by OTLP over gRPC without TLS. Without it no request is traced; {_DRAINS}.",
    "otel-collector.observability.svc",
    "",
)
COLLECTOR_PORT = Key("otlp-collector-port", whole(1, 65535), f"The port of the collector; {_DRAINS}.", "4318", 4317)
SERVICE_NAME = Key("otel-service-name", matching(r"[^\n]+", "line"), f"The name of the service in traces; {_DRAINS}.", "edge", "nginx")
SAMPLER = Key(
    "otel-sampler",
    choice("AlwaysOn", "AlwaysOff", "TraceIdRatioBased", any_case=True),
    f"Which of the traces that start here are sampled; {_DRAINS}.",
    "TraceIdRatioBased",
    "AlwaysOn",
)
SAMPLER_RATIO = Key("otel-sampler-ratio", _share, f"The share of traces that TraceIdRatioBased samples; {_DRAINS}.", "0.5", 0.01)
PARENT_BASED = Key(
    "otel-sampler-parent-based",
    boolean,
    f"Whether a trace that a client started is sampled as the client decided; {_DRAINS}.",
    "false",
    default=True,
)
MAX_QUEUE_SIZE = Key("otel-max-queuesize", whole(1, _MILLION), f"How many spans may wait to be sent; {_DRAINS}.", "4096", 2048, tuning=True)


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the ConfigMap says of all requests, and what an Ingress says of its own: `sampled` None for nothing."""

    collector: str
    service: str
    share: float
    everywhere: bool
    parent_based: bool
    trusts: bool
    waiting: int
    sampled: bool | None
    operation: str


def _read(notes: Notes) -> Tracing | None:
    host, port = notes.key(COLLECTOR_HOST), notes.key(COLLECTOR_PORT)
    shares, sampled, named = {"AlwaysOn": 1.0, "AlwaysOff": 0.0}, notes.own(ENABLE_OPENTELEMETRY), notes.get(OPERATION_NAME)
    found = Tracing(
        f"{f'[{host}]' if ':' in host and host[0] != '[' else host}:{port}" if host else "",
        notes.key(SERVICE_NAME),
        shares.get(notes.key(SAMPLER), notes.key(SAMPLER_RATIO)),
        notes.key(OF_ALL),
        notes.key(PARENT_BASED),
        notes.key(TRUST_INCOMING_SPAN),
        notes.key(MAX_QUEUE_SIZE),
        sampled,
        named if sampled else notes.key(NAME_OF_ALL),
    )
    return found if host or found.sampled else None


def _resolve(found: Tracing, _item: Ingress, _objects: Objects) -> Tracing | Complaint:
    if not found.collector:
        return Complaint(ENABLE_OPENTELEMETRY.name, "is true, but the ConfigMap has no otlp-collector-host")
    return found


def _on_route(found: Tracing, route: Route, envoy: EnvoyRoute) -> None:
    sampled = found.everywhere if found.sampled is None else found.sampled
    if not found.collector or (sampled == found.everywhere and not found.operation):
        return
    share = FractionalPercent(numerator=100 if sampled else 0)
    operation = as_format(found.operation, route)
    envoy.tracing = RouteTracing(client_sampling=FractionalPercent(), random_sampling=share, operation=operation)


def _on_connection(found: Tracing, connection: HttpConnectionManager, _via: Via) -> None:
    """Requests that Envoy's own sampling lets pass, all or none, are judged by the sampler."""
    exporter = OpenTelemetryConfig(
        grpc_service=GrpcService(google_grpc=GrpcServiceGoogleGrpc(target_uri=found.collector, stat_prefix="otlp")),
        service_name=found.service,
        sampler=_sampler(found.share, parent_based=found.parent_based),
        max_cache_size=found.waiting,
    )
    connection.tracing = HttpConnectionManagerTracing(
        client_sampling=Percent(),
        random_sampling=Percent(value=100 if found.everywhere else 0),
        provider=TracingHttp(name="envoy.tracers.opentelemetry", typed_config=pack(exporter)),
    )
    if not found.trusts:
        removed = EarlyHeaderMutation(mutations=[Mutation(remove=name) for name in _TRACE])
        connection.early_header_mutation_extensions.append(TypedExtensionConfig(name="incoming-spans", typed_config=pack(removed)))


def _sampler(share: float, *, parent_based: bool) -> TypedExtensionConfig:
    if parent_based:
        config = pack(ParentBasedSamplerConfig(wrapped_sampler=_sampler(share, parent_based=False)))
        return TypedExtensionConfig(name=f"{_SAMPLERS}.parent_based", typed_config=config)
    if share == 1:
        return TypedExtensionConfig(name=f"{_SAMPLERS}.always_on", typed_config=pack(AlwaysOnSamplerConfig()))
    part = FractionalPercent(numerator=round(share * _MILLION), denominator=FractionalPercentDenominatorType.MILLION)
    config = pack(TraceIdRatioBasedSamplerConfig(sampling_percentage=part))
    return TypedExtensionConfig(name=f"{_SAMPLERS}.trace_id_ratio_based", typed_config=config)


FEATURE = Feature(
    read=_read,
    annotations=(ENABLE_OPENTELEMETRY, OPERATION_NAME),
    keys=(
        OF_ALL,
        TRUST_INCOMING_SPAN,
        COLLECTOR_HOST,
        COLLECTOR_PORT,
        SERVICE_NAME,
        SAMPLER,
        SAMPLER_RATIO,
        PARENT_BASED,
        MAX_QUEUE_SIZE,
    ),
    resolve=_resolve,
    on_route=_on_route,
    on_connection=_on_connection,
    by_path=True,
)
