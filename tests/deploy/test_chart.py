"""The chart: what its values may be, and that the schema knows every one of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import quick_yaml
from tests.deploy.composed import DEPLOY, Json, containers, helm, one, pods, templated
from xds import __version__

CHART = DEPLOY / "chart"
_WORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "type", "enum", "properties", "additionalProperties", "required", "items"),
    *("pattern", "minimum", "maximum", "minLength", "maxLength", "propertyNames"),
}
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def schema() -> Json:
    found: Json = json.loads((CHART / "values.schema.json").read_text())
    return found


def values() -> Json:
    found: Json = quick_yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def resolved(part: Json) -> Json:
    return schema()["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part


def parts(part: Json) -> Iterator[Json]:
    """Every schema within a schema."""
    yield part
    inner = [*part.get("properties", {}).values(), *part.get("$defs", {}).values()]
    inner += [part[key] for key in ("items", "additionalProperties", "propertyNames") if isinstance(part.get(key), dict)]
    for each in inner:
        yield from parts(each)


def test_the_schema_is_one() -> None:
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for part in parts(schema()):
        assert part.keys() <= _WORDS
        assert "$ref" in part or "enum" in part or "type" in part or "pattern" in part
        kinds = part.get("type", [])
        assert {kinds} if isinstance(kinds, str) else set(kinds) <= _TYPES.keys()
        resolved(part)


def _compare(part: Json, value: Any, where: str) -> None:
    part = resolved(part)
    if "enum" in part:
        assert value in part["enum"], where
        return
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    assert any(isinstance(value, _TYPES[kind]) for kind in kinds), where
    if "properties" in part and isinstance(value, dict):
        assert part.get("additionalProperties") is False, f"{where}: a value with a typing error would be taken"
        if part is not resolved({"$ref": "#/$defs/resources"}) and "requests" not in part["properties"]:
            assert part["properties"].keys() - {"global"} == value.keys(), where
        for key, each in value.items():
            _compare(part["properties"][key], each, f"{where}.{key}")


def test_the_schema_has_every_value_with_its_kind_and_no_other() -> None:
    _compare(schema(), values(), "values")


def test_the_chart_installs_this_version() -> None:
    chart = quick_yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


@pytest.fixture
def binary() -> str:
    found = helm()
    if found is None:
        pytest.skip("there is no helm: `make kube` builds one")
    return found


def test_helm_finds_nothing_to_complain_about(binary: str) -> None:
    done = subprocess.run([binary, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "wrong",
    ["mode=ingress", "controlPlane.electionID=A_b", "controlPlane.replica=3", "tcp.http=default/db:5432", "envoy.maxConnections=many"],
)
def test_a_value_that_cannot_be_is_refused(binary: str, wrong: str) -> None:
    command = [binary, "template", "xds", str(CHART), "--set", wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_a_stream_opens_its_port_wherever_it_has_to(binary: str) -> None:
    made = templated(binary, "mode=loadbalancer", "tcp.9000=default/db:5432", "udp.53=kube-system/dns:53")
    assert one(made, "ConfigMap", "xds-tcp-services")["data"] == {"9000": "default/db:5432"}
    opened = {(port["port"], port.get("protocol", "TCP")) for port in one(made, "Service", "xds-envoy")["spec"]["ports"]}
    assert opened == {(80, "TCP"), (443, "TCP"), (9000, "TCP"), (53, "UDP")}
    allowed = one(made, "NetworkPolicy", "xds-envoy")["spec"]["ingress"][0]["ports"]
    assert allowed[2:] == [{"port": 9000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]


def test_numbers_of_the_config_stay_as_they_are_written(binary: str) -> None:
    made = templated(binary, "config.proxy-body-size=10000000", "config.ssl-redirect=false")
    assert one(made, "ConfigMap", "xds-config")["data"] == {"proxy-body-size": "10000000", "ssl-redirect": "false"}


@pytest.mark.parametrize("mode", ["hostnetwork", "loadbalancer"])
def test_the_role_follows_the_values_that_take_rights(binary: str, mode: str) -> None:
    made = templated(binary, f"mode={mode}", "controlPlane.electionID=ours", "controlPlane.updateStatusOnShutdown=true")
    given = one(made, "Deployment", "xds")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--election-id=ours", "--update-status-on-shutdown=true"} <= set(given)
    rules = {(*rule["resources"], *rule.get("resourceNames", ())): rule["verbs"] for rule in one(made, "Role", "xds")["rules"]}
    assert rules["leases", "ours", "ours-fleet"] == ["get", "update"]
    assert rules["secrets", "ours-default-certificate"] == ["update"]
    assert rules["pods",] == (["list", "watch"] if mode == "hostnetwork" else ["list"])


def test_a_drain_that_ends_before_its_notice_is_refused(binary: str) -> None:
    """Else the grace period of the pod, which is made of the deadline, could end Envoy in the middle of the notice."""
    times = "envoy.drain.noticeSeconds=120,envoy.drain.deadlineSeconds=30"
    done = subprocess.run([binary, "template", "xds", str(CHART), "--set", times], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "cannot be less than envoy.drain.noticeSeconds" in done.stderr


_TEXTS = ("ingressClass.name", "ingressClass.controller", "controlPlane.priorityClassName", "envoy.priorityClassName")
_TEXTS += ("envoy.service.loadBalancerClass", "controlPlane.image.repository", "controlPlane.electionID", "nameOverride")


def texts(found: Any) -> Iterator[Any]:
    """All scalars of an object, of its fields that are text, and the words of flags."""
    for key, value in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(value, dict | list):
            yield from texts(value)
        elif isinstance(key, int) or key in _FIELDS:
            yield value


_FIELDS = {"name", "namespace", "controller", "priorityClassName", "loadBalancerClass", "image", "serviceAccountName", "secretName"}
_FIELDS |= {"app.kubernetes.io/instance"}


@pytest.mark.parametrize("text", ["123", "on", "null"])
def test_a_text_that_yaml_reads_as_something_else_stays_one(binary: str, text: str) -> None:
    given = [word for value in _TEXTS for word in ("--set-string", f"{value}={text}")]
    for mode in ("hostnetwork", "loadbalancer"):
        made = templated(binary, f"mode={mode}", "metrics.enabled=true", "podMonitor.enabled=true", more=[*given, f"--namespace={text}"])
        assert all(isinstance(each, str) for item in made for each in texts(item))
        assert {item["metadata"].get("namespace", text) for item in made} == {text}
        assert [item["metadata"]["name"] for item in made if item["kind"] == "IngressClass"] == [text]


def test_a_class_may_have_spaces_and_marks_in_its_controller(binary: str) -> None:
    made = templated(binary, "metrics.enabled=true", more=["--set-string", "ingressClass.controller=x #y: z"])
    args = [arg for _, pod in pods(made) for container in containers(pod) for arg in container["args"]]
    assert args.count("--controller-class=x #y: z") == 2


def test_annotations_of_pods_may_say_what_prometheus_is_to_do(binary: str) -> None:
    given = r"podAnnotations.prometheus\.io/scrape"
    flags = ["--set-string", f"controlPlane.{given}=false,envoy.{given}=false"]
    for metrics in ("true", "false"):
        made = templated(binary, f"metrics.enabled={metrics}", more=flags)
        for kind, name in (("Deployment", "xds"), ("DaemonSet", "xds-envoy")):
            annotations = one(made, kind, name)["spec"]["template"]["metadata"]["annotations"]
            assert annotations["prometheus.io/scrape"] == "false"
            assert annotations["prometheus.io/port"] in ("10254", "9902")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--election-id=ours", "electionID"),
        ("-update-status-on-shutdown", "updateStatusOnShutdown"),
        ("--update_status_on_shutdown=true", "updateStatusOnShutdown"),
    ],
)
def test_a_flag_that_would_lack_rights_is_refused_with_the_value_that_gives_them(binary: str, flag: str, value: str) -> None:
    command = [binary, "template", "xds", str(CHART), "--set", f"controlPlane.extraArgs={{--v=2,{flag}}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert f"set controlPlane.{value} instead" in done.stderr


def test_nodes_that_may_reach_the_control_plane_can_be_named(binary: str) -> None:
    made = templated(binary, "networkPolicy.nodeCIDRs={10.0.0.0/16}")
    rule = one(made, "NetworkPolicy", "xds")["spec"]["ingress"][0]
    assert rule == {"ports": [{"port": "xds"}], "from": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}


def test_certificates_can_come_from_somewhere_else(binary: str) -> None:
    made = templated(binary, "certgen.enabled=false")
    assert not [item["metadata"]["name"] for item in made if "certgen" in item["metadata"]["name"]]


def test_a_sync_of_argo_cd_makes_the_job_anew(binary: str) -> None:
    """It would else change a Job, which nobody can, and miss one that has ended."""
    (job,) = [item for item in templated(binary) if item["kind"] == "Job"]
    assert job["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("certgen.enabled=false", "and stores Ingresses unreviewed."),
        ("certgen.enabled=false,admission.failurePolicy=Fail", "and stores no Ingress."),
        ("certgen.enabled=false,admission.caBundle=QQ==", ""),
        ("certgen.enabled=false,admission.enabled=false", ""),
        ("certgen.enabled=true", ""),
    ],
)
def test_a_webhook_that_the_api_server_cannot_trust_is_warned_of(binary: str, values: str, told: str) -> None:
    command = [binary, "install", "xds", str(CHART), "--dry-run=client", "--set", values]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("WARNING: admission.caBundle is empty" in done.stdout) is bool(told)
    assert told in done.stdout


def test_every_value_has_an_effect() -> None:
    """A value that no template reads would be a promise that nobody keeps."""
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())

    def leaves(value: Any, way: str) -> Iterator[str]:
        if isinstance(value, dict) and value and not way.endswith(("image", "resources", "nodeSelector", "nodePorts")):
            for key, each in value.items():
                yield from leaves(each, f"{way}.{key}")
        else:
            yield way

    for way in leaves(values(), ".Values"):
        assert re.search(re.escape(way) + r"\b", text), way
