"""Whether a user and a password are right: the password files, what is remembered of them, and what has to wait.

A verdict is remembered by a keyed hash of user and password, with a key of this process, in the file that it is about: so a changed file
remembers nothing. What belongs here: files and verdicts. What does not: Envoy's question (`xds.authz.check`), and where files come from
(`xds.authz.subscription`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from functools import partial

from xds.authz.hashes import is_cheap, verify
from xds.authz.turns import Overloaded, Turns

REMEMBERED = 10_000
"""Verdicts of each kind, right and wrong, that a file remembers; the latest used stay."""
PATIENCE = 2.0
"""Seconds that a request waits for a password file which is not there yet: a route may reach Envoy first."""
GRACE = 5.0
"""Seconds for which a file is kept that is gone: an Envoy may not have the route yet that does without it."""
MOST_PATIENT = 1_000
"""Requests that may wait for files."""


class Admission(Enum):
    """What is to become of a request."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """There is no such file, or too many others are being verified."""


class _PasswordFile:
    """A password file, and the verdicts that are remembered of it: digest → verdict, the right ones apart from the wrong ones.

    Guesses, of which there is no end, push out other guesses only.
    """

    __slots__ = ("pending", "users", "verdicts")

    def __init__(self, users: Mapping[bytes, bytes]) -> None:
        self.users = users
        self.verdicts: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self.pending: dict[bytes, asyncio.Task[bool]] = {}

    def recall(self, digest: bytes) -> bool | None:
        """The verdict that is remembered; None for none."""
        for verdict, known in self.verdicts.items():
            if digest in known:
                known.move_to_end(digest)
                return verdict
        return None

    def remember(self, digest: bytes, *, verdict: bool) -> None:
        """Remember a verdict. The one that was not asked for longest is forgotten, where there are too many."""
        known = self.verdicts[verdict]
        known[digest] = None
        if len(known) > REMEMBERED:
            known.popitem(last=False)


class Verifier:
    """All password files. `at_once`: expensive verifications at a time. Belongs to one event loop."""

    def __init__(self, at_once: int) -> None:
        self._files: dict[str, _PasswordFile] = {}
        self._dropping: dict[str, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._patient = 0
        self._turns = Turns(at_once)
        self._key = os.urandom(32)

    def put(self, name: str, users: Mapping[bytes, bytes]) -> None:
        """A file is there, or is another one: user → hash."""
        if (timer := self._dropping.pop(name, None)) is not None:
            timer.cancel()
        self._files[name] = _PasswordFile(users)
        self._changed.set()
        self._changed = asyncio.Event()

    def drop(self, name: str) -> None:
        """A file is gone; soon."""
        if name in self._files and name not in self._dropping:
            self._dropping[name] = asyncio.get_running_loop().call_later(GRACE, self._forget, name)

    def close(self) -> None:
        """Verify nothing more."""
        for timer in self._dropping.values():
            timer.cancel()
        self._turns.close()

    async def judge(self, name: str, credentials: tuple[bytes, bytes] | None, client: str) -> Admission:
        """What is to become of a request with these credentials (user, password) from this address."""
        file = self._files.get(name) or await self._appears(name)
        if file is None:
            return Admission.UNKNOWN
        if credentials is None:
            return Admission.REFUSED
        user, password = credentials
        hashed = file.users.get(user)
        if hashed is None:
            return Admission.REFUSED
        try:
            verdict = verify(password, hashed) if is_cheap(hashed) else await self._verify(file, name, client, user, password, hashed)
        except Overloaded:
            return Admission.UNKNOWN
        return Admission.ADMITTED if verdict else Admission.REFUSED

    async def _verify(self, file: _PasswordFile, name: str, client: str, user: bytes, password: bytes, hashed: bytes) -> bool:
        """Recall a verdict, or find it: once for all who ask the same meanwhile."""
        digest = hashlib.blake2b(len(user).to_bytes(4, "big") + user + password, key=self._key, digest_size=32).digest()
        known = file.recall(digest)
        if known is not None:
            return known
        task = file.pending.get(digest)
        if task is None:
            work = partial(verify, password, hashed)
            task = file.pending[digest] = asyncio.ensure_future(self._find(file, digest, (client, name, user), work))
            task.add_done_callback(partial(_done, file, digest))
        return await asyncio.shield(task)

    async def _find(self, file: _PasswordFile, digest: bytes, key: tuple[str, str, bytes], work: partial[bool]) -> bool:
        verdict = await self._turns.run(key, work)
        file.remember(digest, verdict=verdict)
        return verdict

    async def _appears(self, name: str) -> _PasswordFile | None:
        """The file of this name, as soon as it is there; None if it does not come."""
        if self._patient >= MOST_PATIENT:
            return None
        self._patient += 1
        try:
            async with asyncio.timeout(PATIENCE):
                while name not in self._files:
                    await self._changed.wait()
        except TimeoutError:
            return None
        finally:
            self._patient -= 1
        return self._files.get(name)

    def _forget(self, name: str) -> None:
        del self._dropping[name], self._files[name]


def _done(file: _PasswordFile, digest: bytes, task: asyncio.Task[bool]) -> None:
    """The verdict is found, or nobody may wait for it any more: an exception is for those who still do."""
    file.pending.pop(digest, None)
    if not task.cancelled():
        task.exception()
