"""Asking a running management server, through its debug service on --debug-address.

What belongs here: one question, one answer, and a sentence for each way in which there is none. What does not: what the answers mean.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, TypeVar

import betterproto2
import grpc

from xds.addresses import DEBUG_ADDRESS, RUNNING, parse_address
from xds.config import Failure, UsageError
from xds.debug import v1
from xds.debug.documents import ref_of
from xds.machine.private_folder import sockets
from xds.problem import Place, Problem, Severity

Answer = TypeVar("Answer", bound=betterproto2.Message)
SERVICE = "/xds.debug.v1.Debug/"
DEBUG_SOCKET = "debug.sock"
"""In the private folder of an `xds up`."""
_USUAL = 10.0
"""Seconds that an answer may take, besides what the server was asked to wait."""
_SEVERITIES = {v1.Severity.ERROR: Severity.ERROR, v1.Severity.WARNING: Severity.WARNING, v1.Severity.NOTE: Severity.NOTE}
_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]


def ask(address: str, method: str, request: betterproto2.Message, answer: type[Answer], *, wait: float = 0.0) -> Answer:
    """One call. `wait`: seconds that the server was asked to wait before it answers.

    Raises Failure where there is no answer, and UsageError where the server rejects the request as invalid.
    """
    if not address:
        raise UsageError("--debug-address is off; name where a management server has its debug service.")
    if address == RUNNING:
        address = running(os.environ)
    with grpc.insecure_channel(address, options=_ANY_SIZE) as channel:
        call = channel.unary_unary(SERVICE + method, request_serializer=bytes, response_deserializer=answer.parse)
        try:
            found: Answer = call(request, timeout=wait + _USUAL)
        except grpc.RpcError as error:
            raise _why_not(address, error) from None
    return found


def running(environment: Mapping[str, str]) -> str:
    """The debug address of this user's `xds up`; with none, the one that `xds serve` has by default.

    Raises UsageError where several run, or both: an answer by the wrong one would look like that of the right one.
    """
    found = [f"unix:{path}" for path in sockets(DEBUG_SOCKET, environment) if _listens(socket.AF_UNIX, str(path))]
    if not found:
        return DEBUG_ADDRESS
    address = parse_address(DEBUG_ADDRESS)
    if _listens(socket.AF_INET, (address.host, address.port)):
        found.append(DEBUG_ADDRESS)
    if len(found) > 1:
        raise UsageError(f"{len(found)} management servers run here; name one with --debug-address: {', '.join(found)}.")
    return found[0]


def _listens(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(_USUAL)
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def problem_of(found: v1.Problem) -> Problem:
    """A Problem, as the commands print it."""
    place = Place(found.place.file, found.place.document, found.place.line) if found.place else None
    return Problem(ref_of(found.object), found.field, found.code, found.sentence, _SEVERITIES.get(found.severity, Severity.ERROR), place)


def _why_not(address: str, error: Any) -> Exception:
    code, details = error.code(), str(error.details() or "").rstrip(".")
    if code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
        return Failure(f"{details}.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return UsageError(f"{details}.")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Failure(f"the server at {address} is no debug service of this version of xds ({details}).")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(f"the management server at {address} has not answered in time.")
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith("there is no Snapshot yet"):
        return Failure(f"the management server at {address} serves nothing yet: {details}.")
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failure(f"no management server answers at {address}: {_what_to_do(address)}")
    return Failure(f"the management server at {address} has not answered: {code.name.lower()}: {details}.")


def _what_to_do(address: str) -> str:
    if parse_address(address).path:
        return "the log of an `xds up` has the paths of its sockets."
    port = parse_address(address).port
    forward = f"kubectl -n ingress-xds port-forward deploy/xds {port}:18001"
    return f"start `xds serve`, name its --debug-address, or, where it runs in a cluster, first run `{forward}`."
