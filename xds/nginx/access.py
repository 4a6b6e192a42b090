"""What the rules about who may come share: the filter that asks the authorisation service, `satisfy`, and `no-auth-locations`.

nginx asks in this order: address lists, passwords (auth-type), another service (auth-url). With `satisfy: all` each must let a client in.
With `any` one is enough, and then an earlier rule only notes in the metadata of the request that it does. So with `any`:

- the filter of the lists uses `noting` in place of its rules, for `satisfies_any`;
- the filter of the authorisation service does not ask where the lists have let the client in (`UNLESS_NOTED`);
- where another service comes after it (`asks_elsewhere`), the authorisation service refuses nobody for a password, and notes its verdict.
  The other service's filter stands behind `joined`, which makes one note of both. Whatever fails on the way refuses the request.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import CheckSettings, ExtAuthz, ExtAuthzPerRoute
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListStringMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.model import Passwords, Settings
from xds.nginx.feature import Key
from xds.nginx.messages import CACHED
from xds.nginx.values import words
from xds.wire.encode import pack

FILTER = "authz"
"""The filter of both listeners that asks the authorisation service. It is disabled until a route switches it on."""
CLUSTER = "xds_authz"
"""The static cluster of the service, in the bootstrap."""
PASSWORDS, REALM, ELSE = "passwords", "realm", "else"
"""What a route says to the service: the name of a password file, the realm of a 401, and who decides about those who have no password."""
PATIENCE = 10
"""Seconds that a question may take: an expensive hash waits for those before it."""
SATISFY = "satisfy"
"""The name of the feature whose setting says that one rule is enough."""
_ASKING = frozenset({"auth_basic", "auth_url"})
"""The names of the features that may let in whom the lists do not."""
_RBAC, _AUTHZ = "envoy.filters.http.rbac", "envoy.filters.http.ext_authz"
_NOTE = "satisfy_"

NO_AUTH_LOCATIONS = Key[tuple[str, ...]](
    "no-auth-locations",
    words,
    "Beginnings of paths, as Ingresses have them, that need neither a password nor auth-url.",
    "/.well-known/acme-challenge,/healthz",
    ("/.well-known/acme-challenge",),
)


def is_exempt(path: str, beginnings: tuple[str, ...]) -> bool:
    """Whether `no-auth-locations` has the beginning of a path as it is configured; characters count, not segments."""
    return any(path.startswith(beginning) for beginning in beginnings)


def satisfies_any(settings: Settings) -> bool:
    """Whether a client that the lists do not let in may still be let in by another rule."""
    return SATISFY in settings and not _ASKING.isdisjoint(settings)


def asks_elsewhere(settings: Settings) -> bool:
    """Whether another service decides about clients whom the password does not let in: it has a question in this very route."""
    return SATISFY in settings and _question(settings) is not None


def decided_elsewhere(settings: Settings, header: str) -> bool:
    """Whether another service decides the value of a header for the backend (auth-response-headers); the name is in lower case."""
    question = _question(settings)
    return question is not None and header in question.wanted


def _question(settings: Settings) -> Any:
    """What the service of auth-url is asked in this very route (`xds.nginx.authorization.Question`); None if it is not asked."""
    return getattr(settings.get("auth_url"), "question", None)


def noting(rules: Rules) -> Rbac:
    """The lists of a route with `satisfies_any`: nobody is refused, and who is let in is noted."""
    return Rbac(shadow_rules=rules, shadow_rules_stat_prefix=_NOTE)


UNLESS_NOTED = MetadataMatcher(
    filter=_RBAC,
    path=[MetadataMatcherPathSegment(key=f"{_NOTE}shadow_engine_result")],
    value=ValueMatcher(string_match=StringMatcher(exact="allowed")),
    invert=True,
)
"""For `filter_enabled_metadata` of a filter that need not ask where the lists have let the client in."""
NOTED = f"'{_RBAC}' in metadata.filter_metadata && metadata.filter_metadata['{_RBAC}']['{_NOTE}shadow_engine_result'] == 'allowed'"
"""The expression for the same: whether an earlier rule has let the client in."""


CHALLENGE = f"%DYNAMIC_METADATA({_AUTHZ}:challenge)%"
"""The format of the WWW-Authenticate of a 401 for who has no password, where the authorisation service has left that to another one."""


@cache
def joined() -> TypedExtensionConfig:
    """The filter that notes whom the lists or the password have let in, in place of what the lists noted."""
    by_lists = MetadataMatcher(filter=_RBAC, path=UNLESS_NOTED.path, value=UNLESS_NOTED.value)
    by_password = MetadataMatcher(
        filter=_AUTHZ, path=[MetadataMatcherPathSegment(key="admitted")], value=ValueMatcher(string_match=StringMatcher(exact="yes"))
    )
    permissions = [Permission(metadata=by_lists), Permission(metadata=by_password)]
    rules = Rules(policies={SATISFY: Policy(permissions=permissions, principals=[Principal(any=True)])})
    return TypedExtensionConfig(name=SATISFY, typed_config=pack(noting(rules)))


@cache
def authorisation() -> HttpFilter:
    """The filter that asks the service. Its bytes never change: they are those of the listener.

    Without an answer the status is 503. The service gets the header Authorization, and nothing else of a request that a client could make
    long.
    """
    config = ExtAuthz(
        grpc_service=GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=CLUSTER), timeout=datetime.timedelta(seconds=PATIENCE)),
        transport_api_version=ApiVersion.V3,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        allowed_headers=ListStringMatcher(patterns=[StringMatcher(exact="authorization")]),
        encode_raw_headers=True,
        filter_enabled_metadata=UNLESS_NOTED,
    )
    return HttpFilter(name=FILTER, typed_config=pack(config), disabled=True)


@lru_cache(maxsize=CACHED)
def asking(name: str, realm: str, *, elsewhere: bool) -> AnyMessage:
    """What switches the filter on in a route: the name of its password file, the realm, and whether another service decides as well."""
    context: Mapping[str, str] = {PASSWORDS: name, REALM: realm, **({ELSE: "ask"} if elsewhere else {})}
    return pack(ExtAuthzPerRoute(check_settings=CheckSettings(context_extensions=dict(context))))


def file_name(wanted: Passwords) -> str:
    """The name of a password file: `<namespace>/<secret>/auth-file`, or `auth-map`."""
    return f"{wanted.namespace}/{wanted.name}/{wanted.form.value}"
