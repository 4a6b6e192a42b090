"""What is deployed fits together: names, labels, ports, flags, files and rights. No cluster is needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tests import quick_yaml
from tests.deploy.composed import (
    CLUSTER_SCOPED,
    DEPLOY,
    ENVOY,
    OVERLAYS,
    ROOT,
    Json,
    composed,
    containers,
    documents,
    helm,
    one,
    pods,
    templated,
    with_component,
)
from xds.addresses import parse_address, tcp_port
from xds.cli.arguments import COMMANDS, parse
from xds.config import Flags, has_dashboard
from xds.kube.apiserver.apiserver import resources
from xds.kube.apiserver.reflector import Watched
from xds.replicas.peers import fleet_name
from xds.replicas.shared_certificate import secret_name
from xds.report.lookup import are_of_nodes

SETS = (*OVERLAYS, *(f"chart {mode}" for mode in ("hostnetwork", "loadbalancer", "nodeport", "none")))
SETS_WITH_METRICS = ("hostnetwork with metrics", "sidecar with metrics", "chart nodeport with metrics")


@pytest.fixture(params=(*SETS, *SETS_WITH_METRICS), scope="module")
def objects(request: pytest.FixtureRequest) -> list[Json]:
    """All that an overlay, or the chart in one of its modes, deploys; with metrics of requests or without."""
    name = request.param.removesuffix(" with metrics")
    with_metrics = name != request.param
    kind, _, mode = name.partition(" ")
    if kind != "chart":
        made = composed(DEPLOY / "overlays" / kind)
        component = DEPLOY / "metrics" / ("sidecar" if kind == "sidecar" else "")
        return with_component(component, made) if with_metrics else made
    binary = helm()
    if binary is None:
        pytest.skip("there is no helm: `make kube` builds one")
    return templated(binary, f"mode={mode}", *(["metrics.enabled=true"] if with_metrics else []))


def labels_match(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def ports(pod: Json) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for each in containers(pod) for port in each.get("ports", ())}


def arguments(container: Json) -> list[str]:
    """What a container of ours is told, with its variables filled in."""
    values = {"POD_NAME": "pod-1", "POD_NAMESPACE": "ingress-xds"}
    known = {variable["name"] for variable in container.get("env", ())}
    return [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]] if found[1] in known else found[0], each) for each in container["args"]]


def ours(objects: list[Json]) -> Iterator[tuple[str, Json, Json]]:
    """Each container that runs `xds`, with its pod."""
    for name, pod in pods(objects):
        for container in containers(pod):
            if container["image"].startswith("xds-ingress:"):
                yield f"{name}/{container['name']}", pod, container


def settings(container: Json) -> Flags:
    command, *words = arguments(container)
    return parse(command, words, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "ingress-xds", "POD_NAME": "pod-1"}).settings


def of_command(objects: list[Json], command: str) -> Json:
    """A container that runs a command of ours."""
    return next(container for _, _, container in ours(objects) if container["args"][0] == command)


@pytest.mark.parametrize(
    "path", sorted(set(DEPLOY.glob("**/*.yaml")) - set(DEPLOY.glob("**/templates/*"))), ids=lambda path: str(path.relative_to(DEPLOY))
)
def test_each_file_is_yaml_without_a_key_written_twice(path: Any) -> None:
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a key stands twice"
            return super().construct_mapping(node, deep)

    assert list(yaml.load_all(path.read_text(), Strict))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_composed_here_is_composed_by_kustomize(overlay: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "overlays" / overlay)], capture_output=True, text=True, check=True, timeout=120
    )

    def by_name(objects: list[Json]) -> dict[tuple[str, str], Json]:
        return {(item["kind"], item["metadata"]["name"]): item for item in objects}

    assert by_name(composed(DEPLOY / "overlays" / overlay)) == by_name(list(quick_yaml.safe_load_all(done.stdout)))


@pytest.mark.parametrize("mode", ["hostnetwork", "loadbalancer", "nodeport"])
def test_the_chart_makes_the_objects_of_the_overlay(mode: str) -> None:
    """But for the namespace, and for what helm needs: labels of its own, a Job for each revision."""
    binary = helm()
    if binary is None:
        pytest.skip("there is no helm: `make kube` builds one")
    wanted = [item for item in composed(DEPLOY / "overlays" / mode) if item["kind"] != "Namespace"]
    assert _plain(templated(binary, f"mode={mode}")) == _plain(wanted)
    with_metrics = with_component(DEPLOY / "metrics", wanted)
    assert _plain(templated(binary, f"mode={mode}", "metrics.enabled=true")) == _plain(with_metrics)


def _plain(objects: list[Json]) -> dict[tuple[str, str], Any]:
    found = {(item["kind"], re.sub(r"-1$", "", item["metadata"]["name"])): _without_helm(item) for item in objects}
    found["Job", "xds-certgen"]["metadata"]["name"] = "xds-certgen"
    return found


def _without_helm(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_helm(each) for each in value]
    if isinstance(value, str):
        return value.replace("app.kubernetes.io/instance=xds,", "")
    if not isinstance(value, dict):
        return value
    extra = ("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart", "imagePullPolicy")
    return {key: _without_helm(each) for key, each in value.items() if key not in extra}


def test_no_two_objects_have_one_name(objects: list[Json]) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_everything_is_in_one_namespace_and_says_whose_it_is(objects: list[Json]) -> None:
    for item in objects:
        expected = None if item["kind"] in CLUSTER_SCOPED else "ingress-xds"
        assert item["metadata"].get("namespace") == expected, item["metadata"]["name"]
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] in ("xds", "example")


def test_selectors_find_the_pods_that_they_are_for(objects: list[Json]) -> None:
    """A controller its own pods; a Service, a policy and a budget those whose component they bear."""
    templates = dict(pods(objects))
    for item in objects:
        spec, named = item.get("spec", {}), f"{item['kind']}/{item['metadata']['name']}"
        selector = spec.get("podSelector") or spec.get("selector")
        if not selector:
            continue
        selector = selector.get("matchLabels", selector)
        found = {name for name, pod in templates.items() if labels_match(selector, pod["metadata"]["labels"])}
        component = item["metadata"]["labels"].get("app.kubernetes.io/component")
        expected = {
            name
            for name, pod in templates.items()
            if (name == named if named in templates else pod["metadata"]["labels"].get("app.kubernetes.io/component") == component)
        }
        assert found == expected, named
        assert found, named


def test_replicas_are_spread_over_the_machines_of_their_own(objects: list[Json]) -> None:
    template = one(objects, "Deployment", "xds")["spec"]["template"]
    for constraint in template["spec"]["topologySpreadConstraints"]:
        assert labels_match(constraint["labelSelector"]["matchLabels"], template["metadata"]["labels"])


def test_ports_are_named_where_they_are_there(objects: list[Json]) -> None:
    """Of Services, policies and probes: a container of the pod has a port of that name."""
    templates = [pod for _, pod in pods(objects)]
    for item in objects:
        if item["kind"] not in ("Service", "NetworkPolicy"):
            continue
        spec = item["spec"]
        selector = spec["selector"] if item["kind"] == "Service" else spec["podSelector"]["matchLabels"]
        (pod,) = [each for each in templates if labels_match(selector, each["metadata"]["labels"])][:1]
        named = [port["targetPort"] for port in spec.get("ports", ())]
        named += [port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]]
        assert set(named) <= ports(pod).keys(), item["metadata"]["name"]
    for pod in templates:
        probed = [each[kind]["httpGet"]["port"] for each in containers(pod) for kind in each if kind.endswith("Probe")]
        assert set(probed) <= ports(pod).keys()


def test_what_runs_xds_is_told_what_it_understands(objects: list[Json]) -> None:
    """Every flag exists for its command, and every value can be read."""
    commands = set()
    for name, _, container in ours(objects):
        assert container["args"][0] in COMMANDS, name
        command, *words = arguments(container)
        environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "ingress-xds"}
        assert parse(command, words, environment).notices == (), name
        assert not [word for word in words if "$(" in word], name
        commands.add(command)
    assert {"serve", "certgen"} <= commands


def test_ports_in_flags_are_those_of_the_containers(objects: list[Json]) -> None:
    template = one(objects, "Deployment", "xds")["spec"]["template"]
    said = settings(of_command(objects, "serve"))
    xds, webhook = (int(address.rpartition(":")[2]) for address in (said.xds_address, said.validating_webhook))
    assert ports(template) == {"xds": xds, "health": said.healthz_port, "webhook": webhook}
    for _, pod in pods(objects):
        if (boot := next((each for each in containers(pod) if each["name"] == "bootstrap"), None)) is None:
            continue
        found, asked = ports(pod), settings(boot)
        assert found["probe"] == int(asked.probe_address.rpartition(":")[2]) == int(said.probe_address.rpartition(":")[2])
        assert (found["http"], found["https"]) == (said.http_port, said.https_port)


def test_the_dashboard_is_on_the_loopback_of_its_pod_and_no_port_of_anything(objects: list[Json]) -> None:
    said = settings(of_command(objects, "serve"))
    address = parse_address(said.dashboard_address)
    assert has_dashboard(said)
    assert address.loopback
    assert address.port not in ports(one(objects, "Deployment", "xds")["spec"]["template"]).values()
    assert f"{address.port}" not in json.dumps([item for item in objects if item["kind"] in ("Service", "NetworkPolicy")])


def test_the_admin_page_is_a_socket_in_a_folder_of_the_envoy_alone(objects: list[Json]) -> None:
    """What listens on a port can be made a backend; and in the network of a node every program of the node gets there."""
    for name, pod in pods(objects):
        if (boot := next((each for each in containers(pod) if each["name"] == "bootstrap"), None)) is None:
            continue
        path = PurePosixPath(settings(boot).admin_address.removeprefix("unix:"))
        assert f"${{ADMIN_SOCKET:-{path}}}" in (ENVOY / "drain.sh").read_text()
        mounts = [(c["name"], m) for c in containers(pod) for m in c.get("volumeMounts", ()) if m["mountPath"] == str(path.parent)]
        ((container, mount),) = mounts
        assert (container, mount.get("readOnly", False)) == ("envoy", False), name
        (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == mount["name"]]
        assert set(volume) == {"name", "emptyDir"}
        assert [c["name"] for c in containers(pod) for m in c.get("volumeMounts", ()) if m["name"] == mount["name"]] == ["envoy"]


def test_the_authorisation_service_is_beside_each_envoy(objects: list[Json]) -> None:
    """It has the identity of its Envoy, which finds it on a socket that they share. It ends after Envoy, which asks it while it drains."""
    for name, pod in pods(objects):
        named = {each["name"]: each for each in containers(pod)}
        if "envoy" not in named:
            continue
        authz, boot = settings(named["authz"]), settings(named["bootstrap"])
        assert authz.authz_address == boot.authz_address, name
        same = ("node_id", "node_cluster", "xds_address", "xds_tls_cert", "xds_tls_key", "xds_tls_ca", "xds_server_name")
        assert [getattr(authz, field) for field in same] == [getattr(boot, field) for field in same], name
        assert named["authz"] in pod["spec"]["initContainers"], name
        assert named["authz"]["restartPolicy"] == "Always", name
        folder = str(PurePosixPath(authz.authz_address.removeprefix("unix:")).parent)
        mounted = {each: m for each, c in named.items() for m in c.get("volumeMounts", ()) if m["mountPath"] == folder}
        assert set(mounted) == {"authz", "envoy"}, name
        (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == mounted["authz"]["name"]]
        assert set(volume) == {"name", "emptyDir"}


def test_metrics_are_where_prometheus_is_sent(objects: list[Json]) -> None:
    for name, pod in pods(objects):
        told = {key.partition("/")[2]: value for key, value in pod["metadata"].get("annotations", {}).items()}
        if told:
            path = "/metrics" if name == "Deployment/xds" or "metrics" in ports(pod) else "/stats/prometheus"
            port = ports(pod)["health" if name == "Deployment/xds" else "metrics" if "metrics" in ports(pod) else "probe"]
            assert told == {"scrape": "true", "port": str(port), "path": path}


def test_what_envoy_counts_is_served_beside_it(objects: list[Json]) -> None:
    """The exporter asks on a socket in a folder that it shares with its Envoy alone, on a port that the network lets in."""
    told = settings(of_command(objects, "serve"))
    counts = told.enable_metrics
    for name, pod in pods(objects):
        named = {each["name"]: each for each in containers(pod)}
        if "envoy" not in named:
            continue
        boot = settings(named["bootstrap"])
        assert ("metrics" in named) is counts is bool(boot.stats_address), name
        if counts:
            said = settings(named["metrics"])
            assert said.stats_address == boot.stats_address
            assert (said.controller_pod, said.controller_namespace, said.controller_class) == (
                "pod-1",
                "ingress-xds",
                "k8s.io/ingress-nginx",
            )
            assert told.metrics_address == said.metrics_address
            assert int(said.metrics_address.rpartition(":")[2]) == ports(pod)["metrics"] == 10254
            folder = str(PurePosixPath(said.stats_address.removeprefix("unix:")).parent)
            mounted = {each: m for each, c in named.items() for m in c.get("volumeMounts", ()) if m["mountPath"] == folder}
            assert set(mounted) == {"metrics", "envoy"}
            assert named["metrics"]["restartPolicy"] == "Always"
            policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
            over = [spec for spec in policies if labels_match(spec["podSelector"].get("matchLabels", {}), pod["metadata"]["labels"])]
            assert all("metrics" in [port["port"] for rule in spec["ingress"] for port in rule["ports"]] for spec in over), name
            assert bool(over) is (name == "DaemonSet/xds-envoy"), "the pods of an application have policies of their own"


def test_envoys_find_the_service_by_the_name_that_its_certificate_bears(objects: list[Json]) -> None:
    made, said = settings(of_command(objects, "certgen")), settings(of_command(objects, "serve"))
    service = one(objects, "Service", "xds")
    name = service["metadata"]["name"]
    assert made.xds_server_names == (name, f"{name}.ingress-xds.svc")
    assert made.xds_client_names == said.xds_client_names != ()
    for name, _, container in ours(objects):
        if container["args"][0] == "bootstrap":
            address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            assert settings(container).xds_address == address, name


def test_secrets_that_are_mounted_are_those_that_certgen_makes(objects: list[Json]) -> None:
    made = settings(of_command(objects, "certgen"))
    mounted = {}
    for name, pod in pods(objects):
        for volume in pod["spec"].get("volumes", ()):
            if "secret" in volume:
                mounted[name] = volume["secret"]["secretName"]
                assert volume["secret"]["defaultMode"] == 0o440
                assert pod["spec"]["securityContext"]["fsGroup"]
    assert mounted.pop("Deployment/xds") == made.server_secret
    assert set(mounted.values()) <= {made.client_secret}
    assert made.authority_secret not in mounted.values()


def test_files_in_flags_are_in_what_is_mounted(objects: list[Json]) -> None:
    """Envoy reads what the bootstrap names: it has the same mounts at the same places."""
    for name, pod in pods(objects):
        for container in containers(pod):
            if container["args"][:1] not in (["serve"], ["bootstrap"], ["authz"]) if "args" in container else True:
                continue
            said = settings(container)
            reader = container if container["args"][0] != "bootstrap" else next(each for each in containers(pod) if each["name"] == "envoy")
            places = {mount["mountPath"] for mount in reader["volumeMounts"]}
            files = [str(path.parent) for path in (said.xds_tls_cert, said.xds_tls_key, said.xds_tls_ca) if path]
            assert len(files) == 3
            assert {*files, *([str(said.output_dir)] if said.output_dir else [])} <= places, name
            assert {path.name for path in (said.xds_tls_cert, said.xds_tls_key, said.xds_tls_ca) if path} == {
                "tls.crt",
                "tls.key",
                "ca.crt",
            }


def test_only_pods_with_the_label_may_come_to_the_control_plane(objects: list[Json]) -> None:
    rule = one(objects, "NetworkPolicy", "xds")["spec"]["ingress"][0]
    assert [port["port"] for port in rule["ports"]] == ["xds"]
    on_host = any(pod["spec"].get("hostNetwork") for _, pod in pods(objects))
    assert ("from" in rule) is not on_host
    for name, pod in pods(objects):
        has_envoy = any(each["name"] == "envoy" for each in containers(pod))
        if "from" in rule:
            (peer,) = rule["from"]
            assert labels_match(peer["podSelector"]["matchLabels"], pod["metadata"]["labels"]) is has_envoy, name


def test_config_maps_in_flags_are_there(objects: list[Json]) -> None:
    said = settings(of_command(objects, "serve"))
    maps = {f"ingress-xds/{item['metadata']['name']}" for item in objects if item["kind"] == "ConfigMap"}
    assert {said.configmap, said.tcp_services_configmap, said.udp_services_configmap} == maps


def test_the_class_is_the_one_that_is_served(objects: list[Json]) -> None:
    said = settings(of_command(objects, "serve"))
    assert one(objects, "IngressClass", said.ingress_class)["spec"]["controller"] == said.controller_class


def test_the_published_service_is_there_or_nodes_may_be_listed(objects: list[Json]) -> None:
    said = settings(of_command(objects, "serve"))
    if said.publish_service:
        name = said.publish_service.partition("/")[2]
        assert one(objects, "Service", name)["spec"]["externalTrafficPolicy"] == "Local"
    elif said.update_status:
        wanted = dict(term.split("=") for term in said.envoy_pods.split(","))
        assert labels_match(wanted, one(objects, "DaemonSet", "xds-envoy")["spec"]["template"]["metadata"]["labels"])
        assert {(verb, "", what, "") for verb in ("list", "watch") for what in ("nodes", "pods")} <= rights(objects, "xds")


def rights(objects: list[Json], account: str) -> set[tuple[str, str, str, str]]:
    """Verb, API group, resource and name ("" for any) that a ServiceAccount may, cluster-wide or in its namespace."""
    found = set()
    for binding in objects:
        if (
            not binding["kind"].endswith("RoleBinding")
            or {"kind": "ServiceAccount", "name": account, "namespace": "ingress-xds"} not in (binding["subjects"])
        ):
            continue
        for rule in one(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])["rules"]:
            for verb in rule["verbs"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        found |= {(verb, group, resource, name) for name in rule.get("resourceNames", [""])}
    return found


def _needed(which: Watched) -> set[tuple[str, str, str, str]]:
    group = which.api_version.rpartition("/")[0]
    named = which.selector.partition("metadata.name=")[2]
    return {(verb, group, which.plural, named) for verb in ("list", "watch")}


def test_the_role_is_what_is_watched_and_written_and_nothing_else(objects: list[Json]) -> None:
    assert rights(objects, "xds") == needed_by(settings(of_command(objects, "serve")))


def needed_by(said: Flags) -> set[tuple[str, str, str, str]]:
    """The rights that the control plane uses with these flags."""
    needed = {right for which in resources(said) for right in _needed(which)}
    needed |= {(verb, "", "namespaces", "") for verb in ("list", "watch")}  # with --watch-namespace-selector
    needed |= {("get", "", "secrets", ""), ("get", "", "configmaps", ""), ("patch", "networking.k8s.io", "ingresses/status", "")}
    needed |= {("create", "", "events", ""), ("patch", "", "events", "")}
    needed |= {("create", "coordination.k8s.io", "leases", "")}
    leases = (said.election_id, fleet_name(said.election_id))
    needed |= {(verb, "coordination.k8s.io", "leases", name) for verb in ("get", "update") for name in leases}
    needed |= {("create", "", "secrets", ""), ("update", "", "secrets", secret_name(said.election_id))}
    if said.update_status and are_of_nodes(said):
        needed |= {(verb, "", what, "") for verb in ("list", "watch") for what in ("nodes", "pods")}
    if said.update_status and said.update_status_on_shutdown:
        needed.add(("list", "", "pods", ""))
    return needed


@pytest.mark.parametrize("overlay", ["loadbalancer", "nodeport"])
def test_the_patches_of_the_manual_give_flags_the_rights_that_they_take(overlay: str, tmp_path: Path) -> None:
    """Nothing more, and to nobody else."""
    text = (ROOT / "docs" / "install.md").read_text()
    (patches,) = [block for block in re.findall(r"(?m)(?:^    .*\n|^\n)+", text) if "kind: Role" in block]
    made = tmp_path / "kustomization.yaml"
    made.write_text(f"resources:\n- {DEPLOY / 'overlays' / overlay}\n{textwrap.dedent(patches)}")
    objects = composed(tmp_path)
    said = settings(of_command(objects, "serve"))
    assert said.election_id != Flags().election_id
    assert said.update_status_on_shutdown
    assert rights(objects, "xds") == needed_by(said)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_of_other_namespaces_take_no_other_rights(overlay: str) -> None:
    """Of --publish-service and --default-backend-service, with --watch-namespace."""
    objects = composed(DEPLOY / "overlays" / overlay)
    flags = ["--watch-namespace=shop", "--publish-service=edge/envoy", "--default-backend-service=pages/errors", "--update-status=true"]
    container = of_command(objects, "serve")
    said = settings(container | {"args": [*container["args"], *flags]})
    assert {each.namespace for each in resources(said)} >= {"shop", "edge", "pages"}
    assert {(*right[:3], "") for which in resources(said) for right in _needed(which)} <= {
        (*right[:3], "") for right in rights(objects, "xds")
    }


def test_certgen_may_write_its_three_secrets_and_the_authority_of_the_webhook(objects: list[Json]) -> None:
    made = settings(of_command(objects, "certgen"))
    names = (made.authority_secret, made.server_secret, made.client_secret)
    of_secrets = {("create", "", "secrets", "")} | {(verb, "", "secrets", name) for verb in ("get", "update") for name in names}
    webhooks = "admissionregistration.k8s.io", "validatingwebhookconfigurations", made.webhook_configuration
    assert rights(objects, "xds-certgen") == of_secrets | {(verb, *webhooks) for verb in ("get", "update")}


def test_the_api_server_asks_where_the_control_plane_listens_and_trusts_what_certgen_makes(objects: list[Json]) -> None:
    made, said = settings(of_command(objects, "certgen")), settings(of_command(objects, "serve"))
    (webhook,) = one(objects, "ValidatingWebhookConfiguration", made.webhook_configuration)["webhooks"]
    found = webhook["clientConfig"]["service"]
    service = one(objects, "Service", found["name"])
    assert f"{found['name']}.{found['namespace']}.svc" in made.xds_server_names
    (port,) = [port for port in service["spec"]["ports"] if port["port"] == found["port"]]
    assert ports(one(objects, "Deployment", "xds")["spec"]["template"])[port["targetPort"]] == tcp_port(said.validating_webhook)
    assert (said.validating_webhook_certificate, said.validating_webhook_key) == (said.xds_tls_cert, said.xds_tls_key)
    allowed = [
        port["port"] for rule in one(objects, "NetworkPolicy", "xds")["spec"]["ingress"] if "from" not in rule for port in rule["ports"]
    ]
    assert port["targetPort"] in allowed
    assert webhook["failurePolicy"] == "Ignore"


def test_only_who_needs_an_account_has_one_with_rights(objects: list[Json]) -> None:
    accounts = {item["metadata"]["name"]: item for item in objects if item["kind"] == "ServiceAccount"}
    for name, pod in pods(objects):
        account = pod["spec"].get("serviceAccountName")
        if pod["spec"].get("automountServiceAccountToken") is False:
            assert not account or not rights(objects, account), name
        else:
            assert account in accounts, name
            assert rights(objects, account), name


def test_every_container_has_as_little_as_can_be(objects: list[Json]) -> None:
    for name, pod in pods(objects):
        whole = pod["spec"]["securityContext"]
        assert whole["runAsNonRoot"] is True, name
        assert whole["runAsUser"] > 1000, name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["enableServiceLinks"] is False, name
        for container in containers(pod):
            context = container["securityContext"]
            added = ["NET_BIND_SERVICE"] if container["name"] == "envoy" else None
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]} | ({"add": added} if added else {}), container["name"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]


def test_pods_live_as_long_as_their_drain_takes(objects: list[Json]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            if container["name"] != "envoy":
                continue
            script, _, deadline = container["lifecycle"]["preStop"]["exec"]["command"]
            assert script == "/usr/local/bin/drain.sh"
            assert pod["spec"]["terminationGracePeriodSeconds"] > int(deadline), name
            drain = container["args"][container["args"].index("--drain-time-s") + 1]
            assert int(drain) >= int(deadline), name
    serving = one(objects, "Deployment", "xds")["spec"]["template"]["spec"]
    assert serving["terminationGracePeriodSeconds"] > settings(of_command(objects, "serve")).shutdown_grace_period + 5


def test_every_envoy_spends_no_time_on_fields_that_it_does_not_know(objects: list[Json]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            given = "--ignore-unknown-dynamic-fields" in container.get("args", ())
            assert given is (container["name"] == "envoy"), name


def test_envoy_keeps_below_its_limit_of_memory(objects: list[Json]) -> None:
    units = {"Gi": 2**30, "Mi": 2**20}
    for item in objects:
        if item["kind"] == "DaemonSet":
            boot, *_, envoy = containers(item["spec"]["template"])
            limit = envoy["resources"]["limits"]["memory"]
            assert 0.7 <= settings(boot).max_heap_bytes / (int(limit[:-2]) * units[limit[-2:]]) <= 0.85


def test_envoys_are_replaced_one_after_the_other_without_a_gap(objects: list[Json]) -> None:
    for item in objects:
        if item["kind"] == "DaemonSet":
            strategy = item["spec"]["updateStrategy"]["rollingUpdate"]
            on_host = item["spec"]["template"]["spec"].get("hostNetwork", False)
            assert (strategy["maxSurge"], strategy["maxUnavailable"]) == ((0, 1) if on_host else (1, 0))
            assert item["spec"]["template"]["spec"].get("dnsPolicy") == ("ClusterFirstWithHostNet" if on_host else None)


def test_the_two_pod_templates_of_certgen_are_one(objects: list[Json]) -> None:
    found = [pod for name, pod in pods(objects) if "certgen" in name]
    assert len(found) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_lets_in_what_is_deployed(overlay: str) -> None:
    objects = composed(DEPLOY / "overlays" / overlay)
    level = one(objects, "Namespace", "ingress-xds")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == ("privileged" if any(pod["spec"].get("hostNetwork") for _, pod in pods(objects)) else "restricted")


def test_the_namespace_stands_in_the_kustomizations_alone() -> None:
    """So that `namespace:` in an overlay of somebody's own moves everything."""
    for path in DEPLOY.glob("[!c]*/**/*.yaml"):
        if path.name not in ("kustomization.yaml", "namespace.yaml"):
            assert not [item for item in documents(path) if "ingress-xds" in str(item)], path
