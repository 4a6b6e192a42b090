"""The rules for endpoint addresses (`xds.translate.endpoint_addresses`), rendered for names that only Envoy resolves."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, PermissionSet, Policy, Principal, Rbac, RbacAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import UpstreamIpPortMatcher

from xds.translate.endpoint_addresses import Denied
from xds.wire.encode import pack

POLICY = "endpoint-address"
"""The name of the RBAC policy. Envoy puts it into the response code details of requests that it denies."""


def upstream_filters(denied: Denied) -> list[HttpFilter]:
    """The upstream HTTP filters of a cluster whose names must not resolve to these addresses; none where nothing is denied.

    RBAC checks the address that was chosen for a request, before Envoy connects to it. The last filter must be the codec. These filters
    see only requests from routes: not mirrored requests, those of ext_authz, health checks, or TCP.
    """
    rules = [_any_of(denied.own)] if denied.own else []
    if denied.ranges:
        ranges = _any_of(denied.ranges)
        rules.append(_but(ranges, _any_of(denied.allowed)) if denied.allowed else ranges)
    if not rules:
        return []
    policy = Policy(permissions=rules, principals=[Principal(any=True)])
    config = RbacFilter(rules=Rbac(action=RbacAction.DENY, policies={POLICY: policy}))
    return [
        HttpFilter(name="envoy.filters.http.upstream_rbac", typed_config=pack(config)),
        HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=pack(UpstreamCodec())),
    ]


def _but(permission: Permission, excepted: Permission) -> Permission:
    return Permission(and_rules=PermissionSet(rules=[permission, Permission(not_rule=excepted)]))


def _any_of(networks: Sequence[str]) -> Permission:
    return Permission(or_rules=PermissionSet(rules=[_in_network(network) for network in networks]))


def _in_network(network: str) -> Permission:
    prefix, _, length = network.partition("/")
    matcher = UpstreamIpPortMatcher(upstream_ip=CidrRange(address_prefix=prefix, prefix_len=int(length)))
    return Permission(matcher=TypedExtensionConfig(name="envoy.rbac.matchers.upstream_ip_port", typed_config=pack(matcher)))
