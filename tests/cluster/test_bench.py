"""The measurements with a real API server run, with a World of a few applications; no time is asserted."""

from __future__ import annotations

import sys

import pytest

from tests.envoy.harness import run

pytestmark = pytest.mark.envoy

PODS = False
N = 12
RUN = "import bench.cluster; print(bench.cluster.measure([{n}], count=2, starts=1, status={n}))"


async def test_every_mark_has_a_result() -> None:
    """In a process of its own, for a network of its own."""
    code, out, err = await run([sys.executable, "-c", RUN.format(n=N)], deadline=300)
    assert code == 0, err
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 11
    for what, n, result, *_ in rows:
        value, _, unit = result.partition(" ")
        assert n == str(N)
        assert unit in ("ms", "s", "MB", "%"), what
        assert float(value) >= 0, what
