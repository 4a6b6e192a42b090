"""`xds check`: what is said, in which order, and when the exit code is 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.site import Say, write
from tests.envoy.harness.manifests import config_map, ingress


def test_nothing_to_complain_about(say: Say, good: Path) -> None:
    said = say("check", good)
    assert said == (0, "No problems found: 2 Ingresses.\n", "")


def test_problems_stand_under_their_object_the_worst_first(say: Say, bad: Path) -> None:
    said = say("check", bad, "--configmap", "default/config")
    assert said.code == 1
    lines = said.out.splitlines()
    start = lines.index("Ingress default/late  ingress-late.json:1")
    severities = [line.split()[0] for line in lines[start + 1 : lines.index("", start)]]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert {"error", "warning", "note"} == set(severities)
    body = "metadata.annotations[nginx.ingress.kubernetes.io/proxy-body-size]: proxy-body-size is 'much'"
    assert any(body in line for line in lines)
    assert lines[-1].endswith(" in 3 Ingresses (1 other left to other controllers).")


def test_piped_output_is_the_same_every_time(say: Say, bad: Path) -> None:
    assert say("check", bad) == say("check", bad)


def test_annotations_in_use_are_judged(say: Say, bad: Path) -> None:
    found = {v["name"]: v for v in say("check", bad, "-o", "json").json["annotations"]}
    assert {name: v["fidelity"] for name, v in found.items()} == {
        "load-balance": "approximate",
        "no-such-thing": "unknown",
        "proxy-body-size": "exact",
    }
    assert found["proxy-body-size"] | {"reason": ""} == {
        "name": "proxy-body-size",
        "count": 1,  # the Ingress of another class is none of our business
        "unreadable": 1,
        "fidelity": "exact",
        "reason": "",
    }


def test_a_value_that_asks_for_what_holds_anyway_is_exact_whatever_its_name_is(say: Say, tmp_path: Path) -> None:
    for asked, verdict in (("false", "exact"), ("true", "refused"), ("what", "refused")):
        folder = write(tmp_path / asked, ingress("a", "a.example.com", {"/": ("a", 80)}, {"enable-modsecurity": asked}))
        (found,) = say("check", folder, "-o", "json").json["annotations"]
        assert found["fidelity"] == verdict
        assert bool(found["reason"]) is (verdict != "exact")


def test_keys_of_the_configmap_are_judged(say: Say, bad: Path) -> None:
    found = {v["name"]: v for v in say("check", bad, "--configmap", "default/config", "-o", "json").json["config"]}
    assert found["proxy-read-timeout"]["unreadable"] == 1
    assert found["worker-processes"]["fidelity"] == "ignored"


def test_json_has_conflicts_counts_and_the_ingresses_of_others(say: Say, bad: Path) -> None:
    found = say("check", bad, "-o", "json").json
    (conflict,) = found["conflicts"]
    assert conflict["object"]["name"] == "web" or conflict["object"]["name"] == "late"
    assert conflict["field"].startswith("spec.rules[0].http.paths[")
    assert found["summary"]["errors"] == sum(p["severity"] == "error" for p in found["problems"])
    assert [o["name"] for o in found["others"]] == ["foreign"]
    assert found["others"][0]["place"] == {"file": "ingress-foreign.json", "line": 1}


def test_a_warning_alone_is_no_failure(say: Say, good: Path) -> None:
    write(good, ingress("typo", "t.example.com", {"/": ("web", 80)}, {"proxy-body-sise": "8m"}))
    said = say("check", good)
    assert said.code == 0
    assert said.out.endswith("0 errors, 1 warning, 0 notes in 3 Ingresses.\n")


def test_a_file_that_cannot_be_read_is_an_error(say: Say, good: Path) -> None:
    (good / "broken.yaml").write_text("kind: [")
    said = say("check", good)
    assert said.code == 1
    assert said.out.startswith("File broken.yaml")


def test_what_users_wrote_cannot_steer_the_terminal(say: Say, good: Path) -> None:
    write(good, ingress("esc", "\x1b[2Jx.example.com", {"/": ("web", 80)}))
    said = say("check", good)
    assert said.code == 1
    assert "\x1b" not in said.out


def test_a_fault_of_ours_is_said_and_fails(say: Say, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("xds.translate.hosts.virtual_host", broken)
    said = say("check", good)
    assert said.code == 1
    assert "internal error in host('a.example.com',): RuntimeError: broken; please report it." in said.out


def test_a_folder_that_is_not_there_is_one_sentence(say: Say, tmp_path: Path) -> None:
    said = say("check", tmp_path / "nowhere")
    assert said == (1, "", f"xds check: There is no folder or file {tmp_path}/nowhere.\n")


def test_a_default_backend_is_named_by_the_field_that_it_has(say: Say, tmp_path: Path) -> None:
    said = say("check", write(tmp_path / "m", ingress("i", "a.test", {}, default=("gone", 80))))
    assert "spec.defaultBackend.service.name: Service default/gone does not exist" in said.out


def test_an_api_server_is_no_source(say: Say, tmp_path: Path) -> None:
    said = say("check", "--kubeconfig", tmp_path / "config")
    assert (said.code, said.err) == (
        2,
        "xds check: --kubeconfig is no flag of xds check; it belongs to xds serve, xds certgen, xds rehearse.\n",
    )


def test_the_ingress_of_a_canary_is_ours(say: Say, good: Path) -> None:
    write(good, ingress("canary", "a.example.com", {"/": ("web", 80)}, {"canary": "true", "canary-weight": "10"}))
    summary = say("check", good, "-o", "json").json["summary"]
    assert (summary["ingresses"], summary["others"]) == (3, 0)


def test_a_backend_without_a_port_is_called_that(say: Say, good: Path) -> None:
    written = ingress("portless", "p.example.com", {"/": ("web", 80)})
    del written["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]
    said = say("check", write(good, written))
    assert said.code == 1
    assert "Service default/web is named without a port; write port.number or port.name; the path answers 503." in said.out
    assert "'0'" not in said.out


def test_what_an_api_server_would_refuse_is_said_once_and_is_served(say: Say, good: Path) -> None:
    written = ingress("odd", "A_b.example.com", {"/": ("web", 80), "/a%2fb": ("web", 80)}, tls={"tls": ["A_b.example.com"]})
    paths = written["spec"]["rules"][0]["http"]["paths"]
    del paths[0]["pathType"]
    written["spec"]["rules"].append({"host": "10.0.0.1", "http": {"paths": [paths[1] | {"path": "/"}]}})
    del written["spec"]["tls"]
    found = say("check", write(good, written), "-o", "json").json["problems"]
    assert {(p["field"], p["sentence"]) for p in found if p["code"] == "api-server"} == {
        ("spec.rules[0].host", "An API server rejects a host that has upper-case letters; write it in lower case."),
        (
            "spec.rules[0].http.paths[0].pathType",
            "An API server rejects a path without a pathType: write Prefix, Exact or ImplementationSpecific.",
        ),
        ("spec.rules[0].http.paths[1].path", "An API server rejects a path of type Prefix with //, /./, /../ or %2F in it."),
        ("spec.rules[1].host", "An API server rejects a host that is an IP address."),
    }
    assert {p["severity"] for p in found if p["code"] == "api-server"} == {"note"}
    assert say("explain", "http://a_b.example.com/", good).code == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rate-limit-window", "limit-rps, limit-rpm and limit-connections are its limits"),
        ("websocket-services", "websockets pass without any annotation"),
        ("client-max-body-size", "proxy-body-size is its limit"),
        ("read-timeout", "proxy-connect-timeout, proxy-read-timeout and proxy-send-timeout are its time-outs"),
        ("secure-backends", 'backend-protocol: "HTTPS" took its place'),
        ("grpc-backend", 'backend-protocol: "GRPC" took its place'),
        ("add-base-url", "it was removed"),
        ("session-cookie-hash", "it was removed"),
        ("opentracing-operation-name", "enable-opentelemetry took its place"),
        ("ssl-protocols", "it is a key of the ConfigMap, for all Ingresses"),
        ("use-forwarded-headers", "it is a key of the ConfigMap, for all Ingresses"),
        ("health-check-path", "readiness probes of the pods decide"),
        ("rewrite", "rewrite-target is its annotation"),
        ("rewrite-rule", "rewrite-target is its annotation"),
        ("proxy-body-sise", "(did you mean proxy-body-size?)"),
    ],
)
def test_an_annotation_that_there_is_none_of_gets_the_right_hint(say: Say, good: Path, name: str, says: str) -> None:
    said = say("check", write(good, ingress("hint", "h.example.com", {"/": ("web", 80)}, {name: "x"})))
    assert said.code == 0
    (line,) = [line for line in said.out.splitlines() if f"/{name}]" in line]
    assert line.startswith("  warning")
    assert says in line


@pytest.mark.parametrize(
    ("key", "severity"),
    [
        ("ingress.kubernetes.io/rewrite-target", "note"),
        ("ingress.kubernetes.io/auth-type", "warning"),
        ("ingress.kubernetes.io/whitelist-source-range", "warning"),
        ("nginx.org/client-max-body-size", "note"),
        ("nginx.org/basic-auth-secret", "warning"),
        ("nginx.com/jwt-key", "warning"),
        ("nginx.ingress.kubernetes.oi/ssl-redirect", "note"),
        ("ingress.nginx.kubernetes.io/auth-url", "warning"),
        ("cert-manager.io/issuer", None),
        ("traefik.ingress.kubernetes.io/router.tls", None),
        ("kubernetes.io/ingress.allow-http", None),
    ],
)
def test_a_prefix_that_is_mistaken_for_ours_is_said(say: Say, good: Path, key: str, severity: str | None) -> None:
    written = ingress("prefix", "h.example.com", {"/": ("web", 80)})
    written["metadata"].setdefault("annotations", {})[key] = "x"
    found = [p for p in say("check", write(good, written), "-o", "json").json["problems"] if p["code"] == "annotation-prefix"]
    assert [p["severity"] for p in found] == ([severity] if severity else [])


def test_values_and_keys_that_lose_nothing_are_no_errors(say: Say, good: Path) -> None:
    keys = {"ssl-protocols": "TLSv1.3 TLSv1.2", "annotations-risk-level": "Critical", "allow-snippet-annotations": "true"}
    keys |= {"keep-alive": "10", "upstream-keepalive-connections": "50", "use-gzip": "true", "large-client-header-buffers": "4 16k"}
    write(good, config_map("config", keys))
    write(good, ingress("quiet", "q.example.com", {"/": ("web", 80)}, {"proxy-request-buffering": "off", "ssl-passthrough": "true"}))
    said = say("check", good, "--configmap", "default/config", "-o", "json").json
    assert said["summary"]["errors"] == said["summary"]["warnings"] == 0
    assert not [p for p in said["problems"] if "ssl-protocols" in p["field"] or "proxy-request-buffering" in p["field"]]


def test_passthrough_with_its_flag_is_judged(say: Say, good: Path) -> None:
    write(good, ingress("pass", "q.example.com", {"/": ("web", 80)}, {"ssl-passthrough": "true"}))
    assert say("check", good, "--enable-ssl-passthrough").code == 0
    assert "has no effect without the flag --enable-ssl-passthrough" in say("check", good).out


def test_a_class_that_nobody_defines_is_said_with_what_would_make_it_ours(say: Say, good: Path) -> None:
    written = ingress("inner", "i.example.com", {"/": ("web", 80)}, ingress_class="internal")
    said = say("check", write(good, written))
    assert "An IngressClass of that name with the controller k8s.io/ingress-nginx would have it served here" in said.out
    assert "so would --ingress-class internal." in said.out
