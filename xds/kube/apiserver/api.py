"""Connections to an API server, credentials, and single requests.

What belongs here: configuration (a kubeconfig, a pod's service account), credentials and their renewal, and the detection of dead
connections. What does not: which requests are sent (`xds.kube.apiserver.apiserver`).

A connection can die silently: a cable, a firewall that dropped its state, a node that lost power. TCP detects this. Its keep-alive probes
an idle connection after 5 s and every 5 s, and gives up after 20 s. For unacknowledged data, TCP_USER_TIMEOUT does the same. TCP does not
detect that a proxy or NAT in between acknowledges data for a peer that is gone. So every wait has a timeout, and any dead connection is
detected within 30 s:

- A response must begin within 20 s, and each further part of it must come within 20 s. No response takes longer than 5 minutes.
- A watch is requested for 18 to 24 s (`Backoff.watch`). If it has not ended 5 s later, the peer is gone. The next watch resumes at the same
  version, on the same connection if that is healthy. This costs one request a kind and watch, and no list.
- An idle connection is kept for 5 s, so that a request seldom uses one that has died meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import getproxies_environment

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, kube_config, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME
from yaml import YAMLError

from xds import __version__
from xds.config import Failure, Flags


@dataclass(frozen=True, slots=True)
class Patience:
    """Timeouts in seconds."""

    connect: float = 10.0
    """For a connection, TLS included."""
    answer: float = 20.0
    """For the beginning of a response, and for each further part."""
    whole: float = 300.0
    """For a complete response."""
    late: float = 5.0
    """For the end of a watch after it is due."""
    idle: float = 5.0
    """After which an idle connection is closed."""


ALIVE_AFTER, ALIVE_EVERY, DEAD_AFTER = 5, 5, 20
"""Seconds; see above."""


class _Session:
    """Connections of one configuration.

    After a renewal of credentials another one takes its place, and it closes with its last response.
    """

    def __init__(self, configuration: Configuration, idle: float) -> None:
        self.configuration = configuration
        self.client = RESTClientObject(configuration)
        self.connector = aiohttp.TCPConnector(limit=0, ssl=self.client.ssl_context, socket_factory=keepalive_socket, keepalive_timeout=idle)
        # With `trust_env` aiohttp looks for proxies and a .netrc at each request, in a thread: a third of what an idle replica costs.
        configuration.client_session_kwargs = {"connector": self.connector, "trust_env": bool(getproxies_environment())}
        self.answers = 0
        self.is_replaced = False

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()
        await self.connector.close()


class Api:
    """The API server of --kubeconfig, --apiserver-host, or of the pod that we run in."""

    def __init__(self, settings: Flags, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        self._usual = aiohttp.ClientTimeout(
            total=self._patience.whole, sock_connect=self._patience.connect, sock_read=self._patience.answer
        )
        self._session: _Session | None = None
        self._renewing = asyncio.Lock()
        self._renewals = 0

    @property
    def host(self) -> str:
        """The URL of the API server; "" before the first request."""
        return str(self._session.configuration.host) if self._session else ""

    @property
    def renewals(self) -> int:
        """How many times credentials were read again. A caller takes it before a request, and passes it to `renew`."""
        return self._renewals

    async def open(self) -> None:
        """Read the configuration, before any request. Raises Failure where there is no usable one."""
        self._session = await _session(self._settings, self._patience)

    async def renew(self, before: int) -> None:
        """Read the credentials again, unless another request did so since `renewals` was `before`. Raises Failure where that fails."""
        async with self._renewing:
            if self._renewals != before:
                return
            old, self._session = self._session, await _session(self._settings, self._patience)
            self._renewals += 1
            if old is not None:
                old.is_replaced = True
                if not old.answers:
                    await old.close()

    @asynccontextmanager
    async def get(
        self, path: str, query: Mapping[str, str], *, accept: str = "application/json", lasting: float | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The response of any status, as soon as it begins. `lasting`: it is a watch, which the API server ends after so many seconds, and
        which may be silent until then.

        Raises what aiohttp raises, OSError, TimeoutError, and ValueError or ConfigException where the credentials are no good.
        """
        patience = self._usual
        if lasting is not None:
            patience = aiohttp.ClientTimeout(total=lasting + self._patience.late, sock_connect=self._patience.connect)
        async with self._ask("GET", path + (f"?{urlencode(query)}" if query else ""), {"Accept": accept}, patience) as response:
            yield response

    async def send(self, method: str, path: str, body: object, *, content_type: str = "application/json") -> tuple[int, bytes]:
        """Send a request that writes. Returns status and body of any response. What is written is for `xds.kube.apiserver.writes` to
        know.

        Raises what `get` raises.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type}
        async with self._ask(method, path, headers, self._usual, body) as response:
            return response.status, await response.read()

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, headers: dict[str, str], patience: aiohttp.ClientTimeout, body: object = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """One request. Its connections stay open until its response has ended, even if the credentials are renewed meanwhile."""
        session = self._session
        assert session is not None, "open() comes first"
        session.answers += 1
        try:
            answer = await session.client.request(
                method,
                session.configuration.host + path,
                headers=await _identification(session.configuration) | headers,
                body=body,
                _request_timeout=patience,
            )
            async with answer.response as response:
                yield response
        finally:
            session.answers -= 1
            if session.is_replaced and not session.answers:
                await session.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _identification(configuration: Configuration) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": f"xds/{__version__}"}
    if token := await configuration.get_api_key_with_prefix("BearerToken"):
        headers["Authorization"] = token.strip()  # a token file often ends with a newline
    return headers


async def _session(settings: Flags, patience: Patience) -> _Session:
    if settings.kubeconfig is None and not settings.apiserver_host and SERVICE_HOST_ENV_NAME not in os.environ:
        raise Failure(
            "There is no API server: this process does not run in a pod. Name one with --kubeconfig, or folders with --manifests."
        )
    try:
        return _Session(await _configuration(settings), patience.idle)
    except (ConfigException, OSError, YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        what = f"The kubeconfig {settings.kubeconfig}" if settings.kubeconfig else "What is needed to talk to the API server"
        if isinstance(error, (TypeError, AttributeError, LookupError)):
            reason = "it is not in the form of a kubeconfig"  # the client's own words are about Python
        else:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split()).rstrip(".")
        raise Failure(f"{what} cannot be used: {reason}.") from None
    finally:
        # The client writes the keys in a kubeconfig to files, and removes them at the end of the process. A killed process would not.
        kube_config._cleanup_temp_files()  # noqa: SLF001 - it has no public name


async def _configuration(settings: Flags) -> Configuration:
    """As kubectl: a kubeconfig, with --apiserver-host and --certificate-authority in place of its own; without one, the pod's account."""
    configuration = Configuration()
    if settings.kubeconfig is not None:
        _must_exist(settings.kubeconfig)
        await load_kube_config(str(settings.kubeconfig), client_configuration=configuration, persist_config=False)
    elif not settings.apiserver_host:
        load_incluster_config(client_configuration=configuration)
    if settings.apiserver_host:
        configuration.host = settings.apiserver_host.rstrip("/")
    if settings.certificate_authority is not None:
        configuration.ssl_ca_cert = str(settings.certificate_authority)
    # as Go, and Python up to 3.12: the authorities of many clusters lack extensions that RFC 5280 requires
    configuration.disable_strict_ssl_verification = True
    return configuration


def _must_exist(kubeconfig: Path) -> None:
    with kubeconfig.open("rb"):
        pass


def keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose connection ends by itself within DEAD_AFTER seconds if the other end is gone, also where nothing is sent."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": ALIVE_AFTER,
        "TCP_KEEPINTVL": ALIVE_EVERY,
        "TCP_KEEPCNT": (DEAD_AFTER - ALIVE_AFTER) // ALIVE_EVERY,
        "TCP_USER_TIMEOUT": DEAD_AFTER * 1000,
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # macOS lacks some of them
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
