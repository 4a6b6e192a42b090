"""allow and deny: the first rule that a client's address matches decides; without one it may come (ngx_http_access_module)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, PrincipalSet
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction as RulesAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac

from xds.nginx.access import noting
from xds.nginx.values import shown
from xds.wire.encode import pack

_NAME = "snippet-access"
MOST_RULES = 100
"""Rules of one snippet, which are compared one after the other."""
MOST_TURNS = 20
"""Changes between allow and deny: each is a level more in Envoy's message, which has a limit."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Whether clients of a network may come; "" are all clients."""

    allows: bool
    network: str


def rule(name: str, args: Sequence[str]) -> AccessRule:
    """One line. Raises ValueError with the end of a sentence."""
    if len(args) != 1:
        raise ValueError("takes one address")
    if args[0] == "all":
        return AccessRule(name == "allow", "")
    try:
        return AccessRule(name == "allow", str(ipaddress.ip_network(args[0], strict=False)))
    except ValueError:
        raise ValueError(f"has {shown(args[0])}, which is no address, network or `all`") from None


def filter_of(rules: Sequence[AccessRule]) -> TypedExtensionConfig:
    """The filter that refuses, with 403, whom the rules do not let in."""
    return TypedExtensionConfig(name=_NAME, typed_config=pack(Rbac(rules=_rules(rules, Principal(any=True)))))


def noting_filter_of(rules: Sequence[AccessRule]) -> TypedExtensionConfig:
    """The filter for `satisfy any`: it notes whom the rules let in, and refuses nobody. Whoever matches no rule still has to ask."""
    return TypedExtensionConfig(name=_NAME, typed_config=pack(noting(_rules(rules, Principal(not_id=Principal(any=True))))))


def satisfy(args: Sequence[str]) -> bool:
    """Whether one rule is enough. Raises ValueError with the end of a sentence."""
    if len(args) != 1 or args[0] not in ("any", "all"):
        raise ValueError("takes `any` or `all`")
    return args[0] == "any"


def _rules(rules: Sequence[AccessRule], others: Principal) -> Rules:
    """One policy, of whom the rules let in; `others` is whom no rule matches."""
    let_in = others
    for allows, alike in reversed([(allows, [_from(each.network) for each in run]) for allows, run in _runs(rules)]):
        if allows:
            let_in = Principal(or_ids=PrincipalSet(ids=[*alike, let_in]))
        else:
            let_in = Principal(and_ids=PrincipalSet(ids=[*(Principal(not_id=each) for each in alike), let_in]))
    policy = Policy(permissions=[Permission(any=True)], principals=[let_in])
    return Rules(action=RulesAction.ALLOW, policies={"addresses": policy})


def fault(rules: Sequence[AccessRule]) -> str:
    """Why rules are too many, as the end of a sentence; "" where they are not."""
    if len(rules) > MOST_RULES:
        return f"has more than {MOST_RULES} rules"
    return f"changes more than {MOST_TURNS} times between allow and deny" if sum(1 for _ in _runs(rules)) > MOST_TURNS else ""


def _runs(rules: Sequence[AccessRule]) -> Iterator[tuple[bool, Iterator[AccessRule]]]:
    return groupby(rules, lambda each: each.allows)


def _from(network: str) -> Principal:
    if not network:
        return Principal(any=True)
    found = ipaddress.ip_network(network)
    return Principal(remote_ip=CidrRange(address_prefix=str(found.network_address), prefix_len=found.prefixlen))
