"""How the collected manifests are run through `xds check` and `xds translate`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
WILD = ROOT.parent / "shared" / "wild"


def why_not() -> str:
    """Why nothing can be run here; "" where it can."""
    if not (WILD / "run.py").is_file():
        return "there are no collected manifests beside this checkout (../shared/wild)"
    return "" if shutil.which("openssl") else "there is no openssl, which makes the certificates that the manifests name"


def cases() -> list[Path]:
    """All files, sorted."""
    return sorted((WILD / "cases").glob("*.yaml"))


def run(arguments: Iterable[str], *, quiet: bool = True) -> tuple[int, str]:
    """Run the runner with these arguments; returns its exit code (1: something crashed) and, if `quiet`, what was printed."""
    xds = shlex.join([sys.executable, "-m", "xds"])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(WILD / "run.py"), "--xds", xds, *arguments]
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout or ""
