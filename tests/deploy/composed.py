"""What is deployed, as objects: kustomize's part is composed here as far as our files use it, the chart's by helm where there is one."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import quick_yaml

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ENVOY = ROOT / "envoy"
OVERLAYS = ("hostnetwork", "loadbalancer", "nodeport", "sidecar")
CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding", "IngressClass", "Namespace", "ValidatingWebhookConfiguration")
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches"}


def documents(path: Path) -> list[Json]:
    return [document for document in quick_yaml.safe_load_all(path.read_text()) if document]


def composed(folder: Path) -> list[Json]:
    """The objects of a kustomization: those of its resources in their namespace, patched (RFC 6902)."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    assert kustomization.keys() <= _KNOWN, f"{folder.name}: {kustomization.keys() - _KNOWN} is not composed here"
    objects = []
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        objects += composed(path) if path.is_dir() else documents(path)
    objects = copy.deepcopy(objects)
    for item in objects:
        if namespace := kustomization.get("namespace"):
            _place(item, namespace)
        _patch(item, kustomization)
    return objects


def with_component(folder: Path, objects: list[Json]) -> list[Json]:
    """The objects of a kustomization with a component that only patches, each of whose targets is there."""
    (component,) = documents(folder / "kustomization.yaml")
    assert component.keys() <= _KNOWN
    assert component["kind"] == "Component"
    objects = copy.deepcopy(objects)
    assert sum(_patch(item, component) for item in objects) == len(component["patches"])
    return objects


def _patch(item: Json, kustomization: Json) -> int:
    """Apply the patches for this object, and return how many there are."""
    found = [
        patch
        for patch in kustomization.get("patches", ())
        if (item["kind"], item["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"])
    ]
    for patch in found:
        for operation in quick_yaml.safe_load(patch["patch"]):
            _apply(item, operation)
    return len(found)


def _place(item: Json, namespace: str) -> None:
    if item["kind"] not in CLUSTER_SCOPED:
        item["metadata"]["namespace"] = namespace
    for subject in item.get("subjects", ()):
        subject["namespace"] = namespace
    for webhook in item.get("webhooks", ()):
        webhook["clientConfig"]["service"]["namespace"] = namespace


def _apply(item: Any, operation: Json) -> None:
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].removeprefix("/").split("/")]
    for part in way:
        item = item[int(part) if isinstance(item, list) else part]
    match operation["op"], item:
        case "add", list() if last == "-":
            item.append(operation["value"])
        case "add", dict():
            item[last] = operation["value"]
        case "replace", list():
            item[int(last)] = operation["value"]
        case "replace", dict():
            assert last in item, operation
            item[last] = operation["value"]
        case "remove", dict():
            del item[last]
        case _:
            raise AssertionError(f"{operation} is not composed here")


def helm() -> str | None:
    """Where helm is: on the path, or where `make kube` puts it."""
    built = Path.home() / ".cache" / "xds-ingress" / "kube" / "helm"
    return shutil.which("helm") or (str(built) if built.exists() else None)


def templated(binary: str, *values: str, more: Sequence[str] = ()) -> list[Json]:
    """The chart's objects as release `xds` in namespace `ingress-xds`; `more` are further words for helm."""
    command = [binary, "template", "xds", str(DEPLOY / "chart"), "--namespace", "ingress-xds"]
    command += [*(word for value in values for word in ("--set", value)), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, Loader=_Strict) if document]


class _Strict(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, as kustomize and others do that read what the chart makes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Json:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: {twice} twice"
        found: Json = super().construct_mapping(node, deep)
        return found


def pods(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Each pod template, with the kind and name of what makes pods of it."""
    for item in objects:
        named = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in ("Deployment", "DaemonSet", "Job"):
            yield named, item["spec"]["template"]
        elif item["kind"] == "CronJob":
            yield named, item["spec"]["jobTemplate"]["spec"]["template"]


def containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def one(objects: list[Json], kind: str, name: str) -> Json:
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found
