"""Envoy's client status discovery service: which version of each resource each Envoy was sent, and which it has accepted (M1 to M3).

A client is a node.id, whatever the number of its streams. Resources are encoded straight to bytes, a few in each round of the event loop:
there may be 20,000. What does not belong here: the state of a stream (`xds.protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial

from envoy_data_plane.envoy.admin.v3 import ClientResourceStatus, UpdateFailureState
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret, TlsCertificate
from envoy_data_plane.envoy.service.status.v3 import ClientStatusRequest, ClientStatusResponse, ConfigStatus
from envoy_data_plane.google.protobuf import Timestamp

from xds.debug.descriptors import Method
from xds.debug.nodes import matches
from xds.debug.subject import Envoy, Subject
from xds.protocol.discovery import SubscriptionStatus, Wire
from xds.server.messages import EnvoyNode
from xds.server.turns import FairScheduler
from xds.snapshot import PASSWORDS, SECRET, Resource, State
from xds.wire.encode import encode, field, varint

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"
METHODS: Mapping[str, Method] = {
    "FetchClientStatus": Method(ClientStatusRequest, ClientStatusResponse),
    "StreamClientStatus": Method(ClientStatusRequest, ClientStatusResponse, client_streams=True, server_streams=True),
}
REDACTED = "[redacted]"
MOST = 64 * 2**20
"""The limit of one response in bytes."""
AT_ONCE = 0.002
"""Seconds for which resources are encoded before other tasks get a turn."""


class TooLarge(ValueError):
    """A response would be too large. The text explains how to ask for less."""


class ClientStatus:
    """Responds for the Envoys of a Subject. `most`: the limit of one response in bytes; `slice_`: as in FairScheduler."""

    def __init__(self, subject: Subject, *, most: int = MOST, slice_: float = 0.005) -> None:
        self._subject = subject
        self._most = most
        self._turns = FairScheduler(slice_=slice_)

    async def answer(self, request: ClientStatusRequest) -> bytes:
        """A ClientStatusResponse. Raises InvalidArgument for matchers that cannot be understood, and TooLarge."""
        clients: dict[str, list[Envoy]] = {}
        for envoy in self._subject.envoys():
            if envoy.node is not None and matches(envoy.node, request.node_matchers):
                clients.setdefault(envoy.node.id, []).append(envoy)
        written: list[bytes] = []
        size = 0
        for streams in clients.values():
            assert streams[0].node is not None
            client = [field(1, encode(_node(streams[0].node)))]
            for stream in streams:
                for type_url in stream.session.summaries:
                    standing = await self._turns.run(partial(stream.session.status, type_url))
                    resources = self._resources(stream.wire, type_url, standing, contents=not request.exclude_resource_contents)
                    while some := await self._turns.run(partial(_some, resources)):
                        client += some
                        size += sum(map(len, some))
                        self._check(size)
            written.append(field(1, b"".join(client)))
        return b"".join(written)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise TooLarge(
                f"the response has more than {self._most // 2**20} MiB; name one Envoy in node_matchers, or set exclude_resource_contents."
            )

    def _resources(self, wire: Wire, type_url: str, standing: SubscriptionStatus, *, contents: bool) -> Iterator[bytes]:
        """A ClientConfig.GenericXdsConfig for each resource that an Envoy asked for, as a field of the ClientConfig."""
        state = self._subject.snapshot[type_url]
        times = {generation: encode(Timestamp.from_wrapped(at)) for generation, at in self._subject.times(type_url).items()}
        rejected = {resource.name: resource for resource in standing.rejected}
        version = standing.accepted if wire is Wire.SOTW else None
        for name in sorted({*state, *standing.names}) if standing.wildcard else standing.names:
            refused = None if name in standing.current else rejected.get(name)
            ours, theirs = _status(name, state, standing, refused)
            found = state.get(name)  # of a rejected one this is the rejected version, unless it has changed since
            accepted = _accepted(name, state, standing, version)
            config = field(1, type_url.encode()) + field(2, name.encode()) + field(3, accepted.encode())
            if contents and found is not None:
                config += field(4, field(1, type_url.encode()) + field(2, shown(type_url, found)))
            if (at := times.get(state.changed(name))) is not None:
                config += field(5, at)
            config += varint(6 << 3) + varint(ours) + varint(7 << 3) + varint(theirs)
            if refused is not None:
                config += field(8, encode(UpdateFailureState(details=standing.error or "", version_info=refused.version)))
            yield field(3, config)


def _some(resources: Iterator[bytes]) -> list[bytes]:
    """The next ones, as many as can be encoded in AT_ONCE seconds; empty at the end."""
    now = asyncio.get_running_loop().time
    until = now() + AT_ONCE
    some: list[bytes] = []
    for resource in resources:
        some.append(resource)
        if now() >= until:
            break
    return some


def _status(name: str, state: State, standing: SubscriptionStatus, refused: Resource | None) -> tuple[ConfigStatus, ClientResourceStatus]:
    """The status on our side, and on that of the client."""
    if name not in state:
        return ConfigStatus.NOT_SENT, ClientResourceStatus.DOES_NOT_EXIST
    if name in standing.current:
        return ConfigStatus.SYNCED, ClientResourceStatus.ACKED
    theirs = ClientResourceStatus.ACKED if name in standing.held else ClientResourceStatus.REQUESTED
    if name in standing.in_flight:
        return ConfigStatus.STALE, theirs
    if refused is not None:
        return ConfigStatus.ERROR if refused == state[name] else ConfigStatus.NOT_SENT, ClientResourceStatus.NACKED
    return ConfigStatus.NOT_SENT, theirs


def _accepted(name: str, state: State, standing: SubscriptionStatus, version: str | None) -> str:
    """The version that the client has, if known. State of the world has one version for all resources of a type."""
    if name not in standing.held:
        return ""
    if version is not None:
        return version
    found = state.get(name) if name in standing.current else None
    return found.version if found is not None else ""


def shown(type_url: str, resource: Resource) -> bytes:
    """The bytes of a resource for people: of a Secret without its private key, of a password file nothing."""
    if type_url == PASSWORDS:
        return b""
    if type_url != SECRET:
        return resource.body
    secret = Secret.parse(resource.body)
    made = Secret(name=secret.name, validation_context=secret.validation_context)
    if secret.tls_certificate is not None:
        key = core.DataSource(inline_string=REDACTED)
        made.tls_certificate = TlsCertificate(certificate_chain=secret.tls_certificate.certificate_chain, private_key=key)
    return encode(made)


def _node(node: EnvoyNode) -> core.Node:
    agent, _, version = node.agent.rpartition(" ")
    return core.Node(id=node.id, cluster=node.cluster, user_agent_name=agent, user_agent_version=version)
