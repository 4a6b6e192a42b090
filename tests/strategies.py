"""Objects that nobody should write and somebody will: hypothesis strategies for whole sets of them, and an innocent site beside them.

What a set holds hangs together (Ingresses name Services that exist, ConfigMaps are those that flags name), so that rubbish reaches what is
rendered. What does not belong here: what a test expects of the result.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.envoy.harness.tls import make_certificate
from xds.config import Flags
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressClass,
    Meta,
    Namespace,
    Object,
    Path,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
)
from xds.nginx.registry import features, known_annotations, known_keys

T = TypeVar("T")

FLAGS = Flags(
    enable_ssl_passthrough=True,
    watch_ingress_without_class=True,
    configmap="wild/config",
    tcp_services_configmap="wild/tcp",
    udp_services_configmap="wild/udp",
    default_backend_service="wild/a",
    default_ssl_certificate="wild/first",
    http_port=18080,
    https_port=18443,
)
GLOBAL = ("wild", "config")
"""The ConfigMap that is allowed to change what holds for everybody."""
INNOCENT = "innocent.test"
PREFIX = "nginx.ingress.kubernetes.io/"
LABEL = "kubernetes.io/service-name"

NASTY = (
    "",
    " ",
    "\x00",
    "\x01placeholder 0\x01",
    "\n",
    "a\r\nX-Injected: yes",
    "\x1b[31mred",
    "\x7f",
    "%",
    "%%",
    "%REQ(authorization)%",
    "%DOWNSTREAM_PEER_CERT%",
    "%CEL(",
    "$",
    "$1",
    "${request_uri}",
    "\\",
    "\\1",
    '"',
    "'",
    "`",
    "{{",
    "}",
    "é",
    "日本",
    "\u2028",
    "\u202e",
    "\U0001f600",
    "٣",
    "../..",
    "*",
    "-1",
    "0",
    "65536",
    "9" * 30,
)
LONG = 10_000
NAMES = ("a", "b", "first")
"""What objects are called, and what refers to them."""


def texts() -> st.SearchStrategy[str]:
    """Any text: what breaks things, alone and within other text, and what hypothesis thinks of."""
    nasty = st.sampled_from(NASTY)
    mixed = st.lists(nasty | st.text(max_size=5), max_size=4).map("".join)
    long = st.sampled_from("x\n/(é").map(lambda letter: letter * LONG)
    return mostly(st.one_of(nasty, mixed, st.text(max_size=20)), long, of=12)


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T], *, of: int = 6) -> st.SearchStrategy[T]:
    """The odd once in `of` times: rubbish in every place at once would be told at the first one. (`one_of` knows no weights.)"""
    return st.integers(1, of).flatmap(lambda number: odd if number == of else usual)


def mutated(text: str) -> st.SearchStrategy[str]:
    """A text as it is, or with something put into it, cut out of it or doubled."""
    where = st.integers(0, len(text))
    put = st.builds(lambda at, what: text[:at] + what + text[at:], where, texts())
    cut = st.builds(lambda begin, end: text[:begin] + text[end:], where, where)
    doubled = st.sampled_from([text * 2, f"{text} {text}", f"{text},{text}", text.upper(), f"{text}:{text}"])
    return mostly(st.just(text), st.one_of(put, cut, doubled), of=2)


def numbers() -> st.SearchStrategy[int]:
    """Ports and the like, and what is none."""
    return st.sampled_from([0, 1, 80, 443, 8080, 65535, 65536, -1, 2**31, 2**70])


def hosts() -> st.SearchStrategy[str]:
    """Host names, names that look like one, and text."""
    label = st.sampled_from(["a", "wild", "test", "com", "A-b", "_x", "x_", "-x", "xn--caf-dma", "é", "*", "10", "", "l" * 63, "l" * 64])
    joined = st.lists(label, min_size=1, max_size=4).map(".".join)
    usual = st.sampled_from(
        ["", "a.wild.test", "b.wild.test", "*.wild.test", "*.test.wild", "A.Wild.Test", "a.wild.test.", "a.wild.test:80"]
    )
    odd = st.sampled_from(["*", "*.", ".", "_", "10.0.0.1", "[::1]", "::1", "localhost", "l" * 260, "*.*.wild.test", "a*.wild.test"])
    return mostly(usual, st.one_of(joined, odd, texts()), of=3)


def paths() -> st.SearchStrategy[str]:
    """Paths, regular expressions of any quality, and text."""
    pieces = ("a", "b", "(", ")", "(.*)", "[a-z]", "[", "]", "{2}", "{1000}", "{", "\\d+", "\\", "(?=x)", "(?i)", "(?P<n>x)", "\\1", "\\Q")
    others = (
        "$",
        "^",
        "|",
        "*",
        "+",
        "?",
        ".",
        "..",
        "%2F",
        "%zz",
        "%",
        "//",
        "/../",
        "é",
        "日",
        " ",
        "#",
        ";",
        "~",
        "&",
        "\\pN",
        "\\b",
        "\\C",
    )
    built = st.lists(st.sampled_from((*pieces, *others)), max_size=8).map(lambda found: "/" + "".join(found))
    usual = st.sampled_from(["/", "/x", "/x/", "/x(/|$)(.*)", "/api/v[0-9]+/(?:a|b)", "/" + "(a|b)" * 2000, "/" + "y" * 5000])
    return st.one_of(usual, built, mostly(built, st.one_of(texts().map(lambda text: f"/{text}"), texts()), of=3))


def ingress_annotations() -> st.SearchStrategy[dict[str, str]]:
    """Annotations of ingress-nginx with values near their examples, mostly those that have an effect here, and rubbish."""
    effective = sorted({a.name for feature in features().values() for a in feature.annotations if feature.annotations})
    effective = [name for name in effective if name != "enable-global-auth"]
    names = mostly(st.sampled_from(effective), st.sampled_from(sorted(known_annotations())), of=8)
    entry = names.flatmap(lambda name: st.tuples(st.just(PREFIX + name), _annotation_value(name)))
    rubbish = st.tuples(texts() | texts().map(lambda text: PREFIX + text), texts())
    first = st.sampled_from([{}, {}, {PREFIX + "use-regex": "true"}, {PREFIX + "rewrite-target": "/$1$9"}])
    return st.builds(lambda found, more: {**found, **dict(more)}, first, st.lists(mostly(entry, rubbish, of=8), max_size=5))


def _annotation_value(name: str) -> st.SearchStrategy[str]:
    known = known_annotations()[name]
    return mostly(mutated(known.example), st.one_of(_values(), texts()), of=3)


def keys() -> st.SearchStrategy[dict[str, str]]:
    """Keys of the ConfigMap with values near their examples, mostly those that have an effect here, and rubbish."""
    declared = {k.name for feature in features().values() for k in feature.keys}
    declared |= {a.key.name for feature in features().values() for a in feature.annotations if a.key}
    names = mostly(st.sampled_from(sorted(declared)), st.sampled_from(sorted(known_keys())), of=8)
    entry = names.flatmap(lambda n: st.tuples(st.just(n), mostly(mutated(known_keys()[n].example), _values() | texts(), of=3)))
    return st.lists(mostly(entry, st.tuples(texts(), texts()), of=8), max_size=5).map(dict)


def _values() -> st.SearchStrategy[str]:
    """What is right for one annotation or another, so that each gets what was meant for others, and numbers from edge to edge."""
    whole = st.integers(-1, 2**40).map(str) | st.sampled_from(
        ["0", "1", "300", "308", "309", "2147483", "2147484", "4294967296", "8g", "0k"]
    )
    words = st.sampled_from(
        ["true", "false", "GRPC", "AUTO_HTTP", "ewma", "ip_hash", "off", "error timeout http_404", "$arg_x$host", "/$1/$2"]
    )
    return whole | words


def stream_entries() -> st.SearchStrategy[dict[str, str]]:
    """What stands in a tcp-services or udp-services ConfigMap."""
    odd = st.sampled_from(["65535", "0", "65536", "-1", " 21001", "021001", "1e4", "18080"])
    port = mostly(st.integers(21000, 21020).map(str), odd | texts(), of=4)
    value = st.sampled_from(["wild/a:80", "wild/b:http", "wild/a:80:PROXY", "wild/b:80::PROXY", "wild/a:80:PROXY:proxy", "wild/a:dns"])
    return st.dictionaries(port, mostly(value, value.flatmap(mutated) | texts(), of=4), max_size=4)


@functools.cache
def pems() -> tuple[tuple[bytes, bytes], ...]:
    """Certificates and their keys: two for what the fuzzed hosts are called, the last one is the innocent's."""
    made = [make_certificate([host]) for host in ("a.wild.test", "*.wild.test", INNOCENT)]
    return tuple((m.cert_pem, m.key_pem) for m in made)


def contents() -> st.SearchStrategy[dict[str, bytes]]:
    """What a Secret holds: a certificate, a spoilt one, rubbish."""
    (chain, key), (other, other_key), _ = pems()
    usual = st.sampled_from([(chain, key), (other, other_key), (chain + other, key), (chain, other_key), (chain[:-40], key), (key, chain)])
    spoilt = st.builds(
        lambda at, byte: (chain[:at] + bytes([byte]) + chain[at + 1 :], key), st.integers(0, len(chain)), st.integers(0, 255)
    )
    named = (usual | usual | spoilt).map(lambda pair: {"tls.crt": pair[0], "tls.key": pair[1]})
    return named | st.dictionaries(texts() | st.sampled_from(["tls.crt", "tls.key"]), st.binary(max_size=30), max_size=3)


def _metas(names: st.SearchStrategy[str], namespaces: st.SearchStrategy[str], **more: Any) -> st.SearchStrategy[Meta]:
    """What every object has; `more` are strategies of its further fields."""
    created = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"])
    return st.builds(Meta, namespace=namespaces, name=names, created=created, **more)


def many(what: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    """A few of something."""
    return st.lists(what, max_size=most).map(tuple)


def objects(*, names: st.SearchStrategy[str] | None = None, most: int = 6) -> st.SearchStrategy[list[Object]]:
    """A set of objects: what works, and what is wild. `names` is what objects and references are called, now and then."""
    usual = st.sampled_from(NAMES)
    named = usual if names is None else mostly(usual, names, of=8)
    space = st.just("wild") if names is None else mostly(st.just("wild"), names, of=8)
    ingress = st.builds(
        Ingress,
        meta=_metas(named, space, annotations=ingress_annotations()),
        class_name=mostly(st.none(), named | texts(), of=8),
        default_backend=st.none() | _backends(named),
        rules=many(st.builds(Rule, hosts(), many(_paths(named)))),
        tls=many(st.builds(Tls, many(hosts(), 2), mostly(named, texts())), 2),
    )
    config = st.builds(ConfigMap, meta=_metas(st.just("config"), st.just("wild")), data=keys())
    streams = st.builds(ConfigMap, meta=_metas(st.sampled_from(["tcp", "udp"]), st.just("wild")), data=stream_entries())
    secret = st.builds(Secret, meta=_metas(named, space), type=mostly(st.just("kubernetes.io/tls"), texts()), data=contents())
    controller = mostly(st.just("k8s.io/ingress-nginx"), texts(), of=2)
    cluster_scoped = st.builds(IngressClass, meta=_metas(named, st.just("")), controller=controller) | st.builds(
        Namespace, meta=_metas(named, st.just(""), labels=st.dictionaries(texts(), texts(), max_size=2))
    )
    others = st.one_of(config, streams, secret, _services(named, space), _slices(named, space))
    one = st.one_of(ingress, mostly(others, cluster_scoped, of=8))
    return st.lists(one, min_size=1, max_size=most).map(lambda found: [*_what_works(), *found])


def _what_works() -> list[Object]:
    """What wild Ingresses lead to, unless a wild object of the same name takes its place: endpoints, certificates."""
    made: list[Object] = []
    for name in NAMES:
        meta = Meta(namespace="wild", name=name)
        made.append(
            Service(meta=meta, ports=(ServicePort(80, "http", 8080), ServicePort(53, "dns", 53, "UDP")), cluster_ips=("10.96.0.1",))
        )
        ports = (EndpointPort("http", 8080), EndpointPort("dns", 53, "UDP"))
        made.append(EndpointSlice(meta=meta, service=name, ports=ports, endpoints=(Endpoint(("10.0.0.3",)),)))
        chain, key = pems()[name == "a"]
        made.append(Secret(meta=meta, type="kubernetes.io/tls", data={"tls.crt": chain, "tls.key": key}))
    return made


def _backends(named: st.SearchStrategy[str]) -> st.SearchStrategy[Backend]:
    port = mostly(st.sampled_from([80, "http", 8080]), numbers() | texts(), of=8)
    return st.builds(Backend, mostly(named, texts(), of=8), port, mostly(st.just(""), texts(), of=8))


def _paths(named: st.SearchStrategy[str]) -> st.SearchStrategy[Path]:
    return st.builds(Path, paths(), st.sampled_from(["Exact", "Prefix", "ImplementationSpecific", ""]), _backends(named))


def _services(named: st.SearchStrategy[str], space: st.SearchStrategy[str]) -> st.SearchStrategy[Service]:
    usual = st.sampled_from(
        [ServicePort(80, "http", 8080), ServicePort(80), ServicePort(80, "dns", 53, "UDP"), ServicePort(81, "b", "web")]
    )
    odd = st.builds(ServicePort, numbers(), texts(), numbers() | texts(), st.sampled_from(["TCP", "UDP", "SCTP"]))
    return st.builds(
        Service,
        meta=_metas(named, space),
        type=st.sampled_from(["ClusterIP", "ClusterIP", "NodePort", "ExternalName"]),
        cluster_ips=many(mostly(st.sampled_from(["10.96.0.1", "fd00::1"]), texts()), 2),
        headless=st.booleans(),
        ports=st.lists(mostly(usual, odd, of=3), max_size=3).map(lambda found: (*found, ServicePort(80, "http", 8080))),
        external_name=mostly(st.sampled_from(["wild.invalid", "127.0.0.9", "10.0.0.9"]), hosts() | texts(), of=2),
        affinity=st.sampled_from(["None", "ClientIP"]),
    )


def _slices(named: st.SearchStrategy[str], space: st.SearchStrategy[str]) -> st.SearchStrategy[EndpointSlice]:
    odd = st.sampled_from(
        ["010.0.0.1", "256.1.1.1", "::ffff:10.0.0.1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "localhost", "10.0.0.1/8"]
    )
    address = mostly(st.sampled_from(["10.0.0.1", "fd00::2"]), odd | texts(), of=3)
    endpoint = st.builds(Endpoint, many(address, 2), st.booleans(), st.booleans(), st.booleans())
    usual = st.sampled_from([EndpointPort("http", 8080), EndpointPort("", 80), EndpointPort("dns", 53, "UDP"), EndpointPort("b", None)])
    port = mostly(usual, st.builds(EndpointPort, texts(), st.none() | numbers(), st.sampled_from(["TCP", "UDP", "SCTP"])), of=3)
    return st.builds(
        EndpointSlice,
        meta=_metas(named, space),
        service=mostly(named, texts()),
        ports=st.lists(port, max_size=3).map(lambda found: (*found, EndpointPort("http", 8080))),
        endpoints=st.lists(endpoint, max_size=2).map(lambda found: (*found, Endpoint(("10.0.0.3",)))),
        legacy=st.booleans(),
    )


def innocent(ip: str = "10.1.2.3", port: int = 8080) -> list[Object]:
    """A site that works, of which nothing that is fuzzed knows; its one endpoint is at this address."""
    chain, key = pems()[-1]
    meta = Meta(namespace="innocent", name="web")
    path = Path("/", "Prefix", Backend("web", 80))
    return [
        Ingress(meta=meta, rules=(Rule(INNOCENT, (path,)),), tls=(Tls((INNOCENT,), "web"),)),
        Service(meta=meta, ports=(ServicePort(80, "http", 8080),)),
        EndpointSlice(meta=meta, service="web", ports=(EndpointPort("http", port),), endpoints=(Endpoint((ip,)),)),
        Secret(meta=meta, type="kubernetes.io/tls", data={"tls.crt": chain, "tls.key": key}),
    ]


# Objects as they are written, with anything in the place of anything.


def _metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "wild", "creationTimestamp": "2026-05-01T12:00:00Z", "resourceVersion": "1", **more}


def _written_ingress() -> dict[str, Any]:
    backend = {"service": {"name": "a", "port": {"name": "http"}}}
    annotated = {PREFIX + "rewrite-target": "/$1", PREFIX + "proxy-body-size": "8m", PREFIX + "upstream-hash-by": "$request_uri"}
    paths_ = [{"path": path, "pathType": "Prefix", "backend": copy.deepcopy(backend)} for path in ("/x/(.*)", "/y")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata("a", annotations=annotated),
        "spec": {
            "ingressClassName": "nginx",
            "defaultBackend": backend,
            "tls": [{"hosts": ["a.wild.test"], "secretName": "first"}],
            "rules": [{"host": "a.wild.test", "http": {"paths": paths_}}, {"host": "*.wild.test", "http": {"paths": paths_[:1]}}],
        },
    }


WRITTEN: Sequence[Mapping[str, Any]] = (
    _written_ingress(),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata("a"),
        "spec": {
            "type": "ClusterIP",
            "clusterIPs": ["10.0.0.1"],
            "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
        },
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata("a-1", labels={LABEL: "a"}),
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True, "serving": True, "terminating": False}}],
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata("first"), "type": "kubernetes.io/tls", "stringData": {"tls.crt": "a"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("config"), "data": {"proxy-body-size": "8m", "hsts": "false"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("tcp"), "data": {"21000": "wild/a:80", "21001": "wild/a:http:PROXY"}},
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx"},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wild", "labels": {"team": "web"}}},
)
"""One object of each kind, which belong together."""


def anything() -> st.SearchStrategy[Any]:
    """Any JSON value."""
    scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), texts())
    return st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3), max_leaves=6)


Way = tuple[Any, ...]


def _ways(value: Any, way: Way = ()) -> list[Way]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [*([way] if way else []), *(found for key, each in entries for found in _ways(each, (*way, key)))]


def documents() -> st.SearchStrategy[list[Any]]:
    """One document of each kind, with up to five fields of any of them replaced by anything."""
    ways = [(number, way) for number, document in enumerate(WRITTEN) for way in _ways(document)]
    changes = st.lists(st.tuples(st.sampled_from(ways), st.one_of(texts(), texts(), anything())), min_size=1, max_size=5)
    return changes.map(_changed)


def _changed(changes: list[tuple[tuple[int, Way], Any]]) -> list[Any]:
    made = [copy.deepcopy(dict(document)) for document in WRITTEN]
    for (number, way), value in changes:
        here: Any = made[number]
        for step in way[:-1]:
            here = here[step] if _has(here, step) else None
        if _has(here, way[-1]):
            here[way[-1]] = value
    return made


def _has(value: Any, step: Any) -> bool:
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)
