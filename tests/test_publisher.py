"""What the control plane makes of what the quarantine says: what it tells, and what it remembers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.web.site import SETTINGS, Site, ingress
from xds import state_dir
from xds.build.parts import Held, digest
from xds.build.record import decode
from xds.kube.objects import ref
from xds.snapshot import LISTENER, ROUTE, Part

HOST = Part(ROUTE, "ingress", "web.example.com")
HTTP = Part(LISTENER, "http")


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "xds"):
        yield


async def hold(site: Site, part: Part, words: str = "no") -> None:
    """What is there now counts as refused, and nothing takes its place."""
    publisher = site.control_plane._publisher
    refused = digest(site.control_plane._tables.values([part])[part])
    await publisher._obey({part: Held(refused, None, words)})


def parts(site: Site) -> set[Part]:
    return {Part(ROUTE, "ingress", host) for host in site.control_plane._tables.hosts.values}


async def test_what_is_held_is_a_problem_and_counted_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.put(ingress("web"))
    [host] = parts(site) - {HOST._replace(piece="")}
    await hold(site, host)
    assert site.values("xds_held_parts") == {("cds",): 0, ("eds",): 0, ("lds",): 0, ("rds",): 1, ("sds",): 0}
    [problem] = [p for p in site.control_plane._publisher.problems() if p.code.startswith("envoy-refused:")]
    assert problem.about.name == "web"
    await site.put(ingress("web", tls="other"))
    await site.put(drop=[problem.about])
    assert not site.control_plane._publisher.culprits
    assert site.values("xds_held_parts")["rds",] == 0
    assert "no longer: Ingress" in caplog.text


async def test_what_no_object_is_to_blame_for_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.put(ingress("web"))
    await hold(site, HTTP, "some words")
    assert 'Envoy refuses the listener "http", which no object is to blame for: some words' in caplog.text


async def test_what_is_held_is_remembered_and_recalled(tmp_path: Path) -> None:
    settings = replace(SETTINGS, state_dir=tmp_path / "state")
    first, second = Site(settings), Site(settings)
    for site in (first, second):
        await site.put(ingress("web"))
    [host] = parts(first) - {HOST._replace(piece="")}
    await hold(first, host)
    assert parts(second) != parts(first)
    await second.control_plane._recall()
    assert parts(second) == parts(first)
    assert second.control_plane._publisher.culprits == first.control_plane._publisher.culprits
    await first.put(drop=[ref(ingress("web"))])
    assert decode(state_dir.recall(tmp_path / "state")).held == {}


@pytest.mark.parametrize("body", [b"rubbish", b'{"version":2}', b"{}"])
async def test_a_record_that_cannot_be_read_is_told_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    state_dir.remember(tmp_path, body)
    await site.put(ingress("web"))
    await site.control_plane._recall()
    assert "cannot be read, so it will be found out anew" in caplog.text


async def test_a_folder_that_cannot_be_read_or_written_is_told_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    (tmp_path / "held.json").mkdir()
    await site.put(ingress("web"))
    await site.control_plane._recall()
    assert "--state-dir: what Envoy refused cannot be read" in caplog.text
    [host] = parts(site) - {HOST._replace(piece="")}
    await hold(site, host)
    assert "--state-dir: what Envoy refuses cannot be kept" in caplog.text
