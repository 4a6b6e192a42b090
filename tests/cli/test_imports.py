"""Commands that people type import what they need and no more: imports are most of the time that one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.test_signals import FOLDER
from tests.envoy.harness.process import ROOT, environment

DRIVER = """
import sys
from xds.cli import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), sep="\\n", file=sys.stderr)
sys.exit(code)
"""
SERVERS = {"grpc", "aiohttp", "kubernetes", "prometheus_client", "tenacity", "pydantic"}
MESSAGES = {"envoy_data_plane", "betterproto2", "cryptography", "re2"}


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (["check", FOLDER], SERVERS),
        (["translate", FOLDER], SERVERS),
        (["explain", "http://localhost/", FOLDER], SERVERS),
        (["bootstrap"], SERVERS | {"rich"}),
        (["metrics", "--help"], SERVERS | MESSAGES | {"rich", "yaml", "asyncio"}),
        (["authz", "--help"], SERVERS | MESSAGES | {"rich", "yaml", "asyncio"}),
        (["--help"], SERVERS | MESSAGES | {"rich", "yaml", "asyncio"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_none_of_these(words: list[str], without: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", DRIVER, *words], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    modules = set(done.stderr.splitlines())
    assert "xds.cli" in modules
    assert {module.partition(".")[0] for module in modules} & without == set()
