"""`xds status … --wait` as a deployment would use it: when it returns, every Envoy serves what was written before."""

from __future__ import annotations

import base64
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.route.v3 import DirectResponseAction, Route, RouteMatch, VirtualHost
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, fetch, ingress, run, wait_until
from tests.envoy.harness.control_plane import XDS
from xds.snapshot import ROUTE
from xds.wire.encode import encode, field

pytestmark = pytest.mark.envoy

PREFIX = "nginx.ingress.kubernetes.io/"


async def xds(site: Site, *words: str) -> tuple[int, str, str]:
    host, port = site.control_plane.debug
    return await run([*XDS, *words, "--debug-address", f"{host}:{port}"])


async def waited(site: Site, name: str = "web", seconds: int = 20) -> dict[str, Any]:
    """What `--wait` says, and its exit code."""
    code, out, err = await xds(site, "status", "ingress", f"default/{name}", "--wait", "--timeout", f"{seconds}s", "-o", "json")
    assert out, err
    return {"code": code} | json.loads(out)


async def prepare(site: Site, *nodes: str) -> None:
    """Two applications, an Ingress to the first of them, and Envoys."""
    for name in ("one", "two"):
        site.folder.write(f"{name}.yaml", *backend(name, await site.run(HttpApp(name))))
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("one", 80)}))
    await site.start_control_plane()
    for node in nodes:
        await site.start_envoy(node_id=node)


async def test_when_wait_returns_every_envoy_answers_by_the_new_configuration(site: Site) -> None:
    await prepare(site, "n1", "n2")
    assert (await waited(site))["accepted"] == 2
    for turn in range(6):
        app = ("two", "one")[turn % 2]
        site.folder.write("web.yaml", ingress("web", "a.test", {"/": (app, 80)}))
        found = await waited(site)
        assert (found["code"], found["programmed"], found["accepted"], found["envoys"]) == (0, True, 2, 2)
        for _ in range(10):  # the Envoys share the port
            assert (await site.get("/", host="a.test")).app == app


async def test_an_ingress_that_is_only_being_written_is_waited_for(site: Site) -> None:
    await prepare(site, "n1")
    site.folder.write("new.yaml", ingress("new", "new.test", {"/": ("two", 80)}))
    assert (await waited(site, "new"))["code"] == 0
    assert (await site.get("/", host="new.test")).app == "two"


async def test_an_envoy_that_hangs_is_named_and_waited_for_in_vain(site: Site) -> None:
    await prepare(site, "n1", "n2")
    await waited(site)
    site.envoys[1].process.signal(signal.SIGSTOP)
    try:
        site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}))
        found = await waited(site, seconds=2)
        assert (found["code"], found["accepted"], found["envoys"], found["waiting"]) == (1, 1, 2, ["n2"])
        _, out, _ = await xds(site, "status")
        assert "Ingress default/web: on 1 of 2 Envoys; not on n2" in out
        assert "behind: " in out
        metrics = (await site.control_plane.get("/metrics")).text
        assert float(re.search(r"^xds_programmed_slowest_seconds (\S+)$", metrics, re.M)[1]) > 1  # type: ignore[index]
        assert "waiting" in (await xds(site, "history"))[1].splitlines()[1]
    finally:
        site.envoys[1].process.signal(signal.SIGCONT)
    assert (await waited(site))["code"] == 0


async def test_an_envoy_that_has_left_is_waited_for_no_longer(site: Site) -> None:
    await prepare(site, "n1", "n2")
    await site.envoys[1].process.kill()
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}))

    async def only_one() -> bool:
        return (await waited(site))["envoys"] == 1

    await wait_until(only_one, "one Envoy to be left")
    assert (await waited(site))["code"] == 0


async def test_what_envoy_refuses_is_told_at_once_in_its_own_words_and_again_waited_for_when_it_is_mended(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = Route(match=RouteMatch(safe_regex=RegexMatcher(regex="(refused")), direct_response=DirectResponseAction(status=200))
    body = field(2, encode(VirtualHost(name="a.test", domains=["a.test"], routes=[route])))
    (tmp_path / "raw.json").write_text(json.dumps([[ROUTE, *(base64.b64encode(each).decode() for each in (b"/refuse-me", body))]]))
    monkeypatch.setenv("XDS_RAW_PARTS", str(tmp_path / "raw.json"))
    await prepare(site, "n1")
    await waited(site)
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("one", 80), "/refuse-me": ("one", 80)}))
    found = await waited(site, seconds=25)
    assert (found["code"], found["accepted"]) == (1, 0)
    assert "(refused" in found["held"]
    assert (await site.get("/", host="a.test")).app == "one", "by what was accepted before"
    _, out, _ = await xds(site, "history")
    assert re.search(r"^rejected  \d+ by n1 rds: .*refused", out, re.M), out
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}))
    assert (await waited(site))["code"] == 0
    assert (await site.get("/", host="a.test")).app == "two"


async def test_an_edit_that_is_refused_is_never_programmed_and_the_next_valid_one_is(site: Site) -> None:
    await prepare(site, "n1")
    await waited(site)
    bad = {f"{PREFIX}connection-proxy-header": "upgrade"}
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}, annotations=bad))
    found = await waited(site, seconds=25)
    assert (found["code"], found["programmed"]) == (1, False)
    assert "its last edit is refused" in found["held"]
    assert (await site.get("/", host="a.test")).app == "one"
    _, out, _ = await xds(site, "explain", "http://a.test/")
    assert "connection-proxy-header is 'upgrade'" in out
    assert "what was valid before stays in effect until that is fixed" in " ".join(out.split())
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}))
    assert (await waited(site))["code"] == 0
    assert (await site.get("/", host="a.test")).app == "two"


async def test_an_entry_of_a_stream_config_map_is_waited_for(site: Site) -> None:
    for name in ("one", "two"):
        site.folder.write(f"{name}.yaml", *backend(name, await site.run(HttpApp(name))))
    port = site.ports.take()
    site.folder.write("tcp.yaml", config_map("tcp", {}))
    await site.start_control_plane("--tcp-services-configmap", "default/tcp")
    await site.start_envoy()
    site.folder.write("tcp.yaml", config_map("tcp", {str(port): "default/one:80"}))

    async def is_there() -> bool:
        code, _, _ = await xds(site, "status", "configmap", "default/tcp", str(port), "--wait", "--timeout", "20s")
        return code == 0

    await wait_until(is_there, "the port to be open")
    assert (await fetch(("127.0.0.1", port), "/", host="any")).app == "one"


async def test_the_history_tells_of_a_change_from_its_cause_to_its_last_answer(site: Site) -> None:
    await prepare(site, "n1")
    await waited(site)
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("two", 80)}))
    await waited(site)

    async def told() -> dict[str, Any] | None:
        _, out, _ = await xds(site, "history", "-o", "json")
        changes = [change for change in json.loads(out)["changes"] if change["causes"] and not change["waiting"]]
        return changes[0] if changes and changes[0]["causes_total"] == 1 else None

    change = await wait_until(told, "the change to be in the history")
    assert change is not None
    (cause,) = change["causes"]
    assert (cause["object"], cause["verb"]) == ({"kind": "Ingress", "namespace": "default", "name": "web"}, "changed")
    assert {resource["type"] for resource in change["resources"]} >= {"rds"}
    assert change["accepted_milliseconds"] >= change["build_milliseconds"] > 0
    metrics = (await site.control_plane.get("/metrics")).text
    assert re.search(r'^xds_event_to_ack_seconds_count\{type="rds"\} [1-9]', metrics, re.M)


async def test_explain_and_check_ask_the_running_server(site: Site) -> None:
    await prepare(site, "n1")
    await waited(site)
    site.folder.write("bad.yaml", ingress("bad", "b.test", {"/": ("gone", 80)}))
    await waited(site, "bad")
    code, out, err = await xds(site, "explain", "http://a.test/", "live")
    assert (code, err) == (0, "")
    assert "Envoys        programmed on 1 of 1" in out
    code, out, _ = await xds(site, "check", "--live")
    assert code == 1
    assert "Ingress default/bad" in out
