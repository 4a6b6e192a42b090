"""The password files for the authorisation service beside each Envoy: wanted by the hosts whose routes name them."""

from __future__ import annotations

from collections.abc import Collection

from xds.model import Passwords
from xds.render import names
from xds.snapshot import PASSWORDS, Part
from xds.translate.passwords import password_file
from xds.units.memo import Build
from xds.units.parts import Value
from xds.units.tables.holds import Holds
from xds.units.tables.table import Table, Touched, publish
from xds.units.tables.update import Update


class PasswordFiles:
    """The files that are wanted, and whose Secrets are there."""

    def __init__(self, build: Build, holds: Holds) -> None:
        self._files: Table[Passwords, bytes] = Table(build, password_file, PASSWORDS, lambda p: Part(PASSWORDS, names.passwords(p)), holds)

    def want(self, more: Collection[Passwords], fewer: Collection[Passwords]) -> None:
        """These files are named once more, those once less."""
        self._files.want(more, fewer)

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self._files.look_again(parts)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring them up to date."""
        publish(self._files, touched, update)

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        return {**self._files.among(parts)}
