"""Addresses to listen on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from xds.addresses import parse_address
from xds.server.address import listen


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    made = grpc.aio.server()
    yield made
    await made.stop(0)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the paths of sockets are."""
    return tmp_path_factory.mktemp("s")


async def test_a_socket_that_somebody_listens_on_stays_his(server: Any, folder: Path) -> None:
    """gRPC removes whatever socket is in its way."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "x.sock"))
        other.listen()
        with pytest.raises(OSError, match=r"^the server cannot listen on unix:.*x\.sock: another program listens there$"):
            listen(server, parse_address(f"unix:{folder}/x.sock"), None, "the server")
        assert (folder / "x.sock").is_socket()


async def test_a_socket_that_a_dead_program_left_is_replaced(server: Any, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "x.sock"))
    assert listen(server, parse_address(f"unix:{folder}/x.sock"), None, "the server") == parse_address(f"unix:{folder}/x.sock")


async def test_why_a_socket_cannot_be_made_is_said(server: Any, folder: Path) -> None:
    with pytest.raises(OSError, match=r"^the server cannot listen on unix:.*/none/x\.sock: No such file or directory$"):
        listen(server, parse_address(f"unix:{folder}/none/x.sock"), None, "the server")
