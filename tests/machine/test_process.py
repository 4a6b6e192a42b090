"""What the process asks of the C library, and of the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import platform
import subprocess
import sys
import threading
import time

import pytest

from tests.envoy.harness.process import ROOT, environment
from xds.machine import process
from xds.machine.process import in_thread

CHANGES = """
from pathlib import Path
from xds.machine.process import return_large_blocks
{call}
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
large = bytearray(1 << 20)
del large  # glibc raises its threshold
before, kept, large = resident(), [], []
for _ in range(50):
    large.append(bytearray(b"x" * 500_000))
    kept.append(bytearray(b"x" * 50_000))
large.clear()
print(resident() - before)
"""


def grown(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CHANGES.format(call=call)], capture_output=True, text=True, cwd=ROOT, env=environment(), check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_large_blocks_that_are_freed_leave_no_gaps_behind() -> None:
    assert grown("return_large_blocks()") < 6 << 20
    assert grown("") > 15 << 20, "so it would be without"


async def test_what_long_work_replaces_is_looked_at_meanwhile() -> None:
    looks: list[int] = []

    def replacing() -> bool:
        """As many objects are freed as are made, so the collector's own count stays small."""
        kept: list[object] = [[] for _ in range(20_000)]
        gc.collect()
        looks.clear()
        deadline = time.monotonic() + 30
        while not looks and time.monotonic() < deadline:
            for at in range(len(kept)):
                kept[at] = []
        return bool(looks)

    def note(phase: str, found: dict[str, int]) -> None:
        if phase == "start" and found["generation"]:
            looks.append(found["generation"])

    gc.callbacks.append(note)
    try:
        assert await in_thread(replacing)
    finally:
        gc.callbacks.remove(note)


async def test_a_first_build_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    loop_went_on = threading.Event()
    monkeypatch.setattr(process, "_PORTION", 0)

    async def iterating() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        loop_went_on.set()

    def note(phase: str, _: object) -> None:
        looks.append(phase)

    gc.disable()
    gc.callbacks.append(note)
    try:
        _, went_on = await asyncio.gather(iterating(), in_thread(loop_went_on.wait, 30))
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert went_on
    assert not looks


async def test_what_work_in_a_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
