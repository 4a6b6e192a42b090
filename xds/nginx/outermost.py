"""The first place of a listener, for filters of routes that have to see a response last, whoever made and changed it.

A route has filters there by name, which write nothing by themselves: what they write is in the table (`Feature.shared`), once for all
routes. So neither certificates, each of which has all filters of the listener, nor routes have copies of it.
"""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChain, FilterChainConfig, FilterChainConfigPerRoute
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, HeaderMutationPerRoute, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.wire.encode import pack

PLACE = "outermost"
"""The name of the place."""


@cache
def place() -> HttpFilter:
    """The place in the listener: empty, and without a route that has a filter there it is passed by."""
    return HttpFilter(name=PLACE, typed_config=pack(FilterChainConfig()), disabled=True)


def put(envoy: EnvoyRoute, writer: TypedExtensionConfig) -> None:
    """Have the responses of a route written by a filter of the table, beside those that have been put there before."""
    found = envoy.typed_per_filter_config.get(PLACE)
    there = FilterChainConfigPerRoute.parse(found.value) if found else FilterChainConfigPerRoute(filter_chain=FilterChain())
    assert there.filter_chain is not None
    there.filter_chain.filters.append(writer)
    envoy.typed_per_filter_config[PLACE] = pack(there)


@cache
def mutating(name: str) -> TypedExtensionConfig:
    """A filter of a route that changes headers as the table says under its name (`writing`)."""
    return TypedExtensionConfig(name=name, typed_config=pack(HeaderMutation()))


def writing(mutations: list[Mutation]) -> AnyMessage:
    """What the table has for such a filter."""
    return pack(HeaderMutationPerRoute(mutations=Mutations(response_mutations=mutations)))
