"""What the process asks of the C library."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.envoy.harness.process import ROOT, environment

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
