"""An Envoy that alone refuses a secret gets all the others: the Session says them apart, without any help of the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret, TlsCertificate
from prometheus_client import CollectorRegistry

from examples.apps import Address
from tests.envoy.harness import Certificate, Envoy, Folder, Http1, Ports, Tls, ingress, make_certificate, secret_tls, wait_until
from xds import offline
from xds.config import Flags
from xds.render.bootstrap import bootstrap
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import SECRET, Resource
from xds.wire.encode import encode

pytestmark = pytest.mark.envoy

HOSTS = [f"host-{n}.test" for n in range(20)]
BAD = HOSTS[7]


def _secret(name: str, chain: Certificate, key: Certificate) -> Resource:
    pair = TlsCertificate(certificate_chain=DataSource(inline_bytes=chain.cert_pem), private_key=DataSource(inline_bytes=key.key_pem))
    return Resource.of(f"default/{name}", encode(Secret(name=f"default/{name}", tls_certificate=pair)))


def _bad() -> Resource:
    """A certificate with the key of another one, which BoringSSL refuses."""
    return _secret(BAD, make_certificate([BAD]), make_certificate([BAD]))


class Served:
    """A Snapshot with a certificate for each host, a server of it without a control plane, and one Envoy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = Ports()
        self.address: Address = ("127.0.0.1", self.ports.take())
        self.registry = CollectorRegistry()
        self.certificates = {host: make_certificate([host]) for host in HOSTS}
        manifests = Folder(folder / "manifests")
        for host, certificate in self.certificates.items():
            manifests.write(f"{host}.yaml", ingress(host, host, {"/": ("web", 80)}, tls={host: [host]}), secret_tls(host, certificate))
        ip, port = self.address
        settings = Flags(manifests=(manifests.path,), listen_address=ip, https_port=port, http_port=self.ports.take())
        default = make_certificate(["ingress.local"])
        self.snapshot = offline.load(settings, certificate=(default.cert_pem, default.key_pem)).snapshot
        self.fleet = Fleet(self.snapshot, self.registry, identifier="xds")
        self.fleet.publish()
        self.server = Server(self.fleet, "127.0.0.1:0")

    def envoy(self) -> Envoy:
        return Envoy(bootstrap(Flags(xds_address=self.server.address, node_id="envoy-1")), self._folder, self.ports)

    async def all_but_the_bad_one(self) -> None:
        """Until each host is served with its certificate, and the Envoy is left in peace."""
        for host, certificate in self.certificates.items():
            if host != BAD:
                await wait_until(lambda host=host, its=certificate: self._has(host, its), f"the certificate of {host}")  # type: ignore[misc]
        [stream] = self.fleet.connected()

        async def known() -> bool:
            lacking = [name for name in self.snapshot[SECRET] if not stream.session.accepted(SECRET, name)]
            return lacking == [f"default/{BAD}"] and not stream.session.status(SECRET).nonces

        await wait_until(known, "the server to know it")
        assert list(stream.session.rejections) == [SECRET]

    async def _has(self, host: str, certificate: Certificate) -> bool:
        async with await Http1.open(self.address, tls=Tls(host)) as client:
            return client.certificate == certificate.x509

    def rejections(self) -> float:
        return self.registry.get_sample_value("xds_nacks_total", {"type": "sds"}) or 0


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    found = Served(tmp_path)
    await found.server.start()
    yield found
    await found.server.stop(0)
    found.ports.release()


async def test_one_bad_secret_at_the_start_leaves_all_others_served(served: Served) -> None:
    served.snapshot[SECRET].update([_bad()])
    async with served.envoy():
        await served.all_but_the_bad_one()
        assert served.rejections() == 1


async def test_one_bad_secret_among_those_renewed_at_once_holds_nothing_up(served: Served) -> None:
    async with served.envoy():
        [stream] = served.fleet.connected()
        await wait_until(_done(lambda: stream.session.up_to_date(SECRET)), "all secrets to be accepted")
        served.certificates = {host: make_certificate([host]) for host in HOSTS}
        renewed = [_secret(host, made, made) for host, made in served.certificates.items() if host != BAD]
        served.snapshot[SECRET].update([*renewed, _bad()])
        served.fleet.publish()
        await served.all_but_the_bad_one()
        assert served.rejections() == 1


def _done(true: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return true()

    return look
