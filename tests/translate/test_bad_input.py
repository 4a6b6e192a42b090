"""Whatever is in one object: a Problem names it and the field, and everything that others have is the same, byte for byte."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization

from tests.envoy.harness.manifests import PREFIX, config_map, endpoint_slice, ingress, secret, secret_tls, service
from tests.envoy.harness.tls import make_certificate
from xds.cli.arguments import parse
from xds.offline import Loaded, load
from xds.render.static import as_json
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET

Manifest = dict[str, Any]
WEB = ("web", 80)
FLAGS = ["--configmap=default/config", "--tcp-services-configmap=default/tcp"]
GOOD: tuple[Manifest, ...] = (
    ingress("good", "good.example.com", {"/": WEB}, tls={"good": ["good.example.com"]}, created="2026-01-01T00:00:00Z"),
    ingress("other", "other.example.com", {"/a": WEB, "/b": WEB}, {"rewrite-target": "/x"}, created="2026-01-01T00:00:00Z"),
    service("web"),
    endpoint_slice("web", [("10.0.0.1", 8080)]),
    secret_tls("good", make_certificate(["good.example.com"])),
)


class Case(NamedTuple):
    """What is wrong, and the Problems that say so: "Kind namespace/name" and the field, or the beginning of it."""

    objects: tuple[Manifest, ...]
    problems: tuple[tuple[str, str], ...]


def bad_host(host: str) -> Case:
    return Case((ingress("bad", host, {"/": WEB}),), (("Ingress default/bad", "spec.rules[0].host"),))


def bad_path(path: str, **annotations: str) -> Case:
    given = {name.replace("_", "-"): value for name, value in annotations.items()}
    return Case((ingress("bad", "bad.example.com", {path: WEB}, given),), (("Ingress default/bad", "spec.rules[0].http.paths[0].path"),))


def bad_annotation(name: str, value: str) -> Case:
    item = ingress("bad", "bad.example.com", {"/": WEB}, {name: value})
    return Case((item,), (("Ingress default/bad", f"metadata.annotations[{PREFIX}{name}]"),))


def bad_secret(content: Manifest, problem: tuple[str, str] = ("Ingress default/bad", "spec.tls[0].secretName")) -> Case:
    return Case((ingress("bad", "bad.example.com", {"/": WEB}, tls={"bad": ["bad.example.com"]}), content), (problem,))


def bad_backend(*objects: Manifest, port: int = 80, problem: tuple[str, str]) -> Case:
    return Case((ingress("bad", "bad.example.com", {"/": ("bad", port)}), *objects), (problem,))


def encrypted_key() -> bytes:
    key = serialization.load_pem_private_key(make_certificate(["bad.example.com"]).key_pem, None)
    how = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def tls(crt: bytes, key: bytes) -> Manifest:
    return secret("bad", {"tls.crt": crt, "tls.key": key}, kind="kubernetes.io/tls")


def made(name: str = "bad.example.com") -> tuple[bytes, bytes]:
    certificate = make_certificate([name])
    return certificate.cert_pem, certificate.key_pem


def not_base64() -> Manifest:
    found = tls(b"", b"")
    found["data"] = {"tls.crt": "%%%", "tls.key": "%%%"}
    return found


CASES: dict[str, Case] = {
    "no rules": Case((ingress("bad", "", {}),), (("Ingress default/bad", "spec"),)),
    "host with a port": bad_host("bad.example.com:8080"),
    "host with a slash": bad_host("bad.example.com/x"),
    "host with a space": bad_host("bad example.com"),
    "host with a control character": bad_host("bad\x00.example.com"),
    "host with a line break": bad_host("bad.example.com\n"),
    "host with a percent sign": bad_host("%REQ(:path)%"),
    "host with an empty label": bad_host("bad..example.com"),
    "host of 300 characters": bad_host("a." * 140 + "example.com"),
    "IDN host": bad_host("bücher.example.com"),
    "IDN host that cannot be encoded": bad_host("\ud7ff\u200d.example.com"),
    "host that is only a star": bad_host("*"),
    "the same path twice": Case(
        (ingress("bad", "bad.example.com", {"/": WEB}), ingress("worse", "bad.example.com", {"/": WEB})),
        (("Ingress default/bad", "spec.rules[0].http.paths[0].path"),),
    ),
    "a path that somebody has": Case(
        (ingress("bad", "good.example.com", {"/": WEB}),), (("Ingress default/bad", "spec.rules[0].http.paths[0].path"),)
    ),
    "path without slash": bad_path("x"),
    "path with a line break": bad_path("/x\r\nHost: y"),
    "path of 10 kB": bad_path("/" + "x" * 10_000),
    "invalid regular expression": bad_path("/(", use_regex="true"),
    "lookaround": bad_path("/(?=x)", use_regex="true"),
    "backreference": bad_path(r"/(x)\1", use_regex="true"),
    "regular expression of 10 kB": bad_path("/" + "(abc|def){3,9}" * 700, use_regex="true"),
    "repetition of repetitions": bad_path("/((a{100}){100}){100}", use_regex="true"),
    "control character in a value": bad_annotation("rewrite-target", "/x\x01"),
    "percent sign in a value": bad_annotation("rewrite-target", "/%REQ(authorization)%"),
    "dollar in a value": bad_annotation("rewrite-target", "/$host"),
    "value of 100 kB": bad_annotation("proxy-body-size", "9" * 100_000),
    "redirect that would inject a header": bad_annotation("permanent-redirect", "https://x/\r\nSet-Cookie: y"),
    "redirect with a format": bad_annotation("temporal-redirect", "https://x/%REQ(cookie)%"),
    "app-root that would inject a header": bad_annotation("app-root", "/x\r\nSet-Cookie: y"),
    "number that is none": bad_annotation("proxy-read-timeout", "1e9"),
    "number without end": bad_annotation("proxy-read-timeout", "9" * 30),
    "digits of another script": bad_annotation("proxy-read-timeout", "٣"),
    "unknown annotation": bad_annotation("no-such-thing", "x"),
    "address that is no IP": bad_backend(
        service("bad"),
        endpoint_slice("bad", [("10.0.0.1", 8080)]) | {"endpoints": [{"addresses": ["pod.example.com"]}]},
        problem=("EndpointSlice default/bad-1", "endpoints"),
    ),
    "endpoint port 0": bad_backend(
        service("bad"), endpoint_slice("bad", [("10.0.0.1", 0)]), problem=("EndpointSlice default/bad-1", "ports")
    ),
    "endpoint port 70000": bad_backend(
        service("bad"), endpoint_slice("bad", [("10.0.0.1", 70_000)]), problem=("EndpointSlice default/bad-1", "ports")
    ),
    "service port 0": bad_backend(service("bad", 0), problem=("Ingress default/bad", "spec.rules[0].http.paths[0].backend.service.port")),
    "backend without a port": bad_backend(
        service("bad"), port=0, problem=("Ingress default/bad", "spec.rules[0].http.paths[0].backend.service.port")
    ),
    "service port 70000": bad_backend(service("bad", 70_000), problem=("Service default/bad", "spec.ports[0].port")),
    "backend port 70000": bad_backend(
        service("bad"), port=70_000, problem=("Ingress default/bad", "spec.rules[0].http.paths[0].backend.service.port")
    ),
    "garbage for a certificate": bad_secret(tls(b"garbage", made()[1])),
    "garbage within PEM": bad_secret(tls(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", made()[1])),
    "key of another certificate": bad_secret(tls(made()[0], made()[1])),
    "encrypted key": bad_secret(tls(made()[0], encrypted_key())),
    "certificate for somebody else": bad_secret(tls(*made("other.example.org"))),
    "binary rubbish": bad_secret(tls(bytes(range(256)) * 40, bytes(range(255, -1, -1)))),
    "no base64": bad_secret(not_base64(), ("Secret default/bad", "data")),
    "secret of 2 MB": bad_secret(tls(b"x" * (2 << 20), b"y")),
    "ConfigMap of 10 MB": Case((config_map("config", {"hsts": "x" * (10 << 20)}),), (("ConfigMap default/config", "data[hsts]"),)),
    "ConfigMap with 10,000 unknown keys": Case(
        (config_map("config", {f"key-{n}": "x" * 1000 for n in range(10_000)}),),
        (("ConfigMap default/config", "data[key-0]"), ("ConfigMap default/config", "data")),  # a hundred one by one, the rest as one
    ),
    "stream of 10 MB": Case((config_map("tcp", {"5432": "x" * (10 << 20)}),), (("ConfigMap default/tcp", "data[5432]"),)),
    "name with a slash": Case((ingress("a/b", "bad.example.com", {"/": WEB}),), (("Ingress default/a/b", "metadata.name"),)),
}


def loaded(folder: Path, *objects: Manifest) -> Loaded:
    given = {(item["kind"], item["metadata"]["name"]) for item in objects}
    usual = [item for item in (config_map("config", {}), config_map("tcp", {})) if (item["kind"], item["metadata"]["name"]) not in given]
    for n, item in enumerate((*GOOD, *usual, *objects)):
        (folder / f"{n:03}.json").write_text(json.dumps(item))
    return load(parse("check", [str(folder), *FLAGS], {}).settings)


def good_parts(found: Loaded) -> dict[tuple[str, str], Any]:
    """Hashes of the bytes of what the good objects come to: a host is a part of its own, as is the filter chain of a certificate."""
    parts: dict[tuple[str, str], Any] = {
        (t, name): found.snapshot[t][name].version for t in (CLUSTER, ENDPOINT, SECRET) for name in found.snapshot[t] if "bad" not in name
    }
    parts |= {(LISTENER, "http"): found.snapshot[LISTENER]["http"].version}
    https = as_json(LISTENER, found.snapshot[LISTENER]["https"].body)
    parts |= {("chain", chain["name"]): chain for chain in https.pop("filter_chains", []) if "bad" not in chain["name"]}
    parts[LISTENER, "https"] = https
    hosts = found.tables.hosts.values
    parts |= {(ROUTE, name): hosts[name].digest for name in ("", "good.example.com", "other.example.com")}
    return parts


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    found = loaded(tmp_path_factory.mktemp("good"))
    assert [p for p in found.problems if p.severity.value == "error"] == []
    return good_parts(found)


@pytest.mark.parametrize("name", CASES)
def test_one_bad_object_harms_nobody_and_is_named(name: str, tmp_path: Path, good: dict[tuple[str, str], Any]) -> None:
    case = CASES[name]
    found = loaded(tmp_path, *case.objects)
    assert found.faults == ()
    assert good_parts(found) == good
    said = [(str(p.about), p.field) for p in found.problems]
    for about, field in case.problems:
        assert any(whose == about and which.startswith(field) for whose, which in said), said
    for problem in found.problems:
        assert len(problem.sentence) < 700
        assert "PRIVATE KEY" not in problem.sentence


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_keys_of_both_kinds_and_chains_of_several_certificates_are_served(kind: Any, tmp_path: Path) -> None:
    leaf, other = make_certificate(["bad.example.com"], key=kind), make_certificate(["Issuer"])
    around = b"subject: whatever\n" + leaf.cert_pem + b"\ngarbage between\n" + other.cert_pem
    content = tls(around, leaf.key_pem)
    found = loaded(tmp_path, ingress("bad", "bad.example.com", {"/": WEB}, tls={"bad": ["bad.example.com"]}), content)
    assert [p for p in found.problems if p.about.name == "bad" and p.severity.value == "error"] == []
    served = as_json(SECRET, found.snapshot[SECRET]["default/bad"].body)["tls_certificate"]["certificate_chain"]["inline_bytes"]
    assert base64.b64decode(served) == leaf.cert_pem + other.cert_pem


def test_a_host_in_upper_case_is_served(tmp_path: Path) -> None:
    found = loaded(tmp_path, ingress("upper", "UPPER.Example.com", {"/": WEB}))
    assert "upper.example.com" in found.tables.hosts.values
    assert [p.code for p in found.problems if p.about.name == "upper"] == ["api-server"]  # a note: it would not be stored
