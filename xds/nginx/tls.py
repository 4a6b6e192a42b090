"""Ciphers and versions of TLS as OpenSSL's configuration names them, and those of them that Envoy's library, BoringSSL, has.

What belongs here: the words of users, and what they come to. What does not: which annotation or key takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import TlsParameters, TlsParametersTlsProtocol

from xds.nginx.values import shown

USUAL = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""The suites of TLS 1.2 that ingress-nginx offers by default; words such as HIGH stand for these as well, and never for weaker ones."""
_KNOWN = (
    *USUAL,
    *(f"ECDHE-{key}-{cipher}-SHA" for cipher in ("AES128", "AES256") for key in ("ECDSA", "RSA")),
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
)
_OF_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Envoy offers these three with TLS 1.3, whatever is written."""
_WORDS: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(("ALL", "HIGH", "DEFAULT"), lambda name: name in USUAL),
    **dict.fromkeys(("ECDHE", "EECDH", "kECDHE", "kEECDH"), lambda name: name.startswith("ECDHE-")),
    **dict.fromkeys(("ECDSA", "aECDSA"), lambda name: "-ECDSA-" in name),
    "aRSA": lambda name: "-ECDSA-" not in name,
    **dict.fromkeys(("RSA", "kRSA"), lambda name: not name.startswith("ECDHE-")),
    "AESGCM": lambda name: "-GCM-" in name,
    "AES": lambda name: "AES" in name,
    "AES128": lambda name: "AES128" in name,
    "AES256": lambda name: "AES256" in name,
    "CHACHA20": lambda name: "CHACHA20" in name,
    **dict.fromkeys(("SHA", "SHA1"), lambda name: name.endswith("-SHA")),
    "SHA256": lambda name: name.endswith("-SHA256"),
    "SHA384": lambda name: name.endswith("-SHA384"),
}
_FORM = re.compile(r"[A-Za-z0-9_+:!-]+")
_VERSIONS = {
    "TLSv1": TlsParametersTlsProtocol.TLSv1_0,
    "TLSv1.1": TlsParametersTlsProtocol.TLSv1_1,
    "TLSv1.2": TlsParametersTlsProtocol.TLSv1_2,
    "TLSv1.3": TlsParametersTlsProtocol.TLSv1_3,
}
_CURVES = {
    **dict.fromkeys(("X25519", "x25519"), "X25519"),
    **dict.fromkeys(("prime256v1", "secp256r1", "P-256"), "P-256"),
    **dict.fromkeys(("secp384r1", "P-384"), "P-384"),
    **dict.fromkeys(("secp521r1", "P-521"), "P-521"),
}
_NEVER = ("SSLv2", "SSLv3")


def ciphers(text: str) -> str:
    """OpenSSL's list of ciphers, in its form. Raises ValueError for what is none."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"is {shown(text)}, which is no list of ciphers with colons between them")
    return text


def suites(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The suites of a list, in its order, and what in it stands for none that Envoy has. No suites: those that are usual hold.

    `!` and `-` take suites out, `+` joins words; what is not known there takes out nothing.
    """
    found: dict[str, None] = {}
    barred: set[str] = set()
    unknown: list[str] = []
    for word in filter(None, text.split(":")):
        if word in _OF_13:
            continue
        meant = _meant(word.lstrip("!-+"))
        if word[0] == "!":
            barred |= set(meant)
        if word[0] in "!-":
            found = {name: None for name in found if name not in meant}
        elif word[0] == "+":
            found = {**{name: None for name in found if name not in meant}, **{name: None for name in found if name in meant}}
        elif not meant:
            unknown.append(word)
        else:
            found |= dict.fromkeys(meant)
    return tuple(name for name in found if name not in barred), tuple(unknown)


def _meant(word: str) -> tuple[str, ...]:
    if word in _KNOWN:
        return (word,)
    tests = [_WORDS.get(part) for part in word.split("+")]
    return tuple(name for name in _KNOWN if all(test is not None and test(name) for test in tests))


def versions(text: str) -> tuple[str, ...]:
    """The versions of TLS in a list, oldest first, as far as Envoy has them. Raises ValueError for other words, or where there is none."""
    words = text.split()
    if unknown := [word for word in words if word not in _VERSIONS and word not in _NEVER]:
        raise ValueError(f"is {shown(text)}, but {shown(unknown[0])} is no version of TLS")
    found = tuple(word for word in _VERSIONS if word in words)
    if not found:
        raise ValueError(f"is {shown(text)}, of which Envoy has none")
    return found


def bound(parameters: TlsParameters, found: tuple[str, ...]) -> None:
    """Have TLS be of these versions; those between the oldest and the newest are offered as well."""
    parameters.tls_minimum_protocol_version, parameters.tls_maximum_protocol_version = _VERSIONS[found[0]], _VERSIONS[found[-1]]


def curves(text: str) -> tuple[str, ...]:
    """OpenSSL's list of curves as Envoy calls them, none for `auto`. Raises ValueError for one that Envoy does not have."""
    words = text.split(":")
    if unknown := [word for word in words if word not in _CURVES and text != "auto"]:
        raise ValueError(f"is {shown(text)}, but Envoy has no curve {shown(unknown[0])}")
    return () if text == "auto" else tuple(dict.fromkeys(_CURVES[word] for word in words))


def no_ciphers(unknown: tuple[str, ...]) -> str:
    """The end of a sentence about words of a list that stand for nothing."""
    more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
    return f"has {shown(unknown[0])}{more}, for which Envoy has no cipher"
