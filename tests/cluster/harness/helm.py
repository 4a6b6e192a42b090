"""helm, as it is typed."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.cluster.harness import programs
from tests.envoy.harness import run


class Helm:
    """Runs it with a kubeconfig; what it keeps is in `folder`."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._options = ["--kubeconfig", str(kubeconfig), "--registry-config", str(folder / "registry.json")]

    async def __call__(self, command: str) -> str:
        """Run a command and return its output. Raises AssertionError with what it complained about."""
        code, out, err = await run([programs.path("helm"), *shlex.split(command), *self._options])
        assert code == 0, f"helm {command}: {err or out}"
        return out
