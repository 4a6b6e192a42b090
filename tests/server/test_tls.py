"""TLS with client certificates, and files that change."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from prometheus_client import CollectorRegistry

from tests.server.client import Client, count, names, resource
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.server.tls import CertificateFiles
from xds.snapshot import CLUSTER, PASSWORDS, Resource, Snapshot


@dataclass(frozen=True)
class Pair:
    certificate: bytes
    key: bytes


class Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pem = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)).certificate

    def issue(self, san: str, *, common_name: str = "") -> Pair:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name or san)])
        names = [x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name) for name in san.split()]
        return self._sign(subject, ec.generate_private_key(ec.SECP256R1()), x509.SubjectAlternativeName(names))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> Pair:
        now = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(built.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture(scope="module")
def ca() -> Authority:
    return Authority("ours")


@pytest.fixture
def files(ca: Authority, tmp_path: Path) -> CertificateFiles:
    files = CertificateFiles(*(str(tmp_path / name) for name in ("tls.crt", "tls.key", "ca.crt")))
    _write(files, ca.issue("localhost"), ca)
    return files


def _write(files: CertificateFiles, pair: Pair, ca: Authority) -> None:
    Path(files.certificate).write_bytes(pair.certificate)
    Path(files.key).write_bytes(pair.key)
    Path(files.ca).write_bytes(ca.pem)


def _spoil(file: str) -> None:
    Path(file).write_bytes(b"rubbish")


def _remove(file: str) -> None:
    Path(file).unlink()


@pytest.fixture
async def server(fleet: Fleet, files: CertificateFiles, snapshot: Snapshot) -> AsyncIterator[Server]:
    """Listens beyond loopback."""
    snapshot[CLUSTER].update([resource("a")])
    server = Server(fleet, "0.0.0.0:0", certificates=files, client_names=["envoy.edge", "spiffe://mesh/envoy"])
    await server.start()
    yield server
    await server.stop(0)


def _channel(server: Server, ca: Authority, pair: Pair | None) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(ca.pem, pair.key if pair else None, pair.certificate if pair else None)
    port = server.address.rpartition(":")[2]
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)])


async def _outcome(
    channel: grpc.aio.Channel, node: str = "envoy-1", type_url: str = CLUSTER, wanted: tuple[str, ...] = ()
) -> list[str] | grpc.StatusCode:
    """What a client is given, or why not."""
    async with channel:
        envoy = Client(channel, Wire.DELTA, node=node)
        try:
            await envoy.subscribe(type_url, wanted)
            return names(await envoy.read())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return await envoy.call.code()


@pytest.mark.parametrize("name", ["envoy.edge", "spiffe://mesh/envoy"])
async def test_a_client_of_the_ca_with_an_allowed_name_is_served(name: str, server: Server, ca: Authority) -> None:
    assert await _outcome(_channel(server, ca, ca.issue(name))) == ["a"]


async def test_a_client_without_a_certificate_is_refused(server: Server, ca: Authority) -> None:
    assert await _outcome(_channel(server, ca, None)) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_another_ca_is_refused(server: Server, ca: Authority) -> None:
    assert await _outcome(_channel(server, ca, Authority("theirs").issue("envoy.edge"))) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_with_another_name_is_refused(server: Server, ca: Authority, registry: CollectorRegistry) -> None:
    assert await _outcome(_channel(server, ca, ca.issue("other.edge", common_name="envoy.edge"))) is grpc.StatusCode.PERMISSION_DENIED
    assert count(registry, "xds_refused_streams_total", code="permission_denied") == 1


@pytest.mark.parametrize("sans", ["envoy.edge xds-cluster:edge", "envoy.edge xds-cluster:other xds-cluster:%65dge"])
async def test_a_certificate_for_the_cluster_that_a_node_claims_is_good(sans: str, server: Server, ca: Authority) -> None:
    assert await _outcome(_channel(server, ca, ca.issue(sans))) == ["a"]


async def test_a_certificate_for_another_cluster_than_the_node_claims_is_refused(
    server: Server, ca: Authority, registry: CollectorRegistry
) -> None:
    channel = _channel(server, ca, ca.issue("envoy.edge xds-cluster:other xds-cluster:edge2"))
    assert await _outcome(channel) is grpc.StatusCode.PERMISSION_DENIED
    assert count(registry, "xds_refused_streams_total", code="permission_denied") == 1


@pytest.mark.parametrize(
    ("sans", "node", "given"),
    [
        ("envoy.edge", "envoy-1/authz", ["p"]),
        ("envoy.edge xds-cluster:edge", "envoy-1/authz", ["p"]),
        ("envoy.edge", "envoy-1", grpc.StatusCode.PERMISSION_DENIED),
        ("envoy.edge", "envoy-1/authz/", grpc.StatusCode.PERMISSION_DENIED),
        ("envoy.edge xds-passwords:none", "envoy-1/authz", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_password_files_are_for_authorisation_services_whose_certificate_does_not_exclude_them(
    sans: str, node: str, given: object, server: Server, ca: Authority, snapshot: Snapshot
) -> None:
    snapshot[PASSWORDS].update([Resource.of("p", b"")])
    assert await _outcome(_channel(server, ca, ca.issue(sans)), node, PASSWORDS, ("p",)) == given
    assert await _outcome(_channel(server, ca, ca.issue(sans)), node) == ["a"]


async def test_any_name_of_the_ca_will_do_where_none_are_listed(
    fleet: Fleet, snapshot: Snapshot, files: CertificateFiles, ca: Authority
) -> None:
    snapshot[CLUSTER].update([resource("a")])
    server = Server(fleet, "127.0.0.1:0", certificates=files)
    await server.start()
    assert await _outcome(_channel(server, ca, ca.issue("anyone"))) == ["a"]
    await server.stop(0)


async def test_new_files_are_for_new_connections(server: Server, files: CertificateFiles, ca: Authority) -> None:
    old_channel = _channel(server, ca, ca.issue("envoy.edge"))
    old = Client(old_channel, Wire.DELTA)
    await old.subscribe(CLUSTER)
    await old.answer(await old.read())

    new_ca = Authority("new")
    _write(files, new_ca.issue("localhost"), new_ca)
    assert await _outcome(_channel(server, new_ca, new_ca.issue("envoy.edge"))) == ["a"]
    assert await _outcome(_channel(server, ca, ca.issue("envoy.edge"))) is grpc.StatusCode.UNAVAILABLE

    await old.subscribe(CLUSTER, ["a"])
    assert names(await old.read()) == ["a"]
    await old_channel.close()


async def test_files_that_cannot_be_used_leave_the_old_certificate(
    server: Server, files: CertificateFiles, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    _spoil(files.key)
    assert await _outcome(_channel(server, ca, ca.issue("envoy.edge"))) == ["a"]
    assert f"the key file {files.key} holds no PEM private key" in caplog.text
    _remove(files.certificate)
    assert await _outcome(_channel(server, ca, ca.issue("envoy.edge"))) == ["a"]
    assert f"the file {files.certificate} cannot be read" in caplog.text


def _encrypted(pair: Pair) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


async def test_files_that_cannot_be_used_are_refused_with_a_sentence(fleet: Fleet, files: CertificateFiles, ca: Authority) -> None:
    def refused(file: str, content: bytes | None, sentence: str) -> None:
        path = Path(file)
        before = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence) as refusal:
            Server(fleet, "0.0.0.0:0", certificates=files)
        assert "PRIVATE KEY" not in str(refusal.value)
        path.write_bytes(before)

    other = ca.issue("localhost")
    refused(files.certificate, None, r"the file .*tls\.crt cannot be read: No such file")
    refused(files.certificate, b"", r"the certificate file .*tls\.crt holds no PEM certificate")
    refused(files.certificate, other.certificate, r"the key file .*tls\.key does not belong to the certificate in .*tls\.crt")
    refused(files.key, b"nothing", r"the key file .*tls\.key holds no PEM private key")
    refused(files.key, _encrypted(other), r"the key file .*tls\.key holds no PEM private key without a password")
    refused(files.ca, other.key, r"the CA file .*ca\.crt holds no PEM certificate")
