"""Password files from Secrets, in both forms of `auth-secret-type`."""

from __future__ import annotations

from collections.abc import Iterator

from xds import passwords
from xds.kube.objects import Secret, ref
from xds.kube.world import Reader, default_certificate, report_about, secret
from xds.model import PasswordForm, Passwords
from xds.passwords import LARGEST, MOST_USERS, User
from xds.problem import Severity

KEY = "auth"
"""The key with the file, where the Secret has one."""
_MOST_SHOWN = 20


def password_file(read: Reader, wanted: Passwords) -> bytes | None:
    """The users in a Secret as the message for the authorisation service; None where there are none to be had. A Unit.

    The version of a resource is a hash of its bytes, and is shown and logged. So the fleet's own key blinds the message.

    Whoever cannot log in with what stands there is reported, and is not among them. No user or hash is quoted.
    """
    found = secret(read, wanted.namespace, wanted.name)
    if found is None:
        return None
    text = _text(found, wanted.form)
    if text is None:
        return None
    if len(text) > LARGEST:
        _report(read, found, f"has more than {LARGEST:,} bytes of passwords; nobody can log in with it.")
        return b""
    _, key = default_certificate(read)
    return passwords.encode(_usable(read, found, wanted.form, text), key)


def _text(found: Secret, form: PasswordForm) -> bytes | None:
    """The lines that ingress-nginx writes to a file for nginx: what a value holds after a line break is one more line, there too."""
    if form is PasswordForm.FILE:
        return found.data.get(KEY)
    return b"".join(name.encode() + b":" + value + b"\n" for name, value in sorted(found.data.items()))


def _usable(read: Reader, found: Secret, form: PasswordForm, text: bytes) -> Iterator[User]:
    faults = 0
    for number, user in enumerate(passwords.users(text)):
        if number >= MOST_USERS:
            _report(read, found, f"has more than {MOST_USERS:,} users; the others cannot log in.")
            return
        if not (why := passwords.fault(user.hash)):
            yield user
            continue
        faults += 1
        if faults <= _MOST_SHOWN:
            field = f"data[{KEY}]" if form is PasswordForm.FILE else "data"
            _report(read, found, f"Line {user.line} {why}; this user cannot log in.", field, f"password:{user.line}")
    if faults > _MOST_SHOWN:
        _report(read, found, f"{faults - _MOST_SHOWN:,} more users cannot log in.")


def _report(read: Reader, found: Secret, sentence: str, field: str = "data", code: str = "passwords") -> None:
    if sentence.startswith("has "):
        sentence = f"{ref(found)} {sentence}"
    report_about(read, found, field, code, sentence, Severity.WARNING)
