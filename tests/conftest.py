"""Options of the whole suite."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import xds  # noqa: F401 - before a test imports messages of envoy-data-plane by itself: see xds/plain_messages.py
from tests.exploring import load_profile

_HERE = Path(__file__).parent
_FIRST = {suite: place for place, suite in enumerate(("packaging", "cluster", "envoy", "oracle", "wild", "bench"))}

load_profile()


def pytest_configure() -> None:
    """Processes that tests start heed signals as on a terminal, also where the tests run in the background or under nohup."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares something expensive stays in one process where tests run in parallel: a module, and the one cluster of tests/cluster.

    The suites that take longest begin first, so that no process is left with one of them at the end.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _FIRST.get(_suite(item), len(_FIRST)))


def _suite(item: pytest.Item) -> str:
    """The folder below tests/ that a test is in; its file for one directly there."""
    return item.path.relative_to(_HERE).parts[0]


def _group(item: pytest.Item) -> str:
    return "cluster" if _suite(item) == "cluster" else str(item.path.relative_to(_HERE))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten by the tests that read them."""
    parser.addoption(
        "--update-golden", action="store_true", help="write what comes out into tests/golden and envoy/bootstrap, and read the diff"
    )
