"""What a route's action and features are drawn as: responses of our own, and where the messages of several features meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

import xds.nginx.features
from xds import model
from xds.nginx import registry
from xds.nginx.feature import FilterPlace
from xds.render import routes
from xds.wire.encode import encode

DEFAULTS, _ = registry.read_settings({}, {})
EVERYTHING = model.PathMatch(model.PathKind.RAW_PREFIX, "/")
ACTIONS = (
    model.Forward(model.Cluster("default", "web", 80)),
    model.Respond(404),
    model.Redirect(308, model.RedirectTo.HTTPS),
    model.Redirect(302, model.RedirectTo.URL, "https://example.org/"),
    model.Redirect(302, model.RedirectTo.REWRITTEN, "https://example.org/x", "(?is)^.*?(?:/).*$"),
)
MARKING = '''
"""A feature that writes on every route, configures a filter of the listener, and brings filters of its own."""

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import FilterConfig

from xds.nginx.feature import Feature
from xds.nginx.messages import overwriting
from xds.wire.encode import pack


def _on_route(mark, _route, envoy):
    envoy.response_headers_to_add.append(overwriting("x-mark", mark))
    envoy.typed_per_filter_config["of-the-listener"] = pack(FilterConfig(disabled=True))


def _filters(mark, route):
    return (TypedExtensionConfig(name=mark, typed_config=pack(FilterConfig())),)


FEATURE = Feature(read=lambda notes: None, on_route=_on_route, filters=_filters)
'''


def _forget() -> None:
    for found in (registry.features, registry.with_hook):
        found.cache_clear()


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[model.Settings]:
    """Settings of an Ingress that asks for a feature which is found by being there."""
    (tmp_path / "marking.py").write_text(MARKING)
    with monkeypatch.context() as patched:
        patched.setattr(xds.nginx.features, "__path__", [*xds.nginx.features.__path__, str(tmp_path)])
        _forget()
        yield DEFAULTS.but(marking="mark", proxy_body_size=7)
    sys.modules.pop("xds.nginx.features.marking", None)
    _forget()


def drawn(action: model.Action, settings: model.Settings = DEFAULTS) -> EnvoyRoute:
    """A route of the host example.com; its bytes from a template are the same."""
    wanted = model.Route(EVERYTHING, action, settings=settings)
    made = routes.route(wanted, DEFAULTS, "example.com")
    assert routes.route_bytes(wanted, DEFAULTS, "example.com") == encode(made)
    return made


def headers(made: EnvoyRoute) -> Mapping[str, str]:
    """The headers that a route adds to responses: name → format."""
    return {option.header.key: option.header.value for option in made.response_headers_to_add if option.header}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: f"{type(action).__name__} {getattr(action, 'to', '')}")
def test_a_feature_draws_on_a_route_whatever_it_does(action: model.Action, marked: model.Settings) -> None:
    plain, made = drawn(action), drawn(action, marked)
    assert headers(made) == {**headers(plain), "x-mark": "mark"}
    assert made.typed_per_filter_config.keys() == {"of-the-listener", FilterPlace.BODY.value, FilterPlace.ROUTE.value}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: f"{type(action).__name__} {getattr(action, 'to', '')}")
def test_routes_that_differ_in_what_only_on_route_draws_do_not_share_a_template(action: model.Action) -> None:
    plain, made = drawn(action), drawn(action, DEFAULTS.but(custom_headers=(("X-A", "b"),)))
    assert headers(made) == {**headers(plain), "X-A": "b"}


def test_filters_of_a_route_leave_what_its_features_configured_by_name(marked: model.Settings) -> None:
    made = drawn(ACTIONS[0], marked)
    assert made.typed_per_filter_config["of-the-listener"].type_url.endswith("FilterConfig")
    assert made.typed_per_filter_config[FilterPlace.ROUTE.value].type_url.endswith("FilterChainConfigPerRoute")


@pytest.mark.parametrize("response", [model.Respond(404, (("x-a", "b"),)), model.Respond(404, body="gone")], ids=["headers", "body"])
def test_a_last_404_with_something_of_its_own_is_sent(response: model.Respond) -> None:
    assert sent(model.Route(EVERYTHING, response, settings=DEFAULTS)) == 1


def test_a_last_404_that_a_feature_draws_on_is_sent(marked: model.Settings) -> None:
    plain = model.Route(EVERYTHING, model.Respond(404), settings=DEFAULTS.but(proxy_body_size=7))
    assert (sent(plain), sent(replace(plain, settings=marked))) == (0, 1)


def test_redirects_that_a_feature_draws_on_differently_are_not_joined(marked: model.Settings) -> None:
    redirect = model.Route(EVERYTHING, model.Redirect(308, model.RedirectTo.HTTPS), via=model.Via.HTTP, settings=DEFAULTS)
    forward = model.Route(EVERYTHING, ACTIONS[0], settings=DEFAULTS)
    first = model.PathMatch(model.PathKind.EXACT, "/a")
    own = (replace(redirect, match=first), replace(forward, match=first), redirect, forward)
    assert sent(*own) == 3
    assert sent(replace(own[0], settings=marked), *own[1:]) == 4


def sent(*own: model.Route) -> int:
    """How many routes of a host Envoy is sent."""
    return len(routes.virtual_host(model.VirtualHost("example.com", own), None, DEFAULTS).routes)


def test_a_response_has_its_headers_and_its_body() -> None:
    made = drawn(model.Respond(403, (("X-Why", "100% closed"),), "no\n"))
    assert made.direct_response
    assert made.direct_response.body
    assert (made.direct_response.status, made.direct_response.body.inline_string) == (403, "no\n")
    assert headers(made) == {"X-Why": "100%% closed", "Content-Type": "text/plain; charset=utf-8"}


def test_a_response_names_the_type_of_its_body_itself() -> None:
    assert headers(drawn(model.Respond(200, (("content-type", "application/json"),), "{}"))) == {"content-type": "application/json"}


def test_a_response_without_a_body_says_nothing_of_its_type() -> None:
    made = drawn(model.Respond(404))
    assert made.direct_response
    assert made.direct_response.body is None
    assert headers(made) == {}


def test_a_body_that_envoy_would_reject_is_refused() -> None:
    assert model.Respond(200, body="é" * 2_048).body
    with pytest.raises(ValueError, match=r"4096 bytes"):
        model.Respond(200, body="é" * 2_048 + "x")
