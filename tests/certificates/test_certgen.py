"""The certificates of xDS: what is made, when it is renewed, and that nobody meets one that it cannot verify."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.certificates.certgen import AUTHORITY_LIFE, AUTHORITY_RENEW, LEAF_LIFE, LEAF_RENEW, SETTLE, Data, Due, StoredSecrets, due

START = datetime.datetime(2026, 11, 1, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
SECOND = datetime.timedelta(seconds=1)
SERVER, CLIENT = ["xds", "xds.ingress-xds.svc"], ["xds-envoy"]


def wanted(held: StoredSecrets, now: datetime.datetime, server: list[str] = SERVER) -> dict[str, Due]:
    return due(held, server, CLIENT, now)


def written(held: StoredSecrets, found: dict[str, Due]) -> StoredSecrets:
    return replace(held, **{name: each.data for name, each in found.items()})


def run(held: StoredSecrets, now: datetime.datetime) -> StoredSecrets:
    return written(held, wanted(held, now))


@pytest.fixture(scope="module")
def new() -> StoredSecrets:
    return run(StoredSecrets(), START)


def certificate(data: Data) -> x509.Certificate:
    return x509.load_pem_x509_certificates(data["tls.crt"])[0]


def authorities(data: Data) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(data["ca.crt"])


def accepts(trusting: Data, shown: Data, name: str, now: datetime.datetime) -> bool:
    """Whether one side takes the certificate of the other, as a TLS library verifies it."""
    store = PolicyBuilder().store(Store(authorities(trusting))).time(now)
    try:
        if name in CLIENT:
            found = store.build_client_verifier().verify(certificate(shown), [])
            return found.subjects is not None and x509.DNSName(name) in list(found.subjects)
        store.build_server_verifier(x509.DNSName(name)).verify(certificate(shown), [])
    except x509.verification.VerificationError:
        return False
    return True


def test_at_first_all_three_are_made_the_authority_before_what_it_signs() -> None:
    assert {name: each.why for name, each in wanted(StoredSecrets(), START).items()} == {
        "authority": "is new",
        "server": "is new, or held nothing that can be used",
        "client": "is new, or held nothing that can be used",
    }


@pytest.mark.parametrize(("trusting", "shown", "name"), [("client", "server", SERVER[1]), ("server", "client", CLIENT[0])])
def test_each_side_takes_the_certificate_of_the_other(new: StoredSecrets, trusting: str, shown: str, name: str) -> None:
    assert accepts(getattr(new, trusting), getattr(new, shown), name, START)


def test_an_envoy_cannot_pass_for_a_server(new: StoredSecrets) -> None:
    assert list(certificate(new.client).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not accepts(new.server, {**new.client}, SERVER[0], START)


@pytest.mark.parametrize("part", ["authority", "server", "client"])
def test_each_key_belongs_to_its_certificate_and_to_no_other(new: StoredSecrets, part: str) -> None:
    data = getattr(new, part)
    key = load_pem_private_key(data["tls.key"], None)
    assert key.public_key() == certificate(data).public_key()
    others = [getattr(new, other) for other in ("authority", "server", "client") if other != part]
    assert all(other["tls.key"] != data["tls.key"] for other in others)


def test_nothing_is_due_while_all_is_well(new: StoredSecrets) -> None:
    assert wanted(new, START) == {}
    assert wanted(new, START + LEAF_LIFE - LEAF_RENEW - SECOND) == {}


def test_certificates_that_end_soon_are_renewed_by_the_same_authority(new: StoredSecrets) -> None:
    now = START + LEAF_LIFE - LEAF_RENEW + SECOND
    found = wanted(new, now)
    assert {name: each.why for name, each in found.items()} == dict.fromkeys(
        ("server", "client"), "is renewed: it would have ended on 2027-11-01"
    )
    assert found["server"].data["ca.crt"] == new.server["ca.crt"]
    assert accepts(new.client, found["server"].data, SERVER[0], now)
    assert accepts(new.server, found["client"].data, CLIENT[0], now)


def test_a_new_authority_is_trusted_first_and_signs_nothing_yet(new: StoredSecrets) -> None:
    now = START + AUTHORITY_LIFE - AUTHORITY_RENEW + SECOND
    fresh = run(new, now - DAY)
    found = wanted(fresh, now)
    assert [found[part].why for part in ("authority", "server", "client")] == [
        "has a new authority: the old one ends on 2036-10-29",
        *["trusts other authorities"] * 2,
    ]
    for part in ("server", "client"):
        assert found[part].data["tls.crt"] == getattr(fresh, part)["tls.crt"]
        assert authorities(found[part].data) == [certificate(found["authority"].data), certificate(fresh.authority)]


def test_a_new_authority_signs_when_everybody_trusts_it(new: StoredSecrets) -> None:
    now = START + AUTHORITY_LIFE - AUTHORITY_RENEW + SECOND
    both = run(run(new, now - DAY), now)
    assert wanted(both, now + SETTLE - SECOND) == {}
    found = wanted(both, now + SETTLE)
    assert {name: each.why for name, each in found.items()} == dict.fromkeys(("server", "client"), "is renewed by the new authority")
    assert certificate(found["server"].data).issuer == certificate(both.authority).subject


def test_a_new_authority_waits_for_a_secret_that_does_not_trust_it_yet(new: StoredSecrets) -> None:
    """The run before was cut off after it had written the first of three Secrets."""
    now = START + AUTHORITY_LIFE - AUTHORITY_RENEW + SECOND
    fresh = run(new, now - DAY)
    cut = replace(fresh, authority=wanted(fresh, now)["authority"].data)
    found = wanted(cut, now + DAY)
    assert {name: each.why for name, each in found.items()} == dict.fromkeys(("server", "client"), "trusts other authorities")


def test_no_certificate_outlasts_the_authority_that_signs_it() -> None:
    """An authority signs until shortly before it is renewed, and from then on its successor does."""
    held = run(StoredSecrets(), START)
    last = START + AUTHORITY_LIFE - AUTHORITY_RENEW
    renewed = run(held, last)
    assert certificate(renewed.authority) == certificate(held.authority)
    assert certificate(renewed.server).not_valid_after_utc == last + LEAF_LIFE < certificate(held.authority).not_valid_after_utc


def test_an_authority_that_has_ended_is_not_trusted_any_more(new: StoredSecrets) -> None:
    now = START + AUTHORITY_LIFE - AUTHORITY_RENEW + SECOND
    later = START + AUTHORITY_LIFE + SECOND
    both = run(run(run(new, now - DAY), now), now + SETTLE)
    found = run(both, later)
    assert [len(authorities(getattr(found, part))) for part in ("authority", "server", "client")] == [1, 1, 1]


def test_other_names_are_another_certificate_at_once(new: StoredSecrets) -> None:
    found = wanted(new, START, ["elsewhere"])
    assert {name: each.why for name, each in found.items()} == {"server": "is renewed: it is for elsewhere now"}
    assert accepts(new.client, found["server"].data, "elsewhere", START)


def test_a_name_that_is_too_long_for_a_subject_is_a_name_of_the_certificate(new: StoredSecrets) -> None:
    """A common name has 64 characters at most, a DNS name 253."""
    long = f"{'a' * 63}.ingress-xds.svc"
    found = wanted(new, START, [long])
    assert accepts(new.client, found["server"].data, long, START)


def rsa_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("key", "value"),
    [("tls.crt", b"rubbish"), ("tls.key", b"rubbish"), ("tls.key", b""), ("tls.crt", b""), ("tls.key", rsa_key())],
    ids=["no certificate", "no key", "an empty key", "an empty certificate", "a key of another kind"],
)
def test_a_certificate_that_cannot_be_used_is_made_anew_and_nothing_else(new: StoredSecrets, key: str, value: bytes) -> None:
    found = wanted(replace(new, client={**new.client, key: value}), START)
    assert {name: each.why for name, each in found.items()} == {"client": "is new, or held nothing that can be used"}


def test_a_key_of_somebody_else_is_no_key(new: StoredSecrets) -> None:
    assert set(wanted(replace(new, client={**new.client, "tls.key": new.server["tls.key"]}), START)) == {"client"}


def test_without_the_authority_there_is_a_new_one_and_all_that_it_signs() -> None:
    held = replace(run(StoredSecrets(), START), authority={})
    assert {name: each.why for name, each in wanted(held, START).items()} == {
        "authority": "is new",
        "server": "is renewed: its authority is not trusted any more",
        "client": "is renewed: its authority is not trusted any more",
    }


def test_what_is_no_authority_does_not_sign(new: StoredSecrets) -> None:
    found = wanted(replace(new, authority=new.server), START)
    assert found["authority"].why == "has a new authority: there was none that can be used"
    trusted = authorities(found["authority"].data)
    assert trusted == [certificate(found["authority"].data), certificate(new.authority)]
    assert all(each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for each in trusted)


def test_keys_never_show(new: StoredSecrets) -> None:
    found = wanted(StoredSecrets(), START)
    assert "PRIVATE" not in repr(new) + repr(found) + repr(found["server"])


@example([120] * 40)
@example([1] * 3 + [119] * 30 + [1] * 3)
@given(st.lists(st.integers(min_value=1, max_value=120), min_size=1, max_size=40))
@settings(max_examples=examples(20), deadline=None)
def test_whenever_it_runs_in_time_old_and_new_files_always_fit(days: list[int]) -> None:
    """A side may have the files of the run before, or those of this one, as its kubelet was slow or fast: any two take each other.

    So it is if a run comes within LEAF_RENEW of the one before. The examples go past the end of an authority.
    """
    now, held = START, run(StoredSecrets(), START)
    for gap in days:
        now += gap * DAY
        fresh = run(held, now)
        for ours, theirs in itertools.product((held, fresh), repeat=2):
            assert accepts(ours.client, theirs.server, SERVER[0], now)
            assert accepts(ours.server, theirs.client, CLIENT[0], now)
        held = fresh
