"""The pages on installing, migrating and differences name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests import quick_yaml
from tests.deploy.composed import DEPLOY, ENVOY, ROOT, composed, containers, pods
from xds.cli.arguments import COMMANDS, parse
from xds.config import flags

GENERATED = ("flags.md", "annotations.md", "configmap.md", "metrics.md")
PAGES = (*sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED), ENVOY / "README.md")


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def lines(page: Path) -> list[str]:
    """Commands: lines of code, joined where they go on."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def flags_of_envoy() -> set[str]:
    """Those that the manifests give the Envoys."""
    found = [c for _, pod in pods(composed(DEPLOY / "overlays" / "sidecar")) for c in containers(pod) if c["name"] == "envoy"]
    return {word for container in found for word in container["args"] if word.startswith("--")}


def test_flags_in_the_text_are_flags(page: Path) -> None:
    known = {flag.name for flag in flags()} | {"--replicas"} | flags_of_envoy()
    for code in re.findall(r"`(--[a-z][^`]*)`", page.read_text()):
        assert re.split(r"[= ]", code)[0] in known, code


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_commands_of_ours_can_be_given_so(page: Path) -> None:
    for line in lines(page):
        if not line.startswith("xds "):
            continue
        text = re.sub(
            r"\$([A-Z]+)", lambda found: f"{found[1].lower()}.example.com", line.partition(" #")[0].replace("$(hostname)", "node")
        )
        _, command, *words = shlex.split(text)
        assert command in COMMANDS, line
        parse(command, words, {})


def test_values_of_the_chart_are_values(page: Path) -> None:
    values = quick_yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
    for line in lines(page):
        if "deploy/chart" not in line:
            continue
        for word in re.findall(r"--set(?:-json)? '?([A-Za-z.]+)=", line):
            found = values
            for part in word.split("."):
                assert part in found, word
                found = found[part]


def test_objects_that_are_named_are_deployed(page: Path) -> None:
    """`deployment/xds`, `daemonset/xds-envoy`, `cronjob/xds-certgen`: as kubectl takes them."""
    names = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in composed(DEPLOY / "overlays" / "hostnetwork")}
    for kind, name in re.findall(r"\b(deployment|daemonset|cronjob)/([-a-z]+)", page.read_text()):
        assert f"{kind}/{name}" in names or name.startswith("ingress-nginx"), f"{kind}/{name}"
