"""What the dashboard reads: all that the debug service reads, and the paths of hosts. `xds.debug.live.Live` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xds.debug.subject import Subject
from xds.explain.owners import OwnedPath
from xds.json_forms import Json
from xds.problem import Ref


class Displayed(Subject, Protocol):
    """The state of a running control plane. All methods are called in its event loop."""

    @property
    def steps(self) -> int:
        """Objects, Problems and routes are the same while this number is."""

    async def hosts(self) -> Sequence[str]:
        """Every host that an Ingress claims or gives as a further name, sorted; "" is the catch-all."""

    async def owned_paths(self, hosts: Sequence[str], seconds: float) -> tuple[Sequence[OwnedPath], int]:
        """The paths of the first of these hosts, and whose they are; and of how many hosts: as many as the seconds are enough for."""

    async def ingress(self, about: Ref) -> Json | None:
        """What there is to show of an Ingress (`xds.explain.ingress`); None where there is none of this name."""

    def is_heavy(self, about: Ref) -> bool:
        """Whether it takes long to find out on which Envoys this Ingress is in effect."""
