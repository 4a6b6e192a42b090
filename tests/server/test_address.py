"""Addresses to listen on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from xds.server.address import ListenAddress, listen, parse


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:18000", ListenAddress("127.0.0.1", 18000), True),
        ("127.9.9.9:0", ListenAddress("127.9.9.9", 0), True),
        ("[::1]:18000", ListenAddress("::1", 18000), True),
        ("[::ffff:127.0.0.1]:1", ListenAddress("::ffff:127.0.0.1", 1), True),
        ("localhost:65535", ListenAddress("localhost", 65535), True),
        ("unix:/run/xds.sock", ListenAddress(path="/run/xds.sock"), True),
        ("0.0.0.0:18000", ListenAddress("0.0.0.0", 18000), False),
        ("[::]:18000", ListenAddress("::", 18000), False),
        ("[::ffff:10.0.0.1]:1", ListenAddress("::ffff:10.0.0.1", 1), False),
        ("10.0.0.1:18000", ListenAddress("10.0.0.1", 18000), False),
        ("localhost.example.com:18000", ListenAddress("localhost.example.com", 18000), False),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: ListenAddress, local: bool) -> None:
    assert parse(text) == address
    assert str(address) == text
    assert address.local is local


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not host:port"),
        ("18000", "is not host:port"),
        (":18000", "is not host:port"),
        ("127.0.0.1:", "is not host:port"),
        ("127.0.0.1:http", "is not host:port"),
        ("127.0.0.1:65536", "is not host:port"),
        ("127.0.0.1:-1", "is not host:port"),
        ("127.0.0.1:²", "is not host:port"),
        ("::1:18000", "in brackets"),
        ("[localhost]:18000", "no IPv6 address between its brackets"),
        ("unix:", "has no path"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text)


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
            listen(server, ListenAddress(path=str(folder / "x.sock")), None, "the server")
        assert (folder / "x.sock").is_socket()


async def test_a_socket_that_a_dead_program_left_is_replaced(server: Any, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "x.sock"))
    assert listen(server, ListenAddress(path=str(folder / "x.sock")), None, "the server") == ListenAddress(path=str(folder / "x.sock"))


async def test_why_a_socket_cannot_be_made_is_said(server: Any, folder: Path) -> None:
    with pytest.raises(OSError, match=r"^the server cannot listen on unix:.*/none/x\.sock: No such file or directory$"):
        listen(server, ListenAddress(path=str(folder / "none" / "x.sock")), None, "the server")
