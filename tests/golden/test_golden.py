"""Manifests and what becomes of them: one file a feature, read it to learn what the feature does.

Above the line are manifests, with flags in a comment (`# flags: --configmap ns/name`), below it what comes out: hosts with their routes,
clusters, endpoints, and Problems, as far as they are not the usual (`summary.py`); `# whole: Cluster default/web/80` adds a resource in
full. `<certificate a.example.com>` and `<key a.example.com>` stand for a certificate and its key, which are made by the test: no golden
file holds a key. `pytest tests/golden --update-golden` writes what comes out; read the diff.
"""

from __future__ import annotations

import base64
import functools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.envoy.harness.tls import NOW, make_certificate
from tests.golden.summary import summary, whole
from xds.cli.arguments import parse
from xds.offline import load

FOLDER = Path(__file__).parent
LINE = "# ---- what becomes of it ----\n"
CASES = sorted(FOLDER.glob("*.yaml"))
_OPTION = re.compile(r"^# (flags|whole): (.*)$", re.MULTILINE)
_PEM = re.compile(r"<(certificate|key) ([^>]*)>")


@functools.cache
def _pem(hosts: str) -> dict[str, bytes]:
    """A certificate for hosts with commas between; "expired" behind them makes it one that was good until yesterday."""
    names, _, expired = hosts.partition(" ")
    until = NOW - timedelta(days=1) if expired else NOW + timedelta(days=90)
    made = make_certificate(names.split(","), not_before=NOW - timedelta(days=30), not_after=until)
    return {"certificate": made.cert_pem, "key": made.key_pem}


def written(manifests: str, folder: Path) -> list[str]:
    """Writes the manifests of a case into a folder; returns what to give `xds translate`."""
    text = _PEM.sub(lambda found: base64.b64encode(_pem(found[2])[found[1]]).decode(), manifests)
    (folder / "case.yaml").write_text(text)
    return [str(folder), *(word for kind, words in _OPTION.findall(manifests) if kind == "flags" for word in words.split())]


def outcome(manifests: str, folder: Path) -> dict[str, Any]:
    """What becomes of the manifests of a case."""
    loaded = load(parse("translate", written(manifests, folder), {}).settings)
    resources = {name: whole(loaded, name) for kind, name in _OPTION.findall(manifests) if kind == "whole"}
    return summary(loaded) | ({"whole": resources} if resources else {})


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_manifests_become(case: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    manifests, _, before = case.read_text().partition(LINE)
    now = yaml.safe_dump(outcome(manifests, tmp_path), sort_keys=False, width=1000, allow_unicode=True)
    if pytestconfig.getoption("--update-golden"):
        case.write_text(manifests + LINE + now)
    else:
        assert now == before


def test_no_golden_file_holds_a_key() -> None:
    for case in CASES:
        assert "PRIVATE KEY" not in case.read_text()
        assert base64.b64encode(b"-----BEGIN").decode()[:12] not in case.read_text()
