"""Which notes of a filter chain a route takes: those of its host alone, or all but those."""

from __future__ import annotations

import re2
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.network.set_filter_state.v3 import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.model import Authority, Handshake, Terminate
from xds.render import handshakes

ONE = Terminate("default/one", Authority("default/ca"))
OTHERS = [
    Terminate("default/one"),
    Terminate("", Authority("default/ca")),
    Terminate("default/one", Authority("default/ca", 2)),
    Terminate(),
]
labels = st.text(alphabet="ab-.\n\xff ", max_size=4)
hosts = st.sampled_from(["", "a.test", "*.a.test", "a-b.test", "a.a.test"])
server_names = st.one_of(
    st.sampled_from(
        ["", "a.test", "a.test.", "b.a.test", "b.a.test.", "c.b.a.test", "a-b.test", "a.a.test", "a.tes", "a.testx", ".a.test"]
    ),
    st.tuples(labels, st.sampled_from(["a.test", ".a.test", ""])).map("".join),
)


def note(tls: Terminate, server_name: str) -> tuple[str, str]:
    """The key and the text that Envoy keeps of a connection."""
    config = handshakes.noted(tls).typed_config
    assert config is not None
    value = Config.parse(config.value).on_new_connection[0]
    assert value.format_string is not None
    assert value.format_string.text_format_source is not None
    text = value.format_string.text_format_source.inline_string
    assert text is not None
    return value.object_key, text.replace("%REQUESTED_SERVER_NAME%", server_name)


def takes(wanted: Handshake, host: str, came: tuple[str, str]) -> bool:
    match = RouteMatch()
    handshakes.put(match, wanted, host)
    (state,) = match.filter_state
    assert state.string_match is not None
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    pattern, exact = state.string_match.safe_regex, state.string_match.exact
    matched = (
        came[1] == exact
        if pattern is None
        else re2.compile(pattern.regex.encode("latin-1"), options).fullmatch(came[1].encode("latin-1")) is not None
    )
    return state.key == came[0] and matched


def is_of(host: str, server_name: str) -> bool:
    """Whether a name in TLS is one of the host: of a wildcard one label more, of the catch-all any."""
    name = server_name.removesuffix(".")
    label, dot, rest = name.partition(".")
    return not host or name == host or bool(host.startswith("*.") and label and dot and rest == host[2:])


@settings(max_examples=examples(300))
@given(hosts, server_names, st.sampled_from([ONE, *OTHERS]))
def test_a_connection_came_in_here_or_elsewhere_or_without_a_name(host: str, server_name: str, tls: Terminate) -> None:
    came = note(tls, server_name)
    here = tls == ONE and is_of(host, server_name)
    assert takes(Handshake(ONE), host, came) is here
    assert takes(Handshake(ONE, elsewhere=True), host, came) is (not here and tls != Terminate())
    assert takes(Handshake(unnamed=True), host, came) is (tls == Terminate())
