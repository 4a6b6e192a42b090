"""The line that the kernel has of a process, /proc/PID/stat (man 5 proc)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """What it has used: CPU in seconds, memory in bytes; and when it began, in seconds since 1970."""

    cpu: float
    resident: int
    virtual: int
    began: float


def read(line: str, *, ticks: int, page: int, booted: float) -> Process:
    """A process from its line. `ticks` are those of a second, `page` is the size of a page of memory, `booted` when the machine began.

    Raises ValueError where the line is none.
    """
    fields = line.rpartition(")")[2].split()  # the name before it may have spaces and brackets
    if len(fields) < 22:
        raise ValueError(f"no line of /proc/PID/stat: {line[:80]!r}")
    user, system, started, virtual, resident = (int(fields[n]) for n in (11, 12, 19, 20, 21))
    return Process((user + system) / ticks, resident * page, virtual, booted + started / ticks)
