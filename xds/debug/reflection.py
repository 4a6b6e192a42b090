"""gRPC server reflection, so that grpcurl and its kin list, describe and call what a server serves without any .proto file.

Both versions of the protocol: `grpc.reflection.v1` and `v1alpha`, whose messages have the same bytes. What does not belong here: making
descriptors (`descriptors`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from xds.debug.descriptors import Files, of_module

_ALPHA, _STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICES = (f"{_STABLE}.ServerReflection", f"{_ALPHA}.ServerReflection")


def own_files() -> tuple[FileDescriptorProto, ...]:
    """The files that describe reflection itself; the library has that of v1alpha, from which v1 differs in the package alone."""
    alpha = of_module(reflection_pb2)
    stable = text_format.Parse(text_format.MessageToString(alpha).replace(_ALPHA, _STABLE), FileDescriptorProto())
    stable.name = "grpc_reflection/v1/reflection.proto"
    return alpha, stable


class Reflection:
    """Answers for a server that serves `services`. `make` makes their files, in a thread, when somebody first asks for one."""

    def __init__(self, services: Iterable[str], make: Callable[[], Files]) -> None:
        self._services = sorted(services)
        self._make = make
        self._files: asyncio.Task[Files] | None = None

    def rpc_handlers(self) -> tuple[Any, ...]:
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return tuple(grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in SERVICES)

    async def _serve(self, requests: AsyncIterator[Any], _: Any) -> AsyncIterator[Any]:
        sent: set[str] = set()
        async for request in requests:
            yield await self._answer(request, sent)

    async def _answer(self, request: Any, sent: set[str]) -> Any:
        answer = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in self._services:
                answer.list_services_response.service.add(name=name)
            return answer
        files = await self._known()
        if asked == "file_by_filename":
            found = request.file_by_filename if request.file_by_filename in files.by_name else None
        elif asked == "file_containing_symbol":
            found = files.containing(request.file_containing_symbol)
        else:
            found = None  # proto3 has no extensions
        if found is None:
            answer.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            answer.error_response.error_message = "nothing is known of that here"
            return answer
        needed = [name for name in files.needed(found) if name == found or name not in sent]
        sent.update(needed)
        answer.file_descriptor_response.file_descriptor_proto.extend(files.by_name[name].SerializeToString() for name in needed)
        return answer

    async def _known(self) -> Files:
        if self._files is None:
            self._files = asyncio.create_task(asyncio.to_thread(self._make))
        return await asyncio.shield(self._files)
