"""Spellings of paths, and a model of what nginx makes of them: which location of a host a request is for.

What belongs here: hosts with open and closed paths, requests for them in every spelling, and the model (nginx' own parsing of a request
line, `merge_slashes on`; ingress-nginx' order of locations). What does not: what a test expects of Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.envoy.harness.manifests import Manifest, ingress

CLOSING = ({"auth-url": "http:///check"}, {"custom-headers": "default/none"})
"""What closes paths: an access rule that nobody keeps, and an object that is not there."""
TEXTS = (
    *("/admin", "/admin/", "/", "/a@b", "/café", "/admin/public", "/admin/public/", "/a b", "/a+b/x", "/a%20b", "/x", "/ADMIN"),
    *("/admin;x", "/a[b]", "/a%2Fb", "/admin/x:y", "/a.b", "/x/"),
)
EXPRESSIONS = (
    *("/", "/admin", "/admin/", "/a(/|$)(.*)", "/[^/]+/admin", "/.*/admin", "/admin/[a-z]+$", "/caf.", r"/v\d+/admin", "/é+/x", "/a%20b"),
    *("/(admin|b)/c", "/admin|/b", r"/a\.b", "/admin.?x", "/[@:]+/admin", r"/\w+/x", "/a b", "/admin/?", "/admin/.+", r"/[^@\s]x", "/x$"),
    *("/x{1,2}/admin", r"/a\+b", "/[^a-z]", r"/adm\x69n", r"/admin\b", "/a@b", "/admin/[^/]*$", "/%"),
)
SUFFIXES = ("", "", "/", "/x", "x", "/public", "/public/y", "\n", "@", ":z", "/../admin", "/b/c")
SLASHES = ("/",) * 8 + ("//", "/./", "/x/../", "%2f", "%2F", "/%2F", "%2f/", "/%2e/", "/y%2f..%2f", "\\", "/..;/", "/;a=1/", "/%2e%2E/")


@dataclass(frozen=True)
class Claim:
    """A path of a host; `closed`: its Ingress has an access rule."""

    path: str
    type: str
    closed: bool


@dataclass(frozen=True)
class Host:
    """The paths of a host, no two the same."""

    name: str
    claims: tuple[Claim, ...]
    as_regex: bool

    @property
    def closing(self) -> dict[str, str]:
        """How the closed one of its Ingresses is."""
        return CLOSING[len(self.claims) % len(CLOSING)]

    def manifests(self, port: int = 80) -> list[Manifest]:
        """Two Ingresses, one of them closed; the path of number n leads to the Service s<n>."""
        found = []
        for closed in (False, True):
            own = {"use-regex": "true"} if self.as_regex else {}
            paths = [
                {"path": c.path, "pathType": c.type, "backend": {"service": {"name": f"s{n}", "port": {"number": port}}}}
                for n, c in enumerate(self.claims)
                if c.closed is closed
            ]
            made = ingress(f"{self.name}-{closed}".lower(), self.name, {"/": ("s0", port)}, own | (self.closing if closed else {}))
            made["spec"]["rules"][0]["http"]["paths"] = paths
            found += [made] if paths else []
        return found


def a_host(choose: Callable[[Sequence[Any]], Any], name: str) -> Host:
    """Some host; `choose` takes one of a sequence."""
    as_regex = choose((False, True))
    texts = {choose(EXPRESSIONS if as_regex else TEXTS) for _ in range(choose((2, 3, 5)))}
    claims = [Claim(text, choose(("Exact", "Prefix")), choose((True, False))) for text in sorted(texts)]
    return Host(name, tuple(claims), as_regex)


def a_request(choose: Callable[[Sequence[Any]], Any], host: Host) -> str:
    """The target of a request that means a path of the host, or nearly, in some spelling."""
    wanted = choose(host.claims).path
    if host.as_regex:
        wanted = choose(
            (re.sub(r"[^\w/@:.é% ]", "", wanted), "/admin", "/b/admin", "/v1/admin", "/é/x", "/caf\x80", "/a+b", "/a.b", "/xx/x")
        )
    spelled = ""
    for byte in (wanted + choose(SUFFIXES)).encode():
        character = chr(byte)
        escape = f"%{byte:02X}" if choose((True, False)) else f"%{byte:02x}"
        if character == "/":
            spelled += choose(SLASHES) if spelled else choose(("/", "/", "/", "//", "/%2f", "/./", "/x/../"))
        elif not 0x20 < byte < 0x7F or character in "?#%":
            spelled += escape
        else:
            spelled += choose((character, character, character, escape))
    return spelled


def nginx_path(target: str) -> bytes | None:
    """The path that nginx compares: decoded once, then slashes merged and dots resolved. None where it answers 400."""
    path = re.split("[?#]", target)[0]
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", path):
        return None
    *parents, last = re.sub(rb"/+", b"/", unquote_to_bytes(path)).split(b"/")[1:]
    segments: list[bytes] = []
    for segment in (*parents, *((last,) if last in (b".", b"..") else ())):
        if segment == b".." and not segments:
            return None
        if segment == b"..":
            segments.pop()
        elif segment != b".":
            segments.append(segment)
    return b"/".join((b"", *segments, b"" if last in (b".", b"..") else last))


def nginx_choice(host: Host, path: bytes) -> int | None:
    """The number of the path that answers. None where none does; what nginx redirects to a path with a slash is that path's."""
    claims = [(c.path.encode(), c.type == "Exact", n) for n, c in enumerate(host.claims)]
    if host.as_regex:
        in_order = sorted(sorted(claims, reverse=True), key=lambda c: -len(c[0]))
        return next((n for text, _, n in in_order if re.search(b"^" + text, path, re.IGNORECASE)), None)
    exact = {text: n for text, is_exact, n in claims if is_exact or not text.endswith(b"/")}
    if path in exact:
        return exact[path]
    with_slash = {text.removesuffix(b"/") + b"/": n for text, is_exact, n in sorted(claims) if not is_exact}
    bare = {text[:-1]: n for text, _, n in claims if text.endswith(b"/")}
    if path in bare:
        return bare[path]
    longest = max((text for text in with_slash if path.startswith(text)), key=len, default=None)
    return None if longest is None else with_slash[longest]
