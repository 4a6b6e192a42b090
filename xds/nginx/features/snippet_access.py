"""allow and deny in a configuration-snippet: an access rule like others, so that no spelling of a path walks around it.

A snippet that refuses some requests by `return` is one as well, of no addresses.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig

from xds.model import Forward, Respond, Route
from xds.nginx.access import satisfies_any
from xds.nginx.feature import Feature, FilterPlace, Notes, Phase
from xds.nginx.features.configuration_snippet import CONFIGURATION_SNIPPET
from xds.nginx.features.configuration_snippet import NAME as SNIPPET
from xds.nginx.features.source_ranges import SourceRanges, lists_of
from xds.nginx.snippets import access
from xds.nginx.snippets.access import AccessRule
from xds.nginx.snippets.gate import read_snippet
from xds.nginx.snippets.routing import way_of

NAME = "snippet_access"
_NO_FILE = Respond(404)


def _read(notes: Notes) -> tuple[AccessRule, ...] | None:
    found = read_snippet(notes, CONFIGURATION_SNIPPET)
    return found.rules if found and (found.rules or found.refuses) else None


def filters(rules: tuple[AccessRule, ...], route: Route) -> Iterable[TypedExtensionConfig]:
    """The filter, but where nginx answers before it asks who the client is: by `return` and `rewrite`.

    Where another rule may let clients in (`satisfy any`), nobody is refused here. Whoever is only not denied still has to ask.
    """
    if satisfies_any(route.settings):
        rules = _after_lists(rules, lists_of(route.settings))
        return (access.noting_filter_of(rules),) if any(each.allows for each in rules) else ()
    setting = route.settings.get(SNIPPET)
    asks = isinstance(route.action, Forward) or (route.action == _NO_FILE and not (setting and way_of(setting).end))
    return (access.filter_of(rules),) if asks and rules else ()


def _after_lists(rules: tuple[AccessRule, ...], lists: SourceRanges | None) -> tuple[AccessRule, ...]:
    """The rules behind those of the annotations' lists, which ingress-nginx writes first: a list of who may come ends with `deny all`."""
    if lists is None:
        return rules
    return () if lists.allowed else (*(AccessRule(allows=False, network=each) for each in lists.denied), *rules)


FEATURE = Feature(read=_read, phase=Phase.ACCESS, filters=filters, place=FilterPlace.ACCESS, everywhere=True)
