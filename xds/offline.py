"""One pass from objects to a Snapshot, without servers: for `translate`, `check`, `explain` and `rehearse`.

Objects come from folders and files of manifests, or once from an API server.

What does not belong here: following changes (`xds.app`), and printing (`xds.cli`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass, replace

from xds.config import Failure, Flags, UsageError
from xds.kube.kustomize import Kustomized
from xds.kube.manifests import ManifestsError
from xds.kube.reading import read
from xds.kube.source import Change
from xds.kube.walk import MAX_BYTES
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.problem import Problem
from xds.snapshot import Snapshot
from xds.units.tables import Tables

MADE_AT_START = b"(made when the server starts)\n"
"""A placeholder for the default certificate and its key: generating them takes long, and would change the output of each run."""

LISTING = 60
"""Seconds in which an API server must have listed everything."""


@dataclass(frozen=True)
class Loaded:
    """The result of one pass.

    `problems` has those of the files, then those of the objects, each once. `faults` are internal errors, a sentence each. `kustomized`
    has the files that belong to kustomize.
    """

    world: World
    tables: Tables
    snapshot: Snapshot
    problems: tuple[Problem, ...]
    faults: tuple[str, ...]
    kustomized: Kustomized


def load(settings: Flags, *, certificate: tuple[bytes, bytes] = (MADE_AT_START, MADE_AT_START), now: int | None = None) -> Loaded:
    """Read `settings.manifests` (folders, files, or "-" for standard input) and build everything.

    `certificate` is the default certificate: PEM chain and key. `now` is in seconds since 1970; without it the clock is read. Raises
    Failure for a folder that cannot be read, and UsageError if none is named.
    """
    if not settings.manifests:
        raise UsageError("name a folder or a file of manifests, such as ./manifests, - for standard input, or live for a running server.")
    try:
        reading = read(settings.manifests, _standard_input)
    except ManifestsError as error:
        raise Failure(str(error)) from None
    return _built(settings, reading.change, reading.kustomized, certificate, int(time.time()) if now is None else now)


async def load_from_api(settings: Flags) -> Loaded:
    """The same of the objects that an API server has now. Raises Failure where it does not answer, or has no usable configuration."""
    from xds.kube.apiserver.apiserver import ApiServer  # the kubernetes client takes a quarter of a second to import

    source = ApiServer(settings)
    try:
        async with asyncio.timeout(LISTING), aclosing(source.changes()) as changes:
            first = await anext(changes, Change())
    except TimeoutError:
        waiting = source.waiting()
        raise Failure(f"the API server has not answered within {LISTING} s{f': {waiting[0]}' if waiting else ''}.") from None
    return _built(settings, first, Kustomized(), (MADE_AT_START, MADE_AT_START), int(time.time()))


def _built(settings: Flags, change: Change, kustomized: Kustomized, certificate: tuple[bytes, bytes], now: int) -> Loaded:
    world = World(_without_sockets(settings), {DEFAULT_CERTIFICATE: certificate, NOW: now})
    tables = Tables(world)
    snapshot = Snapshot()
    tables.apply(world.apply(change.put, change.drop)).publish(snapshot)
    snapshot.ready = True
    of_files = dict.fromkeys(p for name in sorted(change.problems) for p in change.problems[name])
    return Loaded(world, tables, snapshot, tuple(dict.fromkeys((*of_files, *tables.problems()))), faults(tables), kustomized)


def _standard_input() -> bytes:
    if sys.stdin is None:  # so it is if the parent process has closed it
        raise Failure("standard input is closed.")
    return sys.stdin.buffer.read(MAX_BYTES)


def _without_sockets(settings: Flags) -> Flags:
    """Without the addresses on which a server would listen: no endpoint is to be rejected as a socket of our own.

    Here nothing is served, so these are addresses of another server, or of none.
    """
    return replace(
        settings, xds_address="", debug_address="", dashboard_address="", admin_address="", probe_address="", validating_webhook=""
    )


def faults(tables: Tables) -> tuple[str, ...]:
    """Internal errors, a sentence each. Everything else is built without what failed."""
    return tuple(
        f"internal error in {unit.function.__name__}{unit.arguments!r}: {fault.traceback.strip().splitlines()[-1]}; please report it."
        for unit, fault in sorted(tables.build.faults.items(), key=lambda item: (item[0].function.__name__, repr(item[0].arguments)))
    )
