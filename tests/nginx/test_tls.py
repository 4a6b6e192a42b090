"""Words for ciphers, versions and curves, as OpenSSL has them, and what Envoy is told."""

from __future__ import annotations

import pytest

from xds.nginx.tls import USUAL, curves, suites, versions

CBC = ("ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA")


@pytest.mark.parametrize(
    ("text", "found", "unknown"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", ("ECDHE-RSA-AES128-GCM-SHA256",), ()),
        ("HIGH:!aNULL:!MD5", USUAL, ()),
        ("ALL:!ECDSA:!CHACHA20", ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"), ()),
        ("EECDH+AES256+SHA:DHE-RSA-AES256-SHA", CBC, ("DHE-RSA-AES256-SHA",)),
        ("!AES128-SHA:AES128-SHA:AES256-SHA", ("AES256-SHA",), ()),
        ("AES128-SHA:AES256-SHA:-AES128-SHA:AES128-SHA", ("AES256-SHA", "AES128-SHA"), ()),
        ("AES128-SHA:AES256-SHA:+AES128-SHA", ("AES256-SHA", "AES128-SHA"), ()),
        ("TLS_AES_128_GCM_SHA256:AES128-SHA", ("AES128-SHA",), ()),
        ("NULL-MD5:RC4-SHA", (), ("NULL-MD5", "RC4-SHA")),
        ("ECDHE+NULL", (), ("ECDHE+NULL",)),
    ],
)
def test_a_list_of_ciphers_comes_to_suites_that_envoy_has(text: str, found: tuple[str, ...], unknown: tuple[str, ...]) -> None:
    assert suites(text) == (found, unknown)


def test_versions_are_a_range_without_those_that_envoy_has_not() -> None:
    assert versions("TLSv1.3  SSLv3 TLSv1.1") == ("TLSv1.1", "TLSv1.3")
    for text in ("SSLv2 SSLv3", "TLSv9", "TLSv1.2,TLSv1.3"):
        with pytest.raises(ValueError, match=r"Envoy has none|no version"):
            versions(text)


def test_curves_have_the_names_of_openssl_and_auto_is_none() -> None:
    assert (curves("auto"), curves("X25519:secp384r1:prime256v1:P-256")) == ((), ("X25519", "P-384", "P-256"))
    with pytest.raises(ValueError, match="no curve 'sect571r1'"):
        curves("X25519:sect571r1")
