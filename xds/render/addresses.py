"""The rules for endpoint addresses (`xds.translate.endpoint_addresses`), rendered for names that only Envoy resolves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import CidrRange, DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, PermissionSet, Policy, Principal, Rbac, RbacAction
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import UpstreamIpPortMatcher

from xds.nginx.messages import formatted
from xds.translate.endpoint_addresses import Denied
from xds.wire.encode import pack

POLICY = "endpoint-address"
"""The name of the RBAC policy. Envoy puts it into the response code details of requests that it denies."""
_ADDRESS = "x-xds-upstream"
"""A header between two upstream filters; nobody else sees it."""
_JUDGE = """
local function groups(text)
  local found = {}
  for group in text:gmatch("%x+") do found[#found + 1] = ("%04x"):format(tonumber(group, 16)) end
  return found
end

local function key(address)
  local a, b, c, d = address:match("^(%d+)%.(%d+)%.(%d+)%.(%d+):%d+$")
  if a then return ("4%02x%02x%02x%02x"):format(tonumber(a), tonumber(b), tonumber(c), tonumber(d)) end
  local text = address:match("^%[([%x:.]+)%]:%d+$")
  if not text then return nil end
  text = text:gsub("(%d+)%.(%d+)%.(%d+)%.(%d+)$", function(p, q, r, s)
    return ("%x:%x"):format(tonumber(p) * 256 + tonumber(q), tonumber(r) * 256 + tonumber(s))
  end)
  local left, right = text:match("^(.-)::(.*)$")
  local head, tail = groups(left or text), groups(right or "")
  local zeros = 8 - #head - #tail
  if zeros < 0 or (zeros > 0 and not left) then return nil end
  return "6" .. table.concat(head) .. ("0000"):rep(zeros) .. table.concat(tail)
end

local function within(address, bounds)
  for i = 1, #bounds, 2 do
    if bounds[i] <= address and address <= bounds[i + 1] then return true end
  end
  return false
end

function envoy_on_request(handle)
  local address = key(handle:headers():get(ADDRESS) or "")
  handle:headers():remove(ADDRESS)
  if not address or within(address, OWN) or (within(address, RANGES) and not within(address, ALLOWED)) then
    handle:respond({[":status"] = "502"}, "")
  end
end
"""
"""Refuses what is in OWN, and what is in RANGES but not in ALLOWED: lists of a first and a last address each."""


def upstream_filters(denied: Denied, first: Sequence[HttpFilter] = (), *, aside: bool = False) -> list[HttpFilter]:
    """The upstream HTTP filters of a cluster whose names must not resolve to these, after those that come `first`.

    The last filter must be the codec. RBAC checks the address that was chosen for a request, before a connection is made to it, but only
    requests that come from a route. Those that Envoy makes `aside` (copies, those of ext_authz) are checked by a script: the connection is
    made, and nothing is sent. Health checks and TCP pass unchecked.
    """
    filters = [*first, *(_script(denied) if aside else _rbac(denied))]
    return [*filters, HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=pack(UpstreamCodec()))] if filters else []


def _rbac(denied: Denied) -> list[HttpFilter]:
    rules = [_any_of(denied.own)] if denied.own else []
    if denied.ranges:
        ranges = _any_of(denied.ranges)
        rules.append(_but(ranges, _any_of(denied.allowed)) if denied.allowed else ranges)
    if not rules:
        return []
    policy = Policy(permissions=rules, principals=[Principal(any=True)])
    config = RbacFilter(rules=Rbac(action=RbacAction.DENY, policies={POLICY: policy}))
    return [HttpFilter(name="envoy.filters.http.upstream_rbac", typed_config=pack(config))]


def _script(denied: Denied) -> list[HttpFilter]:
    """The same rules in Lua, which learns the address from a header that the filter before it writes, whatever the client wrote there."""
    if not denied.ranges and not denied.own:
        return []
    noted = Mutations(request_mutations=[Mutation(append=formatted(_ADDRESS, "%UPSTREAM_HOST%"))])
    tables = "\n".join(
        f"local {name} = {{{', '.join(_bounds(networks))}}}"
        for name, networks in (("OWN", denied.own), ("RANGES", denied.ranges), ("ALLOWED", denied.allowed))
    )
    code = f'local ADDRESS = "{_ADDRESS}"\n{tables}\n{_JUDGE}'
    return [
        HttpFilter(name="endpoint-address", typed_config=pack(HeaderMutation(mutations=noted))),
        HttpFilter(name=POLICY, typed_config=pack(Lua(default_source_code=DataSource(inline_string=code)))),
    ]


def _bounds(networks: Iterable[str]) -> Iterator[str]:
    """The first and the last address of each network, as the script writes addresses: the version, and all hexadecimal digits."""
    for text in networks:
        network = ipaddress.ip_network(text)
        for address in (network.network_address, network.broadcast_address):
            yield f'"{address.version}{address.packed.hex()}"'


def _but(permission: Permission, excepted: Permission) -> Permission:
    return Permission(and_rules=PermissionSet(rules=[permission, Permission(not_rule=excepted)]))


def _any_of(networks: Sequence[str]) -> Permission:
    return Permission(or_rules=PermissionSet(rules=[_in_network(network) for network in networks]))


def _in_network(network: str) -> Permission:
    prefix, _, length = network.partition("/")
    matcher = UpstreamIpPortMatcher(upstream_ip=CidrRange(address_prefix=prefix, prefix_len=int(length)))
    return Permission(matcher=TypedExtensionConfig(name="envoy.rbac.matchers.upstream_ip_port", typed_config=pack(matcher)))
