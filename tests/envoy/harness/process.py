"""Child processes whose output is kept, and which are ended by their own id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.envoy.harness.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
"""Where children run: `python -m xds` is found there, installed or not."""

LONGEST_LINE = 64 << 20


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the system allows, and return how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings for `xds`, which would change what a test starts; but for the switch of tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("XDS_") or name == "XDS_RAW_PARTS"}
    return ours | dict(extra or {})


class Process:
    """One child process: its output line by line, in memory and in `<folder>/<name>.stdout` and `.stderr`.

    Where `setpriv` is installed, it dies with its parent, even if that is killed.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._folder = folder
        self._child: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._child.pid if self._child else 0

    @property
    def returncode(self) -> int | None:
        """The exit code (a negative number is a signal); None while it runs."""
        return self._child.returncode if self._child else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Start it; a process that has ended may be started again, its output is appended."""
        raise_file_limit()
        tied = [setpriv, "--pdeathsig", "KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        self._child = await asyncio.create_subprocess_exec(
            *tied,
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            env=environment(),
            cwd=ROOT,
        )
        assert self._child.stdout
        assert self._child.stderr
        streams = (("stdout", self._child.stdout, self.stdout), ("stderr", self._child.stderr, self.stderr))
        self._readers = [asyncio.create_task(self._read(reader, kind, lines)) for kind, reader, lines in streams]

    async def stop(self) -> int:
        """End it with SIGTERM, after PATIENCE with SIGKILL; return its exit code."""
        if self.running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    return await self.wait()
        return await self.kill()

    async def kill(self) -> int:
        """End it with SIGKILL; return its exit code."""
        if self.running:
            self._signal(signal.SIGKILL)
        return await self.wait() if self._child else 0

    def signal(self, number: int) -> None:
        """Send it a signal; it must be running."""
        assert self.running, f"{self.name} is not running"
        self._signal(number)

    async def wait(self) -> int:
        """Wait for its end and the end of its output; return its exit code."""
        assert self._child, f"{self.name} was not started"
        code = await self._child.wait()
        await asyncio.gather(*self._readers)
        return code

    async def line(self, part: str, *, deadline: float = PATIENCE) -> str:
        """Wait for a line of its output that contains `part`, and return the first."""

        async def look() -> str | None:
            return next((line for line in [*self.stdout, *self.stderr] if part in line), None)

        found = await wait_until(look, f"{part!r} in the output of {self.name}", deadline=deadline)
        assert found
        return found

    def report(self, last: int = 60) -> str:
        """Return the end of its output, for people."""
        state = "running" if self.running else f"ended with {self.returncode}"
        return "\n".join([f"{self.name} ({state}), stdout:", *self.stdout[-last:], "stderr:", *self.stderr[-last:]])

    def _signal(self, number: int) -> None:
        assert self._child
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)

    async def _read(self, reader: asyncio.StreamReader, kind: str, lines: list[str]) -> None:
        with (self._folder / f"{self.name}.{kind}").open("a") as log:
            while line := await reader.readline():
                text = line.decode(errors="replace").rstrip("\n")
                lines.append(text)
                log.write(text + "\n")
                log.flush()


async def run(arguments: Sequence[str], *, stdin: bytes = b"", deadline: float = PATIENCE) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, standard output and standard error."""
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(deadline):
            out, err = await child.communicate(stdin)
    except TimeoutError:
        child.kill()
        out, err = await child.communicate()
        raise AssertionError(f"{' '.join(arguments)} did not end within {deadline:g} s: {err.decode()}") from None
    return child.returncode or 0, out.decode(), err.decode()
