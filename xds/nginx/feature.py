"""What a feature of the nginx dialect is made of.

A feature reads annotations (and the ConfigMap keys that are their defaults) into a *setting*, a frozen value of its own, and draws the
setting: it may turn one route into several (`routes`), and paint on the Envoy messages of a route, a cluster or a listener. The model
only carries settings along; nobody but the feature looks inside one. A declaration is the parser, the entry in the manual, the verdict
of `xds check`, and a test case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Any, Generic, Protocol, TypeVar

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.kube.objects import ConfigMap, Ingress, Secret, Service
from xds.model import Cluster, Location, Name, Route, Stream, Via, VirtualHost
from xds.nginx.values import Refused, Untrimmed, readable, shown

T = TypeVar("T")
S = TypeVar("S")


class Fidelity(Enum):
    """How near a feature comes to what ingress-nginx does."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    IGNORED = "ignored"
    """Accepted without effect, and nothing that a user can see is lost."""
    REFUSED = "refused"
    """No effect: it cannot be done, or would be unsafe."""


class Unreadable(Enum):
    """What becomes of the paths of an Ingress whose annotation, or the key that holds for it, cannot be read."""

    IDLE = "it has no effect"
    CLOSES = "its paths answer 503"
    """It protects somebody, and a rule that cannot be read is a rule. ingress-nginx denies the locations as well."""
    CLOSES_ALL = "all paths answer 503"
    """The same of what holds beside the values of Ingresses, not in place of none. Only keys have this."""
    PARTLY = "the rest of it counts"
    """One part of a value of several parts."""
    AS_WRITTEN = "it counts as it is written"
    """A value that does no harm, and of which nobody makes sense. Only keys have this."""
    LEAVES_OUT = "the Ingress is left out, as in ingress-nginx"
    """ingress-nginx refuses the Ingress for it. Only annotations have this."""


class Risk(Enum):
    """ingress-nginx's own classes of what a value can do beyond its Ingress."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


class Scope(Enum):
    """What a value holds for."""

    LOCATION = "each path of the Ingress"
    HOST = "the whole host; the oldest Ingress that sets it wins"
    FIRST = "the whole host; its oldest Ingress decides"
    LONGEST = "the whole host; the Ingress with the longest path there wins"
    UPSTREAM = "the Service"


class Role(Enum):
    """What an Ingress does with the paths in its rules."""

    CLAIMS = "claims"
    """They are its own, unless another Ingress came first."""
    OFFERS = "offers"
    """They are those of another Ingress, to which it offers its backends. No path, host or certificate is there because of it."""


class Phase(IntEnum):
    """Where in the order of one request (nginx 4.2) a feature acts; what acts earlier shadows what acts later."""

    HOST = 10
    ERRORS = 12
    """What becomes of answers, whoever makes them."""
    CORS = 15
    RETURN = 20
    SSL_REDIRECT = 40
    BODY = 50
    LIMIT = 55
    ACCESS = 60
    PROXY = 70
    SESSION = 75
    """A cookie finds the endpoint of a client, whatever else would choose one."""
    BALANCER = 80
    """Which backend a request goes to is decided last, so that all else holds whichever it is."""


class FilterPlace(Enum):
    """Where in a listener's order of HTTP filters those of a route stand. The places are in that order; the value names the place.

    The filters of several features in one place follow each other in the order of phase and name.
    """

    PACE = "pace"
    """How fast bodies of responses are sent, after all else. Websockets and their like pass it by, for what they carry is no body."""
    COMPRESSION = "compression"
    """What makes bodies of responses smaller."""
    ERRORS = "errors"
    """What puts other answers in the place of those of all places after it."""
    BLOCK = "block"
    """What refuses clients whatever they ask for."""
    CORS = "cors"
    """What has to see the answers of all other places."""
    BODY = "body"
    """What limits bodies. Websockets and their like pass it by, for what they carry is no body."""
    LIMIT = "limit"
    """What refuses requests because there are too many of them."""
    ACCESS = "access"
    """What refuses clients by their address or certificate."""
    AUTH = "auth"
    """What asks who a client is."""
    ROUTE = "route"
    """Everything else, right before the request is routed."""


def always(_value: object, _paths: Collection[str]) -> bool:
    """Every value can meet the difference."""
    return True


@dataclass(frozen=True)
class Declared(Generic[T]):
    """A name that users may write a value under.

    `parse` turns the text (trimmed, never empty) into a value or raises ValueError with the rest of the sentence "<name> …"; if that is a
    `Refused`, the Ingress is left out. One that is `Untrimmed` is not asked where an annotation has blanks around it: that cannot be read.
    `default` holds where nothing, or nothing usable, was written. `example` must parse. `differs` is whether a value, on an Ingress with
    these paths, can meet the difference that `reason` names. `tuning`: without it requests are answered all the same. `because` gives
    the reason for one value, in place of `reason`. `unreadable`: what a value that `parse` refuses means for the paths.
    """

    name: str
    parse: Callable[[str], T]
    doc: str
    example: str
    default: T
    fidelity: Fidelity = Fidelity.EXACT
    reason: str = ""
    differs: Callable[[T, Collection[str]], bool] = always
    tuning: bool = False
    because: Callable[[T], str] | None = None
    unreadable: Unreadable = Unreadable.IDLE

    def read(self, written: str) -> T:
        """The value of what was written, which is more than blanks. Raises ValueError with the rest of the sentence "<name> …"."""
        return self.parse(readable(written))

    def needs_verdict(self, text: str, paths: Collection[str] = ()) -> bool:
        """Whether what was written is neither what holds anyway, nor a value that does what it says."""
        try:
            value = self.read(text)
        except ValueError:
            return True
        return value != self.default and self.differs(value, paths)

    def asks(self, text: str) -> bool:
        """Whether what was written is another value than what holds anyway, or none that can be read."""
        try:
            return self.read(text) != self.default
        except ValueError:
            return True


@dataclass(frozen=True)
class Annotation(Declared[T]):
    """An annotation, named without its prefix. `key` is the ConfigMap key with its default for the whole cluster, if there is one.

    `beside` is the name of another annotation without which it has no effect, `flag` the field of `xds.config.Flags`, and `switch` the
    boolean ConfigMap key, here and in ingress-nginx. `outlook`: what would become of a value that is not allowed, as a sentence.
    `unvalidated` reads what `parse` refuses where the administrator has no validation: ingress-nginx then puts the text into its
    configuration as it stands. It raises ValueError as `parse` does.
    """

    scope: Scope = Scope.LOCATION
    risk: Risk = Risk.LOW
    key: Key[T] | None = None
    alias: str = ""
    beside: str = ""
    flag: str = ""
    switch: str = ""
    outlook: Callable[[T], str] | None = None
    unvalidated: Callable[[str], T] | None = None

    def read(self, written: str) -> T:
        """The same; blanks around a value are part of it for what is `Untrimmed`."""
        text = readable(written)
        if text != written and isinstance(self.parse, Untrimmed):
            raise ValueError(f"is {shown(written)}, with blanks around it, which ingress-nginx does not read")
        return self.parse(text)

    def read_unvalidated(self, written: str) -> T:
        """The same where the administrator has no validation. Raises ValueError."""
        try:
            return self.read(written)
        except ValueError:
            if self.unvalidated is None:
                raise
        return self.unvalidated(readable(written))


@dataclass(frozen=True)
class Key(Declared[T]):
    """A key of the ConfigMap that `--configmap` names.

    `faults`: sentences about what of a value has no effect, which go on after the name; and `faulty`: what that means for the value.
    With `of_config_map` the text names another one, as `namespace/name`. This function makes the value of its data, and sentences about
    what of the data has no effect, which go on after "names ConfigMap a/b, ".
    """

    faults: Callable[[T], Sequence[str]] | None = None
    faulty: Unreadable = Unreadable.PARTLY
    of_config_map: Callable[[Mapping[str, str]], tuple[T, Sequence[str]]] | None = None


def same_key(annotation: Annotation[T]) -> Key[T]:
    """The ConfigMap key that has the name of an annotation and gives its default."""
    a = annotation
    then = Unreadable.IDLE if a.unreadable is Unreadable.LEAVES_OUT else a.unreadable
    return Key(a.name, a.parse, a.doc, a.example, a.default, a.fidelity, a.reason, a.differs, a.tuning, a.because, then)


def with_key(annotation: Annotation[T]) -> Annotation[T]:
    """The annotation together with the ConfigMap key of the same name."""
    return replace(annotation, key=same_key(annotation))


@dataclass(frozen=True)
class Complaint:
    """An annotation or key that could not be read: its name as it was written, why, and what that means for the paths."""

    name: str
    sentence: str
    then: Unreadable = Unreadable.IDLE


@dataclass(frozen=True)
class Closed:
    """Why an Ingress cannot be served as it was meant, and so not at all: the annotation without prefix, and the rest of its sentence.

    Its paths answer 503, as ingress-nginx denies locations.
    """

    name: str
    sentence: str


@dataclass(frozen=True)
class Barred:
    """Why nobody is let in to what an Ingress has a rule for: `setting` says so in place of the one that was read.

    `name` is the annotation without prefix, `sentence` the rest of the sentence about it, and `then` what follows from it.
    """

    setting: Any
    name: str
    sentence: str
    then: str


@dataclass(frozen=True)
class Forbidden:
    """Why an Ingress is left out, as if it were not there: the annotation without prefix, and the rest of its sentence.

    ingress-nginx leaves out what its administrator does not allow, or what its validation does not take.
    """

    name: str
    sentence: str


@dataclass(frozen=True)
class Written:
    """An annotation of an Ingress as it is written, without prefix; `risk` is that of its name, None where the name is not known."""

    name: str
    text: str
    risk: Risk | None


class Before(IntEnum):
    """Where in nginx's order of locations one stands that no Ingress has."""

    EXACT = 0
    """Before all others, as `location =`."""
    PATTERNS = 1
    """Before the regular expressions of the host, as `location ^~`."""
    PATHS = 2
    """Before the paths of Ingresses, as `location ~`."""
    SHORTER = 3
    """Among the paths of Ingresses, the longer one first."""


@dataclass(frozen=True)
class Further:
    """A location that no Ingress has. Where no feature makes other routes of it, it answers 404."""

    location: Location
    before: Before


class Objects(Protocol):
    """What `resolve` may read besides its Ingress. The Unit of the Ingress' settings depends on whatever was read, there or not.

    Objects of other namespaces are there only if the ConfigMap says `allow-cross-namespace-resources`.
    """

    def config_map(self, annotation: Annotation[Any], written: str) -> ConfigMap | Closed:
        """The ConfigMap that an annotation names as `namespace/name`."""

    def secret(self, annotation: Annotation[Any], written: str) -> Secret | Closed:
        """The Secret, of any type, that an annotation names as `name` (in the namespace of its Ingress) or `namespace/name`.

        An API server is asked for what annotations whose names end in `-secret` name. A setting should not keep `data`, but what is made of
        it: a Unit of its own reads the content where it is sent. No sentence may quote it.
        """

    def service(self, namespace: str, name: str) -> Service | None:
        """A Service by name; None where it does not exist, or may not be read."""

    def external_host(self, found: Service) -> str:
        """The DNS name that a Service of type ExternalName stands for; "" where it is none, or --disable-svc-external-name is set."""

    def refusal(self, host: str, port: int) -> str:
        """Why nothing may be sent to a host name or IP address, as the end of a sentence ("is …"); "" where it may."""


class Notes:
    """The annotations of one Ingress, or none, over the values of the ConfigMap: read with care, a bad value is a Complaint (once).

    `annotations` has the names without prefix; `keys` has values as `read_keys` parsed them, by name. `closed` is what could not be read
    and therefore closes the paths, also of the keys that were asked for. `validated`: the administrator wants values to be judged.
    """

    __slots__ = ("_annotations", "_keys", "_validated", "closed", "complaints")

    def __init__(self, annotations: Mapping[str, str], keys: Mapping[str, Any], *, validated: bool = True) -> None:
        self._annotations = annotations
        self._keys = keys
        self._validated = validated
        self.complaints: list[Complaint] = []
        self.closed: list[Complaint] = []

    def own(self, annotation: Annotation[T]) -> T | None:
        """What the Ingress itself says; None where it says nothing, or nothing usable."""
        name, text = annotation.name, self._annotations.get(annotation.name)
        if not text and annotation.alias:
            name, text = annotation.alias, self._annotations.get(annotation.alias)
        if not text:
            return None  # as nearly all of them are, of each Ingress
        try:
            if not readable(text):
                return None
            return annotation.read(text) if self._validated else annotation.read_unvalidated(text)
        except ValueError as error:
            self._add(Complaint(name, str(error), self._then(annotation, error)))
            return None

    def _then(self, annotation: Annotation[Any], error: ValueError) -> Unreadable:
        """What follows from a value that cannot be read; nothing, where the annotation has no effect anyway."""
        if annotation.beside and not self._annotations.get(annotation.beside, "").strip():
            return Unreadable.IDLE
        return Unreadable.LEAVES_OUT if isinstance(error, Refused) else annotation.unreadable

    def complain(self, annotation: Annotation[Any], sentence: str, then: Unreadable = Unreadable.IDLE) -> None:
        """What is wrong with a part of a value of which the rest counts; `sentence` goes on after the name."""
        self._add(Complaint(annotation.name, sentence, then))

    def _add(self, complaint: Complaint) -> None:
        if complaint not in self.complaints:
            self.complaints.append(complaint)
            if complaint.then is Unreadable.CLOSES:
                self.closed.append(complaint)

    def has(self, annotation: Annotation[Any]) -> bool:
        """Whether the Ingress has it, readable or not, and asks for more than what holds anyway."""
        text = self._annotations.get(annotation.name, "")
        return bool(text.strip()) and annotation.needs_verdict(text)

    def get(self, annotation: Annotation[T]) -> T:
        """What the Ingress says, else what the ConfigMap says, else the default."""
        own = self.own(annotation)
        if own is not None:
            return own
        if any(complaint.name in (annotation.name, annotation.alias) for complaint in self.closed):
            return annotation.default
        return self.key(annotation.key) if annotation.key else annotation.default

    def key(self, key: Key[T]) -> T:
        """What the ConfigMap says, else the default."""
        value: T | Complaint = self._keys.get(key.name, key.default)
        if isinstance(value, Complaint):
            self.closed.append(value)
            return key.default
        return value


def as_written(setting: Any) -> str:
    """The key of a plain setting: text as it is, `true` or `false`, a number in decimal digits, a tuple as a JSON list of such keys.

    Settings of one type have the same key only where they are equal. Raises TypeError for every other type: its text is Python's to change.
    """
    if type(setting) is bool:
        return "true" if setting else "false"
    if type(setting) in (str, int):
        return str(setting)
    if type(setting) is tuple:
        return json.dumps([as_written(part) for part in setting])
    raise TypeError(f"{type(setting).__name__} is no plain value; its Feature needs a cluster_key")


@dataclass(frozen=True)
class Feature(Generic[S]):
    """One feature: how its setting is read and what it does. Every hook gets the setting first; all but `read` may be left out.

    read          Notes → the setting, None for "nothing to say". Must depend on nothing else.
    resolve       (setting, its Ingress, Objects) → the setting instead, made of other objects; a Complaint if it has no effect; Closed if
                  nothing of the Ingress may be served without it; Barred with another setting. Only for settings that come from annotations
    on_path       (setting, a path of its Ingress as configured) → what of the setting holds there, None for nothing. Whatever depends on
                  settings sees this one, also the guard that lets no spelling of a path walk around the access rules of others
    forbids       (setting, all annotations of an Ingress) → what of them leaves the Ingress out; the setting is that of the ConfigMap alone
    names         (setting, a host of its Ingress) → further names of that host; the host's first Ingress whose setting gives any wins. A
                  host that has a rule keeps its name. The setting is read of the annotations alone
    regex         (setting, a path of its Ingress as written, whether it is Exact) → whether it turns all paths of the host into regular
                  expressions
    role          setting → what its Ingress does with its paths; of an Ingress that offers them, only annotations of Scope.UPSTREAM count
    routes        (setting, location, routes so far) → the routes instead; features of a late Phase are asked first. A feature with a `role`
                  is asked wherever a location has offers; its setting may be None then, for the offering Ingress is another one
    clusters      (setting, a location of its Ingress) → clusters that its routes which forward want beside their own, each with the policy
                  that it has: names of features with texts for their `on_cluster`, `on_upstream` and `cluster_key`
    host_routes   (setting, a location of its Ingress) → routes before all others of the host; the first Ingress that gives any wins
    on_route      (setting, route, Envoy's Route) → None; asked for every route: whether it forwards, redirects or responds. It may
                  configure filters of the listener by name (`typed_per_filter_config`), but not those of a `FilterPlace`
    on_forward    the same, asked for routes that forward only
    on_rewritten  the same, asked for routes that rewrite the path for the backend, whichever feature does
    off_location  (setting, Envoy's Route) → None; asked for redirects that nginx answers before it looks for a location, so that
                  what locations add is missing; the setting is that of the ConfigMap alone
    filters       (setting, route) → HTTP filters of the route, in the feature's `place`; asked for every route
    place         where these filters stand
    shared        what the route table has for these filters, by their names, while some route has a setting of the feature: such as a
                  script, of which Envoy would keep as many copies as there are routes. It is constant
    patterns      (setting, route) → the regular expressions that the feature gives a route: in its headers and in what `on_route`,
                  `on_forward` and `filters` draw. Envoy compiles them for each route, and the Ingress pays (`xds.translate.regexes`)
    cluster       whether the setting is part of what makes a cluster, so that differing values mean differing clusters
    cluster_key   setting → the text that stands for it in the names of clusters; only with `cluster`. Equal where settings are equal, and
                  nowhere else; made of what a user could have written, never of names in the code. A key that changes renames clusters of
                  Envoy, which drops their connections and statistics (decision 26): `tests/nginx/test_cluster_keys.py` pins each
    cluster_secrets  setting → the names of the SDS secrets that `on_cluster` refers to; only with `cluster`
    on_cluster    (setting, Envoy's Cluster) → None. Without `cluster` it is asked, as is `on_upstream`, only for what `clusters` gives, or
                  routes want beside their own, with the text that this cluster's policy has
    on_upstream   (setting, the cluster's HttpProtocolOptions) → None; only with `cluster`, for what `clusters` gives, or where only keys of
                  the ConfigMap are read
    on_host       (the settings of a host's Ingresses that have one, oldest first; the host with all of its routes) → the host instead
    on_tls        (setting, DownstreamTlsContext) → None: what all filter chains share; the setting is that of the ConfigMap alone
    rejects_unnamed  setting → whether TLS is refused to who names no host that is there; the setting is that of the ConfigMap alone
    on_table      (setting, Envoy's RouteConfiguration) → None, for what all hosts share; the setting is that of the ConfigMap alone
    on_connection (setting, HttpConnectionManager, Via) → None; the setting is that of the ConfigMap alone
    on_listener   (setting, Listener of http or https, without the chains of hosts) → None; the setting is that of the ConfigMap alone
    on_stream     (setting, an entry of the tcp- or udp-services ConfigMap) → the entry instead; the setting is that of the ConfigMap alone
    by_address    setting → whether requests go to a Service's own address instead of its endpoints
    by_endpoint   setting → whether endpoints have names that requests may ask for; only with `cluster`
    by_forwarded  setting → whether X-Forwarded-Proto is what a proxy in front says of a request, and `OWN_SCHEME` how it came to the
                  listener; the setting is that of the ConfigMap alone
    by_any_name   setting → whether headers of clients may have names that nginx calls invalid; the setting is that of the ConfigMap alone
    by_reference  setting → whether annotations may name objects of other namespaces; the setting is that of the ConfigMap alone
    by_affinity   setting → whether a Service's `sessionAffinity` has an effect; the setting is that of the ConfigMap alone
    passes_tls    setting → whether TLS of the host goes to the backend of its path "/" as it is; asked of the host's oldest Ingress
    by_host       whether the setting holds for all paths of a host, those of other Ingresses too: that of the oldest Ingress which has one
    yields        setting → whether it gives way to that of a younger Ingress, for it is that of the ConfigMap alone; only with `by_host`
    everywhere    whether it holds where no other host and path does, too: there redirects and rewrites have no effect (`Phase`)
    stays         setting → whether it holds for its own Ingress alone all the same; only with `by_host`
    locations     (setting, a location of its Ingress) → further locations of the host, which Envoy answers itself; only with `by_host`
    to_default    setting → whether its Location is to have the cluster of --default-backend-service (`Location.default`)
    falls_back    setting → whether a Service that the Ingress names answers where that of a path cannot be reached
    is_relative   setting → whether redirects to other paths of the same host leave out scheme and host
    by_path       whether `on_route`, `on_forward` or `filters` look at the path, name or cluster of the route: else it is drawn once for
                  many routes
    """

    read: Callable[[Notes], S | None]
    annotations: tuple[Annotation[Any], ...] = ()
    keys: tuple[Key[Any], ...] = ()
    phase: Phase = Phase.PROXY
    resolve: Callable[[S, Ingress, Objects], Any] | None = None
    on_path: Callable[[S, str], S | None] | None = None
    forbids: Callable[[S, Iterable[Written]], Iterable[Forbidden]] | None = None
    names: Callable[[S, str], tuple[Name, ...]] | None = None
    regex: Callable[[S, str, bool], bool] | None = None
    role: Callable[[S], Role] | None = None
    routes: Callable[[S, Location, tuple[Route, ...]], tuple[Route, ...]] | None = None
    clusters: Callable[[S, Location], Iterable[Cluster]] | None = None
    host_routes: Callable[[S, Location], tuple[Route, ...]] | None = None
    on_route: Callable[[S, Route, EnvoyRoute], None] | None = None
    on_forward: Callable[[S, Route, EnvoyRoute], None] | None = None
    on_rewritten: Callable[[S, Route, EnvoyRoute], None] | None = None
    off_location: Callable[[S, EnvoyRoute], None] | None = None
    filters: Callable[[S, Route], Iterable[TypedExtensionConfig]] | None = None
    place: FilterPlace = FilterPlace.ROUTE
    shared: Callable[[], Mapping[str, AnyMessage]] | None = None
    patterns: Callable[[S, Route], Iterable[str]] | None = None
    cluster: bool = False
    cluster_key: Callable[[S], str] = as_written
    cluster_secrets: Callable[[S], Iterable[str]] | None = None
    on_cluster: Callable[[S, EnvoyCluster], None] | None = None
    on_upstream: Callable[[S, HttpProtocolOptions], None] | None = None
    on_host: Callable[[Sequence[S], VirtualHost], VirtualHost] | None = None
    on_tls: Callable[[S, DownstreamTlsContext], None] | None = None
    rejects_unnamed: Callable[[S], bool] | None = None
    on_table: Callable[[S, RouteConfiguration], None] | None = None
    on_connection: Callable[[S, HttpConnectionManager, Via], None] | None = None
    on_listener: Callable[[S, Listener], None] | None = None
    on_stream: Callable[[S, Stream], Stream] | None = None
    by_address: Callable[[S], bool] | None = None
    by_endpoint: Callable[[S], bool] | None = None
    by_forwarded: Callable[[S], bool] | None = None
    by_any_name: Callable[[S], bool] | None = None
    by_reference: Callable[[S], bool] | None = None
    by_affinity: Callable[[S], bool] | None = None
    passes_tls: Callable[[S], bool] | None = None
    by_host: bool = False
    yields: Callable[[S], bool] | None = None
    everywhere: bool = False
    stays: Callable[[S], bool] | None = None
    locations: Callable[[S, Location], Iterable[Further]] | None = None
    to_default: Callable[[S], bool] | None = None
    falls_back: Callable[[S], bool] | None = None
    is_relative: Callable[[S], bool] | None = None
    by_path: bool = False
