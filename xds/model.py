"""What the traffic should do, in our own words: routes, clusters and what answers.

The words between Kubernetes (`xds.kube`) and Envoy (`xds.render`). Values only: no reading, no rendering.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from xds.problem import Ref


class PathKind(Enum):
    """How the path of a request is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    """Whole path segments: /foo takes /foo and /foo/bar, not /foobar (Kubernetes Ingress, pathType Prefix)."""
    REGEX = "regex"
    """nginx's `~* "^<path>"`: case-insensitive, searched from the start, open at the end."""
    RAW_PREFIX = "raw prefix"
    """Characters, not segments."""
    PATTERN = "pattern"
    """A regular expression of ours for whole paths as Envoy normalises them."""


@dataclass(frozen=True, slots=True)
class PathMatch:
    """The paths that a route takes; `path` is percent-encoded, or a regular expression.

    With `escaped`, an escape means what it stands for, in slashes too: what nginx would match is matched, however it is spelled
    (`xds.patterns.spelling`). Without, an escaped slash is none.
    """

    kind: PathKind
    path: str
    escaped: bool = False


class Via(Enum):
    """The scheme by which the client came; a route may be for one of them only."""

    ANY = ""
    HTTP = "http"
    HTTPS = "https"


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A header that a request must have: exactly `value`, or, with `regex`, wholly matched by it (RE2).

    With `any_case` upper and lower case are the same; a `regex` has a flag of its own for that. With `inverted` the request must not have
    it. `words` are the same for people, where name and value are not enough.
    """

    name: str
    value: str
    regex: bool = False
    any_case: bool = False
    inverted: bool = False
    words: str = dataclasses.field(default="", compare=False)


CLOSED = "closed"
"""A name in Settings that is no Feature's: why nothing of the Ingress is served, as a sentence about its annotation."""


LEFT_OUT = "left out"
"""The other such name: why the Ingress has no effect at all, as if it were not there, as a sentence about its annotation."""


class Settings(dict[str, Any]):
    """What the Features read from an Ingress: feature name → its setting. Only features with a setting are in it, `CLOSED` and `LEFT_OUT`.

    It is never changed, and hashable, as its values are, so that equal settings are rendered once.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:  # type: ignore[override]
        try:
            return self._hash
        except AttributeError:
            self._hash = hash(tuple(sorted(self.items())))
            return self._hash

    def but(self, **others: Any) -> Settings:
        """The same with some settings replaced."""
        return Settings({**self, **others})


@dataclass(frozen=True, slots=True)
class Cluster:
    """A port of a Service under a policy: the input of an Envoy cluster.

    `policy` holds the settings of features that configure clusters, sorted by name, without those that equal the defaults.
    `protocol` is "TCP" or "UDP"; with `send_proxy` each connection begins with a PROXY header.

    `external`: the DNS knows the endpoints (a Service of type ExternalName). Then `asked_by` is the Ingress whose settings are the policy,
    and `policy` is only what its route changes of them. So the cluster keeps its name while the settings change.

    `by_address`: the Service's own addresses stand for its endpoints, whatever the policy is.

    `host`: a host name or an IP address that an annotation names, instead of a Service; then `namespace` is that of the Ingress. `aside`:
    no route leads there, what goes there is made by Envoy beside a request, such as a copy of it.
    """

    namespace: str
    service: str
    port: int
    policy: tuple[tuple[str, Any], ...] = ()
    protocol: str = "TCP"
    send_proxy: bool = False
    external: bool = False
    asked_by: Ref | None = None
    by_address: bool = False
    host: str = ""
    aside: bool = False

    def __hash__(self) -> int:
        """Of all fields of which users make many values: each is hashed some thirty times, and all fields would take three times as long.

        Clusters with equal hashes are compared one by one, so one Service of type ExternalName must not make thousands of them.
        """
        return hash((self.namespace, self.service, self.port, self.policy, self.asked_by, self.host))


class PasswordForm(Enum):
    """How passwords are written in a Secret, by the words of `auth-secret-type`."""

    FILE = "auth-file"
    """The key `auth` holds an htpasswd file."""
    MAP = "auth-map"
    """Each key is a user, each value a hash."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords in a Secret, which the authorisation service beside each Envoy needs."""

    namespace: str
    name: str
    form: PasswordForm


LARGEST_BODY = 4_096
"""Bytes of a body of our own: Envoy rejects a route table with a longer one (RouteConfiguration.max_direct_response_body_size_bytes)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request to a Service; with `by_client` one client address stays with one endpoint."""

    cluster: Cluster
    by_client: bool = False


@dataclass(frozen=True, slots=True)
class Respond:
    """Envoy itself responds, with these `headers` (names and literal values).

    Without a `body` of its own the response has nginx's page for its status. A body is text, and text/plain unless a header sets another
    type. Raises ValueError for a body that is too large.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def __post_init__(self) -> None:
        if len(self.body.encode()) > LARGEST_BODY:
            raise ValueError(f"a body has {LARGEST_BODY} bytes at most")


class RedirectTo(Enum):
    """What a Redirect's Location is made from."""

    URL = "url"
    """`location` is the whole Location header."""
    HTTPS = "https"
    """The same host and path over https, as nginx's ssl-redirect writes it; `location` is the port, such as ":443", or ""."""
    PATH = "path"
    """`location` is a path on the same scheme, host and port; the query is dropped.

    nginx responds so before it looks for a location, without the headers of locations (HSTS)."""
    HERE = "here"
    """`location` is a path on the same scheme and host, without a port; the query is dropped."""
    REWRITTEN = "rewritten"
    """`location` is an address in whose path `\\1` stands for a group of `pattern`; the query stays."""
    NAME = "name"
    """`location` is another name for the host: scheme, port (in any case) and what follows stay, without a last slash.

    nginx has a server of its own for it, and responds without what locations add (HSTS)."""
    SLASH = "slash"
    """The same URL with a slash after the path; the query stays."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer with a Location header. `pattern` is a regular expression that takes in the whole path.

    `keep_slash`: to HTTPS, the last slash stays. `relative`: to HERE or SLASH, the Location has neither scheme nor host.
    """

    status: int
    to: RedirectTo
    location: str = ""
    pattern: str = ""
    keep_slash: bool = False
    relative: bool = False


Action = Forward | Respond | Redirect


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose certificates a client may show: the Secret ("namespace/name") with the certificates of who signs them.

    `depth` is the number of certificates that may stand between the client's and one of those.
    """

    secret: str
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Terminate:
    """TLS of a host ends at Envoy, under the certificate of a Secret ("namespace/name"); "" is the default certificate.

    With an `authority` clients are asked for a certificate. TLS goes on without a good one: routes decide what then (`Handshake`).
    `ciphers` are the suites of TLS 1.2, in their order; none stands for those of all hosts.
    """

    certificate: str = ""
    authority: Authority | None = None
    ciphers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the TLS of a request must have been, for a route.

    `into`: the request came in where TLS of the route's host ends so, by the host's own name (SNI); `elsewhere`: it did not. `unnamed`: by
    no name, or by one that has no certificate of its own. `presented` and `validated` are about the client's certificate; `subject` is an
    expression (RE2) for its distinguished name.
    """

    into: Terminate | None = None
    elsewhere: bool = False
    unnamed: bool = False
    presented: bool | None = None
    validated: bool | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A further name (in lower case) of a host. It has the paths of that host, or (`redirect`) all requests for it are redirected."""

    host: str
    redirect: Redirect | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the requests that match, by chance: `parts` of `of`, from none to all."""

    parts: int
    of: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What the requests of a location are counted by: the Ingress that owns it, the Service that it names, its host and path as configured.

    Host is "" where hosts are not told apart, and Service, host and path are where paths are not.
    """

    origin: Ref
    service: str
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to the requests that match. `origin` is the Ingress; `rule` names its path, such as `spec.rules[0].http.paths[1]`.

    With a `share` the route takes that part of them only, and the routes after it the others.
    `besides` are clusters that Envoy must have for it beside the one that it leads to, such as that of copies, `passwords` those that the
    authorisation service must have. `early`: nginx responds so before it looks for a location, without the headers of locations.
    `counted`: how its requests are counted, if they are.
    """

    match: PathMatch
    action: Action
    origin: Ref | None = None
    rule: str = ""
    via: Via = Via.ANY
    headers: tuple[HeaderMatch, ...] = ()
    settings: Settings = dataclasses.field(default_factory=Settings)
    share: Share | None = None
    besides: tuple[Cluster, ...] = ()
    handshake: Handshake | None = None
    early: bool = False
    passwords: Passwords | None = None
    counted: Counted | None = None

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """All clusters that Envoy must have for it."""
        return (self.action.cluster, *self.besides) if isinstance(self.action, Forward) else self.besides


@dataclass(frozen=True, slots=True)
class Offer:
    """What an Ingress that claims no paths offers for a path of another one: where requests would go, and its origin.

    `own` are the settings of its Ingress. `settings` are those of a route that leads there: the location's, but for what concerns the
    Service.
    """

    action: Action
    origin: Ref
    rule: str
    own: Settings
    settings: Settings


@dataclass(frozen=True, slots=True)
class Location:
    """A path of a host before the features have acted on it.

    `tls`: the host has a tls section (nginx 4.5). `path` is the path as configured. `offers` are in the order of their Ingresses.
    `backend` is the Service and the port that the Ingress names for it, as written; none for what no path or default backend takes.
    `default` is where --default-backend-service leads while it has endpoints, for those features that ask.
    """

    host: str
    path: str
    match: PathMatch
    tls: bool
    origin: Ref | None
    rule: str
    settings: Settings
    offers: tuple[Offer, ...] = ()
    backend: tuple[str, int | str] = ("", 0)
    default: Cluster | None = None
    counted: Counted | None = None


@dataclass(frozen=True, slots=True)
class Passthrough:
    """TLS of a host goes to a cluster as it is. Without a cluster its connections are closed."""

    cluster: Cluster | None


HostTls = Terminate | Passthrough
"""Where TLS of a host ends."""


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """One host and its routes, in the order in which they are tried. With `deep` a wildcard stands for one label or more, else for one."""

    host: str
    routes: tuple[Route, ...]
    tls: HostTls = Terminate()
    deep: bool = False


@dataclass(frozen=True, slots=True)
class StreamLog:
    """The line for each connection or session, in nginx's words ("" for none), and whether it is on standard error."""

    line: str
    to_stderr: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """An entry of the tcp- or udp-services ConfigMap: what comes in on `port` goes to a Service.

    `take_proxy`: the client speaks the PROXY protocol first. `idle` is the idle time-out in seconds, 0 for none. A TCP
    connection is tried at so many endpoints (`tries`). Without a `log` the line is ingress-nginx's own.
    """

    port: int
    protocol: str
    cluster: Cluster
    by_client: bool
    take_proxy: bool
    idle: int = 0
    log: StreamLog | None = None
    tries: int = 3
