"""`python -m xds`, and what the programs `xds`, `kubectl-xds` and `kubectl_complete-xds` call.

What stands here first is why Ctrl-C never prints a traceback: it holds while everything else is imported, while a command works that has
nothing to put in order, and while the interpreter ends. The commands that serve have signals of their own (`xds.cli.signals`).
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 128 + signal.SIGINT


def _interrupted(*_: object) -> None:
    os._exit(INTERRUPTED)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # who has it ignored, as a shell for what runs behind, meant that
    signal.signal(signal.SIGINT, _interrupted)

from xds.cli import main  # noqa: E402 - see above


def kubectl() -> int:
    """What the program kubectl-xds calls, which kubectl starts for `kubectl xds`."""
    from xds.cli import kubectl as plugin

    return plugin.main()


def kubectl_complete() -> int:
    """What the program kubectl_complete-xds calls, which kubectl starts where the Tab key is pressed behind `kubectl xds`."""
    from xds.cli import kubectl as plugin

    return plugin.complete()


if __name__ == "__main__":
    sys.exit(main())
