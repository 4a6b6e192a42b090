"""Whatever a snippet says, no header that is drawn of it is one that Envoy rejects, and with it the whole host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.nginx.drawing import routes
from xds.nginx.registry import read_settings
from xds.render.routes import route

TEXTS = st.lists(
    st.sampled_from(
        ["a", "é", "\u2028", " ", "%", "%REQ(cookie)%", "')%", "\\\\", "\\r", "\\n", "\\t", "/", "?", "$host", "$arg_a", "$1", "$v", "${v}"]
    ),
    min_size=1,
    max_size=4,
).map("".join)
NAMES = st.sampled_from(["X-A", "Host", "hOST", ":path", "Content-Length", "Connection", "Server", "Location", "a'b", "a%b", "é", "A*"])
PATTERNS = st.sampled_from(["^/a", "(.*)", "a|b", "[^/]+", "%", "'", "(?i)x", "$", "("])
QUOTED = st.builds(lambda text: f"'{text}'", TEXTS)
HEADERS = st.one_of(
    st.builds("add_header {} {} always;".format, NAMES, QUOTED),
    st.builds(lambda name, text: f"more_set_headers '{name}: {text}';", NAMES, TEXTS),
    st.builds(lambda name, text: f"more_set_headers -s 404 '{name}: {text}';", NAMES, TEXTS),
    st.builds("proxy_set_header {} {};".format, NAMES, QUOTED),
    st.builds(lambda name, text: f"more_set_input_headers '{name}: {text}';", NAMES, TEXTS),
    st.builds(lambda what, name: f"{what} '{name}';", st.sampled_from(["more_clear_headers", "proxy_hide_header"]), NAMES),
)
STEPS = st.one_of(
    st.builds("set $v {};".format, QUOTED),
    st.builds("return {} {};".format, st.sampled_from([200, 301, 302, 308, 404]), QUOTED),
    st.builds(lambda scheme, text: f"return '{scheme}://{text}';", st.sampled_from(["http", "https", "$scheme"]), TEXTS),
    st.builds("rewrite '{}' {} {};".format, PATTERNS, QUOTED, st.sampled_from(["", "break", "redirect", "permanent"])),
    st.builds("if ($http_x ~ '{}') {{ {} }}".format, PATTERNS, HEADERS),
)
SNIPPETS = st.lists(HEADERS | STEPS, min_size=1, max_size=4).map("\n".join)


def headers_of(message: Any) -> Iterator[tuple[str, str]]:
    """The name and value of each header that is set, or removed, anywhere in a message; and of the host that is written."""
    if isinstance(message, list):
        for each in message:
            yield from headers_of(each)
    elif isinstance(message, dict):
        if isinstance(message.get("header"), dict):
            yield message["header"]["key"], message["header"].get("value", "")
        yield from ((name, "") for key in ("remove", "request_headers_to_remove") for name in _listed(message.get(key)))
        yield from (("x", message[key]) for key in ("host_rewrite", "host_rewrite_literal") if message.get(key))
        for each in message.values():
            yield from headers_of(each)


def _listed(found: Any) -> list[str]:
    return [found] if isinstance(found, str) else found or []


@hypothesis_settings(deadline=None, max_examples=300)
@given(SNIPPETS)
def test_no_header_is_one_that_envoy_rejects(snippet: str) -> None:
    found, _ = read_settings({"configuration-snippet": snippet}, {"allow-snippet-annotations": True})
    defaults, _ = read_settings({}, {})
    as_declared: Any = str
    for each in routes(found):
        for name, value in headers_of(route(each, defaults).to_dict(casing=as_declared)):
            assert re.fullmatch(r"[^\x00\r\n]+", name)
            assert not name.startswith(":")
            assert name.lower() != "host"
            assert re.fullmatch(r"[^\x00\r\n]*", value)
            assert "%REQ(cookie)%" not in value.replace("%%", "")
