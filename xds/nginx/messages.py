"""What features draw with: pieces of Envoy messages that several of them need, and one message that envoy-data-plane 2.2 does not have.

What belongs here: functions from plain values to messages. What does not: what an annotation means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import betterproto2
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    CelExpressionConfig,
    CidrRange,
    ConfigSource,
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http1ProtocolOptionsHeaderKeyFormat,
    Http2ProtocolOptions,
    SubstitutionFormatString,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Principal, PrincipalSet
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteAction
from envoy_data_plane.envoy.extensions.filters.common.set_filter_state.v3 import FilterStateValue
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.extensions.formatter.cel.v3 import Cel
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import (
    PreserveCaseFormatterConfig,
    PreserveCaseFormatterConfigFormatterTypeOnEnvoyHeaders,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import SdsSecretConfig
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher
from envoy_data_plane.google.protobuf import UInt64Value
from envoy_data_plane.message_pool import default_message_pool

from xds.wire.encode import pack

AUTHORITY = "authority:"
"""What the names of SDS secrets begin with that have the certificates of who signs. No Secret is called so."""
HEADERS_COUNT = 1_000
"""Headers that a message may have, from either side. nginx counts only their bytes; Envoy's default is 100."""
HEADERS_KB = 256
"""KiB that the headers of a response may have together, unless the ConfigMap or an annotation asks for more; and one header over HTTP/2.

nginx takes 4 of a backend by default; Envoy's default is 80.
"""
LARGEST_HEADERS_KB = 8192
"""The most that Envoy can be asked to take."""
BUFFER = 64 << 10
"""Bytes that Envoy keeps of one connection, of either side and in either direction, while the other side does not take them.

Envoy's default is 1 MiB: a few thousand clients that read nothing would take all of its memory. A larger buffer makes no download faster.
"""
STREAM_WINDOW = 256 << 10
"""Bytes of a stream of HTTP/2 that may be under way, and that Envoy keeps of one whose client does not read; its default is 16 MiB."""
LB_METADATA, ENDPOINT_NAME = "envoy.lb", "endpoint"
"""Where Envoy looks for what distinguishes endpoints of a cluster, in what is known of a request and of each endpoint; and its key."""
OWN_SCHEME = "x-xds-scheme"
"""A header between a listener and its routes: by which scheme a request came, where X-Forwarded-Proto is what a proxy says of it.

The listener overwrites a client's own, and backends do not see it.
"""
ARRIVED = "x-xds-arrived"
"""A header that every request has until it is sent to a backend, so that the access log sees by it which were. Clients cannot send it.

Where the request has passed an Envoy before, it has a value (`xds.render.passages`).
"""
PASSAGE_FILTER = "forwarded-port"
"""The HTTP filter of both listeners that writes what is known of a passage: the port by which it came, and that it is one more.

What every response of a listener gets it writes as well: a filter more would cost each request as much as this one.
"""
SENT_FROM = "nginx-ingress-controller"
"""The header X-Sent-From of requests by which a proxy asks an authentication service, as ingress-nginx writes it; and of copies."""
UNTOLD = "x-xds-untold"
"""A header, empty, of responses that are to tell no browser to come by https only (`xds.nginx.features.hsts`)."""
PASSAGES = "x-passages-"
"""How the header begins by which passages through the fleet are counted; the rest of its name is a secret of the fleet."""
_IN_NO_HEADER = re.compile(r"[\x00\r\n]")
CACHED = 1024
"""How many messages, each made from one value that users wrote, a function remembers."""


@dataclass(eq=False, repr=False)
class BodySizeLimit(betterproto2.Message):
    """How many bytes the body of a request may have; more are answered with 413.

    Source: envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit. It goes when envoy-data-plane has the message: the message
    pool then refuses the second of that name.
    """

    max_request_bytes: int | None = betterproto2.field(1, betterproto2.TYPE_MESSAGE, unwrap=lambda: UInt64Value, optional=True)
    """The most bytes a body may have; None sets no limit."""


default_message_pool.register_message("envoy.extensions.filters.http.body_size_limit.v3", "BodySizeLimit", BodySizeLimit)


@cache
def ads() -> ConfigSource:
    """The source of every resource that a message refers to: always the one ADS stream, on which the message itself came.

    These bytes must never change: Envoy treats a changed ConfigSource as a new subscription (rules T5, O9; envoy#47309).
    """
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def sds(name: str) -> SdsSecretConfig:
    """A reference to a secret by name."""
    return SdsSecretConfig(name=name, sds_config=ads())


def authority(secret: str) -> str:
    """The SDS secret with the certificates of who signs those of clients or backends, from the Secret `<namespace>/<secret>`."""
    return AUTHORITY + secret


@dataclass(eq=False, repr=False)
class CelFormatter(betterproto2.Message):
    """The command %CEL()% in a format, with the functions that its expressions may use.

    Source: envoy.extensions.formatter.cel.v3.Cel, of which envoy-data-plane has no field. It goes when envoy-data-plane has that.
    """

    cel_config: CelExpressionConfig | None = betterproto2.field(1, betterproto2.TYPE_MESSAGE, optional=True)  # noqa: RUF009 - so it is declared
    """Which functions there are beside those that are always there; None has none."""


_CEL = default_message_pool.type_to_url.pop(Cel)
default_message_pool.url_to_type[_CEL], default_message_pool.type_to_url[CelFormatter] = CelFormatter, _CEL


def text_format(inline: str, *, empty: bool = False) -> SubstitutionFormatString:
    """One of Envoy's formats as a message. A command without a value leaves a hyphen, or nothing (`empty`)."""
    return SubstitutionFormatString(text_format_source=DataSource(inline_string=inline), omit_empty_values=empty)


def kept_text(key: str, inline: str, *, empty: bool = False) -> FilterStateValue:
    """A text that is kept in the filter state under a key, for whatever comes later; in its format as `text_format`."""
    return FilterStateValue(object_key=key, factory_key="envoy.string", format_string=text_format(inline, empty=empty))


def page(status: str, title: str = "", *lines: str) -> str:
    """nginx's page for a status, such as `404 Not Found`, or one of Envoy's formats; some have a title of their own, and lines."""
    head = f"<html>\r\n<head><title>{title or status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n"
    head += "".join(f"<center>{line}</center>\r\n" for line in lines)
    return f"{head}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"


def action_of(envoy: EnvoyRoute) -> RouteAction:
    """The action of a route that forwards."""
    assert envoy.route is not None
    return envoy.route


def overwriting(name: str, value: str) -> HeaderValueOption:
    """A header that replaces what is there; the value is literal, for Envoy's formatter finds no `%` in it."""
    return formatted(name, literal(value))


def literal(text: str) -> str:
    """A text as one of Envoy's formats, for the value of a header."""
    return in_header(text).replace("%", "%%")


def in_header(text: str) -> str:
    """A text without what no value of a header can hold: a folder may name a Service or port as no API server would let anybody."""
    return _IN_NO_HEADER.sub("", text)


def formatted(name: str, value: str) -> HeaderValueOption:
    """A header that replaces what is there; the value is a format of Envoy's, so nothing that a user wrote may stand in it as it is."""
    header = HeaderValue(key=name, value=value)
    return HeaderValueOption(header=header, append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)


def substitution(pattern: str, replacement: str) -> RegexMatchAndSubstitute:
    """Replace what an RE2 pattern finds; `replacement` refers to groups as `\\1`."""
    return RegexMatchAndSubstitute(pattern=RegexMatcher(regex=pattern), substitution=replacement)


def from_ranges(ranges: Iterable[str]) -> Principal:
    """Clients in one of these ranges, each an address with the length of its prefix; whoever the client is taken for counts."""
    return Principal(or_ids=PrincipalSet(ids=[Principal(remote_ip=each) for each in cidr_ranges(ranges)]))


def cidr_ranges(ranges: Iterable[str]) -> list[CidrRange]:
    """Ranges, each an address with the length of its prefix."""
    parts = (each.rsplit("/", 1) for each in ranges)
    return [CidrRange(address_prefix=address, prefix_len=int(length)) for address, length in parts]


def put_behind(connection: HttpConnectionManager, name: str, added: HttpFilter) -> None:
    """Add an HTTP filter of a listener right behind that of a name, or else before the router, which is the last."""
    names = [each.name for each in connection.http_filters]
    connection.http_filters.insert(names.index(name) + 1 if name in names else -1, added)


def on_responses(connection: HttpConnectionManager, mutation: Mutation) -> None:
    """Change the headers of every response of a listener, by the filter that is there for each request anyway."""
    writer = next((each for each in connection.http_filters if each.name == PASSAGE_FILTER), None)
    if writer is None:
        writer = HttpFilter(name=PASSAGE_FILTER, typed_config=pack(HeaderMutation(mutations=Mutations())))
        connection.http_filters.insert(0, writer)
    assert writer.typed_config is not None
    config = HeaderMutation.parse(writer.typed_config.value)
    assert config.mutations is not None
    config.mutations.response_mutations.append(mutation)
    writer.typed_config = pack(config)


@cache
def http2(window: int) -> Http2ProtocolOptions:
    """HTTP/2 with either side: a message that HTTP/2 forbids ends its own stream, not the connection with all others.

    `window` has the bytes that may be under way to us on one connection. A single header may be as large as Envoy lets it be, which is
    `HEADERS_KB`; without a word of it, 64 KiB.
    """
    return Http2ProtocolOptions(
        override_stream_error_on_invalid_http_message=True,
        max_header_field_size_kb=HEADERS_KB,
        initial_stream_window_size=STREAM_WINDOW,
        initial_connection_window_size=window,
    )


@cache
def preserve_case() -> Http1ProtocolOptionsHeaderKeyFormat:
    """Header names and the reason phrase go on as they were written; names that Envoy adds are spelt the usual way.

    Both ends need it: the names of a request are noted where it is read from the client, those of a response where the endpoint sends it.
    """
    spelling = PreserveCaseFormatterConfigFormatterTypeOnEnvoyHeaders.PROPER_CASE
    config = pack(PreserveCaseFormatterConfig(forward_reason_phrase=True, formatter_type_on_envoy_headers=spelling))
    formatter = TypedExtensionConfig(name="envoy.http.stateful_header_formatters.preserve_case", typed_config=config)
    return Http1ProtocolOptionsHeaderKeyFormat(stateful_formatter=formatter)
