"""Annotations in, Envoy messages out: the features asked as `xds.translate` and `xds.render` ask them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import re2
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteAction
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute

from xds import model
from xds.kube.objects import ConfigMap, Ingress, Meta, Secret, Service
from xds.nginx import registry
from xds.nginx.feature import Annotation, Closed
from xds.nginx.registry import read_keys, read_settings, with_hook
from xds.problem import Ref

ORIGIN = Ref("Ingress", "default", "web")
RULE = "spec.rules[0].http.paths[0]"
CLUSTER = model.Cluster("default", "web", 80)
Texts = Mapping[str, str]


def settings(annotations: Texts | None = None, keys: Texts | None = None) -> model.Settings:
    """What the features read; every value must be readable."""
    values, of_keys = read_keys(keys or {})
    found, of_annotations = read_settings(annotations or {}, values)
    assert (of_keys, of_annotations) == ([], [])
    return found


class Nothing:
    """No other objects."""

    def config_map(self, annotation: Annotation[Any], written: str) -> ConfigMap | Closed:
        return Closed(annotation.name, "is not there")

    def secret(self, annotation: Annotation[Any], written: str) -> Secret | Closed:
        return Closed(annotation.name, "is not there")

    def service(self, namespace: str, name: str) -> Service | None:
        return None

    def refusal(self, host: str, port: int) -> str:
        return ""


def resolved(found: model.Settings) -> model.Settings:
    """The settings of an Ingress beside which there is no other object."""
    return registry.resolved(found, Ingress(meta=Meta(namespace=ORIGIN.namespace, name=ORIGIN.name)), Nothing())[0]


def complaints(annotations: Texts | None = None, keys: Texts | None = None) -> list[tuple[str, str]]:
    """What could not be read: name and sentence."""
    values, of_keys = read_keys(keys or {})
    return [(c.name, c.sentence) for c in (*of_keys, *read_settings(annotations or {}, values)[1])]


def location(found: model.Settings, path: str = "/", *, tls: bool = False) -> model.Location:
    """A path of the host example.com."""
    match = model.PathMatch(model.PathKind.PREFIX, path)
    return model.Location("example.com", path, match, tls, ORIGIN, RULE, found)


def routes(found: model.Settings, path: str = "/", *, tls: bool = False) -> tuple[model.Route, ...]:
    """What the features make of a location that forwards; those that act late in a request are asked first."""
    where = location(found, path, tls=tls)
    made: tuple[model.Route, ...] = (model.Route(where.match, model.Forward(CLUSTER), ORIGIN, RULE, settings=found),)
    for name, draw in reversed(with_hook("routes")):
        if name in found:
            made = draw(found[name], where, made)
    return made


def host_routes(found: model.Settings) -> tuple[model.Route, ...]:
    """The routes before all others of the host."""
    hooks = with_hook("host_routes")
    return tuple(route for name, draw in hooks if name in found for route in draw(found[name], location(found)))


def envoy_route(found: model.Settings, match: model.PathMatch | None = None) -> EnvoyRoute:
    """A route that forwards, with all that is painted on it."""
    wanted = model.Route(match or model.PathMatch(model.PathKind.PREFIX, "/"), model.Forward(CLUSTER), settings=found)
    made = EnvoyRoute(route=RouteAction(cluster="c"))
    for name, draw in (*with_hook("on_forward"), *with_hook("on_route")):
        if name in found:
            draw(found[name], wanted, made)
    return made


def action(annotations: Texts | None = None, keys: Texts | None = None) -> RouteAction:
    """The action of such a route."""
    made = envoy_route(settings(annotations, keys)).route
    assert made is not None
    return made


def rewritten(rewrite: RegexMatchAndSubstitute, path: str) -> str:
    """The path that the backend gets. RE2 itself knows the groups \\1 to \\9 only; its Python wrapper would read \\10 as the tenth."""
    assert rewrite.pattern
    found = re2.search(rewrite.pattern.regex, path)
    return re.sub(r"\\([0-9])", lambda group: found[int(group[1])] or "", rewrite.substitution) if found else path


def filters(found: model.Settings) -> list[TypedExtensionConfig]:
    """The HTTP filters that the route brings."""
    wanted = model.Route(model.PathMatch(model.PathKind.PREFIX, "/"), model.Forward(CLUSTER), settings=found)
    return [each for name, draw in with_hook("filters") if name in found for each in draw(found[name], wanted)]


def cluster(found: model.Settings) -> EnvoyCluster:
    """A cluster with all that is painted on it."""
    made = EnvoyCluster(name="c")
    settings = registry.drawn_by({}, found)
    for name, on_cluster in with_hook("on_cluster"):
        if name in settings:
            on_cluster(settings[name], made)
    return made


def upstream(annotations: Texts | None = None, keys: Texts | None = None) -> HttpProtocolOptions:
    """How HTTP is spoken with the endpoints of a cluster."""
    found, made = registry.drawn_by({}, settings(annotations, keys)), HttpProtocolOptions()
    for name, on_upstream in with_hook("on_upstream"):
        if name in found:
            on_upstream(found[name], made)
    return made


def connection(found: model.Settings, via: model.Via) -> HttpConnectionManager:
    """What a listener speaks, with all that is painted on it; the router is the last filter."""
    made = HttpConnectionManager(stat_prefix="test", http_filters=[HttpFilter(name="first"), HttpFilter(name="router")])
    for name, on_connection in with_hook("on_connection"):
        if name in found:
            on_connection(found[name], made, via)
    return made
