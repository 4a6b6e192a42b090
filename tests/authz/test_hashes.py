"""Each kind of hash lets in its password and no other; what is no hash, or costs too much, lets in nobody."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import passwords
from xds.authz import hashes
from xds.passwords import HIGHEST_COST, MOST_ROUNDS

PASSWORD = b"open sesame"
HASHES = {
    "apr1": b"$apr1$saltsalt$HIDXe7D36X22w1CH4M1cQ.",
    "md5": b"$1$saltsalt$Yo6tRKYGO/jWyb1etwHDS/",
    "sha256": b"$5$saltsalt$yrhPKxCqiWcCE9h0g86j6Ugz7SDFdFm.BjU.d8RaQnC",
    "sha512": b"$6$saltsalt$e/5XKibXPLqVcfjpD.ouauaJrAOL5V0uo80Lt7n7EbRdRiCx3HbQ90yjOHr.G0T.mx79PEMRy8nmtr0qSYhQp1",
    "bcrypt 2y": b"$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    "bcrypt 2a": b"$2a$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    "bcrypt 2b": b"$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy",
    "des": b"ab/G8gtZdMwak",
    "plain": b"{PLAIN}" + PASSWORD,
    "sha": b"{SHA}" + base64.b64encode(hashlib.sha1(PASSWORD).digest()),
    "ssha": b"{SSHA}" + base64.b64encode(hashlib.sha1(PASSWORD + b"salt").digest() + b"salt"),
}
"""What `openssl passwd`, `htpasswd` and crypt(3) make of the password."""


@pytest.mark.parametrize("kind", HASHES)
def test_a_hash_lets_in_its_password_and_no_other(kind: str) -> None:
    hashed = HASHES[kind]
    assert passwords.fault(hashed) == ""
    assert hashes.verify(PASSWORD, hashed)
    for wrong in (b"", b"Open sesame", PASSWORD + b"\0", b"\0", hashed):
        assert not hashes.verify(wrong, hashed)


def test_this_machine_knows_all_of_them() -> None:
    assert hashes.unavailable() == []


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_nothing_else_lets_anybody_in(password: bytes, hashed: bytes) -> None:
    assert not (hashes.verify(password, hashed) and not hashed.startswith(b"{PLAIN}"))


@pytest.mark.parametrize("kind", HASHES)
@given(st.data())
def test_a_hash_that_was_tampered_with_lets_in_nobody(kind: str, data: st.DataObject) -> None:
    hashed = bytearray(HASHES[kind])
    at = data.draw(st.integers(0, len(hashed) - 1))
    hashed[at] = data.draw(st.integers(33, 126).filter(lambda byte: byte not in (hashed[at], ord(":"))))
    changed = bytes(hashed)
    if passwords.fault(changed) == "" and not (kind.startswith("bcrypt") and at in (2, 28)):  # another letter means the same there
        assert not hashes.verify(PASSWORD, changed)


@pytest.mark.parametrize(
    ("hashed", "words"),
    [
        (b"", "no hash"),
        (b"secret", "unknown kind"),
        (b"{MD5}ZZZ", "unknown kind"),
        (b"$y$j9T$abc$def", "unknown kind"),
        (b"*0", "unknown kind"),
        (b"{SHA}short", "base64"),
        (b"{SSHA}!", "base64"),
        (HASHES["bcrypt 2y"].replace(b"$04$", b"$%02d$" % (HIGHEST_COST + 1)), "cost 15"),
        (HASHES["bcrypt 2y"].replace(b"$04$", b"$03$"), "cost 3"),
        (HASHES["sha512"].replace(b"$6$", b"$6$rounds=%d$" % (MOST_ROUNDS + 1)), "1,000,001 rounds"),
    ],
)
def test_what_lets_in_nobody_is_said(hashed: bytes, words: str) -> None:
    assert words in passwords.fault(hashed)


def test_a_file_is_read_as_nginx_reads_it() -> None:
    text = b"# comment:x\na:1\r\n\nb:2:more\nno colon\n:3\na:4\n\rc:5\nlast:6"
    assert [tuple(user) for user in passwords.users(text)] == [(2, b"a", b"1"), (4, b"b", b"2"), (9, b"last", b"6")]


@given(st.binary(max_size=300))
def test_any_file_is_read_and_comes_through_the_wire_as_it_is(text: bytes) -> None:
    found = list(passwords.users(text))
    assert passwords.decode(passwords.encode(found)) == {user.name: user.hash for user in found}
    assert not any(value in repr(found) for user in found for value in (repr(user.name)[1:],) if len(user.name) > 8)


def test_a_hash_of_the_message_tells_nothing_to_who_has_no_key() -> None:
    found = list(passwords.users(b"a:{PLAIN}x\nb:{PLAIN}y"))
    made = [passwords.encode(found, key) for key in (b"one", b"other", b"one")]
    assert made[0] == made[2] != made[1]
    assert {tuple(passwords.decode(each).items()) for each in made} == {((b"a", b"{PLAIN}x"), (b"b", b"{PLAIN}y"))}
    assert passwords.encode([], b"one") == b""


@given(st.binary(max_size=100))
def test_what_is_no_password_file_is_refused_without_a_word_of_it(body: bytes) -> None:
    said = ""
    try:
        passwords.decode(body)
    except ValueError as error:
        said = str(error)
    assert said in ("", "it is no password file")
