"""auth-type: clients need a user name and a password that a Secret has. The authorisation service beside each Envoy verifies them.

A route names the password file and the realm; no hash is in any route. What cannot be kept closes the paths, as in ingress-nginx: a Secret
that is not there, is elsewhere, or lacks its key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Forward, Location, PasswordForm, Passwords, Route
from xds.nginx.access import FILTER, NO_AUTH_LOCATIONS, asking, asks_elsewhere, decided_elsewhere, file_name, is_exempt
from xds.nginx.feature import Annotation, Closed, Feature, Notes, Objects, Phase, Risk, Unreadable
from xds.nginx.values import matching, shown

_FORMS = {form.value: form for form in PasswordForm}
_KEY = "auth"


def _type(text: str) -> str:
    if text not in ("basic", "digest"):
        raise ValueError(f"is {shown(text)}, which is none of basic, digest")
    return text


def _form(text: str) -> PasswordForm:
    if text not in _FORMS:
        raise ValueError(f"is {shown(text)}, which is none of {', '.join(_FORMS)}")
    return _FORMS[text]


AUTH_TYPE = Annotation(
    "auth-type",
    _type,
    "Whether clients need a password: `basic`. `digest` is obsolete, and its paths answer 503.",
    "basic",
    "",
    unreadable=Unreadable.LEAVES_OUT,
)
AUTH_SECRET = Annotation(
    "auth-secret",
    str,
    "The Secret with the passwords, as `name` or `namespace/name`. Without it the paths answer 503.",
    "passwords",
    "",
    risk=Risk.MEDIUM,
    beside="auth-type",
)
AUTH_SECRET_TYPE = Annotation(
    "auth-secret-type",
    _form,
    "The form of the Secret: `auth-file` has an htpasswd file as `auth`, `auth-map` has users as keys and hashes as values.",
    "auth-map",
    PasswordForm.FILE,
    beside="auth-type",
    unreadable=Unreadable.LEAVES_OUT,
)
AUTH_REALM = Annotation(
    "auth-realm",
    matching(r"[-/._~a-zA-Z0-9: ]*", "realm of letters, digits, spaces and -/._~:"),
    "The realm, which browsers show when they ask for the password. `off` is a realm like others.",
    "Members only",
    "",
    risk=Risk.MEDIUM,
    beside="auth-type",
    unreadable=Unreadable.LEAVES_OUT,
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The annotations of an Ingress as they are written."""

    type: str
    secret: str
    form: PasswordForm
    realm: str
    exempt: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthBasic:
    """The Secret that has the passwords, the realm, and the beginnings of paths that need none."""

    passwords: Passwords
    realm: str
    exempt: tuple[str, ...]


def _read(notes: Notes) -> _Asked | None:
    """None without auth-type: the other annotations have no effect then, whatever they are."""
    if not notes.has(AUTH_TYPE):
        return None
    kind, secret, form, realm = notes.get(AUTH_TYPE), notes.get(AUTH_SECRET), notes.get(AUTH_SECRET_TYPE), notes.get(AUTH_REALM)
    return _Asked(kind, secret, form, realm, notes.key(NO_AUTH_LOCATIONS))


def _resolve(asked: _Asked, _item: Ingress, objects: Objects) -> AuthBasic | Closed:
    """What of the Secret a route needs: its name. Its content is that of a Unit of its own, which no route depends on."""
    if asked.type != "basic":
        return Closed(AUTH_TYPE.name, "is digest, which is not supported; use basic over TLS")
    if not asked.secret:
        return Closed(AUTH_SECRET.name, "is needed by auth-type, and is not there")
    found = objects.secret(AUTH_SECRET, asked.secret)
    if isinstance(found, Closed):
        return found
    about = f"Secret {found.meta.namespace}/{found.meta.name}"
    if asked.form is PasswordForm.FILE and _KEY not in found.data:
        return Closed(AUTH_SECRET.name, f'names {about}, which has no key "{_KEY}"')
    return AuthBasic(Passwords(found.meta.namespace, found.meta.name, asked.form), asked.realm, asked.exempt)


def _on_path(setting: AuthBasic, path: str) -> AuthBasic | None:
    return None if is_exempt(path, setting.exempt) else setting


def _routes(setting: AuthBasic, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Only what reaches a backend is protected: redirects and our own answers come before, in nginx, too."""
    return tuple(replace(r, passwords=setting.passwords) if isinstance(r.action, Forward) else r for r in routes)


def _on_forward(setting: AuthBasic, route: Route, envoy: EnvoyRoute) -> None:
    """The backend never sees the password, also where `satisfy: any` has let a client in without looking at it.

    What auth-response-headers has of the name is not the client's.
    """
    elsewhere = asks_elsewhere(route.settings)
    envoy.typed_per_filter_config[FILTER] = asking(file_name(setting.passwords), setting.realm, elsewhere=elsewhere)
    if not decided_elsewhere(route.settings, "authorization"):
        envoy.request_headers_to_remove.append("authorization")


FEATURE = Feature[Any](
    read=_read,
    annotations=(AUTH_TYPE, AUTH_SECRET, AUTH_SECRET_TYPE, AUTH_REALM),
    keys=(NO_AUTH_LOCATIONS,),
    phase=Phase.ACCESS,
    resolve=_resolve,
    on_path=_on_path,
    routes=_routes,
    on_forward=_on_forward,
)
