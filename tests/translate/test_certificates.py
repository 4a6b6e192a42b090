"""What `pairs.parse` takes for a certificate with its key, and that Envoy takes the same."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Site, Tls, endpoint_slice, ingress, make_ca, secret, service
from tests.envoy.harness.tls import DAY, NOW
from tests.exploring import examples
from tests.translate.issuing import (
    authority,
    certificate,
    compressed_key,
    damaged_rsa_key,
    ec_key,
    ed25519_key,
    forged,
    hasty_rsa_key,
    ip_name,
    key_pem,
    name_of,
    pem,
    pss_key,
    rsa_key,
    tlv,
    usage,
)
from xds.certificates.pairs import Pair, Unusable, parse
from xds.kube.objects import Meta, Secret
from xds.translate.certificates import covers

HOST = "a.test"
SEC1 = PKCS1 = PrivateFormat.TraditionalOpenSSL
EC_PARAMETERS = pem("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))
TEXT = b"Bag Attributes\n    friendlyName: a\nKey Attributes: <No Attributes>\n"

Made = tuple[bytes, bytes]
"""tls.crt and tls.key."""


def of_ec(host: str) -> bytes:
    return certificate(host, ec_key().public_key())


def on_curve(curve: type[ec.EllipticCurve]) -> Callable[[str], Made]:
    return lambda host: (certificate(host, ec_key(curve).public_key()), key_pem(ec_key(curve)))


def with_key(key: bytes) -> Callable[[str], Made]:
    """The EC certificate with its key in another spelling."""
    return lambda host: (of_ec(host), key)


ACCEPTED: dict[str, Callable[[str], Made]] = {
    "rsa-2048": lambda host: (certificate(host, rsa_key(2048).public_key()), key_pem(rsa_key(2048))),
    "rsa-3072": lambda host: (certificate(host, rsa_key(3072).public_key()), key_pem(rsa_key(3072))),
    "ec-p256": on_curve(ec.SECP256R1),
    "ec-p384": on_curve(ec.SECP384R1),
    "ec-p521": on_curve(ec.SECP521R1),
    "ed25519": lambda host: (certificate(host, ed25519_key().public_key()), key_pem(ed25519_key())),
    "pkcs1-key": lambda host: (certificate(host, rsa_key(2048).public_key()), key_pem(rsa_key(2048), PKCS1)),
    "sec1-key": with_key(key_pem(ec_key(), SEC1)),
    "sec1-key-behind-parameters": with_key(EC_PARAMETERS + key_pem(ec_key(), SEC1)),
    "chain-of-three": lambda host: (of_ec(host) + make_ca("one").cert_pem + make_ca("two").cert_pem, key_pem(ec_key())),
    "chain-with-ed25519": lambda host: (of_ec(host) + certificate("b.test", ed25519_key().public_key()), key_pem(ec_key())),
    "text-around-pem": lambda host: (b"Certificate:\n" + of_ec(host) + b"trailing\0text\n", TEXT + key_pem(ec_key()) + b"trailing\n"),
    "key-in-both": lambda host: (key_pem(ec_key()) + of_ec(host), of_ec(host) + key_pem(ec_key())),
    "crlf": lambda host: (of_ec(host).replace(b"\n", b"\r\n"), key_pem(ec_key()).replace(b"\n", b"\r\n")),
    "cr-only": with_key(key_pem(ec_key()).replace(b"\n", b"\r")),
    "on-one-line": with_key(key_pem(ec_key()).replace(b"\n", b"")),
    "indented": with_key(b"  " + key_pem(ec_key()).replace(b"\n", b"\n  ")),
    "byte-order-mark": lambda host: (b"\xef\xbb\xbf" + of_ec(host), b"\xef\xbb\xbf" + key_pem(ec_key())),
    "no-last-newline": lambda host: (of_ec(host).strip(), key_pem(ec_key()).strip()),
    "usage-signature": lambda host: (certificate(host, ec_key().public_key(), extensions=usage("digital_signature")), key_pem(ec_key())),
    "usage-encipherment": lambda host: (
        certificate(host, rsa_key(2048).public_key(), extensions=usage("key_encipherment")),
        key_pem(rsa_key(2048)),
    ),
    "common-name-only": lambda host: (certificate(host, ec_key().public_key(), sans=()), key_pem(ec_key())),
    "alternative-name-only": lambda host: (certificate(host, ec_key().public_key(), subject=""), key_pem(ec_key())),
    "long-common-name": lambda host: (
        forged(of_ec(host), lambda fields: [*fields[:5], name_of(0x0C, b"a" * 70), *fields[6:]]),
        key_pem(ec_key()),
    ),
    "address-as-name": lambda host: (
        certificate(host, ec_key().public_key(), sans=[ip_name("127.0.0.1"), ip_name("::1")]),
        key_pem(ec_key()),
    ),
    "expired": lambda host: (
        certificate(host, ec_key().public_key(), not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        key_pem(ec_key()),
    ),
    "not-yet-valid": lambda host: (certificate(host, ec_key().public_key(), not_before=NOW + 9 * DAY), key_pem(ec_key())),
    "version-1": lambda host: (forged(of_ec(host), lambda fields: fields[1:-1]), key_pem(ec_key())),
}
"""What Envoy serves. Most are seen in the wild: made by openssl, easyrsa, mkcert, certbot, by hand on Windows."""


def ec_with(**more: object) -> Callable[[], Made]:
    return lambda: (certificate(HOST, ec_key().public_key(), **more), key_pem(ec_key()))  # type: ignore[arg-type]


def of_key(make: Callable[[], object]) -> Callable[[], Made]:
    """A key of a kind that is not taken, and its certificate."""

    def made() -> Made:
        key = make()
        return certificate(HOST, key.public_key()), key_pem(key)  # type: ignore[attr-defined, arg-type]

    return made


def ec_forged(number: int, field: bytes) -> Callable[[], Made]:
    """The EC certificate with another field: 0 is the version, 5 the subject, 6 the public key, 7 the extensions."""
    return lambda: (forged(of_ec(HOST), lambda fields: [*fields[:number], field, *fields[number + 1 :]]), key_pem(ec_key()))


def broken_issuer() -> Made:
    """A chain in which an issuer's certificate has a name that is no UTF-8."""
    return of_ec(HOST) + forged(make_ca().cert_pem, lambda f: [*f[:5], name_of(0x0C, b"\xff\xfe"), *f[6:]]), key_pem(ec_key())


def rsa_pss() -> Made:
    found = certificate(HOST, rsa_key(2048).public_key())
    return forged(found, lambda fields: [*fields[:6], pss_key(), *fields[7:]]), key_pem(rsa_key(2048))


REFUSED: list[tuple[str, str, Callable[[], Made]]] = [
    ("secret-incomplete", "no certificate", lambda: (b" \n", key_pem(ec_key()))),
    ("secret-incomplete", "no key", lambda: (of_ec(HOST), b"")),
    ("secret-too-large", "a megabyte of text", lambda: (of_ec(HOST) + b"#" * (1 << 20), key_pem(ec_key()))),
    ("certificate-unreadable", "binary rubbish", lambda: (b"\0\xff\xfe" * 100, key_pem(ec_key()))),
    ("certificate-unreadable", "a PEM block of rubbish", lambda: (pem("CERTIFICATE", b"rubbish"), key_pem(ec_key()))),
    ("certificate-unreadable", "rubbish behind the first certificate", lambda: (of_ec(HOST) + pem("CERTIFICATE", b"x"), key_pem(ec_key()))),
    ("certificate-unreadable", "a certificate that was cut off", lambda: (of_ec(HOST)[:300], key_pem(ec_key()))),
    ("certificate-unreadable", "a key in its place", lambda: (key_pem(ec_key()), key_pem(ec_key()))),
    ("certificate-unreadable", "a subject that is no UTF-8", ec_forged(5, name_of(0x0C, b"\xff\xfe"))),
    ("certificate-unreadable", "an issuer's subject that is no UTF-8", broken_issuer),
    ("certificate-unreadable", "extensions of rubbish", ec_forged(7, tlv(0xA3, tlv(0x30, bytes.fromhex("30080603551d110401ff"))))),
    ("certificate-text", "a subject that is a time", ec_forged(5, name_of(0x17, b"250101000000Z"))),
    ("certificate-text", "a subject beyond UCS-2", ec_forged(5, name_of(0x1E, b"\xd8\0\xdc\0"))),
    ("certificate-text", "an issuer that is a time", ec_forged(3, name_of(0x18, b"20250101000000Z"))),
    ("certificate-version", "extensions in version 1", ec_forged(0, b"")),
    ("certificate-usage", "an EC certificate for signing others", ec_with(extensions=usage("key_cert_sign"))),
    ("certificate-must-staple", "must-staple", ec_with(extensions=[(x509.TLSFeature([x509.TLSFeatureType.status_request]), False)])),
    ("certificate-nameless", "no name", ec_with(subject="", sans=())),
    ("certificate-nameless", "an empty common name", ec_forged(5, name_of(0x0C, b""))),
    ("key-unreadable", "binary rubbish", lambda: (of_ec(HOST), b"\0\xff\xfe" * 100)),
    ("key-unreadable", "a certificate in its place", lambda: (of_ec(HOST), of_ec(HOST))),
    (
        "key-unreadable",
        "a public key",
        lambda: (of_ec(HOST), ec_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    ),
    ("key-unreadable", "a PEM block of rubbish", lambda: (of_ec(HOST), pem("PRIVATE KEY", b"rubbish"))),
    (
        "key-encrypted",
        "PKCS 8",
        lambda: (of_ec(HOST), ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))),
    ),
    ("key-encrypted", "SEC 1", lambda: (of_ec(HOST), ec_key().private_bytes(Encoding.PEM, SEC1, BestAvailableEncryption(b"x")))),
    ("key-type", "DSA", of_key(lambda: dsa.generate_private_key(1024))),
    ("key-type", "Ed448", of_key(ed448.Ed448PrivateKey.generate)),
    ("key-short", "1024 bits", of_key(lambda: hasty_rsa_key(1024))),
    ("key-long", "16392 bits", of_key(lambda: hasty_rsa_key(16392))),
    ("key-damaged", "an exponent of 34 bits", of_key(lambda: hasty_rsa_key(2048, (1 << 33) + 1))),
    ("key-curve", "P-224", of_key(lambda: ec.generate_private_key(ec.SECP224R1()))),
    ("key-curve", "secp256k1", of_key(lambda: ec.generate_private_key(ec.SECP256K1()))),
    ("key-form", "a compressed point", ec_forged(6, compressed_key())),
    ("key-form", "RSA-PSS", rsa_pss),
    ("key-mismatch", "another EC key", lambda: (of_ec(HOST), key_pem(ec.generate_private_key(ec.SECP256R1())))),
    ("key-mismatch", "a key of another kind", lambda: (of_ec(HOST), key_pem(rsa_key(2048)))),
    ("key-mismatch", "the issuer's certificate first", lambda: (make_ca().cert_pem + of_ec(HOST), key_pem(ec_key()))),
]


def tls_secret(made: Made, name: str = "web") -> Secret:
    return Secret(meta=Meta(namespace="default", name=name), type="kubernetes.io/tls", data={"tls.crt": made[0], "tls.key": made[1]})


def first_certificate(made: Made) -> x509.Certificate:
    return x509.load_pem_x509_certificates(made[0])[0]


@pytest.mark.parametrize("shape", ACCEPTED)
def test_a_usable_certificate_is_taken_and_freed_of_all_that_stands_around_it(shape: str) -> None:
    made = ACCEPTED[shape](HOST)
    found = parse(tls_secret(made))
    assert isinstance(found, Pair), found
    assert x509.load_pem_x509_certificates(found.chain) == x509.load_pem_x509_certificates(made[0])
    assert found.chain.count(b"-----BEGIN ") == found.chain.count(b"-----BEGIN CERTIFICATE-----\n")
    assert found.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert found.key.count(b"-----BEGIN") == 1
    assert found.names == (HOST,)
    assert found.not_after == int(first_certificate(made).not_valid_after_utc.timestamp())


@pytest.mark.parametrize(("code", "make"), [pytest.param(code, make, id=f"{code}: {what}") for code, what, make in REFUSED])
def test_an_unusable_certificate_is_told_by_its_code_and_a_sentence_without_its_content(code: str, make: Callable[[], Made]) -> None:
    chain, key = make()
    found = parse(tls_secret((chain, key)))
    assert isinstance(found, Unusable)
    assert found.code == code
    assert found.sentence.startswith(("has a", "has no"))
    assert not any(line in found.sentence.encode() for line in (chain + key).split(b"\n") if len(line) > 8)


@pytest.mark.parametrize("field", ["d", "dmp1", "dmq1", "iqmp"])
def test_an_rsa_key_with_one_wrong_number_is_damaged(field: str) -> None:
    made = certificate(HOST, rsa_key(2048).public_key()), key_pem(damaged_rsa_key(field), PKCS1)
    found = parse(tls_secret(made))
    assert isinstance(found, Unusable)
    assert found.code == "key-damaged"


def test_names_are_all_of_the_certificate_in_lower_case_and_sorted() -> None:
    sans = [x509.DNSName("b.test"), x509.DNSName("*.A.test"), ip_name("127.0.0.1")]
    found = parse(tls_secret((certificate("c.test", ec_key().public_key(), sans=sans), key_pem(ec_key()))))
    assert isinstance(found, Pair)
    assert found.names == ("*.a.test", "b.test")


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (("a.test",), "a.test", True),
        (("a.test",), "b.a.test", False),
        (("*.a.test",), "b.a.test", True),
        (("*.a.test",), "a.test", False),
        (("*.a.test",), "c.b.a.test", False),
        (("*.a.test",), "*.a.test", True),
        (("b.a.test",), "*.a.test", False),
        (("*.test",), "localhost", False),
        ((), "a.test", False),
    ],
)
def test_a_wildcard_covers_one_label(names: tuple[str, ...], host: str, expected: bool) -> None:
    assert covers(names, host) is expected


def test_no_repr_and_no_traceback_shows_a_key() -> None:
    made = ACCEPTED["ec-p256"](HOST)
    found, kept = parse(tls_secret(made)), tls_secret(made)
    shown = repr(found) + str(found) + f"{found}{kept}" + repr([found, kept])
    try:
        raise ValueError(found, kept)
    except ValueError:
        shown += traceback.format_exc()
    lines = [line.decode() for line in made[1].split(b"\n") if line]
    assert "a.test" in shown
    assert not any(line in shown for line in lines)


def _taken_by_boringssl(server: grpc.Server, pair: Pair) -> bool:
    """Whether the TLS library takes it: gRPC carries the same one as Envoy."""
    try:
        return bool(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pair.key, pair.chain)])))
    except RuntimeError:
        return False


@settings(max_examples=examples(400), deadline=None)
@given(
    key=st.sampled_from((ec_key(), rsa_key(2048))),
    issuer=st.booleans(),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_what_is_taken_of_damaged_certificates_the_tls_library_takes_too(
    grpc_server: grpc.Server, key: Any, *, issuer: bool, changes: list[tuple[float, int]]
) -> None:
    leaf = certificate(HOST, key.public_key(), extensions=usage("digital_signature"))
    whole = x509.load_pem_x509_certificate(authority().cert_pem if issuer else leaf).public_bytes(Encoding.DER)
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    chain = (leaf if issuer else b"") + pem("CERTIFICATE", bytes(damaged))
    found = parse(tls_secret((chain, key_pem(key))))
    assert isinstance(found, Unusable) or _taken_by_boringssl(grpc_server, found)


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[grpc.Server]:
    server = grpc.server(ThreadPoolExecutor(1))
    yield server
    server.stop(None).wait()


@pytest.mark.envoy
async def test_envoy_serves_every_certificate_that_is_taken(tmp_path: Path) -> None:
    made = {shape: make(f"{shape}.test") for shape, make in ACCEPTED.items()}
    async with Site(tmp_path) as site:
        site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]))
        for shape, (chain, key) in made.items():
            pair = secret(shape, {"tls.crt": chain, "tls.key": key}, kind="kubernetes.io/tls")
            site.folder.write(f"{shape}.yaml", ingress(shape, f"{shape}.test", {"/": ("web", 80)}, tls={shape: [f"{shape}.test"]}), pair)
        await site.start()
        for shape in made:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                tls = Tls(f"{shape}.test", minimum=version, maximum=version)
                async with await Http1.open(site.https, tls=tls) as connection:
                    assert connection.certificate == first_certificate(made[shape]), shape
                    assert (await connection.request(host=f"{shape}.test")).app == "web", shape
        stats = await site.envoy.stats("sds.*(update_rejected|init_fetch_timeout)")
        assert len(stats) >= len(made)
        assert {name: count for name, count in stats.items() if count} == {}
