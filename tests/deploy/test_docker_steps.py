"""What the Dockerfiles do, done here as far as a machine without images can: names of packages, each RUN of the build, the entry points."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.deploy.composed import ROOT
from tests.deploy.test_docker import CONTROL_PLANE, FILES, OF_ENVOY, instructions, last_stage


def run(command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        ["sh", "-euc", command], cwd=cwd, check=False, capture_output=True, text=True, timeout=500, env={**os.environ, **variables}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def debian_packages(file: Path) -> set[str]:
    runs = " ".join(rest for word, rest in instructions(file) if word == "RUN")
    return {name for names in re.findall(r"apt-get install --yes --no-install-recommends (.*?) +&&", runs) for name in names.split()}


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="there is no apt")
@pytest.mark.parametrize("file", [file for file in FILES if debian_packages(file)], ids=lambda path: path.parent.name)
def test_debian_has_the_packages(file: Path) -> None:
    for name in sorted(debian_packages(file)):
        assert f"Package: {name}" in run(f"apt-cache show --no-all-versions {name}", ROOT)


def stage(file: Path, work: Path) -> None:
    """Do what the first stage does: what it copies is copied, what it runs is run, with folders of the image below `work`.

    The image's own Python is a new environment there.
    """
    source = work / "src"
    for folder in (source, work / "opt", work / "bin"):
        folder.mkdir()
    venv.create(work / "python", with_pip=file == OF_ENVOY)  # the other image makes an environment with one
    path = f"{work}/python/bin:{os.environ['PATH']}"
    for word, rest in instructions(file)[: -len(last_stage(file))]:
        if word == "COPY":
            *names, to = rest.split()
            for name in names:
                _copy(ROOT / name, source / to)
        elif word == "RUN":
            run(_inside(rest, work), source, PATH=path, PYTHONPATH="", PIP_NO_COMPILE="no")  # which is how pip spells that it is on


def _copy(what: Path, to: Path) -> None:
    """As COPY does: the content of a folder, or a file into a folder."""
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.mkdir(exist_ok=True)
        shutil.copy(what, to)


def _inside(command: str, work: Path) -> str:
    """A command that writes below `work`, without what needs root or a Debian of its own, and with pip's cache, which no image needs."""
    steps = [step.strip() for step in command.split("&&")]
    kept = [step for step in steps if not step.startswith(("apt-get", "rm -rf /var", "setcap"))]
    return " && ".join(kept).replace("--no-cache-dir ", "").replace("/opt/", f"{work}/opt/").replace("/usr/local/bin/", f"{work}/bin/")


def test_the_image_of_the_control_plane_starts_as_its_entry_point_says(tmp_path: Path) -> None:
    stage(CONTROL_PLANE, tmp_path)
    (entry,) = [json.loads(rest) for word, rest in last_stage(CONTROL_PLANE) if word == "ENTRYPOINT"]
    (path,) = [rest.split()[0].partition("=")[2] for word, rest in last_stage(CONTROL_PLANE) if word == "ENV"]
    variables = {"PATH": path.replace("/opt/", f"{tmp_path}/opt/").replace("$PATH", "/usr/bin:/bin"), "PYTHONPATH": ""}
    assert run(f"{entry[0]} version", Path("/"), **variables).startswith("xds ")
    assert "Usage: xds serve" in run(f"{entry[0]} serve --help", Path("/"), **variables)
    assert not (tmp_path / "opt" / "xds" / "bin" / "pip").exists()


@pytest.mark.envoy
def test_the_image_of_envoy_has_a_binary_that_starts_and_a_script_that_is_one(tmp_path: Path) -> None:
    stage(OF_ENVOY, tmp_path)
    assert "envoy  version" in run(f"{tmp_path}/bin/envoy --version", tmp_path)
    run(f"bash -n {ROOT / 'envoy' / 'drain.sh'}", tmp_path)
