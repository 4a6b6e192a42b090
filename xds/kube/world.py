"""Every Kubernetes object known at this moment, with its indexes, and the keys by which Units read it.

A *key* names one value of the World:

    ("Service", "default", "web")        an object: kind, namespace, name. `tuple(ref)`
    ("ingresses-of", "shop.example")     the Ingresses that have rules for a host. `ingresses_key`
    ("named-by", "www.shop.example")     the Ingresses whose annotations give this name to one of their hosts, with that host. `named_key`
    ("slices-of", "default", "web")      the EndpointSlices of a Service. `slices_key`
    ("last-valid", "default", "tls")     the last valid certificate of a Secret that is invalid now. `last_valid_key`
    ("refused-edit", "default", "web")   how an Ingress is written whose last valid form stands in its place. `refused_edit_key`
    ("path-share", "default")            the most paths of each Ingress of a namespace that are counted apart. `path_share_key`
    ("settings",), ("now",), …           a constant of this process, which the publisher sets

A key of an absent object is valid as well: its value is None or (), and a Unit that read it runs again when the object comes. Keys are
plain tuples, because each read of a Unit hashes one: an Enum in it would be hashed by Python code. `World.apply` returns the keys that a
change touched. Units read by the functions at the end of this module.

What does not belong here: what an object means (`xds.translate`), and where it comes from (`xds.kube.manifests`,
`xds.kube.apiserver.apiserver`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

from xds.config import Flags
from xds.kube.objects import ConfigMap, EndpointSlice, Ingress, IngressClass, Namespace, Object, Rule, Secret, Service, ref, without_report
from xds.kube.path_shares import PathShares
from xds.problem import Problem, Ref, Severity

Key = tuple[str, ...]
T = TypeVar("T")

SETTINGS: Key = ("settings",)
DEFAULT_CERTIFICATE: Key = ("default-certificate",)
NOW: Key = ("now",)
OWN_ADDRESSES: Key = ("own-addresses",)
OWN_SLICES: Key = ("own-slices",)
"""The EndpointSlices of `--pod-namespace`, where the pods of this program and its Envoys are; none with a folder of manifests."""
_INGRESSES_OF, _NAMED_BY, _SLICES_OF, _LAST_VALID = "ingresses-of", "named-by", "slices-of", "last-valid"
_REFUSED_EDIT = "refused-edit"
_PATH_SHARE = "path-share"
_HIGHEST = 0x10FFFF
"""The last character that there is."""
_YOUNGEST = "~"
"""A creationTimestamp after all others."""
_CONSTANTS = frozenset({SETTINGS[0], DEFAULT_CERTIFICATE[0], NOW[0], OWN_ADDRESSES[0], _LAST_VALID, _REFUSED_EDIT})
MOST_RULES = 5_000
"""Rules of one Ingress that have an effect. Each may be a host of its own, which every Envoy parses again at every change of the table."""
MOST_WILDCARDS = 500
"""Rules of one Ingress for wildcard hosts that have an effect. For each of their routes, Envoy matches a regular expression."""
MOST_NAMES = 5_000
"""Further names of the hosts of one Ingress that have an effect: as many as it may have rules."""

FurtherNames = Callable[[Ingress], Iterable[tuple[str, str]]]
"""The further names that an Ingress may give to its hosts, each with that host: both in lower case."""


def ingresses_key(host: str) -> Key:
    """The key of all Ingresses that have rules for a host (in lower case, "" for the catch-all)."""
    return (_INGRESSES_OF, host)


def named_key(name: str) -> Key:
    """The key of all Ingresses whose annotations give a name (in lower case) to one of their hosts."""
    return (_NAMED_BY, name)


def host_of_key(key: Key) -> str | None:
    """The host of an `ingresses_key`, the name of a `named_key`; None for every other key."""
    return key[1] if key[0] in (_INGRESSES_OF, _NAMED_BY) else None


def slices_key(namespace: str, service_name: str) -> Key:
    """The key of the EndpointSlices of a Service."""
    return (_SLICES_OF, namespace, service_name)


def last_valid_key(namespace: str, name: str) -> Key:
    """The key of the last valid certificate of a Secret that is invalid now. Its value is None while the Secret is valid."""
    return (_LAST_VALID, namespace, name)


class RefusedEdit(NamedTuple):
    """An Ingress as it is `written` now (`without_report`), which is refused. The World has its last valid form instead.

    That was the whole object in its resourceVersion `valid`.
    """

    written: Ingress
    valid: str


def refused_edit_key(namespace: str, name: str) -> Key:
    """The key of a RefusedEdit; its value is None while the Ingress is served as it is written, or not at all."""
    return (_REFUSED_EDIT, namespace, name)


def path_share_key(namespace: str) -> Key:
    """The key of the most paths of each Ingress of a namespace that are counted apart (`xds.kube.path_shares`)."""
    return (_PATH_SHARE, namespace)


class Reader(Protocol):
    """What a Unit is given: `read(key)` for the World, `read.unit(function, …)` for the value of another Unit."""

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key; None or () where it holds nothing."""

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of `function(reader, *arguments)`."""

    def report(self, problem: Problem) -> None:
        """Report a Problem. It lasts as long as the Unit's value."""


class World:
    """All objects. The cost of a change depends on what it touches, not on the number of objects.

    `constants` are values that Units may read besides objects, by key: the default certificate (PEM chain, PEM key), the time, and the
    addresses of this machine.
    """

    def __init__(self, settings: Flags, constants: Mapping[Key, Any] | None = None) -> None:
        self.kinds: Counter[str] = Counter()
        """How many objects there are of each kind."""
        self._objects: dict[Key, Object] = {}
        self._by_host: dict[str, tuple[Ingress, ...]] = {}
        self._by_name: dict[str, tuple[tuple[Ingress, str], ...]] = {}
        self._further: FurtherNames = lambda _ingress: ()
        self._by_service: dict[tuple[str, str], tuple[EndpointSlice, ...]] = {}
        self._own_slices: dict[Ref, EndpointSlice] = {}
        self._own_namespace = "" if settings.manifests else settings.pod_namespace
        self._path_shares = PathShares() if settings.enable_metrics else None
        self._constants: dict[Key, Any] = {SETTINGS: settings, **(constants or {})}

    def name_by(self, further: FurtherNames) -> None:
        """Index Ingresses by their further names as well: those that are there, and those to come."""
        self._further = further
        self._by_name.clear()
        for which, item in sorted(self._objects.items()):
            if isinstance(item, Ingress):
                self._index_names(Ref(*which), None, item, set())

    def apply(self, put: Iterable[Object] = (), drop: Iterable[Ref] = ()) -> set[Key]:
        """Store new and changed objects, and remove deleted ones. Returns the keys whose values may differ for a Unit.

        An object that is there as it is given, as after a re-list, touches no key. Nor does a change of fields that controllers write
        (`without_report`). Otherwise, writing the addresses of 10,000 Ingresses into their status would rebuild 10,000 virtual hosts.
        """
        touched: set[Key] = set()
        for gone in drop:
            self._replace(gone, None, touched)
        for item in put:
            self._replace(ref(item), item, touched)
        if self._path_shares:
            touched.update(map(path_share_key, self._path_shares.settle()))
        return touched

    def set_constant(self, key: Key, value: Any) -> set[Key]:
        """Change a constant, such as the time."""
        if self._constants.get(key) == value:
            return set()
        if value is None:
            del self._constants[key]
        else:
            self._constants[key] = value
        return {key}

    def get(self, key: Key) -> Any:
        """The value of a key; None or () where there is none."""
        kind = key[0]
        if kind == _INGRESSES_OF:
            return self._by_host.get(key[1], ())
        if kind == _NAMED_BY:
            return self._by_name.get(key[1], ())
        if kind == _SLICES_OF:
            return live_ones(self._by_service.get((key[1], key[2]), ()))
        if key == OWN_SLICES:
            return tuple(self._own_slices[which] for which in sorted(self._own_slices))
        if kind == _PATH_SHARE:
            return self._path_shares.share(key[1]) if self._path_shares else None
        return self._constants.get(key) if kind in _CONSTANTS else self._objects.get(key)

    def refused_edits(self) -> dict[Ref, RefusedEdit]:
        """The Ingresses whose last valid form stands in their place, and how they are written."""
        return {Ref("Ingress", *key[1:]): edit for key, edit in sorted(self._constants.items()) if key[0] == _REFUSED_EDIT}

    @property
    def hosts(self) -> Iterable[str]:
        """Every host that an Ingress has a rule for, in lower case; "" for the catch-all."""
        return self._by_host.keys()

    def has_host(self, host: str) -> bool:
        """Whether an Ingress has a rule for this host (in lower case), or gives this name to one of its hosts."""
        return host in self._by_host or host in self._by_name

    def objects(self, kind: type[T]) -> list[T]:
        """All objects of a kind, in the order of namespace and name."""
        return [item for _, item in sorted(self._objects.items()) if isinstance(item, kind)]

    def entries(self, key: Key) -> int:
        """How many paths, annotations, ports or endpoints the object of a key has: an estimate of the work that it causes."""
        match self._objects.get(key):
            case Ingress() as item:
                return sum(len(rule.paths) for rule in item.rules) + len(item.rules) + len(item.tls) + len(item.meta.annotations)
            case EndpointSlice() as item:
                return len(item.endpoints) * len(item.ports)
            case Service() as item:
                return len(item.ports)
            case ConfigMap() as item:
                return len(item.data)
        return 0

    def refs(self, key: Key) -> tuple[Ref, ...]:
        """The objects that the value of a key consists of. A fault of a Unit that read it is attributed to them."""
        kind = key[0]
        if kind == _INGRESSES_OF:
            return tuple(ref(i) for i in self._by_host.get(key[1], ()))
        if kind == _NAMED_BY:
            return tuple(dict.fromkeys(ref(i) for i, _ in self._by_name.get(key[1], ())))
        if kind == _SLICES_OF:
            return tuple(ref(s) for s in self._by_service.get((key[1], key[2]), ()))
        if key == OWN_SLICES:
            return tuple(sorted(self._own_slices))
        return () if kind in _CONSTANTS or kind == _PATH_SHARE else (Ref(*key),)

    def __len__(self) -> int:
        return len(self._objects)

    def _replace(self, which: Ref, item: Object | None, touched: set[Key]) -> None:
        key: Key = tuple(which)
        if item is not None and self._objects.get(key) == item:
            return
        old = self._objects.pop(key, None)
        if item is not None:
            self._objects[key] = item
        self.kinds[which.kind] += (item is not None) - (old is not None)
        changed: set[Key] = {key}
        if which.kind == "Ingress":
            self._index_ingress(which, _as(Ingress, old), _as(Ingress, item), changed)
        elif which.kind in ("EndpointSlice", "Endpoints"):
            self._index_slice(which, _as(EndpointSlice, old), _as(EndpointSlice, item), changed)
        if not _is_report(old, item):  # the indexes above hold the new object in any case: no reader may see an old version
            touched |= changed

    def _index_ingress(self, which: Ref, old: Ingress | None, new: Ingress | None, touched: set[Key]) -> None:
        before, after = set(hosts_of(old) if old else ()), set(hosts_of(new) if new else ())
        # hosts that both states name as well: the index holds the object, and its age may have changed their order
        for host in before | after:
            ours = self._by_host.get(host, ())
            if old and host in before:
                at = bisect_left(ours, _rank(old), key=_rank)
                ours = (*ours[:at], *ours[at + 1 :])
            if new and host in after:  # sorted here, once a change, and not in each Unit that reads the list
                at = bisect_left(ours, _rank(new), key=_rank)
                ours = (*ours[:at], new, *ours[at:])
            if ours:
                self._by_host[host] = ours
            else:
                self._by_host.pop(host, None)
            touched.add(ingresses_key(host))
        self._index_names(which, old, new, touched)
        if self._path_shares:
            self._path_shares.count(which, sum(len(rule.paths) for rule in new.rules) if new else 0)

    def _index_names(self, which: Ref, old: Ingress | None, new: Ingress | None, touched: set[Key]) -> None:
        after: dict[str, list[tuple[Ingress, str]]] = {}
        for name, host in islice(self._further(new) if new else (), MOST_NAMES):
            assert new is not None
            after.setdefault(name, []).append((new, host))
        before = {name for name, _ in islice(self._further(old) if old else (), MOST_NAMES)}
        for name in {*before, *after}:
            others = [pair for pair in self._by_name.get(name, ()) if ref(pair[0]) != which]
            if pairs := [*others, *after.get(name, ())]:
                self._by_name[name] = tuple(sorted(pairs, key=lambda pair: (ref(pair[0]), pair[1])))
            else:
                self._by_name.pop(name, None)
            touched.add(named_key(name))

    def _index_slice(self, which: Ref, old: EndpointSlice | None, new: EndpointSlice | None, touched: set[Key]) -> None:
        for item in (old, new):  # a slice may move to another Service by its label: both Services are touched
            if item is None:
                continue
            service = (item.meta.namespace, item.service)
            others = [s for s in self._by_service.get(service, ()) if ref(s) != which]
            if item is new:
                others.append(item)
            if others:
                self._by_service[service] = tuple(sorted(others, key=ref))
            else:
                self._by_service.pop(service, None)
            touched.add(slices_key(*service))
        if self._own_namespace and which.namespace == self._own_namespace:
            self._own_slices.pop(which, None)
            if new is not None:
                self._own_slices[which] = new
            touched.add(OWN_SLICES)


def _is_report(old: Object | None, new: Object | None) -> bool:
    """Whether two states of an object are the same to every Unit."""
    if isinstance(old, Ingress) and isinstance(new, Ingress):
        return without_report(old) == without_report(new)
    return isinstance(old, Service) and isinstance(new, Service) and without_report(old) == without_report(new)


def _as(kind: type[T], item: Object | None) -> T | None:
    assert item is None or isinstance(item, kind)
    return item


def live_ones(slices: tuple[EndpointSlice, ...]) -> tuple[EndpointSlice, ...]:
    """The slices that count. Those made of core/v1 Endpoints count only where a Service has no EndpointSlices.

    Kubernetes mirrors Endpoints as EndpointSlices, so both may be there, and the mirror is the newer API.
    """
    modern = tuple(s for s in slices if not s.legacy)
    return modern or slices


def hosts_of(ingress: Ingress) -> tuple[str, ...]:
    """The hosts of an Ingress, in lower case. One without any rules has the catch-all, ""."""
    return tuple(dict.fromkeys(rule.host.lower() for _, rule in rules_with_effect(ingress))) or ("",)


def rules_with_effect(ingress: Ingress) -> Iterator[tuple[int, Rule]]:
    """The rules of an Ingress within its limits, each with its number."""
    wildcards = 0
    for number, rule in enumerate(ingress.rules[:MOST_RULES]):
        wildcard = rule.host.startswith("*.")
        wildcards += wildcard
        if not wildcard or wildcards <= MOST_WILDCARDS:
            yield number, rule


def oldest_first(ingresses: Iterable[Ingress]) -> tuple[Ingress, ...]:
    """Sorted, the winner of a conflict first (decision 15): by creationTimestamp, then the larger namespace/name, as in ingress-nginx.

    Objects without a creationTimestamp, which come from folders, are younger than all others and of one age, as if they were applied
    together: that is what becomes of a folder in a cluster, where a timestamp counts seconds.
    """
    return tuple(sorted(ingresses, key=_rank))


def _rank(item: Ingress) -> tuple[str, str]:
    """The sort key of `oldest_first`: of texts that are turned round, character by character, the larger one is the smaller."""
    meta = item.meta
    return meta.created or _YOUNGEST, "".join([chr(_HIGHEST - ord(c)) for c in f"{meta.namespace}/{meta.name}"]) + chr(_HIGHEST)


def report_about(read: Reader, item: Object, field: str, code: str, sentence: str, severity: Severity = Severity.ERROR) -> None:
    """Report a Problem about an object, with the place where it was read."""
    read.report(Problem(ref(item), field, code, sentence, severity, item.meta.place))


def settings(read: Reader) -> Flags:
    """The settings of this process."""
    found: Flags = read(SETTINGS)
    return found


def ingresses_of(read: Reader, host: str) -> tuple[Ingress, ...]:
    """The Ingresses that name a host (in lower case), oldest first, whatever their class."""
    found: tuple[Ingress, ...] = read(ingresses_key(host))
    return found


def named_by(read: Reader, name: str) -> tuple[tuple[Ingress, str], ...]:
    """The Ingresses whose annotations give a name (in lower case) to one of their hosts, with that host; sorted by name."""
    found: tuple[tuple[Ingress, str], ...] = read(named_key(name))
    return found


def ingress(read: Reader, namespace: str, name: str) -> Ingress | None:
    """An Ingress by name."""
    found: Ingress | None = read(("Ingress", namespace, name))
    return found


def refused_edit(read: Reader, namespace: str, name: str) -> RefusedEdit | None:
    """How an Ingress is written whose last valid form stands in its place."""
    found: RefusedEdit | None = read(refused_edit_key(namespace, name))
    return found


def ingress_class(read: Reader, name: str) -> IngressClass | None:
    """An IngressClass by name."""
    found: IngressClass | None = read(("IngressClass", "", name))
    return found


def service(read: Reader, namespace: str, name: str) -> Service | None:
    """A Service by name."""
    found: Service | None = read(("Service", namespace, name))
    return found


def slices_of(read: Reader, namespace: str, service_name: str) -> tuple[EndpointSlice, ...]:
    """The EndpointSlices of a Service, sorted by name; its core/v1 Endpoints where it has none."""
    found: tuple[EndpointSlice, ...] = read(slices_key(namespace, service_name))
    return found


def own_slices(read: Reader) -> tuple[EndpointSlice, ...]:
    """The EndpointSlices of our own namespace in a cluster, sorted by name."""
    found: tuple[EndpointSlice, ...] = read(OWN_SLICES)
    return found


def own_addresses(read: Reader) -> frozenset[str]:
    """The addresses of this machine, as the publisher last set them: IPs in their shortest form."""
    found: frozenset[str] = read(OWN_ADDRESSES) or frozenset()
    return found


def secret(read: Reader, namespace: str, name: str) -> Secret | None:
    """A Secret by name."""
    found: Secret | None = read(("Secret", namespace, name))
    return found


def config_map(read: Reader, namespace: str, name: str) -> ConfigMap | None:
    """A ConfigMap by name."""
    found: ConfigMap | None = read(("ConfigMap", namespace, name))
    return found


def namespace(read: Reader, name: str) -> Namespace | None:
    """A Namespace by name."""
    found: Namespace | None = read(("Namespace", "", name))
    return found


def default_certificate(read: Reader) -> tuple[bytes, bytes]:
    """The generated default certificate: PEM chain and PEM key."""
    found: tuple[bytes, bytes] = read(DEFAULT_CERTIFICATE) or (b"", b"")
    return found


def now(read: Reader) -> int:
    """The time in seconds since 1970, as the publisher last set it, about once an hour. It is 0 before that."""
    found: int = read(NOW) or 0
    return found
