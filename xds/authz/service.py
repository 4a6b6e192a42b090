"""The process: a gRPC server on a Unix socket for Envoy, and a stream to the control plane."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import grpc

from xds import __version__
from xds.addresses import SocketAddress, parse_address
from xds.authz import answers, check, counts, hashes
from xds.authz.subscription import PasswordSubscription, follow
from xds.authz.verifier import Verifier
from xds.config import Failure, Flags
from xds.machine.network import started, why_not
from xds.passwords import AUTHZ_NODE

_OPTIONS = (
    ("grpc.max_receive_message_length", 128 * 1024),  # a question has one header, and what is remembered two heads, both bounded
    ("grpc.max_concurrent_streams", 100_000),
)
_TO_CONTROL_PLANE = (
    ("grpc.max_receive_message_length", -1),  # all files come in one response
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # renewed certificates are for new connections
)
_GRACE = 1.0

_log = logging.getLogger("xds.authz")


async def run(settings: Flags) -> None:
    """Serve until cancelled. Raises Failure where it cannot start."""
    address = parse_address(settings.authz_address)
    verifier = Verifier(len(os.sched_getaffinity(0)))
    subscription = PasswordSubscription(settings.node_id + AUTHZ_NODE, settings.node_cluster, __version__, verifier)
    checks, opened, remembered = check.Checks(verifier), counts.OpenRequests(), answers.RememberedAnswers()
    methods = [(check.METHOD, checks.check), (answers.RECALL, remembered.recall), (answers.REMEMBER, remembered.remember)]
    server = _server([*starmap(_method, methods), _conversation(counts.METHOD, opened.converse)], address)
    await started(server)
    os.chmod(address.path, 0o660)
    _log.info("the authorisation service listens on %s", address)
    if lacking := hashes.unavailable():
        _log.warning("the C library does not support these hashes, so users with one cannot log in: %s", ", ".join(lacking))
    try:
        await follow(subscription, partial(_channel, settings), settings.xds_address)
    finally:
        verifier.close()
        await server.stop(_GRACE)


def _server(handlers: Sequence[Any], address: SocketAddress) -> Any:
    """A server for Envoy. Whoever can open the socket can ask; the mode of its folder decides who that is."""
    _remove_stale(address)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        server.add_insecure_port(str(address))
    except RuntimeError:
        raise Failure(f"--authz-address: the service cannot listen on {address}: {why_not(address)}.") from None
    return server


def _method(path: str, answer: Any) -> Any:
    """A unary method, with bytes in and bytes out."""

    async def serve(raw: bytes, _context: Any) -> bytes:
        answered: bytes = await answer(raw)
        return answered

    return _handler(path, grpc.unary_unary_rpc_method_handler(serve))


def _conversation(path: str, converse: Any) -> Any:
    """A method with streams of bytes both ways. What `converse` has begun it ends, however the stream ends."""

    async def serve(received: AsyncIterator[bytes], context: Any) -> None:
        async with aclosing(converse(dict(context.invocation_metadata()), received)) as answers:
            async for answer in answers:
                await context.write(answer)

    return _handler(path, grpc.stream_stream_rpc_method_handler(serve))


def _handler(path: str, method: Any) -> Any:
    service, _, name = path.removeprefix("/").partition("/")
    return grpc.method_handlers_generic_handler(service, {name: method})


def _remove_stale(address: SocketAddress) -> None:
    """Remove the socket of a program that has ended. Raises Failure where one is still listening."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.path)
        except OSError:
            Path(address.path).unlink(missing_ok=True)
        else:
            raise Failure(f"--authz-address: another program listens on {address}.")


def _channel(settings: Flags) -> Any:
    """A channel to the control plane, with the certificates that the files have by now. Raises OSError where one cannot be read."""
    if settings.xds_tls_ca is None:
        return grpc.aio.insecure_channel(settings.xds_address, _TO_CONTROL_PLANE)
    ca, key, chain = (path.read_bytes() for path in (settings.xds_tls_ca, settings.xds_tls_key, settings.xds_tls_cert) if path)
    credentials = grpc.ssl_channel_credentials(ca, key, chain)
    name = settings.xds_server_name
    options = (*_TO_CONTROL_PLANE, *([("grpc.ssl_target_name_override", name)] if name else []))
    return grpc.aio.secure_channel(settings.xds_address, credentials, options)
