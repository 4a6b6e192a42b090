"""How TLS of a request came in, as routes ask for it: into which filter chain, by which name (SNI), with which client certificate.

nginx verifies clients for the server that a client names in TLS, and answers 421 if the Host header asks for another one that verifies.
Envoy chooses routes by the Host header alone. So each filter chain notes its own name and the SNI of a connection in a filter state, which
no client can write. A route matches what it must be. The note is made once a connection.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.route.v3 import RouteMatch, RouteMatchTlsContextMatchOptions
from envoy_data_plane.envoy.extensions.filters.network.set_filter_state.v3 import Config as SetFilterState
from envoy_data_plane.envoy.type.matcher.v3 import FilterStateMatcher, RegexMatcher, StringMatcher

from xds.model import Handshake, Terminate
from xds.nginx.messages import kept_text
from xds.patterns import regex
from xds.render import names
from xds.wire.encode import pack

_ARRIVAL = "xds.tls"
_UNNAMED, _YES = "xds.tls.unnamed", "yes"
"""The note of the default chain. It has no other, so that nobody who came in there counts as having named another host."""
_SUBJECT = "xds.client.subject"


def arrival(tls: Terminate) -> str:
    """What is noted of a connection whose TLS ends so: the filter chain and the SNI, or that no host with a chain was named."""
    return f"{_digest(tls)} %REQUESTED_SERVER_NAME%" if tls != Terminate() else _YES


def noted(tls: Terminate, note: str = "") -> Filter:
    """The network filter that begins a filter chain: it makes a note (`arrival`) and, if clients are asked, notes the subject they show."""
    key, note = _ARRIVAL if tls != Terminate() else _UNNAMED, note or arrival(tls)
    made = SetFilterState(on_new_connection=[kept_text(key, note, empty=True)])
    if tls.authority:
        made.on_downstream_tls_handshake = [kept_text(_SUBJECT, "%DOWNSTREAM_PEER_SUBJECT%", empty=True)]
    return Filter(name="envoy.filters.network.set_filter_state", typed_config=pack(made))


def put(match: RouteMatch, wanted: Handshake, host: str) -> None:
    """Have a route of this host match only requests whose TLS was so."""
    states = []
    if wanted.unnamed:
        states.append(FilterStateMatcher(key=_UNNAMED, string_match=StringMatcher(exact=_YES)))
    elif wanted.into:
        pattern = _elsewhere(_digest(wanted.into), host) if wanted.elsewhere else _here(_digest(wanted.into), host)
        states.append(_matching(_ARRIVAL, pattern))
    if wanted.subject:
        states.append(_matching(_SUBJECT, wanted.subject))
    match.filter_state = states
    if wanted.presented is not None or wanted.validated is not None:
        match.tls_context = RouteMatchTlsContextMatchOptions(presented=wanted.presented, validated=wanted.validated)


def _matching(key: str, pattern: str) -> FilterStateMatcher:
    """A client may put any byte into its SNI, line breaks too, and "." is to be any of them."""
    return FilterStateMatcher(key=key, string_match=StringMatcher(safe_regex=RegexMatcher(regex=f"(?s){pattern}")))


@lru_cache(maxsize=1 << 14)
def _digest(tls: Terminate) -> str:
    """What stands for a filter chain. A host's names lead to one chain only, so that it need not be longer."""
    return hashlib.blake2b(names.chain(tls).encode(), digest_size=4).hexdigest()


def _here(chain: str, host: str) -> str:
    """The expression for a note of this chain by a name of the host; the catch-all has every name."""
    if not host:
        return f"{chain} .*"
    label, name = (r"[^.]+", host[1:]) if host.startswith("*.") else ("", host)
    return rf"{chain} {label}{regex.literal(name)}\.?"


def _elsewhere(chain: str, host: str) -> str:
    """The expression for every other note. RE2 has no negation, so it is spelt out: where a text may first differ, and how it goes on."""
    if not host:
        return _unlike(f"{chain} ", "")
    if host.startswith("*."):
        return _unlike(f"{chain} ", rf"(?:\..*|[^.]+(?:\.{_unlike(host[2:], _AFTER_NAME)})?)?")
    return _unlike(f"{chain} {host}", _AFTER_NAME)


_AFTER_NAME = r"(?:\..+|[^.].*)"
"""What goes on after a name so that it is another one: more than the dot of the DNS root."""


def _unlike(text: str, after: str) -> str:
    """All texts but those that are `text` and a rest that `after` does not match; with "" as `after`, those that begin otherwise."""
    found = after
    for number, character in enumerate(reversed(text)):
        same = "" if number == 0 and not after else f"|{regex.literal(character)}{found}"
        found = rf"(?:[^{_in_class(character)}].*{same})?"
    return found


def _in_class(character: str) -> str:
    return character if (character.isascii() and character.isalnum()) or character in " ." else rf"\x{{{ord(character):x}}}"
