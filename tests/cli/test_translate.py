"""`xds translate`: resources without keys, and a static configuration that a real Envoy runs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples.apps import HttpApp
from tests import quick_yaml
from tests.cli.site import Say, certificate, good, write
from tests.envoy.harness import Site, fetch
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.manifests import config_map, endpoint_slice, ingress, secret, service
from tests.envoy.harness.tls import Certificate, Tls
from xds.nginx.registry import known_annotations
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET


def test_yaml_has_a_document_for_each_type_in_the_order_of_a_request(say: Say, good: Path) -> None:
    said = say("translate", good)
    assert (said.code, said.err) == (0, "")
    documents = list(quick_yaml.safe_load_all(said.out))
    assert [d["type_url"] for d in documents] == [LISTENER, ROUTE, CLUSTER, ENDPOINT, SECRET]
    assert [r["name"] for r in documents[2]["resources"]] == ["default/api/80", "default/web/80"]


def test_json_says_the_same_as_yaml(say: Say, good: Path) -> None:
    assert say("translate", good, "-o", "json").json == {
        "version": 1,
        "responses": list(quick_yaml.safe_load_all(say("translate", good).out)),
    }


def test_the_same_folder_gives_the_same_output(say: Say, good: Path) -> None:
    assert say("translate", good) == say("translate", good)


def test_private_keys_are_left_out(say: Say, tmp_path: Path) -> None:
    pair = certificate()
    said = say("translate", write(tmp_path / "m", *good(pair)))
    (secret,) = [r for r in list(quick_yaml.safe_load_all(said.out))[-1]["resources"] if r["name"] == "default/tls"]
    assert secret["tls_certificate"] == {
        "certificate_chain": {"inline_string": pair.cert_pem.decode()},
        "private_key": {"inline_string": "[redacted]"},
    }
    assert "PRIVATE KEY" not in said.out


def test_static_says_that_it_holds_keys(say: Say, tmp_path: Path) -> None:
    pair = certificate()
    said = say("translate", write(tmp_path / "m", *good(pair)), "--static", "-o", "json")
    assert said.err == "xds translate: the output holds private keys; keep it as safe as the Secrets that they are from.\n"
    assert json.dumps(pair.key_pem.decode())[1:-1] in said.out


def test_static_refers_to_no_management_server(say: Say, good: Path) -> None:
    made = say("translate", good, "--static", "-o", "json").json
    assert "dynamic_resources" not in made
    keys = set(_keys(made))
    assert not keys & {"ads", "rds", "eds_cluster_config", "tls_certificate_sds_secret_configs"}
    assert keys >= {"route_config", "load_assignment", "tls_certificates", "layered_runtime"}
    assert made["static_resources"]["clusters"][0]["name"] == "default/api/80"


def test_static_yaml_says_the_same_as_json_but_for_the_certificate_made_for_it(say: Say, good: Path) -> None:
    """YAML writes the route table once, however many listeners and certificates use it.

    The header that counts passages is named after the generated certificate, which is another one in each run.
    """
    words = ("translate", good, "--static", "--default-ssl-certificate", "default/tls")
    said = say(*words)
    as_yaml, as_json = (re.sub("(?i)x-passages-[0-9a-f]{16}", "x-passages", text) for text in (said.out, say(*words, "-o", "json").out))
    assert quick_yaml.safe_load(as_yaml) == json.loads(as_json)
    assert said.out.count("domains:") == 3  # the two hosts and the catch-all


def test_problems_are_counted_on_standard_error(say: Say, bad: Path) -> None:
    said = say("translate", bad)
    assert said.code == 0
    assert said.err == "xds translate: errors: 3, warnings: 1; `xds check` shows them.\n"


@pytest.mark.envoy
def test_envoy_accepts_the_static_form_of_everything_that_there_is(say: Say, tmp_path: Path) -> None:
    """Each annotation with its example, TCP and UDP, an ExternalName, certificates."""
    annotated = [
        ingress(f"e-{n}", f"e{n}.example.com", {"/x": ("web", 80)}, {name: annotation.example}, tls={"tls": []})
        for n, (name, annotation) in enumerate(sorted(known_annotations().items()))
    ]
    more = (
        ingress("away", "away.example.com", {"/": ("away", 80)}),
        service("away", external_name="example.org"),
        service("dns", 53, protocol="UDP"),
        endpoint_slice("dns", [("10.0.0.3", 53)], protocol="UDP"),
        config_map("tcp", {"5432": "default/web:80", "5433": "default/web:80:PROXY:PROXY"}),
        config_map("udp", {"5353": "default/dns:53"}),
    )
    folder = write(tmp_path / "m", *good(certificate()), *annotated, *more)
    flags = ["--tcp-services-configmap", "default/tcp", "--udp-services-configmap", "default/udp"]
    path = tmp_path / "envoy.yaml"
    path.write_text(say("translate", folder, "--static", *flags).out)
    found = subprocess.run([envoy_binary(), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


def verified(pair: Certificate) -> list[dict[str, Any]]:
    """Hosts where each side shows a certificate, and the Secret with who signs them."""
    to_backend = {"backend-protocol": "HTTPS", "proxy-ssl-secret": "default/ca", "proxy-ssl-verify": "on", "proxy-ssl-name": "web"}
    return [
        secret("ca", {"ca.crt": pair.cert_pem, "tls.crt": pair.cert_pem, "tls.key": pair.key_pem}),
        ingress("clients", "a.example.com", {"/c": ("web", 80)}, {"auth-tls-secret": "default/ca"}, tls={"tls": ["a.example.com"]}),
        ingress("backends", "b.example.com", {"/": ("web", 80)}, to_backend),
    ]


def test_who_signs_certificates_is_shown_without_any_key(say: Say, tmp_path: Path) -> None:
    pair = certificate()
    said = say("translate", write(tmp_path / "m", *good(pair), *verified(pair)))
    (found,) = [r for r in list(quick_yaml.safe_load_all(said.out))[-1]["resources"] if r["name"] == "authority:default/ca"]
    assert found["validation_context"] == {"trusted_ca": {"inline_string": pair.cert_pem.decode()}}
    assert "PRIVATE KEY" not in said.out


@pytest.mark.envoy
def test_the_static_form_has_the_certificates_of_backends_and_of_who_signs(say: Say, tmp_path: Path) -> None:
    pair = certificate()
    made = say("translate", write(tmp_path / "m", *good(pair), *verified(pair)), "--static", "-o", "json")
    assert not [key for key in _keys(made.json) if "sds" in key]
    assert [key for key in _keys(made.json) if key == "trusted_ca"] == ["trusted_ca"] * 2
    path = tmp_path / "envoy.json"
    path.write_text(made.out)
    found = subprocess.run([envoy_binary(), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.mark.envoy
async def test_envoy_answers_by_the_static_form_alone(say: Say, tmp_path: Path) -> None:
    pair = certificate()
    async with Site(tmp_path) as site:
        backend = endpoint_slice("web", [await site.run(HttpApp("web"))])
        folder = write(tmp_path / "m", *(o for o in good(pair) if o["kind"] != "EndpointSlice"), backend)
        http, https = ("127.0.0.1", site.ports.take()), ("127.0.0.1", site.ports.take())
        flags = ("--http-port", http[1], "--https-port", https[1], "--listen-address", "127.0.0.1")
        await site.static_envoy(say("translate", folder, "--static", *flags).out)
        wild = await fetch(http, "/", host="x.wild.example.com")
        assert (wild.status, wild.app) == (200, "web")
        redirect = await fetch(http, "/y", host="a.example.com")
        assert (redirect.status, redirect.header("location")) == (308, "https://a.example.com/y")
        secure = await fetch(https, "/y", host="a.example.com", tls=Tls(sni="a.example.com", roots=pair.cert_pem))
        assert (secure.status, secure.app) == (200, "web")


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []
