"""auth-tls-*: who may come to a host by the certificate that a client shows.

As in ingress-nginx the rule is that of a host: its oldest Ingress with an authority decides, for all of its paths. Plain http asks for no
certificate, and is redirected unless the Ingress says otherwise. Routes before all others refuse; the filter chain of the host only asks
for the certificate (`xds.model.Authority`). It was requested for the name in TLS (SNI). So a request for another host than that is refused:
another authority may have validated its certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations

from xds.certificates import authorities
from xds.certificates.pairs import Unusable
from xds.kube.objects import Ingress
from xds.model import (
    Authority,
    Forward,
    Handshake,
    HeaderMatch,
    PathKind,
    PathMatch,
    Redirect,
    RedirectTo,
    Respond,
    Route,
    Terminate,
    Via,
    VirtualHost,
)
from xds.nginx.feature import Annotation, Barred, Closed, Feature, Fidelity, FilterPlace, Notes, Objects, Phase, Risk, Scope, Unreadable
from xds.nginx.messages import formatted
from xds.nginx.values import LONGEST_IN_ROUTE, boolean, shown, whole
from xds.patterns import regex
from xds.wire.encode import pack

NAME = "auth_tls"
_ROOT = PathMatch(PathKind.RAW_PREFIX, "/")
_HTML = (("Content-Type", "text/html"),)
_PAGE = (
    "<html>\r\n<head><title>400 {0}</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>{0}</center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_NO_CERTIFICATE = Respond(400, _HTML, _PAGE.format("No required SSL certificate was sent"))
_BAD_CERTIFICATE = Respond(400, _HTML, _PAGE.format("The SSL certificate error"))
_OTHER_HOST = Respond(421)
_OTHER_SUBJECT = Respond(403, _HTML, "client certificate unauthorized")
_NOT_HTTP = HeaderMatch("x-forwarded-proto", Via.HTTP.value, inverted=True)
_FAILED = "FAILED:unable to verify the first certificate"
_DEEPEST = 100
_URL = re.compile(r"[-_~.a-zA-Z0-9/:,?&=$]*")


class Verify(Enum):
    """What becomes of clients without a good certificate."""

    ON = "on"
    OFF = "off"
    OPTIONAL = "optional"
    OPTIONAL_NO_CA = "optional_no_ca"


def _verify(text: str) -> Verify:
    try:
        return Verify(text)
    except ValueError:
        raise ValueError(f"is {shown(text)}, which is none of {', '.join(v.value for v in Verify)}, so that clients need one") from None


def _error_page(text: str) -> str:
    if not _URL.fullmatch(text) or len(text) > LONGEST_IN_ROUTE:
        raise ValueError(f"is {shown(text)}, which is no URL")
    return text


def _subject(text: str) -> str:
    if not text.startswith("CN="):
        raise ValueError(f'is {shown(text)}, which does not begin with "CN="')
    if why := regex.fault(text.removeprefix("CN=")) or regex.fault(text):
        raise ValueError(why)
    return text


def _secret(text: str) -> str:
    if not re.fullmatch(r"[-._~a-zA-Z0-9/:]{1,507}", text):
        raise ValueError(f"is {shown(text)}, which is no namespace/name of a Secret")
    return text


AUTH_TLS_SECRET = Annotation(
    "auth-tls-secret",
    _secret,
    "The Secret, as namespace/name, with the authority of client certificates (ca.crt), and its revocation lists (ca.crl).",
    "default/authority",
    "",
    Fidelity.APPROXIMATE,
    "over one connection a client reaches only the host that it named in TLS; where that is a wildcard, all below it",
    lambda _value, _paths: False,
    scope=Scope.HOST,
    risk=Risk.MEDIUM,
    unreadable=Unreadable.LEAVES_OUT,
)
AUTH_TLS_VERIFY_CLIENT = Annotation(
    "auth-tls-verify-client",
    _verify,
    "Whether clients need a certificate: on, off (they are not asked), optional (a bad one is refused) or optional_no_ca (it is not).",
    "optional",
    Verify.ON,
    Fidelity.APPROXIMATE,
    "optional_no_ca lets any certificate pass, with one sentence for all faults; nginx refuses one that is expired or revoked",
    lambda value, _paths: value is Verify.OPTIONAL_NO_CA,
    scope=Scope.HOST,
    risk=Risk.MEDIUM,
    beside="auth-tls-secret",
)
AUTH_TLS_VERIFY_DEPTH = Annotation(
    "auth-tls-verify-depth",
    whole(0, _DEEPEST),
    "The most certificates between that of a client and one of the authority; 0 counts as 1.",
    "2",
    1,
    scope=Scope.HOST,
    beside="auth-tls-secret",
)
AUTH_TLS_ERROR_PAGE = Annotation(
    "auth-tls-error-page",
    _error_page,
    "The URL to which clients without a good certificate are redirected, instead of 400.",
    "https://example.com/no",
    "",
    Fidelity.APPROXIMATE,
    "a path, or a URL with variables, has no effect, and the answer is 400; with a path nginx lets in who has no certificate",
    lambda value, _paths: not _is_url(value),
    scope=Scope.HOST,
    risk=Risk.HIGH,
    beside="auth-tls-secret",
    unreadable=Unreadable.LEAVES_OUT,
)
AUTH_TLS_PASS_CERTIFICATE_TO_UPSTREAM = Annotation(
    "auth-tls-pass-certificate-to-upstream",
    boolean,
    "Whether the backend gets the certificate of the client, in the header ssl-client-cert.",
    "true",
    default=False,
    scope=Scope.HOST,
    beside="auth-tls-secret",
    unreadable=Unreadable.LEAVES_OUT,
)
AUTH_TLS_MATCH_CN = Annotation(
    "auth-tls-match-cn",
    _subject,
    "CN= and a regular expression that the common name of the client's certificate must contain; others get 403, over plain http too.",
    "CN=client",
    "",
    scope=Scope.HOST,
    risk=Risk.HIGH,
    beside="auth-tls-secret",
    unreadable=Unreadable.LEAVES_OUT,
)


@dataclass(frozen=True)
class ClientRule:
    """What a host asks of clients. `secret` is the authority; without one nobody is let in.

    `failed` is set on routes for certificates that were not validated and pass all the same.
    """

    secret: str
    verify: Verify
    depth: int
    error_page: str
    passes: bool
    subject: str
    failed: bool = False


def _read(notes: Notes) -> ClientRule | None:
    secret = notes.own(AUTH_TLS_SECRET)
    if secret is None:
        return None
    return ClientRule(
        secret,
        notes.get(AUTH_TLS_VERIFY_CLIENT),
        notes.get(AUTH_TLS_VERIFY_DEPTH) or AUTH_TLS_VERIFY_DEPTH.default,
        notes.get(AUTH_TLS_ERROR_PAGE),
        notes.get(AUTH_TLS_PASS_CERTIFICATE_TO_UPSTREAM),
        notes.get(AUTH_TLS_MATCH_CN),
    )


def _resolve(rule: ClientRule, _item: Ingress, objects: Objects) -> ClientRule | Barred:
    """The same rule, if its authority can be read; ingress-nginx answers 403 on the whole host otherwise."""
    if rule.secret.count("/") != 1:
        return _denied(rule, f"is {shown(rule.secret)}, which is no namespace/name of a Secret")
    found = objects.secret(AUTH_TLS_SECRET, rule.secret)
    if isinstance(found, Closed):
        return _denied(rule, found.sentence)
    trusted = authorities.parse(found)
    return _denied(rule, f"names Secret {rule.secret}, which {trusted.sentence}") if isinstance(trusted, Unusable) else rule


def _denied(rule: ClientRule, sentence: str) -> Barred:
    return Barred(replace(rule, secret=""), AUTH_TLS_SECRET.name, sentence, "the whole host answers 403")


def _on_host(rules: Sequence[ClientRule], host: VirtualHost) -> VirtualHost:
    """The rule of the first Ingress that has one; where an authority is missing, nobody is let in, whichever Ingress names it."""
    if not all(rule.secret for rule in rules):
        return replace(host, routes=(Route(_ROOT, Respond(403), early=True),))
    rule, tls = rules[0], host.tls
    if rule.verify is not Verify.OFF and isinstance(tls, Terminate):
        tls = replace(tls, authority=Authority(rule.secret, rule.depth))
    routes = [each for route in host.routes for each in _ruled(rule, route)]
    if rule.subject:
        shown_ = Handshake(subject=regex.found_in(rule.subject))
        routes = [replace(r, handshake=replace(r.handshake or shown_, subject=shown_.subject)) for r in routes]
        routes.append(Route(_ROOT, _OTHER_SUBJECT, early=True))
    first = _refusals(rule, host.host, tls) if isinstance(tls, Terminate) and tls.authority else ()
    return replace(host, routes=(*first, *routes), tls=tls)


def _refusals(rule: ClientRule, host: str, into: Terminate) -> Iterator[Route]:
    """The routes before all others: what nginx says to clients over TLS, in its order.

    Who names no host in TLS, or an unknown one, was asked for no certificate, and counts as a client without one. They ask about the
    connection: where X-Forwarded-Proto of clients is believed, a client chooses what that is. Without TLS it may only be `http`.
    """
    strict, lenient = rule.verify is Verify.ON, rule.verify is Verify.OPTIONAL_NO_CA
    if strict or not host:
        yield _refusal(_instead(rule, _NO_CERTIFICATE) if host else _OTHER_HOST, Handshake(unnamed=True))
    yield _refusal(_OTHER_HOST, Handshake(into, elsewhere=True))
    if strict:
        yield _refusal(_instead(rule, _NO_CERTIFICATE), Handshake(into, presented=False))
        yield replace(_refusal(_instead(rule, _NO_CERTIFICATE), Handshake(presented=False)), headers=(_NOT_HTTP,))
    if not lenient:
        yield _refusal(_instead(rule, _BAD_CERTIFICATE), Handshake(presented=True, validated=False))


def _refusal(action: Respond | Redirect, to: Handshake) -> Route:
    return Route(_ROOT, action, handshake=to, early=True)


def _instead(rule: ClientRule, page: Respond) -> Respond | Redirect:
    return Redirect(302, RedirectTo.URL, rule.error_page) if _is_url(rule.error_page) else page


def _is_url(text: str) -> bool:
    """Whether the text is a URL that a client can be redirected to as it is."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and "$" not in text


def _ruled(rule: ClientRule, route: Route) -> Iterator[Route]:
    """A route of the host under the rule, whichever Ingress it is of; before it that for certificates of anybody, where they pass."""
    if isinstance(route.action, Forward) and rule.verify is Verify.OPTIONAL_NO_CA:
        anybody = Handshake(presented=True, validated=False)
        yield replace(route, settings=route.settings.but(**{NAME: replace(rule, failed=True)}), handshake=anybody)
    yield replace(route, settings=route.settings.but(**{NAME: rule}))


def _filters(rule: ClientRule, route: Route) -> tuple[TypedExtensionConfig, ...]:
    """What the backend reads of the client's certificate; a client's own headers of these names never come so far."""
    if not isinstance(route.action, Forward):
        return ()
    return (_described(asked=rule.verify is not Verify.OFF, failed=rule.failed, passes=rule.passes),)


@cache
def _described(*, asked: bool, failed: bool, passes: bool) -> TypedExtensionConfig:
    result = f"(connection.mtls ? '{_FAILED if failed else 'SUCCESS'}' : 'NONE')" if asked else "'NONE'"
    headers = {"ssl-client-verify": f"%CEL(has(connection.tls_version) ? {result} : '')%"}
    if asked:
        headers |= {"ssl-client-subject-dn": "%DOWNSTREAM_PEER_SUBJECT%", "ssl-client-issuer-dn": "%DOWNSTREAM_PEER_ISSUER%"}
    if asked and passes:
        headers["ssl-client-cert"] = "%DOWNSTREAM_PEER_CERT%"
    mutations = Mutations(request_mutations=[Mutation(append=formatted(name, value)) for name, value in headers.items()])
    return TypedExtensionConfig(name="client-certificate", typed_config=pack(HeaderMutation(mutations=mutations)))


def _patterns(rule: ClientRule, _route: Route) -> Iterator[str]:
    if rule.subject:
        yield regex.found_in(rule.subject)


FEATURE = Feature(
    read=_read,
    annotations=(
        AUTH_TLS_SECRET,
        AUTH_TLS_VERIFY_CLIENT,
        AUTH_TLS_VERIFY_DEPTH,
        AUTH_TLS_ERROR_PAGE,
        AUTH_TLS_PASS_CERTIFICATE_TO_UPSTREAM,
        AUTH_TLS_MATCH_CN,
    ),
    phase=Phase.HOST,
    resolve=_resolve,
    on_host=_on_host,
    filters=_filters,
    place=FilterPlace.ACCESS,
    patterns=_patterns,
)
