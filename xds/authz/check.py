"""Envoy's question whether a request may pass (envoy.service.auth.v3.Authorization), and the answer."""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Any

from xds.authz.messages import message
from xds.authz.verifier import Admission, Verifier

METHOD = "/envoy.service.auth.v3.Authorization/Check"
ELSEWHERE = "ask"
"""What a route says under `else` where another service decides about those whom the password does not let in (`satisfy: any`)."""
ADMITTED, USER, CHALLENGE = "admitted", "user", "challenge"
"""The notes about a request that goes on: that its password is right, and whose; or, where another service decides, what a 401 asks for."""
_LONGEST_USER = 256
"""Bytes of a user's name that is noted."""
LONGEST = 8192
"""Characters of an Authorization header that is read."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+")
_BAD_REQUEST, _UNAUTHORIZED, _UNAVAILABLE = 400, 401, 503
_PERMISSION_DENIED = 7
"""The code of google.rpc for all that is not to pass; Envoy reads the status for the client beside it."""


class Checks:
    """Answers questions, as bytes in and bytes out. The route says which password file and which realm they are about."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._question = message("CheckRequest")

    async def check(self, raw: bytes) -> bytes:
        """The answer to a question. A question that cannot be read is answered with a refusal."""
        attributes = self._question.FromString(raw).attributes
        context = attributes.context_extensions
        headers = _authorizations(attributes.request.http)
        if len(headers) > 1 or any("," in header for header in headers):  # Envoy may have joined two
            return refusal(_BAD_REQUEST, "")
        client = attributes.source.address.socket_address.address
        shown = credentials(headers[0]) if headers else None
        match await self._verifier.judge(context["passwords"], shown, client):
            case Admission.ADMITTED:
                return _goes_on(ADMITTED, "yes", _name_of(shown[0] if shown else b""))
            case Admission.REFUSED:
                challenge = f'Basic realm="{context["realm"]}"'
                return _goes_on(CHALLENGE, challenge) if context["else"] == ELSEWHERE else refusal(_UNAUTHORIZED, challenge)
            case Admission.UNKNOWN:
                return refusal(_UNAVAILABLE, "")


def credentials(header: str) -> tuple[bytes, bytes] | None:
    """User and password as nginx reads them: what follows the first `=` of the base64 does not count. None where there are none."""
    if len(header) > LONGEST or header[:6].lower() != "basic ":
        return None
    encoded = header[6:].lstrip(" ").partition("=")[0]
    if not _BASE64.fullmatch(encoded):
        return None
    try:
        user, colon, password = base64.b64decode(encoded + "=" * (-len(encoded) % 4)).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if user and colon else None


def _authorizations(http: Any) -> list[str]:
    """The Authorization headers. Envoy sends each by itself, or (`encode_raw_headers` is not set) all of them in one."""
    raw = [h.raw_value.decode("latin-1") or h.value for h in http.header_map.headers if h.key.lower() == "authorization"]
    return raw or [http.headers["authorization"]] if "authorization" in http.headers or raw else []


def _name_of(user: bytes) -> str:
    """The name of a user for a header; "" where it can stand in none."""
    try:
        name = user.decode() if len(user) <= _LONGEST_USER else ""
    except UnicodeDecodeError:
        return ""
    return name if name.isprintable() else ""


@lru_cache(maxsize=1024)
def _goes_on(key: str, note: str, user: str = "") -> bytes:
    """The request goes on, with a note in its metadata for what comes after."""
    made = message("CheckResponse")()
    made.ok_response.SetInParent()
    made.dynamic_metadata.fields[key].string_value = note
    if user:
        made.dynamic_metadata.fields[USER].string_value = user
    raw: bytes = made.SerializeToString()
    return raw


@lru_cache(maxsize=1024)
def refusal(status: int, authenticate: str) -> bytes:
    """A refusal with this status, and this WWW-Authenticate unless it is empty. Envoy adds nginx's page."""
    made = message("CheckResponse")()
    made.status.code = _PERMISSION_DENIED
    made.denied_response.status.code = status
    if authenticate:
        made.denied_response.headers.add(header={"key": "WWW-Authenticate", "value": authenticate})
    raw: bytes = made.SerializeToString()
    return raw
