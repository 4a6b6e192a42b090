"""Options of the whole suite."""

from __future__ import annotations

import gc
import signal
from pathlib import Path

import pytest

import xds  # noqa: F401 - before a test imports messages of envoy-data-plane by itself: see xds/imports
from tests.exploring import load_profile

_HERE = Path(__file__).parent
_FIRST = {suite: place for place, suite in enumerate(("packaging", "cluster", "envoy", "oracle", "wild", "bench"))}

_SINGLE = frozenset({"envoy", "oracle", "translate", "units", "wire", "imports", "protocol", "quarantine", "golden", "nginx", "render"})
"""Suites of which each test has ports and folders of its own, or needs none."""

load_profile()


def pytest_configure() -> None:
    """Processes that tests start heed signals as on a terminal, also where the tests run in the background or under nohup."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares something expensive stays in one process where tests run in parallel: a module, and the one cluster of tests/cluster.

    What takes longest begins first, so that no process is left with it at the end: some suites, then the property tests of others.
    """
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def _place(item: pytest.Item) -> int:
    explores = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return _FIRST.get(_suite(item), len(_FIRST) + (not explores))


def _suite(item: pytest.Item) -> str:
    """The folder below tests/ that a test is in; its file for one directly there."""
    return item.path.relative_to(_HERE).parts[0]


def _group(item: pytest.Item) -> str:
    """ "" for a test that shares nothing, and may run in any process."""
    if _suite(item) == "cluster":
        return "cluster"
    return "" if _suite(item) in _SINGLE and not _shares(item) else str(item.path.relative_to(_HERE))


def _shares(item: pytest.Item) -> bool:
    """Whether a fixture of ours is made once for several tests."""
    assert isinstance(item, pytest.Function)
    used = (item.session._fixturemanager.getfixturedefs(name, item) or () for name in item.fixturenames)  # noqa: SLF001
    return any(found.scope != "function" and str(found.func.__module__).startswith("tests.") for each in used for found in each)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten by the tests that read them."""
    parser.addoption(
        "--update-golden", action="store_true", help="write what comes out into tests/golden and envoy/bootstrap, and read the diff"
    )
