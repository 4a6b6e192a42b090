"""`xds check` of what people have: files, standard input, charts, kustomizations, and repositories without what a cluster makes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.site import Say, write
from tests.envoy.harness.manifests import Manifest, endpoint_slice, ingress, service

TEMPLATE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n"
QUOTED = 'apiVersion: v1\nkind: Service\nmetadata:\n  name: "{{ .Release.Name }}"\n'
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "values.yaml": "replicas: 2\n",
    "compose.yaml": "services: {web: {}}\n",
}


def texts(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def typed(monkeypatch: pytest.MonkeyPatch, *objects: Manifest) -> None:
    """What is piped into the command."""
    raw = "\n---\n".join(map(json.dumps, objects)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_what_is_no_manifest_is_one_sentence_and_no_failure(say: Say, good: Path) -> None:
    said = say("check", texts(good, {**CHART, "list.yaml": "- 1\n- 2\n"}))
    assert said.code == 0
    assert said.out.splitlines() == [
        "Left out because they are no Kubernetes manifests: Chart.yaml, compose.yaml, list.yaml and 1 more file.",
        "No problems found: 2 Ingresses.",
    ]


@pytest.mark.parametrize("text", [TEMPLATE, QUOTED, "{{- if .Values.ingress.enabled }}\napiVersion: v1\n{{- end }}\n", "{% if a %}\n"])
def test_a_template_is_to_be_rendered_first(say: Say, good: Path, text: str) -> None:
    said = say("check", texts(good, {"templates/service.yaml": text}))
    assert said.code == 0
    advice = "render them first, for instance with `helm template CHART | xds check -`."
    assert said.out.splitlines()[0] == f"Left out as Helm templates: templates/service.yaml; {advice}"


def test_a_template_within_a_configmap_is_text_like_any_other(say: Say, good: Path) -> None:
    said = say(
        "check", texts(good, {"alerts.yaml": 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {t: "{{ .Labels.x }}"}\n'})
    )
    assert said.out == "No problems found: 2 Ingresses.\n"


def test_a_document_that_lost_its_kind_is_still_an_error(say: Say, good: Path) -> None:
    said = say("check", texts(good, {"typo.yaml": "apiVersion: v1\nknd: Service\nmetadata: {name: web}\n"}))
    assert said.code == 1
    assert "The document has no kind" in said.out


def test_a_file_is_read_by_itself(say: Say, good: Path) -> None:
    said = say("check", good / "ingress-web.json")
    assert said.code == 1
    assert "Service default/web does not exist" in said.out
    assert f"Ingress default/web  {good}/ingress-web.json:1" in said.out


def test_folders_and_files_are_read_together(say: Say, good: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.json"
    more.write_text(json.dumps(ingress("more", "m.example.com", {"/": ("web", 80)})))
    assert say("check", good, more) == (0, "No problems found: 3 Ingresses.\n", "")
    said = say("check", good, more, good / "ingress-web.json")
    assert said.code == 1
    assert "This Ingress is defined at ingress-web.json:1 already, which counts; remove one of the two." in said.out


def test_standard_input_is_read_as_a_file(say: Say, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, ingress("piped", "p.example.com", {"/": ("web", 80), "/gone": ("gone", 80)}), service("other"))
    said = say("check", good, "-")
    assert said.code == 1
    assert "Ingress default/piped  (standard input):1" in said.out
    assert said.out.endswith("1 error, 0 warnings, 0 notes in 3 Ingresses.\n")


def test_explain_and_translate_take_files_as_well(say: Say, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, ingress("piped", "p.example.com", {"/": ("web", 80)}), service("web"), endpoint_slice("web", [("10.0.0.1", 8080)]))
    assert "Ingress default/piped" in say("explain", "http://p.example.com/", "-").out
    assert say("translate", good / "service-web.json").code == 0


def test_a_file_that_is_not_there_is_one_sentence(say: Say, tmp_path: Path) -> None:
    said = say("check", tmp_path / "nothing.yaml")
    assert said == (1, "", f"xds check: There is no folder or file {tmp_path}/nothing.yaml.\n")


def kustomized(folder: Path) -> Path:
    """A base, and an overlay that patches it and has one of its objects again."""
    write(folder / "base", ingress("web", "a.example.com", {"/": ("web", 80)}), service("web"), endpoint_slice("web", [("10.0.0.1", 8080)]))
    patch = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\nspec:\n  rules:\n    - host: prod.example.com\n"
    files = {
        "base/kustomization.yaml": "resources: [ingress-web.json, service-web.json]\n",
        "prod/kustomization.yaml": "resources: [../base]\npatches:\n  - path: a-patch.yaml\n  - patch: |-\n      - op: remove\n",
        "prod/a-patch.yaml": patch,
        "prod/service-web.json": json.dumps(service("web")),
    }
    return texts(folder, files)


def test_patches_and_repeated_objects_of_kustomize_are_one_sentence(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").mkdir()
    monkeypatch.chdir(tmp_path)
    said = say("check", kustomized(tmp_path / "k"))
    assert said.code == 0
    assert said.out.splitlines() == [
        (
            "Kustomize builds what is in k/base, k/prod; 1 patch and 1 repeated object were left out. "
            "Check what comes out with `kubectl kustomize k/prod | xds check -`."
        ),
        "No problems found: 1 Ingress.",
    ]


def test_an_object_that_is_there_twice_beside_a_kustomization_stays_an_error(say: Say, tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    kustomized(tmp_path / "k")
    for name in ("one", "two"):
        texts(tmp_path / "k", {f"plain/{name}.json": json.dumps(service("other"))})
    said = say("check", tmp_path / "k")
    assert said.code == 1
    assert "Service default/other  plain/two.json:1" in said.out
    assert "1 patch and 1 repeated object were left out" in said.out


def test_a_kustomization_of_whole_objects_leaves_nothing_out(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k").mkdir()
    kustomized(tmp_path / "k")
    assert say("check", "k/base").out.splitlines()[0] == (
        "Kustomize builds what is in k/base. Check what comes out with `kubectl kustomize k/base | xds check -`."
    )


def test_several_patches_are_counted(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k").mkdir()
    folder = kustomized(tmp_path / "k")
    texts(
        folder / "prod", {"b.yaml": "- {op: remove, path: /x}\n", "kustomization.yaml": "patches: [{path: a-patch.yaml}, {path: b.yaml}]\n"}
    )
    assert "; 2 patches and 1 repeated object were left out. " in say("check", folder).out


def test_what_cannot_be_served_is_not_complained_of_twice(say: Say, good: Path) -> None:
    host = say("check", write(good, ingress("env", "${HOST}", {"/": ("web", 80)})))
    assert host.out.count("spec.rules[0].host") == 1
    assert host.out.endswith("1 error, 0 warnings, 0 notes in 3 Ingresses.\n")
    empty = say("check", write(good, {**ingress("void", "v.example.com", {}), "spec": {}}))
    assert "neither rules nor a default backend" in empty.out
    assert "An API server rejects an Ingress" not in empty.out
    (good / "ingress-void.json").unlink()
    write(good, ingress("env", "UPPER.example.com", {"/": ("web", 80)}))
    assert say("check", good).out.endswith("0 errors, 0 warnings, 1 note in 3 Ingresses.\n")


@pytest.mark.parametrize(("name", "text"), [("tsconfig.json", "{\n  // why\n  'a': {}\n}\n"), ("tabs.yaml", "a:\n\tb: 1\n")])
def test_what_cannot_be_read_and_names_no_kind_is_no_manifest(say: Say, good: Path, name: str, text: str) -> None:
    said = say("check", texts(good, {name: text}))
    assert (said.code, said.out.splitlines()[0]) == (0, f"Left out because they are no Kubernetes manifests: {name}.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_manifest_that_cannot_be_read_is_an_error(say: Say, good: Path, encoding: str) -> None:
    (good / "broken.yaml").write_bytes("apiVersion: v1\nkind: Service\nmetadata: {name: [web}\n".encode(encoding))
    assert say("check", good).code == 1


def test_a_file_that_was_named_is_a_manifest_even_where_it_cannot_be_read(say: Say, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [1, 2\n")
    said = say("check", tmp_path / "broken.yaml")
    assert said.code == 1
    assert f"File {tmp_path}/broken.yaml" in said.out


def test_an_empty_standard_input_is_no_success(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """What wrote it has failed: `helm template typo | xds check -`."""
    typed(monkeypatch)
    for command in (("check",), ("translate",), ("explain", "http://a.test/")):
        assert say(*command, "-") == (1, "", f"xds {command[0]}: Standard input is empty.\n")


def test_a_closed_standard_input_is_a_sentence(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert say("check", "-") == (1, "", "xds check: standard input is closed.\n")


def test_objects_that_are_there_twice_stay_an_error_without_kustomize(say: Say, tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    folder = kustomized(tmp_path / "k")
    (folder / "prod" / "kustomization.yaml").unlink()
    (folder / "base" / "kustomization.yaml").unlink()
    assert say("check", folder).code == 1


@pytest.mark.parametrize(
    "annotation", ["cert-manager.io/cluster-issuer: letsencrypt", "certmanager.k8s.io/issuer: x", 'kubernetes.io/tls-acme: "true"']
)
def test_a_secret_that_will_be_issued_is_no_error(say: Say, good: Path, annotation: str) -> None:
    name, _, value = annotation.partition(": ")
    written = ingress("web2", "w.example.com", {"/": ("web", 80)}, tls={"soon": ["w.example.com"]})
    written["metadata"].setdefault("annotations", {})[name] = value.strip('"')
    said = say("check", write(good, written))
    assert said.code == 0
    assert said.out.splitlines()[0] == "Not in the folder because they are issued in the cluster: default/soon."
    strict = say("check", "--strict", good)
    assert strict.code == 1
    assert "Secret default/soon does not exist" in strict.out


def test_a_secret_that_nobody_will_issue_is_an_error(say: Say, good: Path) -> None:
    written = ingress("web2", "w.example.com", {"/": ("web", 80)}, tls={"soon": ["w.example.com"]})
    written["metadata"].setdefault("annotations", {})["kubernetes.io/tls-acme"] = "false"
    assert say("check", write(good, written)).code == 1


SOPS = """\
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: secret}
data: {tls.crt: "ENC[AES256_GCM,data:1,iv:2,tag:3,type:str]", tls.key: "ENC[AES256_GCM,data:1,iv:2,tag:3,type:str]"}
sops: {version: 3.9.0}
"""


def test_a_secret_that_sops_encrypted_is_not_judged(say: Say, good: Path) -> None:
    write(good, ingress("web2", "w.example.com", {"/": ("web", 80)}, tls={"secret": ["w.example.com"]}))
    said = say("check", texts(good, {"secret.yaml": SOPS}))
    assert said.code == 0
    assert said.out.splitlines()[0] == "Encrypted with SOPS, so not judged: default/secret."
    strict = say("check", "--strict", good)
    assert strict.code == 1
    assert "ENC[" not in strict.out


ORDERS = {
    "certificate": "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: web}\nspec: {secretName: soon}\n",
    "external": "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: web}\nspec: {target: {name: soon}}\n",
    "external-by-name": "apiVersion: external-secrets.io/v1beta1\nkind: ExternalSecret\nmetadata: {name: soon}\nspec: {}\n",
    "sealed": "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: soon}\nspec: {encryptedData: {tls.key: AgA}}\n",
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_secret_that_an_object_in_the_folder_orders_is_no_error(say: Say, good: Path, name: str) -> None:
    write(good, ingress("web2", "w.example.com", {"/": ("web", 80)}, tls={"soon": ["w.example.com"]}))
    assert say("check", good).code == 1
    said = say("check", texts(good, {"order.yaml": ORDERS[name]}))
    assert said.code == 0
    assert said.out.splitlines()[0] == "Not in the folder because they are issued in the cluster: default/soon."
    strict = say("check", "--strict", good)
    assert strict.code == 1
    assert "has this Secret made in the cluster" in strict.out


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_for_another_secret_changes_nothing(say: Say, good: Path, name: str) -> None:
    folder = texts(good, {"order.yaml": ORDERS[name].replace("soon", "other")})
    assert say("check", folder) == (0, "No problems found: 2 Ingresses.\n", "")
    write(folder, ingress("web2", "w.example.com", {"/": ("web", 80)}, tls={"soon": ["w.example.com"]}))
    assert say("check", folder).code == 1


@pytest.mark.parametrize(("version", "kind", "meant"), [("networking.k8s.io/v1", "Ingres", "Ingress"), ("v1", "Configmap", "ConfigMap")])
def test_a_misspelt_kind_is_an_error(say: Say, good: Path, version: str, kind: str, meant: str) -> None:
    said = say("check", texts(good, {"typo.yaml": f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n"}))
    assert said.code == 1
    assert f"{version} has no kind '{kind}'; did you mean {meant}?" in said.out


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "ServiceAccount"),
        ("v1", "Pod"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("v1", "SecretList"),
        ("example.com/v1", "Ingres"),
    ],
)
def test_other_kinds_are_nobodys_concern(say: Say, good: Path, version: str, kind: str) -> None:
    folder = texts(good, {"other.yaml": f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nitems: []\n"})
    assert say("check", folder) == (0, "No problems found: 2 Ingresses.\n", "")


def test_missing_endpointslices_are_said_once(say: Say, tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / "f", ingress(name, f"{name}.example.com", {"/": (name, 80), "/x": (name, 80)}), service(name))
    said = say("check", tmp_path / "f")
    assert said.code == 0
    assert said.out.splitlines() == [
        (
            "Without EndpointSlices in the folder, which a cluster makes, so endpoints were not judged: "
            "default/a, default/b, default/c and 1 more Service."
        ),
        "No problems found: 4 Ingresses.",
    ]
    assert say("check", "--strict", tmp_path / "f").out.count("has no ready endpoint") == 8


def test_ingresses_that_a_cluster_has_stored_may_come_without_the_rest(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ingress("a", "a.example.com", {"/": ("a", 80)}, {"use-regexp": "true"}, tls={"a": ["a.example.com"]})
    stored["metadata"]["uid"] = "6b1c4f0e-0000-4000-8000-000000000000"
    typed(monkeypatch, {"apiVersion": "v1", "kind": "List", "items": [stored]})
    said = say("check", "-")
    assert said.code == 0
    assert (
        "These Ingresses come from a cluster, without its Services and Secrets; so backends and certificates were not judged." in said.out
    )
    assert "use-regexp is no annotation" in said.out
    assert "does not exist" not in said.out
    typed(monkeypatch, stored, service("b"))
    assert "Service default/a does not exist" in say("check", "-").out
    typed(monkeypatch, stored)
    assert say("check", "-", "--strict").out.count("does not exist") == 2


def test_an_endpointslice_without_ready_endpoints_is_still_a_warning(say: Say, tmp_path: Path) -> None:
    write(tmp_path / "f", ingress("a", "a.example.com", {"/": ("a", 80)}), service("a"), endpoint_slice("a", []))
    assert "has no ready endpoint" in say("check", tmp_path / "f").out


def test_remarks_are_in_the_json_as_well(say: Say, good: Path) -> None:
    assert say("check", texts(good, CHART), "-o", "json").json["remarks"] == [
        "Left out because they are no Kubernetes manifests: Chart.yaml, compose.yaml, values.yaml."
    ]


def test_an_endpoint_where_a_server_may_be_asked_is_no_socket_of_ours(say: Say, tmp_path: Path) -> None:
    write(tmp_path / "f", ingress("a", "a.example.com", {"/": ("a", 80)}), service("a"), endpoint_slice("a", [("127.0.0.1", 18001)]))
    assert say("check", tmp_path / "f") == (0, "No problems found: 1 Ingress.\n", "")


def application(name: str) -> tuple[Manifest, Manifest]:
    return service(name), endpoint_slice(name, [("10.0.0.1", 8080)])


CANARY = {"canary": "true", "canary-weight": "10"}


def test_a_canary_whose_host_nobody_claims_may_be_deployed_apart(say: Say, tmp_path: Path) -> None:
    put = write(tmp_path / "m", *application("next"), ingress("next", "a.example.com", {"/": ("next", 80)}, CANARY))
    said = say("check", put)
    remark = "Without an Ingress in the folder that claims the host, so not judged: default/next (a.example.com)."
    assert (said.code, remark in said.out) == (0, True)
    assert say("check", put, "--strict").code == 1


def test_paths_that_ingress_nginx_would_give_to_a_canary_are_one_sentence(say: Say, tmp_path: Path) -> None:
    """There a canary holds for all paths to the Service of its primary; here for those that it names."""
    paths = {"/": ("web", 80), "/x": ("web", 80), "/other": ("next", 80)}
    put = write(
        tmp_path / "m",
        *application("web"),
        *application("next"),
        ingress("web", "a.example.com", paths),
        ingress("www", "www.example.com", {"/": ("web", 80)}),
        ingress("next", "a.example.com", {"/": ("next", 80)}, CANARY),
    )
    said = say("check", put)
    places = "a.example.com/x, www.example.com/"
    assert f"In ingress-nginx these get a share of a canary as well, as they lead to the Service of its primary: {places}." in said.out
    assert said.code == 0
    plain = write(tmp_path / "plain", *application("web"), ingress("web", "a.example.com", paths))
    assert "share of a canary" not in say("check", plain).out
