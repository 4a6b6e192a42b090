"""Which filter chain a server name leads to, by a walk through the matcher as Envoy walks it."""

from __future__ import annotations

from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import CommonTlsContext, DownstreamTlsContext
from envoy_data_plane.google.protobuf import StringValue
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherOnMatch
from hypothesis import given
from hypothesis import strategies as st

from xds.model import Authority, Cluster, HostTls, Passthrough, Terminate
from xds.nginx.registry import read_settings
from xds.render import listeners
from xds.render.handshakes import noted
from xds.render.names import chain as called
from xds.render.server_names import matcher_bytes
from xds.wire.encode import encode

DEFAULTS, _ = read_settings({}, {})
LABELS = ("a", "b", "x-1", "test")
names = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join)
hosts = st.one_of(names, names.map("*.{}".format))
certificates = st.sampled_from(["one/a", "one/b", "two/a"])


def chain_for(matcher: Matcher, sni: str) -> str:
    """The chain that Envoy takes: the map first, then each predicate in turn, then what is left."""
    if matcher.matcher_tree and matcher.matcher_tree.exact_match_map and (on := matcher.matcher_tree.exact_match_map.map.get(sni)):
        return taken(on, sni)
    for each in matcher.matcher_list.matchers if matcher.matcher_list else ():
        assert each.predicate
        assert each.predicate.single_predicate
        assert each.predicate.single_predicate.value_match
        assert each.on_match
        suffix = each.predicate.single_predicate.value_match.suffix
        assert suffix
        if sni.endswith(suffix):
            return taken(each.on_match, sni)
    assert matcher.on_no_match
    return taken(matcher.on_no_match, sni)


def taken(on: MatcherOnMatch, sni: str) -> str:
    if on.matcher:
        return chain_for(on.matcher, sni)
    assert on.action
    assert on.action.typed_config
    return StringValue.parse(on.action.typed_config.value).value


def expected(by_host: dict[str, str], sni: str) -> str:
    """Exact names before wildcards, longer wildcards before shorter ones; the dot of the root means nothing."""
    name = sni.removesuffix(".")
    if name in by_host:
        return by_host[name]
    wildcards = [host for host in by_host if host.startswith("*.") and name.endswith(host[1:])]
    return by_host[max(wildcards, key=len)] if wildcards else "default"


@given(st.dictionaries(hosts, certificates, max_size=8), st.lists(names, min_size=1), st.booleans())
def test_each_name_leads_to_the_chain_of_its_certificate(by_host: dict[str, str], asked: list[str], dotted: bool) -> None:
    matcher = Matcher.parse(matcher_bytes(by_host, "default"))
    for name in [*asked, *(host.replace("*", "any") for host in by_host), "", "unknown"]:
        sni = f"{name}." if dotted else name
        assert chain_for(matcher, sni) == expected(by_host, sni), sni


@given(st.dictionaries(hosts, certificates, max_size=8))
def test_the_order_of_hosts_does_not_show(by_host: dict[str, str]) -> None:
    assert matcher_bytes(by_host, "default") == matcher_bytes(dict(reversed(by_host.items())), "default")


authorities = st.none() | st.builds(Authority, st.sampled_from(["one/ca", "two/ca"]), st.integers(1, 3))
ciphers = st.sampled_from([(), ("ECDHE-RSA-AES128-GCM-SHA256",), ("AES128-SHA", "AES256-SHA")])
terminates = st.builds(Terminate, certificates, authorities, ciphers)
ends = terminates | st.builds(Passthrough, st.builds(Cluster, st.just("one"), st.sampled_from("ab"), st.just(443)))


@given(st.dictionaries(hosts, ends, max_size=8))
def test_the_joined_listener_is_the_whole_message(tls: dict[str, HostTls]) -> None:
    bare, by_host = listeners.https("::", 8443, DEFAULTS), {host: called(end) for host, end in tls.items()}
    chains = {called(end): listeners.chain_pieces(end, bare) for end in tls.values()}
    found = Listener.parse(listeners.https_bytes(bare, chains, by_host))
    assert found.filter_chain_matcher is not None
    assert encode(found.filter_chain_matcher) == encode(Matcher.parse(matcher_bytes(by_host, "default")))
    assert [chain.name for chain in found.filter_chains] == ["default", *sorted(chains)]
    found.filter_chain_matcher, found.filter_chains[1:] = None, []
    assert encode(found) == encode(bare)


@given(terminates, terminates)
def test_chains_are_whole_messages_with_the_same_manager_in_one_object(one: Terminate, other: Terminate) -> None:
    bare = listeners.https("::", 8443, DEFAULTS)
    first, second = (listeners.chain_pieces(each, bare) for each in (one, other))
    (chain,) = Listener.parse(b"".join(first)).filter_chains
    assert encode(Listener(filter_chains=[chain])) == b"".join(first)
    assert encode(chain.filters[-1]) == encode(bare.filter_chains[0].filters[-1])
    assert max(first, key=len) is max(second, key=len)
    assert sum(map(len, first)) - len(max(first, key=len)) < 1_500


@given(terminates)
def test_a_chain_says_what_the_bare_one_says_but_for_its_own_names(tls: Terminate) -> None:
    """Nothing of the default chain is lost on the way through templates, and no placeholder is left."""
    bare = listeners.https("::", 8443, DEFAULTS)
    (chain,) = Listener.parse(b"".join(listeners.chain_pieces(tls, bare))).filter_chains
    assert chain.name == called(tls)
    assert chain.filters[0] == noted(tls)
    first, own = _tls_of(bare.filter_chains[0]), _tls_of(chain)
    assert [each.name for each in own.tls_certificate_sds_secret_configs] == [tls.certificate]
    assert own.alpn_protocols == first.alpn_protocols
    assert own.tls_params
    assert own.tls_params.cipher_suites == list(tls.ciphers) or not tls.ciphers
    assert (own.combined_validation_context is not None) == (tls.authority is not None)
    assert chain.transport_socket_connect_timeout == bare.filter_chains[0].transport_socket_connect_timeout
    if tls == Terminate(tls.certificate):
        own.tls_certificate_sds_secret_configs[0].name = "default"
        assert own == first


def _tls_of(chain: FilterChain) -> CommonTlsContext:
    assert chain.transport_socket
    assert chain.transport_socket.typed_config
    found = DownstreamTlsContext.parse(chain.transport_socket.typed_config.value).common_tls_context
    assert found
    return found
