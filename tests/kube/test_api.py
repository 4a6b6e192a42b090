"""The connection to the API server, before anything is asked."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import pytest
import yaml

from xds.certificates import default_certificate
from xds.config import Failure, Flags
from xds.kube.apiserver.api import Api


def kubeconfig(path: Path, certificate: bytes, key: bytes) -> Path:
    """One that holds its certificates and its key in itself, as those of most clusters do."""
    encoded = {name: base64.b64encode(pem).decode() for name, pem in (("certificate", certificate), ("key", key))}
    user = {"client-certificate-data": encoded["certificate"], "client-key-data": encoded["key"]}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": encoded["certificate"]}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def test_no_key_of_a_kubeconfig_stays_in_a_file(tmp_path: Path, scratch: Path) -> None:
    """Whatever ends the process; and credentials are read again as often as they are renewed."""
    api = Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", *default_certificate.make())))
    try:
        await api.open()
        assert files(scratch) == []
        await api.renew(api.renewals)
        assert files(scratch) == []
    finally:
        await api.close()


async def test_no_key_of_a_kubeconfig_that_cannot_be_used_stays_either(tmp_path: Path, scratch: Path) -> None:
    certificate, _ = default_certificate.make()
    _, other = default_certificate.make()
    with pytest.raises(Failure, match=r"^The kubeconfig .* cannot be used: "):
        await Api(Flags(kubeconfig=kubeconfig(tmp_path / "config", certificate, other))).open()
    assert files(scratch) == []
