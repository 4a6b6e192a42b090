"""Which nodes a request selects: `envoy.type.matcher.v3.NodeMatcher`.

Of the metadata of a node only the strings at its top level are known.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2
from envoy_data_plane.envoy.type.matcher.v3 import NodeMatcher, StringMatcher, StructMatcher

from xds.debug.subject import InvalidArgument
from xds.server.messages import EnvoyNode


def matches(node: EnvoyNode, matchers: Iterable[NodeMatcher]) -> bool:
    """Whether one of the matchers matches, or there are none. Raises InvalidArgument for a matcher that is not supported."""
    chosen = list(matchers)
    return not chosen or any(_matches(node, matcher) for matcher in chosen)


def _matches(node: EnvoyNode, matcher: NodeMatcher) -> bool:
    """All of its conditions must match; an empty matcher matches every node."""
    if matcher.node_id is not None and not _has(matcher.node_id, node.id):
        return False
    return all(_has_metadata(node, wanted) for wanted in matcher.node_metadatas)


def _has_metadata(node: EnvoyNode, wanted: StructMatcher) -> bool:
    value = node.metadata.get(wanted.path[0].key or "") if len(wanted.path) == 1 else None
    if wanted.value is not None and wanted.value.present_match is not None:
        return (value is not None) == wanted.value.present_match
    if wanted.value is None or wanted.value.string_match is None:
        raise InvalidArgument("node_matchers: node metadata can be compared by string_match and present_match only.")
    return value is not None and _has(wanted.value.string_match, value)


def _has(wanted: StringMatcher, text: str) -> bool:
    if wanted.safe_regex is not None:
        try:
            return re2.fullmatch(wanted.safe_regex.regex, text) is not None
        except re2.error:
            raise InvalidArgument(f"node_matchers: {wanted.safe_regex.regex[:100]!r} is no regular expression of RE2.") from None
    same = str.lower if wanted.ignore_case else str
    for value, compare in (
        (wanted.exact, str.__eq__),
        (wanted.prefix, str.startswith),
        (wanted.suffix, str.endswith),
        (wanted.contains, str.__contains__),
    ):
        if value is not None:
            return bool(compare(same(text), same(value)))
    raise InvalidArgument("node_matchers: a string is compared by exact, prefix, suffix, contains or safe_regex.")
