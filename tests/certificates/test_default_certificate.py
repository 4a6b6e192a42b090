"""The certificate for hosts that have none, and the folder in which it is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.envoy.harness.tls import DAY, NOW, make_certificate
from xds.certificates import default_certificate
from xds.certificates.pairs import Pair, parse
from xds.config import Failure
from xds.kube.objects import Meta, Secret


def test_what_is_made_is_a_pair_that_envoy_takes() -> None:
    chain, key = default_certificate.make()
    found = parse(Secret(meta=Meta(namespace="", name="default"), data={"tls.crt": chain, "tls.key": key}))
    assert isinstance(found, Pair)
    assert found.names == ("ingress.local",)


def test_it_is_kept_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    first = default_certificate.keep(folder)
    assert default_certificate.keep(folder) == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {"default.crt": 0o600, "default.key": 0o600}


LASTING, ENDING = make_certificate(["a.test"], not_after=NOW + 40 * DAY), make_certificate(["a.test"], not_after=NOW + 20 * DAY)


@pytest.mark.parametrize(
    ("chain", "key", "kept"),
    [
        (LASTING.cert_pem, LASTING.key_pem, True),
        (ENDING.cert_pem, ENDING.key_pem, False),
        (LASTING.cert_pem, ENDING.key_pem, False),
        (LASTING.cert_pem, b"", False),
        (b"rubbish", LASTING.key_pem, False),
    ],
    ids=["lasts", "ends within a month", "key of another", "empty key", "rubbish"],
)
def test_another_is_made_where_the_kept_one_cannot_be_used_for_long(tmp_path: Path, chain: bytes, key: bytes, *, kept: bool) -> None:
    (tmp_path / "default.crt").write_bytes(chain)
    (tmp_path / "default.key").write_bytes(key)
    found = default_certificate.keep(tmp_path)
    assert (found == (chain, key)) is kept
    assert default_certificate.keep(tmp_path) == found


def test_a_folder_that_is_a_file_is_a_failure_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(Failure, match=r"--state-dir: .*/state cannot be used: File exists\."):
        default_certificate.keep(tmp_path / "state")
