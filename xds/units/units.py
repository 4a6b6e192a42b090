"""The Units: each makes one resource, or a part of one, from the objects that it reads to the bytes that Envoy receives.

Here `xds.translate` meets `xds.render`. A value has what the Snapshot needs of a resource and no more: so an irrelevant change gives an
equal value, and stops there.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds import model
from xds.certificates.authorities import Trusted
from xds.certificates.pairs import Pair
from xds.config import Flags
from xds.kube.world import Reader, service, settings
from xds.nginx import registry
from xds.nginx.registry import asks
from xds.render import clusters, endpoints, listeners, names, passages, request_counts, routes, secrets
from xds.translate import endpoint_addresses, hosts
from xds.translate.backends import Address, addresses, by_client_address, external_address
from xds.translate.certificates import DEFAULT, authority, certificate, default_pair
from xds.translate.configuration import configuration
from xds.translate.passages import marker
from xds.translate.streams import streams
from xds.units.parts import Entry, Frame, Host, host_digest
from xds.wire.encode import encode, field

_VIRTUAL_HOSTS = 2
"""The field number of RouteConfiguration.virtual_hosts."""


def host(read: Reader, name: str) -> Host | None:
    """A virtual host; None where no Ingress of ours has one of this name."""
    found = read.unit(hosts.catch_all) if not name else hosts.virtual_host(read, name)
    if found is None:
        return None
    rest = hosts.beyond_wildcard(read, name) if name.startswith("*.") and not found.deep else None
    defaults = read.unit(configuration).defaults
    body = field(_VIRTUAL_HOSTS, routes.virtual_host_bytes(found, rest, defaults))
    all_routes = (*found.routes, *(rest.routes if rest else ()))
    wanted = frozenset(cluster for r in all_routes for cluster in r.clusters)
    needed = frozenset(r.passwords for r in all_routes if r.passwords)
    sharing = frozenset(name for r in all_routes for name in registry.sharing() if name in r.settings)
    return Host(body, host_digest(body), wanted, found.tls, needed, sharing)


def route_table(read: Reader) -> Frame:
    """The route table without its virtual hosts."""
    whole = encode(routes.table(read.unit(configuration).defaults, passages.of_table(marker(read))))
    before = field(1, names.ROUTES.encode())
    assert whole.startswith(before)
    return Frame(before, whole[len(before) :])


def cluster(read: Reader, wanted: model.Cluster) -> bytes:
    """An Envoy cluster."""
    found = service(read, wanted.namespace, wanted.service)
    base = hosts.cluster_settings(read, wanted.asked_by)
    external = Address(wanted.host, wanted.port) if wanted.host else external_address(found, wanted)
    by_client = by_client_address(read, wanted.namespace, wanted.service)
    denied = endpoint_addresses.denied(read, external.port) if external else endpoint_addresses.NOTHING_DENIED
    return clusters.cluster_bytes(wanted, base, by_client=by_client, external=external, denied=denied)


def load_assignment(read: Reader, wanted: model.Cluster) -> bytes | None:
    """The endpoints of a cluster; None for an ExternalName or another host, which Envoy resolves."""
    if wanted.host:
        return None
    found = service(read, wanted.namespace, wanted.service)
    if found is not None and found.type == "ExternalName":
        return None
    secret = marker(read) if asks("by_endpoint", dict(wanted.policy)) else ""
    return endpoints.load_assignment_bytes(names.cluster(wanted), addresses(read, wanted), secret)


def http_listener(read: Reader) -> bytes:
    """The plain listener."""
    flags = settings(read)
    return encode(listeners.http(flags.listen_address, flags.http_port, read.unit(configuration).defaults, _counts(flags)))


def https_listener(read: Reader) -> Listener:
    """The TLS listener without the filter chains of certificates."""
    flags = settings(read)
    return listeners.https(flags.listen_address, flags.https_port, read.unit(configuration).defaults, _counts(flags))


def _counts(flags: Flags) -> tuple[AccessLog, ...]:
    return request_counts.loggers(frozenset(flags.exclude_socket_metrics)) if flags.enable_metrics else ()


def stream_entries(read: Reader, protocol: str) -> tuple[model.Stream, ...]:
    """The entries of the tcp- or udp-services ConfigMap."""
    return streams(read, protocol)


def stream_listener(read: Reader, entry: model.Stream) -> Entry:
    """The listener of such an entry."""
    make = listeners.tcp if entry.protocol == "TCP" else listeners.udp
    return Entry(encode(make(entry, settings(read).listen_address, names.cluster(entry.cluster))), entry.cluster)


def secret(read: Reader, name: str) -> bytes | None:
    """A certificate with its key, or those of who signs, as an SDS secret; None where the Secret has no valid ones."""
    if name == DEFAULT:
        return encode(secrets.secret(name, *default_pair(read)))
    if names.is_authority(name):
        trusted = read.unit(authority, *names.secret_of(name).split("/", 1))
        return encode(secrets.authority(name, trusted.certificates, trusted.revoked)) if isinstance(trusted, Trusted) else None
    found = read.unit(certificate, *name.split("/", 1))
    return encode(secrets.secret(name, found.chain, found.key)) if isinstance(found, Pair) else None
