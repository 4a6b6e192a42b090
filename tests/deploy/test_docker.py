"""The Dockerfiles, by the rules that hadolint has too: nobody can build them here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.composed import DEPLOY, ENVOY, ROOT, composed, containers, pods

CONTROL_PLANE = DEPLOY / "Dockerfile"
OF_ENVOY = ENVOY / "Dockerfile"
FILES = (CONTROL_PLANE, OF_ENVOY)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, lines joined, comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
    joined = re.sub(r"\\\n\s*", "", text)
    return [(word, rest) for line in joined.splitlines() if line.strip() for word, _, rest in [line.strip().partition(" ")]]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    start = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


@pytest.fixture(params=FILES, ids=lambda path: path.parent.name)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_one_for_each_image_that_is_deployed() -> None:
    deployed = {c["image"].partition(":")[0] for _, pod in pods(composed(DEPLOY / "overlays" / "hostnetwork")) for c in containers(pod)}
    assert deployed == {"xds-ingress", "xds-ingress-envoy"}
    built = [re.search(r"(?m)^# +docker build -f (\S+) -t (\S+) +\.", path.read_text()) for path in FILES]
    assert [found and found.groups() for found in built] == [
        ("deploy/Dockerfile", "xds-ingress"),
        ("envoy/Dockerfile", "xds-ingress-envoy"),
    ]
    assert set(FILES) == set(DEPLOY.rglob("*Dockerfile")) | set(ENVOY.rglob("*Dockerfile"))


def test_the_last_stage_copies_what_others_built(file: Path) -> None:
    words = [word for word, _ in instructions(file)]
    assert words.count("FROM") == 2
    run = [rest for word, rest in last_stage(file) if word == "RUN"]
    installed = re.findall(r"apt-get install --yes --no-install-recommends (.*?) +&&", " ".join(run))
    assert (len(run), installed) == ((1, ["curl"]) if file == OF_ENVOY else (0, []))  # what drain.sh calls
    assert any(rest.startswith("--from=") for word, rest in last_stage(file) if word == "COPY")


def test_bases_have_a_version(file: Path) -> None:
    bases = [rest.split()[0] for word, rest in instructions(file) if word == "FROM"]
    assert all(re.fullmatch(r"docker\.io/library/[a-z]+:(\$\{PYTHON\}|[a-z0-9.-]*bookworm[a-z-]*)", base) for base in bases), bases
    assert not [rest for word, rest in instructions(file) if word == "ARG" and not rest.endswith("bookworm")]


def test_it_runs_as_the_user_of_the_manifests(file: Path) -> None:
    """By number: runAsNonRoot cannot judge a name."""
    (user,) = [rest for word, rest in last_stage(file) if word == "USER"]
    (deployed,) = {
        (pod["spec"]["securityContext"]["runAsUser"], pod["spec"]["securityContext"]["runAsGroup"])
        for _, pod in pods(composed(DEPLOY / "overlays" / "sidecar"))
    }
    assert user == "{}:{}".format(*deployed)


def test_what_is_copied_is_there(file: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in instructions(file):
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source.removeprefix('./')}" in ignored, f"{source} is kept from the builder by .dockerignore"


def test_the_ports_are_those_of_the_containers(file: Path) -> None:
    exposed = {int(port) for word, rest in last_stage(file) if word == "EXPOSE" for port in rest.split()}
    name = {CONTROL_PLANE: "xds", OF_ENVOY: "envoy"}[file]
    (container,) = [c for _, pod in pods(composed(DEPLOY / "overlays" / "hostnetwork")) for c in containers(pod) if c["name"] == name]
    assert exposed == {port["containerPort"] for port in container["ports"]}


def test_what_is_installed_is_what_was_tested(file: Path) -> None:
    for word, rest in instructions(file):
        if word == "RUN":
            for command in rest.split("&&"):
                assert "pip install" not in command or "--constraint requirements.lock" in command


def test_envoy_may_bind_low_ports_and_its_script_is_where_manifests_look() -> None:
    run, _ = [rest for word, rest in instructions(OF_ENVOY) if word == "RUN"]
    assert run.endswith("setcap cap_net_bind_service=+ep /usr/local/bin/envoy")
    copied = [rest for word, rest in last_stage(OF_ENVOY) if word == "COPY"]
    assert copied[1] == "--chmod=0755 envoy/drain.sh /usr/local/bin/drain.sh"
