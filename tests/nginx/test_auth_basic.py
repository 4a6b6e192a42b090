"""auth-type and satisfy: what the annotations become, what closes or leaves out, and what a route says to the authorisation service."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthzPerRoute
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac

from xds import passwords
from xds.config import Flags
from xds.kube.objects import ConfigMap, Ingress, Meta, Object, Secret
from xds.kube.world import World
from xds.model import CLOSED, LEFT_OUT, PasswordForm, Passwords, Respond, Settings
from xds.nginx.access import FILTER, satisfies_any
from xds.nginx.registry import features, on_path
from xds.translate.configuration import ingress_settings
from xds.translate.passwords import password_file
from xds.units.memo import Build, Unit

from .drawing import envoy_route, routes

PREFIX = "nginx.ingress.kubernetes.io/"
BASIC = {"auth-type": "basic", "auth-secret": "users"}
SETTINGS = Unit(ingress_settings, ("one", "web"))
FILE = Passwords("one", "users", PasswordForm.FILE)
UNIT = Unit(password_file, (FILE,))


class Case:
    """An Ingress with these annotations, beside these objects."""

    def __init__(self, annotations: Mapping[str, str], *objects: Object) -> None:
        self.world = World(Flags(configmap="xds/config"))
        self.build = Build(self.world.get)
        self.build.keep(SETTINGS)
        item = Ingress(meta=Meta(namespace="one", name="web", annotations={PREFIX + name: text for name, text in annotations.items()}))
        self.apply(item, *objects)

    def apply(self, *objects: Object) -> None:
        self.stale = self.build.stale_kept(self.world.apply(objects))
        self.settings: Settings = self.build.value(SETTINGS)


def secret(text: bytes = b"ada:{PLAIN}hidden\n", namespace: str = "one", **data: bytes) -> Secret:
    return Secret(meta=Meta(namespace=namespace, name="users"), data=data or {"auth": text})


def said(settings: Settings) -> dict[str, str]:
    """What the route says to the service; nothing where it does not ask."""
    made = envoy_route(settings)
    if FILTER not in made.typed_per_filter_config:
        return {}
    settings_ = ExtAuthzPerRoute.parse(made.typed_per_filter_config[FILTER].value).check_settings
    assert settings_
    assert "authorization" in made.request_headers_to_remove
    return dict(settings_.context_extensions)


def test_a_route_names_the_file_and_the_realm_and_no_hash() -> None:
    case = Case(BASIC | {"auth-realm": "Members only"}, secret())
    assert said(case.settings) == {"passwords": "one/users/auth-file", "realm": "Members only"}
    assert [route.passwords for route in routes(case.settings)] == [FILE]
    assert b"hidden" not in bytes(envoy_route(case.settings))
    assert "hidden" not in repr(case.settings)


def test_a_changed_secret_changes_the_file_and_not_the_route() -> None:
    case = Case(BASIC, secret())
    before = case.settings
    case.build.keep(UNIT)
    first = case.build.value(UNIT)
    case.apply(secret(b"ada:{PLAIN}other"))
    assert (case.settings, UNIT in case.stale) == (before, True)
    assert passwords.decode(case.build.value(UNIT)) == {b"ada": b"{PLAIN}other"} != passwords.decode(first)


@pytest.mark.parametrize(
    ("annotations", "objects"),
    [
        ({"auth-type": "basic"}, [secret()]),
        (BASIC, []),
        (BASIC, [secret(htpasswd=b"x")]),
        (BASIC | {"auth-secret": "a/b/c"}, [secret()]),
        (BASIC | {"auth-secret": "two/users"}, [secret(namespace="two")]),
        (BASIC | {"auth-type": "digest"}, [secret()]),
    ],
)
def test_what_cannot_be_kept_closes(annotations: dict[str, str], objects: list[Object]) -> None:
    case = Case(annotations, *objects)
    assert CLOSED in case.settings
    assert [route.action for route in routes(case.settings)] != [Respond(200)]
    assert said(case.settings) == {}


@pytest.mark.parametrize(
    "bad",
    [{"auth-type": "Basic"}, {"auth-type": "ntlm"}, {"auth-type": "\x00"}, {"auth-secret-type": "ldap"}, {"auth-realm": 'say "hi"'}],
)
def test_a_value_that_ingress_nginx_refuses_leaves_out(bad: dict[str, str]) -> None:
    assert LEFT_OUT in Case(BASIC | bad, secret()).settings


def test_without_auth_type_the_others_mean_nothing() -> None:
    case = Case({"auth-secret": "none", "auth-realm": 'say "hi"', "auth-secret-type": "ldap"})
    assert not {CLOSED, LEFT_OUT, "auth_basic"} & case.settings.keys()


@pytest.mark.parametrize(("path", "asks"), [("/", True), ("/open", False), ("/openly", False), ("/x/open", True)])
def test_paths_that_begin_as_no_auth_locations_has_it_are_open(path: str, asks: bool) -> None:
    key = ConfigMap(meta=Meta(namespace="xds", name="config"), data={"no-auth-locations": "/open, /other"})
    assert bool(said(on_path(Case(BASIC, secret(), key).settings, path))) is asks


def test_a_map_has_a_user_in_each_key() -> None:
    case = Case(BASIC | {"auth-secret-type": "auth-map"}, secret(ada=b"{PLAIN}a", bob=b"{PLAIN}b\n"))
    unit = Unit(password_file, (Passwords("one", "users", PasswordForm.MAP),))
    assert passwords.decode(case.build.value(unit)) == {b"ada": b"{PLAIN}a", b"bob": b"{PLAIN}b"}
    assert said(case.settings)["passwords"] == "one/users/auth-map"


def test_who_cannot_log_in_is_reported_by_line_without_name_or_hash() -> None:
    case = Case(BASIC, secret(b"ada:{PLAIN}x\nsecretname:$9$secrethash\n"))
    case.build.keep(UNIT)
    assert passwords.decode(case.build.value(UNIT)) == {b"ada": b"{PLAIN}x"}
    (problem,) = case.build.problems[UNIT]
    assert problem.sentence == "Line 2 has a hash of an unknown kind; this user cannot log in."


def test_a_file_that_is_too_large_lets_in_nobody() -> None:
    case = Case(BASIC, secret(b"a:{PLAIN}x\n" + b"#" * passwords.LARGEST))
    assert passwords.decode(case.build.value(UNIT)) == {}


@pytest.mark.parametrize(
    ("annotations", "suffices"),
    [
        ({"satisfy": "any"}, False),
        (BASIC | {"satisfy": "any"}, True),
        (BASIC | {"satisfy": "all"}, False),
        (BASIC | {"satisfy": "either"}, False),
        (BASIC, False),
    ],
)
def test_any_rule_is_enough_only_where_there_are_others_than_lists(annotations: dict[str, str], suffices: bool) -> None:
    assert satisfies_any(Case(annotations, secret()).settings) is suffices


@pytest.mark.parametrize(
    ("satisfy", "lists", "kinds"),
    [
        ("all", {"allowlist-source-range": "10.0.0.0/8"}, ["rules"]),
        ("any", {"allowlist-source-range": "10.0.0.0/8"}, ["shadow_rules"]),
        ("any", {"denylist-source-range": "10.0.0.0/8"}, []),
    ],
)
def test_with_any_lists_only_note_whom_they_allow(satisfy: str, lists: dict[str, str], kinds: list[str]) -> None:
    settings = Case(BASIC | {"satisfy": satisfy} | lists, secret()).settings
    assert _lists(settings) == kinds


def _lists(settings: Settings) -> list[str]:
    """How the lists are drawn on a route that forwards."""
    draw = features()["source_ranges"].filters
    assert draw
    (route,) = routes(settings)
    made = [Rbac.parse(each.typed_config.value) for each in draw(settings["source_ranges"], route) if each.typed_config]
    return [kind for rbac in made for kind in ("rules", "shadow_rules") if getattr(rbac, kind) is not None]
