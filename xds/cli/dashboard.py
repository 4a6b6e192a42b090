"""`xds dashboard`: the page of the fleet in a browser, of a management server on this machine or, through kubectl, in a cluster.

What belongs here: finding the page, and the tunnel to it. What does not: the page (`xds.dashboard`).
"""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import webbrowser
from collections.abc import Iterable, Sequence

from xds.addresses import DASHBOARD_ADDRESS, SocketAddress, parse_address
from xds.cli.arguments import Parsed
from xds.config import Failure, UsageError

_PATIENCE = 10.0
"""Seconds for an answer of the page."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ->")
"""What kubectl prints for each address that it listens on."""


def run(parsed: Parsed) -> int:
    """Open the page; with `cluster` stay until a signal. Raises Failure where there is none."""
    address = parsed.settings.dashboard_address
    if not address:
        raise UsageError("--dashboard-address is off; name where a management server has its page.")
    if parsed.positional:
        return forwarded(port_forward((), parse_address(address).port))
    _open(_reachable(parse_address(address)))
    return 0


def port_forward(given: Iterable[tuple[str, str]], port: int) -> list[str]:
    """The call of kubectl that makes a tunnel from a free port to that of the page. `given` are flags of kubectl, and `--deployment`."""
    from xds.cli.kubectl import called

    return [*called(given, "port-forward"), f":{port}"]


def forwarded(command: Sequence[str]) -> int:
    """Run this call of kubectl, and open the page behind it. A signal ends both, in order and with 0; else the exit code is kubectl's."""
    try:
        tunnel = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - no shell; the words are flags of kubectl
    except OSError as error:
        raise Failure(f"kubectl cannot be started: {error.strerror}.") from None
    signals: list[int] = []

    def end(number: int, _: object) -> None:
        signals.append(number)
        tunnel.terminate()

    previous = {number: signal.signal(number, end) for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        _open_behind(tunnel)
        code = tunnel.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0 if signals else code


def _open_behind(tunnel: subprocess.Popen[str]) -> None:
    """Read what kubectl prints to its end, and open the page at the first address that it listens on."""
    assert tunnel.stdout is not None
    opened = False
    for line in tunnel.stdout:
        if not opened and (found := _FORWARDING.match(line)):
            opened = True
            _open(parse_address(found[1]))


def _reachable(address: SocketAddress) -> SocketAddress:
    """The address, if the page is there. Raises Failure where it is not."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_PATIENCE)
    try:
        connection.request("HEAD", "/favicon.ico", headers={"Host": f"localhost:{address.port}"})
        ours = connection.getresponse().getheader("Server") == "xds"
    except (OSError, http.client.HTTPException):
        ours = False
    finally:
        connection.close()
    if not ours:
        where = "" if str(address) == DASHBOARD_ADDRESS else " there"
        raise Failure(
            f"there is no page at {address}: start `xds up` or `xds serve`{where}, or name its --dashboard-address; "
            "`xds dashboard cluster` opens that of a cluster."
        )
    return address


def _open(address: SocketAddress) -> None:
    """Open the page in the user's browser, and print where it is, for there may be no browser here."""
    url = f"http://{address}/"
    print(url, flush=True)
    webbrowser.open(url)
