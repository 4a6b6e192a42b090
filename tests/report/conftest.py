"""An API server to write to, and who talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kube.writable import Writable, writable
from xds.config import Flags
from xds.kube.apiserver.api import Api


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writable]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with writable() as started:
        yield started


@pytest.fixture
async def api(server: Writable, tmp_path: Path) -> AsyncIterator[Api]:
    made = Api(Flags(kubeconfig=server.reading.kubeconfig(tmp_path / "kubeconfig")))
    await made.open()
    yield made
    await made.close()
