"""allow and deny in a configuration-snippet: an access rule like others, so that no spelling of a path walks around it."""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig

from xds.model import Forward, Route
from xds.nginx.feature import Feature, FilterPlace, Notes, Phase
from xds.nginx.features.configuration_snippet import CONFIGURATION_SNIPPET
from xds.nginx.snippets import access
from xds.nginx.snippets.access import AccessRule
from xds.nginx.snippets.gate import read_snippet


def _read(notes: Notes) -> tuple[AccessRule, ...] | None:
    found = read_snippet(notes, CONFIGURATION_SNIPPET)
    return (found.rules or None) if found else None


def _filters(rules: tuple[AccessRule, ...], route: Route) -> Iterable[TypedExtensionConfig]:
    """nginx answers itself before it asks who the client is."""
    return (access.filter_of(rules),) if isinstance(route.action, Forward) else ()


FEATURE = Feature(read=_read, phase=Phase.ACCESS, filters=_filters, place=FilterPlace.ACCESS)
