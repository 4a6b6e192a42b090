"""All measurements, one after the other: `python -m bench`. Takes three minutes on a quiet machine; what it prints is Markdown."""

from __future__ import annotations

from collections.abc import Callable

from bench import change, cold_start, dashboard, event_loop, fleet, machine, memory, rejection, through_envoy
from bench.table import Table

ALL: tuple[Callable[[], Table], ...] = (
    cold_start.measure,
    change.measure,
    event_loop.measure,
    memory.measure,
    dashboard.measure,
    through_envoy.measure,
    fleet.measure,
    rejection.measure,
)


def main() -> None:
    """Print each table as soon as it is there."""
    print(machine.description(), flush=True)
    for measure in ALL:
        print(f"\n{measure()}", flush=True)


if __name__ == "__main__":
    main()
