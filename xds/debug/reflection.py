"""gRPC server reflection, so that grpcurl and other tools list, describe and call what a server serves without any .proto file.

grpcio-reflection answers, from a pool of our descriptors. Both versions of the protocol are served: `grpc.reflection.v1` and `v1alpha`,
whose messages have the same bytes. What does not belong here: making descriptors (`descriptors`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from xds.debug.descriptors import of_module

_ALPHA, _STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICES = (f"{_STABLE}.ServerReflection", f"{_ALPHA}.ServerReflection")


def own_files() -> tuple[FileDescriptorProto, ...]:
    """The files that describe reflection itself. The library has that of v1alpha, from which v1 differs in the package alone."""
    alpha = of_module(reflection_pb2)
    stable = text_format.Parse(text_format.MessageToString(alpha).replace(_ALPHA, _STABLE), FileDescriptorProto())
    stable.name = "grpc_reflection/v1/reflection.proto"
    return alpha, stable


class Reflection:
    """Answers for a server that serves `services`. `make` makes the pool of their files, in a thread, at the first request."""

    def __init__(self, services: Iterable[str], make: Callable[[], DescriptorPool]) -> None:
        self._services = tuple(services)
        self._make = make
        self._servicer: asyncio.Task[Any] | None = None

    def rpc_handlers(self) -> tuple[Any, ...]:
        """For `grpc.aio.Server.add_generic_rpc_handlers`. The library itself would register v1alpha alone."""
        method = grpc.stream_stream_rpc_method_handler(
            self.serve,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return tuple(grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in SERVICES)

    async def serve(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """A response for each request of one stream. Raises what `make` raises."""
        if self._servicer is None:
            self._servicer = asyncio.create_task(asyncio.to_thread(self._made))
        servicer = await asyncio.shield(self._servicer)  # a stream that ends must not cancel it for the others
        async for response in servicer.ServerReflectionInfo(requests, context):
            yield response

    def _made(self) -> Any:
        return reflection.aio.ReflectionServicer(self._services, self._make())
