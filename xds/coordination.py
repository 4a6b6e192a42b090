"""What one control plane shares beyond its own process: state that outlives a restart, other replicas, and what is written back to users.

One Protocol with two implementations. `xds.alone.Alone` serves folders: there is nobody else, and a state folder keeps what must be kept.
`xds.clustered.Clustered` is one of several replicas beside an API server. `xds.app` chooses once; nobody else asks which of the two it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from xds.kube.source import Change
from xds.problem import Problem, Ref
from xds.server.frontier import ConnectedStream
from xds.snapshot import Snapshot

if TYPE_CHECKING:  # it imports the kubernetes client, which takes a quarter of a second
    from xds.replicas.peers import Peer

ChainAndKey = tuple[bytes, bytes]
"""PEM chain and PEM key."""


class Coordination(Protocol):
    """From `open` to `close`, in one event loop. Methods that are not awaited return at once."""

    async def open(self) -> None:
        """Connect, before anything else is asked for. Raises `xds.config.Failure` where that can never work."""

    def certificates(self) -> AsyncGenerator[ChainAndKey]:
        """The generated default certificate, within seconds also if the API server is away; then each one that replaces it.

        Raises `xds.config.Failure` if the state folder, which is to keep it, cannot be used.
        """

    async def load(self) -> bytes:
        """The record of what Envoy rejects (`xds.units.record`) that was saved last; nothing if there is none, or it cannot be read."""

    def save(self, record: bytes) -> None:
        """Replace that record. What cannot be saved is reported, never raised: what is held stays held in this process."""

    def records(self) -> AsyncGenerator[bytes]:
        """The records that other replicas save, until closed. Ends where there are no others."""

    def start(self) -> None:
        """The first Snapshot is published: from now on write statuses and Events, if and while that is this replica's turn."""

    def leads(self) -> bool:
        """Whether this replica writes to the API server now; where there are no others, always."""

    def published(self, change: Change) -> None:
        """A Change is in the Snapshot. Call it no earlier: from then on Envoys that have this Snapshot count as having these versions."""

    def problems(self, problems: Sequence[Problem]) -> None:
        """All Problems of objects that there are now."""

    async def share_progress(self, snapshot: Snapshot, streams: Callable[[], Iterable[ConnectedStream]]) -> None:
        """Share with other replicas how far the Envoys of these streams are, until cancelled. Returns at once if there are none."""

    async def others(self) -> Sequence[Peer]:
        """The other replicas that are alive, and how far their Envoys are."""

    async def current(self, about: Ref) -> str | None:
        """The version of an object at its origin, not as it was read. None if it does not exist, "" if that is not known."""

    async def close(self) -> None:
        """Release the Lease, for another replica to take over, and disconnect."""
