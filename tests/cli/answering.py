"""A debug service that gives the answers it was told to, on a port of its own, for the commands that ask one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import betterproto2
import grpc

from xds.debug import v1

SERVICE = "xds.debug.v1.Debug"
_REQUESTS = {
    "Fleet": v1.FleetRequest,
    "Problems": v1.ProblemsRequest,
    "Explain": v1.ExplainRequest,
    "Programmed": v1.ProgrammedRequest,
    "ListProgrammed": v1.ListProgrammedRequest,
    "History": v1.HistoryRequest,
}


class Refusal(Exception):
    """An answer with a status."""

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Answering:
    """`answers`: method → message, or a Refusal. `asked`: what was asked, in order."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: dict[str, betterproto2.Message | Refusal] = {}
        self.asked: list[betterproto2.Message] = []

    def _serve(self, method: str, request: betterproto2.Message, context: Any) -> betterproto2.Message:
        self.asked.append(request)
        answer = self.answers[method]
        if isinstance(answer, Refusal):
            context.abort(answer.code, str(answer))
        assert isinstance(answer, betterproto2.Message)
        return answer

    def methods(self) -> Any:
        return grpc.method_handlers_generic_handler(SERVICE, {name: self._method(name) for name in self.answers})

    def _method(self, name: str) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._serve(name, request, context),
            request_deserializer=_REQUESTS[name].parse,
            response_serializer=bytes,
        )


@contextmanager
def answering(**answers: betterproto2.Message | Refusal) -> Iterator[Answering]:
    found = Answering()
    found.answers = answers
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((found.methods(),))
        found.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield found
        finally:
            server.stop(None).wait()
