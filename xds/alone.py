"""A control plane without others: it serves folders of manifests, and what must outlive a restart is in the folder of --state-dir.

Nothing here may import the kubernetes client: `xds up` on a folder would start a quarter of a second later for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xds.certificates import default_certificate
from xds.coordination import ChainAndKey
from xds.kube.current import of_folders
from xds.kube.source import Change
from xds.machine import state_dir
from xds.problem import Problem, Ref
from xds.server.frontier import ConnectedStream
from xds.snapshot import Snapshot

if TYPE_CHECKING:
    from xds.replicas.peers import Peer

_log = logging.getLogger("xds")


class Alone:
    """Is a `xds.coordination.Coordination`.

    `folder` is that of --state-dir; without one, a restart makes a new default certificate and searches anew for what Envoy rejects.
    `manifests` are the folders that objects come from. Without any, they come from another Source, which cannot be asked for versions.
    """

    def __init__(self, folder: Path | None = None, manifests: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._manifests = manifests

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def certificates(self) -> AsyncGenerator[ChainAndKey]:
        """One: from the folder, or made anew. Making one takes too long for the event loop."""
        if self._folder is None:
            yield await asyncio.to_thread(default_certificate.make)
        else:
            yield await asyncio.to_thread(default_certificate.keep, self._folder)

    async def load(self) -> bytes:
        """From the folder."""
        if self._folder is None:
            return b""
        try:
            return state_dir.recall(self._folder)
        except OSError as error:
            _log.error("--state-dir: the record of what Envoy rejected cannot be read from %s: %s", self._folder, error.strerror)
            return b""

    def save(self, record: bytes) -> None:
        """Into the folder."""
        if self._folder is None:
            return
        try:
            state_dir.remember(self._folder, record)
        except OSError as error:
            _log.error("--state-dir: the record of what Envoy rejected cannot be written to %s: %s", self._folder, error.strerror)

    async def records(self) -> AsyncGenerator[bytes]:
        """None: nobody else finds anything out."""
        return
        yield b""  # a generator, though it yields nothing

    def start(self) -> None:
        """A folder has no status to be written."""

    def leads(self) -> bool:
        """Always."""
        return True

    def published(self, change: Change) -> None:
        """There is nobody to count Envoys for."""

    def problems(self, problems: Sequence[Problem]) -> None:
        """They are in the log, in the metrics, and at the debug server; a folder has no Events."""

    async def share_progress(self, snapshot: Snapshot, streams: Callable[[], Iterable[ConnectedStream]]) -> None:
        """With nobody."""

    async def others(self) -> Sequence[Peer]:
        """None."""
        return ()

    async def current(self, about: Ref) -> str | None:
        """As its file is at this moment."""
        return await of_folders(self._manifests, about) if self._manifests else ""

    async def close(self) -> None:
        """There is nothing to disconnect from."""
