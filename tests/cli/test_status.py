"""`xds status`, `history`, `check --live` and `explain … live`: what is asked, what is printed, and when the exit code is 1."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from tests.cli.answering import Refusal, answering
from tests.cli.site import Say
from tests.envoy.harness.ports import Ports
from xds.debug import v1
from xds.snapshot import CLUSTER, ROUTE

SINCE = datetime(2026, 11, 21, 12, 30, 5, 250_000, tzinfo=UTC)
WEB = v1.ObjectReference(kind="Ingress", namespace="shop", name="web")
NO_REGEX = v1.NodeRejection(node_id="n2", type_url=ROUTE, error="no regex:\x1b[2J [")


def done(**others: object) -> v1.ProgrammedResponse:
    found = v1.ProgrammedResponse(
        object=WEB,
        resource_version="17",
        content_hash="abc",
        accepted=2,
        envoys=2,
        programmed=True,
        resources=[
            v1.ProgrammedResource(type_url=ROUTE, name="ingress", piece="shop.example", version="5f"),
            v1.ProgrammedResource(type_url=CLUSTER, name="shop/web/80", version="77"),
        ],
    )
    return replace(found, **others)


def waiting(**others: object) -> v1.ProgrammedResponse:
    return done(accepted=1, programmed=False, waiting_node_ids=["n2"], rejections=[NO_REGEX], **others)


def fleet() -> v1.FleetResponse:
    return v1.FleetResponse(
        replica="xds-0",
        version="1.0",
        ready=True,
        staleness_seconds={"Ingress": 3.5, "Service": 300.0},
        published=[v1.Published(type_url=CLUSTER, resources=12, version="c12")],
        envoys=[
            v1.Envoy(
                node_id="n1",
                cluster="edge",
                user_agent="envoy 1.40.0",
                peer="ipv4:10.0.0.7:1234",
                wire=v1.Wire.DELTA,
                connected_since=SINCE,
                types=[v1.EnvoyType(type_url=CLUSTER, accepted_version="c12", wildcard=True, in_sync=True)],
            ),
            v1.Envoy(
                node_id="n2",
                peer="ipv4:10.0.0.8:1234",
                wire=v1.Wire.STATE_OF_THE_WORLD,
                only_type_url=ROUTE,
                types=[v1.EnvoyType(type_url=ROUTE, names=1, rejection=v1.Rejection(resources=["ingress"], error="no regex"))],
            ),
            v1.Envoy(node_id="n3", wire=v1.Wire.DELTA, types=[v1.EnvoyType(type_url=CLUSTER, nonces_in_flight=["1"])]),
        ],
    )


def problems(*severities: v1.Severity) -> v1.ProblemsResponse:
    place = v1.Place(file="web.yaml", line=7)
    made = [
        v1.Problem(object=WEB, field=f"f{n}", code="c", severity=s, sentence="It is so.", place=place) for n, s in enumerate(severities)
    ]
    return v1.ProblemsResponse(problems=made)


# The fleet


def test_the_fleet_is_shown_with_what_each_envoy_has_and_rejected(say: Say) -> None:
    found = v1.ListProgrammedResponse(objects=[waiting()])
    with answering(Fleet=fleet(), Problems=problems(v1.Severity.ERROR), ListProgrammed=found) as server:
        said = say("status", "--debug-address", server.address)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "xds 1.0 on xds-0: serving"
    assert "  Service: no response of the API server for 300 s" in lines
    assert "cds   12         c12" in lines
    assert [" ".join(line.split()) for line in lines if line.startswith(("n1", "n2", "n3"))] == [
        "n1 edge envoy 1.40.0 ipv4:10.0.0.7:1234 delta 2026-11-21T12:30:05Z in sync",
        "n2 - - ipv4:10.0.0.8:1234 sotw (rds only) - rejected: rds",
        "n3 - - delta - behind: cds",
    ]
    assert "rejected  n2 rds (ingress): no regex" in lines
    assert "  Ingress shop/web: on 1 of 2 Envoys; not on n2" in lines
    assert lines[-1] == "1 error, 0 warnings, 0 notes; `xds check --live` lists them."


def test_the_fleet_as_json_is_as_its_schema_says(say: Say) -> None:
    found = v1.ListProgrammedResponse(objects=[waiting()])
    with answering(Fleet=fleet(), Problems=problems(v1.Severity.NOTE), ListProgrammed=found) as server:
        said = say("status", "--debug-address", server.address, "-o", "json")
    assert said.json["version"] == 1
    assert [envoy["since"] for envoy in said.json["envoys"]] == ["2026-11-21T12:30:05Z", None, None]
    assert said.json["envoys"][1]["types"][0]["rejection"] == {"resources": ["ingress"], "error": "no regex"}
    assert said.json["unfinished"][0]["waiting"] == ["n2"]
    assert said.json["problems"] == {"errors": 0, "warnings": 0, "notes": 1}


def test_only_what_is_unfinished_is_asked_for(say: Say) -> None:
    with answering(Fleet=fleet(), Problems=problems(), ListProgrammed=v1.ListProgrammedResponse()) as server:
        say("status", "--debug-address", server.address)
    assert server.asked[-1] == v1.ListProgrammedRequest(unfinished=True)


def test_before_the_first_snapshot_the_status_says_what_is_waited_for(say: Say) -> None:
    with answering(Fleet=v1.FleetResponse(replica="r", waiting=["waiting for Services"]), Problems=problems()) as server:
        said = say("status", "--debug-address", server.address)
    assert said.code == 0
    assert "not serving yet\n  waiting for Services\n" in said.out
    assert "No Envoy is connected." in said.out


# One object


def test_an_ingress_that_every_envoy_has_is_exit_code_0(say: Say) -> None:
    with answering(Programmed=done()) as server:
        said = say("status", "ingress", "shop/web", "--debug-address", server.address)
    assert said.code == 0
    assert said.out.splitlines()[0] == "Ingress shop/web: programmed on 2 of 2 Envoys as of resourceVersion 17"
    assert said.out.splitlines()[-1].split() == ["cds", "shop/web/80", "77"]
    assert server.asked == [v1.ProgrammedRequest(namespace="shop", name="web", kind="Ingress", timeout_seconds=30)]


def test_one_that_an_envoy_lacks_is_exit_code_1_with_who_and_why(say: Say) -> None:
    with answering(Programmed=waiting()) as server:
        said = say("status", "ingress", "shop/web", "--debug-address", server.address)
    assert said.code == 1
    assert said.out.splitlines()[0] == "Ingress shop/web: programmed on 1 of 2 Envoys as of resourceVersion 17; not on n2"
    assert said.out.splitlines()[1] == "rejected  n2 rds: no regex:\\x1b[2J ["


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (done(programmed=False, accepted=0, held="ingress: bad regex"), "held back, because Envoy rejects it: ingress: bad regex"),
        (done(programmed=False, accepted=0, envoys=0), "programmed on 0 of 0 Envoys as of resourceVersion 17; no Envoy is connected"),
        (done(programmed=False, accepted=0), "the management server has not read its latest version yet"),
        (done(programmed=False, accepted=0, resources=[]), "nothing of it has an effect: `xds check --live` shows why"),
        (
            done(programmed=False, accepted=0, waiting_node_ids=[f"n{n}" for n in range(9)]),
            "not on n0, n1, n2, n3, n4 and 4 more",
        ),
    ],
)
def test_why_not_every_envoy_has_it_is_said(say: Say, answer: v1.ProgrammedResponse, words: str) -> None:
    with answering(Programmed=answer) as server:
        said = say("status", "ingress", "shop/web", "--debug-address", server.address)
    assert said.code == 1
    assert words in said.out.splitlines()[0]


def test_wait_has_the_server_wait_as_long_as_was_asked(say: Say) -> None:
    with answering(Programmed=done()) as server:
        assert say("status", "ingress", "shop/web", "--wait", "--timeout", "90s", "--debug-address", server.address).code == 0
    assert (server.asked[0].wait, server.asked[0].timeout_seconds) == (True, 90)


def test_the_version_that_must_have_been_read_can_be_named(say: Say) -> None:
    with answering(Programmed=done()) as server:
        say("status", "ingress", "shop/web", "--resource-version=18", "--debug-address", server.address)
    assert server.asked[0].resource_version == "18"


def test_an_entry_of_a_config_map_is_asked_for_by_its_port(say: Say) -> None:
    answer = done(object=v1.ObjectReference(kind="ConfigMap", namespace="xds", name="tcp"), entry="5432")
    with answering(Programmed=answer) as server:
        said = say("status", "configmap", "xds/tcp", "5432", "--debug-address", server.address)
    assert said.out.startswith("ConfigMap xds/tcp 5432: programmed on 2 of 2 Envoys")
    assert (server.asked[0].kind, server.asked[0].entry) == ("ConfigMap", "5432")


def test_an_object_as_json_is_as_its_schema_says(say: Say) -> None:
    with answering(Programmed=waiting()) as server:
        said = say("status", "ingress", "shop/web", "-o", "json", "--debug-address", server.address)
    assert said.code == 1
    assert said.json["object"] == {"kind": "Ingress", "namespace": "shop", "name": "web"}
    assert said.json["rejections"] == [{"node": "n2", "type": "rds", "error": "no regex:\x1b[2J ["}]
    assert said.json["resources"][0] == {"type": "rds", "name": "ingress", "piece": "shop.example", "version": "5f"}


@pytest.mark.parametrize("command", [("status",), ("history",), ("check", "--live"), ("explain", "http://a.example/", "live")])
def test_where_no_server_answers_the_sentence_says_what_to_do(say: Say, command: tuple[str, ...]) -> None:
    ports = Ports()
    port = ports.take()
    said = say(*command, "--debug-address", f"127.0.0.1:{port}")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        f"xds {command[0]}: no management server answers at 127.0.0.1:{port}: start `xds serve`, name its --debug-address, or, where it "
        f"runs in a cluster, first run `kubectl -n ingress-xds port-forward deploy/xds {port}:18001`.\n"
    )
    ports.release()


def test_a_debug_service_that_is_off_cannot_be_asked(say: Say) -> None:
    said = say("history", "--debug-address", "off")
    assert said == (2, "", "xds history: --debug-address is off; name where a management server has its debug service.\n")


def test_of_a_socket_that_is_not_there_it_is_said_who_knows_the_right_one(say: Say, tmp_path: Path) -> None:
    said = say("status", "--debug-address", f"unix:{tmp_path}/none").err
    assert (
        said == f"xds status: no management server answers at unix:{tmp_path}/none: the log of an `xds up` has the paths of its sockets.\n"
    )


@pytest.mark.parametrize(
    ("code", "words", "sentence", "exits"),
    [
        (grpc.StatusCode.NOT_FOUND, "Ingress shop/web is not served here.", "Ingress shop/web is not served here.", 1),
        (grpc.StatusCode.INVALID_ARGUMENT, "name it", "name it.", 2),
        (
            grpc.StatusCode.UNAVAILABLE,
            "there is no Snapshot yet: waiting for Secrets",
            "serves nothing yet: there is no Snapshot yet: w",
            1,
        ),
        (grpc.StatusCode.INTERNAL, "oh", "has not answered: internal: oh.", 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", "has not answered in time.", 1),
    ],
)
def test_a_server_that_refuses_is_quoted(say: Say, code: grpc.StatusCode, words: str, sentence: str, exits: int) -> None:
    with answering(Programmed=Refusal(code, words)) as server:
        said = say("status", "ingress", "shop/web", "--debug-address", server.address)
    assert said.code == exits
    assert sentence in said.err


def test_a_server_of_something_else_is_said_to_be_one(say: Say) -> None:
    with answering(History=v1.HistoryResponse()) as server:
        said = say("status", "--debug-address", server.address)
    assert said.code == 1
    assert f"the server at {server.address} is no debug service of this version of xds" in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ingress"], "'ingress' is not one object; name it as in `xds status ingress default/web`."),
        (["ingress", "a/b", "c"], "'ingress a/b c' is not one object; name it as in `xds status ingress default/web`."),
        (["ingress", "web"], "'web' is not a namespace and name such as ingress-nginx/controller."),
        (["ingress", ""], "'' is not a namespace and name such as ingress-nginx/controller."),
        (["configmap", "a/b"], "name it as in `xds status configmap ingress-xds/xds-tcp-services 5432`."),
        (["pod", "a/b"], "'pod' is no argument of xds status; `xds status --help` lists its flags."),
        (["--wait"], "--wait and --resource-version are about one object; name it, as in `xds status ingress default/web --wait`."),
    ],
)
def test_what_is_no_object_is_wrong_usage(say: Say, words: list[str], sentence: str) -> None:
    said = say("status", *words)
    assert said.code == 2
    assert sentence in said.err


# History


def changes() -> v1.HistoryResponse:
    cause = v1.Cause(object=WEB, resource_version="17", verb=v1.Verb.CHANGED)
    cds = v1.ChangedResources(type_url=CLUSTER, names=["a", "b", "c"], total=30)
    late = v1.Change(number=9, time=SINCE, causes_total=0, build_milliseconds=0.25, waiting=True, rejections=[NO_REGEX], rejections_total=3)
    full = v1.Change(
        number=8, time=SINCE, causes=[cause], causes_total=5, resources=[cds], build_milliseconds=12.3456, accepted_milliseconds=40.0
    )
    return v1.HistoryResponse(changes=[late, full, v1.Change(number=7, time=SINCE)])


def test_the_history_is_a_table_with_the_newest_first(say: Say) -> None:
    with answering(History=changes()) as server:
        said = say("history", "--debug-address", server.address)
    _, late, full, nobody, *rejections = said.out.splitlines()
    assert late.split("  ")[0] == "9"
    assert late.endswith("waiting")
    assert "the clock, or a generated certificate" in late
    assert "Ingress shop/web changed, 4 more" in full
    assert "cds a, b and 28 more" in full
    assert full.endswith("12.3 ms   40.0 ms")
    assert nobody.endswith("no Envoy")
    assert rejections == ["rejected  9 by n2 rds: no regex:\\x1b[2J [", "rejected  9 by 2 other streams"]


def test_the_history_as_json_is_as_its_schema_says(say: Say) -> None:
    with answering(History=changes()) as server:
        found = say("history", "-o", "json", "--debug-address", server.address).json
    assert [change["accepted_milliseconds"] for change in found["changes"]] == [None, 40.0, None]
    assert found["changes"][1]["time"] == "2026-11-21T12:30:05.250Z"
    assert found["changes"][1]["causes"][0]["verb"] == "changed"


def test_an_empty_history_is_said_to_be_empty(say: Say) -> None:
    with answering(History=v1.HistoryResponse()) as server:
        assert say("history", "--debug-address", server.address) == (0, "Nothing was published yet.\n", "")


# check and explain


def test_check_live_lists_the_problems_of_the_server(say: Say) -> None:
    with answering(Problems=problems(v1.Severity.NOTE, v1.Severity.ERROR)) as server:
        said = say("check", "--live", "--debug-address", server.address)
    assert said.code == 1
    assert said.out.splitlines() == [
        "Ingress shop/web  web.yaml:7",
        "  error    f1: It is so.",
        "  note     f0: It is so.",
        "",
        "1 error, 0 warnings, 1 note",
    ]


def test_check_live_is_exit_code_0_without_errors(say: Say) -> None:
    with answering(Problems=problems()) as server:
        assert say("check", "--live", "--debug-address", server.address) == (0, "No problems found.\n", "")


def test_check_live_as_json_is_as_its_schema_says(say: Say) -> None:
    with answering(Problems=problems(v1.Severity.WARNING)) as server:
        found = say("check", "--live", "-o", "json", "--debug-address", server.address).json
    assert found["summary"] == {"errors": 0, "warnings": 1, "notes": 0}
    assert found["problems"][0]["place"] == {"file": "web.yaml", "line": 7}


def test_check_reads_folders_or_asks_a_server_not_both(say: Say, good: Path) -> None:
    said = say("check", "--live", good)
    assert said.code == 2
    assert "exclude each other" in said.err


@pytest.mark.parametrize("live", [("live",), ()])
def test_explain_live_says_which_envoys_have_what_answers(say: Say, good: Path, live: tuple[str, ...]) -> None:
    document = say("explain", "http://a.example.com/", good, "-o", "json").json
    answer = v1.ExplainResponse(json=json.dumps(document), answered=True, node_ids=["n1"], waiting_node_ids=["n2"])
    with answering(Explain=answer) as server:
        said = say("explain", "http://a.example.com/", *live, "--debug-address", server.address)
        as_json = say("explain", "http://a.example.com/", *live, "--debug-address", server.address, "-o", "json").json
    assert said.code == 0
    assert "Envoys        programmed on 1 of 2; not on n2" in said.out.splitlines()
    assert as_json == document | {"envoys": {"programmed": ["n1"], "waiting": ["n2"]}}
    assert server.asked[0] == v1.ExplainRequest(url="http://a.example.com/")
