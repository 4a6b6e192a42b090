"""proxy-ssl-*: TLS to endpoints that a backend-protocol of HTTPS or GRPCS asks for, with a certificate of ours, and theirs verified.

Without proxy-ssl-secret nothing of it holds, as in ingress-nginx. The setting is part of a cluster, so that no connection that was made
without verification is ever used for requests that ask for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.certificates import authorities, pairs
from xds.kube.objects import Ingress
from xds.nginx.feature import Annotation, Closed, Complaint, Feature, Fidelity, Key, Notes, Objects, Risk, Scope, Unreadable
from xds.nginx.messages import authority, sds
from xds.nginx.tls import bound, ciphers, no_ciphers, suites, versions
from xds.nginx.values import boolean, matching, shown, whole
from xds.wire.encode import pack

_TLS = "envoy.transport_sockets.tls"
_NAMELESS = "upstream_balancer"
"""The name that nginx sends and verifies where no other is given: its own word for all endpoints."""


def _on(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f'is {shown(text)}, which is neither "on" nor "off"')
    return text == "on"


PROXY_SSL_SECRET = Annotation(
    "proxy-ssl-secret",
    matching(r"[-._~a-zA-Z0-9/:]{1,507}", "namespace/name of a Secret"),
    "The Secret, as namespace/name, with the client certificate for backends, and the authority of their certificates (ca.crt).",
    "default/client",
    "",
    scope=Scope.HOST,
    risk=Risk.MEDIUM,
)
PROXY_SSL_VERIFY = Annotation(
    "proxy-ssl-verify",
    _on,
    "Whether backends must have a certificate that the authority has signed, for the name in proxy-ssl-name.",
    "on",
    default=False,
    scope=Scope.HOST,
    beside="proxy-ssl-secret",
)
PROXY_SSL_VERIFY_DEPTH = Annotation(
    "proxy-ssl-verify-depth",
    whole(0, 100),
    "The most certificates between that of a backend and one of the authority; 0 counts as 1.",
    "2",
    1,
    scope=Scope.HOST,
    beside="proxy-ssl-secret",
)
PROXY_SSL_NAME = Annotation(
    "proxy-ssl-name",
    matching(r"[-._a-zA-Z0-9]{1,253}", "name such as internal.example.com"),
    "The name that the certificate of a backend must have, and that backends are sent with proxy-ssl-server-name.",
    "internal.example.com",
    "",
    Fidelity.APPROXIMATE,
    "it is compared with the DNS names of a certificate only, and not with its common name",
    scope=Scope.HOST,
    risk=Risk.HIGH,
    beside="proxy-ssl-secret",
)
PROXY_SSL_SERVER_NAME = Annotation(
    "proxy-ssl-server-name",
    _on,
    "Whether proxy-ssl-name is sent to backends (SNI).",
    "on",
    default=False,
    scope=Scope.HOST,
    beside="proxy-ssl-secret",
)
PROXY_SSL_CIPHERS = Annotation(
    "proxy-ssl-ciphers",
    ciphers,
    "The ciphers that backends are offered with TLS 1.2.",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "DEFAULT",
    Fidelity.APPROXIMATE,
    "Envoy has fewer ciphers; words such as HIGH stand for those that clients are offered by default",
    scope=Scope.HOST,
    risk=Risk.MEDIUM,
    beside="proxy-ssl-secret",
)
PROXY_SSL_PROTOCOLS = Annotation(
    "proxy-ssl-protocols",
    versions,
    "The TLS versions that backends are offered; versions between the oldest and the newest are as well.",
    "TLSv1.2 TLSv1.3",
    versions("TLSv1.2"),
    scope=Scope.HOST,
    beside="proxy-ssl-secret",
)
PROXY_SSL_LOCATION_ONLY = Key(
    "proxy-ssl-location-only",
    boolean,
    "Whether proxy-ssl-* hold for the paths of their Ingress, instead of the whole host.",
    "true",
    default=False,
)


@dataclass(frozen=True)
class BackendTls:
    """How endpoints are spoken to. `secret` has the authority, and if it `shows` one, a certificate; `alone`: for one Ingress only."""

    secret: str
    shows: bool
    verify: bool
    depth: int
    name: str
    sends_name: bool
    suites: tuple[str, ...]
    versions: tuple[str, ...]
    alone: bool


def _read(notes: Notes) -> BackendTls | None:
    secret = notes.own(PROXY_SSL_SECRET)
    if secret is None:
        return None
    written = notes.get(PROXY_SSL_CIPHERS)
    found, unknown = suites(written) if written != PROXY_SSL_CIPHERS.default else ((), ())
    if unknown:
        notes.complain(PROXY_SSL_CIPHERS, no_ciphers(unknown), Unreadable.PARTLY)
    verify, sends_name = notes.get(PROXY_SSL_VERIFY), notes.get(PROXY_SSL_SERVER_NAME)
    depth, name = notes.get(PROXY_SSL_VERIFY_DEPTH) or PROXY_SSL_VERIFY_DEPTH.default, notes.get(PROXY_SSL_NAME) or _NAMELESS
    return BackendTls(
        secret,
        shows=True,
        verify=verify,
        depth=depth if verify else 0,
        name=name if verify or sends_name else "",
        sends_name=sends_name,
        suites=found,
        versions=notes.get(PROXY_SSL_PROTOCOLS),
        alone=notes.key(PROXY_SSL_LOCATION_ONLY),
    )


def _resolve(tls: BackendTls, _item: Ingress, objects: Objects) -> BackendTls | Closed | Complaint:
    """Without an authority nothing of it holds in ingress-nginx, which sends requests all the same; not here, where it was to verify."""
    name = PROXY_SSL_SECRET.name
    if tls.secret.count("/") != 1:
        return Closed(name, f"is {shown(tls.secret)}, which is no namespace/name of a Secret")
    found = objects.secret(PROXY_SSL_SECRET, tls.secret)
    if isinstance(found, Closed):
        return found
    trusted = authorities.parse(found)
    if isinstance(trusted, pairs.Unusable):
        sentence = f"names Secret {tls.secret}, which {trusted.sentence}"
        silent = trusted.code == "authority-missing" and not tls.verify
        return Complaint(name, sentence) if silent else Closed(name, sentence)
    shows = any(found.data.get(key, b"").strip() for key in ("tls.crt", "tls.key"))
    if shows and isinstance(pair := pairs.parse(found), pairs.Unusable):
        return Closed(name, f"names Secret {tls.secret}, which {pair.sentence}")
    return replace(tls, shows=shows)


def _on_cluster(tls: BackendTls, cluster: EnvoyCluster) -> None:
    """Changes the TLS that backend-protocol has asked for; a cluster without has nothing of it."""
    socket = cluster.transport_socket
    if socket is None or socket.name != _TLS:
        return
    assert socket.typed_config is not None
    context = UpstreamTlsContext.parse(socket.typed_config.value)
    common = context.common_tls_context
    assert common is not None
    common.tls_params = TlsParameters(cipher_suites=list(tls.suites))
    bound(common.tls_params, tls.versions)
    if tls.shows:
        common.tls_certificate_sds_secret_configs = [sds(tls.secret)]
    if tls.sends_name:
        context.sni = tls.name
    if tls.verify:
        named = SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=tls.name))
        common.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(
                match_typed_subject_alt_names=[named],
                max_verify_depth=tls.depth + 1,  # BoringSSL counts the authority itself as well
            ),
            validation_context_sds_secret_config=sds(authority(tls.secret)),
        )
    socket.typed_config = pack(context)


def _cluster_secrets(tls: BackendTls) -> Iterator[str]:
    if tls.shows:
        yield tls.secret
    if tls.verify:
        yield authority(tls.secret)


def _cluster_key(tls: BackendTls) -> str:
    """The values of the annotations, with `-` for no name; a last `-` where no certificate is shown."""
    onoff = {True: "on", False: "off"}
    words = [tls.secret, onoff[tls.verify], str(tls.depth), tls.name or "-", onoff[tls.sends_name], ":".join(tls.suites) or "DEFAULT"]
    return " ".join([*words, *tls.versions, *([] if tls.shows else ["-"])])


FEATURE = Feature(
    read=_read,
    annotations=(
        PROXY_SSL_SECRET,
        PROXY_SSL_VERIFY,
        PROXY_SSL_VERIFY_DEPTH,
        PROXY_SSL_NAME,
        PROXY_SSL_SERVER_NAME,
        PROXY_SSL_CIPHERS,
        PROXY_SSL_PROTOCOLS,
    ),
    keys=(PROXY_SSL_LOCATION_ONLY,),
    resolve=_resolve,
    by_host=True,
    stays=lambda tls: tls.alone,
    cluster=True,
    cluster_key=_cluster_key,
    cluster_secrets=_cluster_secrets,
    on_cluster=_on_cluster,
)
