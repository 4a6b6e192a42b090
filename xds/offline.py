"""From folders and files of manifests to a Snapshot at one go, without servers: what `translate`, `check` and `explain` look at.

What does not belong here: waiting for changes (`xds.app`), and printing (`xds.cli`).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

from xds.config import Failure, Flags, UsageError
from xds.kube.kustomize import Kustomized
from xds.kube.manifests import ManifestsError
from xds.kube.reading import read
from xds.kube.walk import MAX_BYTES
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.problem import Problem
from xds.snapshot import Snapshot
from xds.units.tables import Tables

MADE_AT_START = b"(made when the server starts)\n"
"""Stands for the default certificate and its key: making one takes long, and would make each output another one."""


@dataclass(frozen=True)
class Loaded:
    """All that one reading of the folders came to.

    `problems` has those of the files, then those of the objects, each once. `faults` are errors of ours, a sentence each. `kustomized`
    is what of the folders belongs to kustomize.
    """

    world: World
    tables: Tables
    snapshot: Snapshot
    problems: tuple[Problem, ...]
    faults: tuple[str, ...]
    kustomized: Kustomized


def load(settings: Flags, *, certificate: tuple[bytes, bytes] = (MADE_AT_START, MADE_AT_START), now: int | None = None) -> Loaded:
    """Read `settings.manifests` (folders, files, or "-" for standard input) and build everything.

    `certificate` is the default certificate, PEM chain and key; `now` is in seconds since 1970, that of the clock without it. Raises
    Failure where a folder cannot be read, and UsageError where there is none.
    """
    if not settings.manifests:
        raise UsageError("name a folder or a file of manifests, such as ./manifests, or - for standard input.")
    try:
        reading = read(settings.manifests, _standard_input)
    except ManifestsError as error:
        raise Failure(str(error)) from None
    change = reading.change
    world = World(_without_sockets(settings), {DEFAULT_CERTIFICATE: certificate, NOW: int(time.time()) if now is None else now})
    tables = Tables(world)
    snapshot = Snapshot()
    tables.apply(world.apply(change.put, change.drop)).publish(snapshot)
    snapshot.ready = True
    of_files = dict.fromkeys(p for name in sorted(change.problems) for p in change.problems[name])
    return Loaded(world, tables, snapshot, tuple(dict.fromkeys((*of_files, *tables.problems()))), faults(tables), reading.kustomized)


def _standard_input() -> bytes:
    if sys.stdin is None:  # as Python has it where whoever started us had closed it
        raise Failure("standard input is closed.")
    return sys.stdin.buffer.read(MAX_BYTES)


def _without_sockets(settings: Flags) -> Flags:
    """What is read here is served by nobody yet: the addresses among these settings are a server's to be asked, or nobody's.

    So an endpoint on one of them is not taken for a socket of our own.
    """
    return replace(settings, xds_address="", debug_address="", admin_address="", probe_address="")


def faults(tables: Tables) -> tuple[str, ...]:
    """What we failed to cope with, each as a sentence; the rest is served without it."""
    return tuple(
        f"internal error in {unit.function.__name__}{unit.arguments!r}: {fault.traceback.strip().splitlines()[-1]}; please report it."
        for unit, fault in sorted(tables.build.faults.items(), key=lambda item: (item[0].function.__name__, repr(item[0].arguments)))
    )
