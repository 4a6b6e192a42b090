"""What is read of paths and Ingresses: owners under each rule of who owns what, limits, and no lock that is given back too early."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import write
from tests.dashboard.conftest import Looked, flags_of, looked_at
from tests.dashboard.test_pages import texts
from tests.envoy.harness.manifests import Manifest, endpoint_slice, ingress, service
from xds.config import Flags
from xds.debug import live
from xds.explain import ingress as documents
from xds.explain.ingress import ingress_document
from xds.explain.owners import OwnedPath, owned_paths
from xds.offline import Loaded, load
from xds.problem import Ref
from xds.units.memo import Recorder

WEB = {"/": ("web", 80)}


def loaded(folder: Path, *items: Manifest, **flags: Any) -> Loaded:
    return load(Flags(manifests=(write(folder, *items),), watch_ingress_without_class=True, **flags), certificate=(b"", b""))


def rows(found: Loaded, host: str) -> list[OwnedPath]:
    return owned_paths(Recorder(found.tables.build), host)


def document(found: Loaded, name: str, namespace: str = "default") -> Any:
    return ingress_document(found.tables, found.problems, Ref("Ingress", namespace, name))


def owned(found: Loaded, host: str) -> dict[tuple[str, str], tuple[str, list[str]]]:
    return {(row.path, row.type): (row.owner.name, [about.name for about in row.others]) for row in rows(found, host)}


def two(*, second: str = "default") -> tuple[Manifest, ...]:
    """Two Ingresses of one host: of one path, and a path of each; the first is older."""
    return (
        ingress("first", "a.example", {**WEB, "/one": ("web", 80)}, created="2026-01-01T00:00:00Z"),
        ingress("second", "a.example", {**WEB, "/two": ("web", 80)}, created="2026-01-02T00:00:00Z", namespace=second),
        service("web"),
    )


def test_the_older_ingress_owns_a_path_and_others_want_it(tmp_path: Path) -> None:
    found = owned(loaded(tmp_path, *two()), "a.example")
    assert found == {("/", "Prefix"): ("first", ["second"]), ("/one", "Prefix"): ("first", []), ("/two", "Prefix"): ("second", [])}


def test_a_host_of_another_namespace_is_owned_as_the_flag_says(tmp_path: Path) -> None:
    shared = loaded(tmp_path / "shared", *two(second="other"))
    assert owned(shared, "a.example")["/two", "Prefix"] == ("second", [])
    strict = loaded(tmp_path / "strict", *two(second="other"), host_ownership=True)
    assert owned(strict, "a.example") == {("/", "Prefix"): ("first", ["second"]), ("/one", "Prefix"): ("first", [])}
    states = {path["path"]: path["state"] for path in document(strict, "second", "other")["paths"]}
    assert states == {"/": "taken", "/two": "not served"}


def test_types_are_two_paths_and_a_default_backend_is_the_root(tmp_path: Path) -> None:
    both = ingress("both", "a.example", {"/x": ("web", 80)}, default=("rest", 81))
    both["spec"]["rules"][0]["http"]["paths"].append(
        {"path": "/x", "pathType": "Exact", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}
    )
    found = loaded(tmp_path, both, ingress("alone", "", {}, default=("rest", 81)))
    assert [(row.path, row.type, row.backend) for row in rows(found, "a.example")] == [
        ("/", "Prefix", "rest:81"),
        ("/x", "Exact", "web:http"),
        ("/x", "Prefix", "web:80"),
    ]
    assert [(row.host, row.owner.name) for row in rows(found, "")] == [("", "alone")]
    assert [path["path"] for path in document(found, "both")["paths"]] == ["/x", "/x", "/"]


def test_what_is_not_ours_is_shown_without_an_effect(tmp_path: Path) -> None:
    found = document(loaded(tmp_path, ingress("theirs", "a.example", WEB, ingress_class="traefik"), service("web")), "theirs")
    assert (found["served"], found["role"], found["services"], found["certificates"]) == (False, None, [], [])
    assert [path["state"] for path in found["paths"]] == ["not served"]
    assert document(loaded(tmp_path / "none"), "none") is None


def test_a_further_name_has_a_row_of_its_own(tmp_path: Path) -> None:
    notes = {"server-alias": "b.example", "from-to-www-redirect": "true"}
    found = loaded(tmp_path, ingress("named", "a.example", WEB, notes), service("web"))
    (alias,), (redirect,) = rows(found, "b.example"), rows(found, "www.a.example")
    assert (alias.name_of, alias.owner.name, alias.backend) == ("a.example", "named", "")
    assert (redirect.name_of, redirect.backend) == ("a.example", "redirect to a.example")
    assert rows(found, "nobody.example") == []


def test_of_everything_there_is_a_limit_and_the_number_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_PATHS", "MOST_SERVICES", "MOST_ENDPOINTS", "MOST_PROBLEMS", "MOST_ANNOTATIONS"):
        monkeypatch.setattr(documents, name, 3)
    paths = {f"/{number}": (f"web-{number}", 80) for number in range(9)}
    services = [
        item
        for number in range(9)
        for item in (service(f"web-{number}"), endpoint_slice(f"web-{number}", [(f"10.0.{n}.1", 80) for n in range(5)]))
    ]
    found = document(
        loaded(tmp_path, ingress("many", "a.example", paths, {f"none-{number}": "x" for number in range(9)}), *services), "many"
    )
    for name, total in (("paths", 9), ("problems", 9), ("annotations", 9)):
        assert (len(found[name]), found[f"{name}_total"]) == (3, total), name
    assert len(found["services"]) == 3
    assert {(len(each["endpoints"]), each["endpoints_total"], each["ready"]) for each in found["services"]} == {(3, 5, 5)}


def test_the_worst_problems_come_first_so_that_the_limit_leaves_out_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_PROBLEMS", 1)
    notes = {"rewrite-target": "/$1", "proxy-read-timeout": "5"}
    found = document(loaded(tmp_path, ingress("i", "a.example", {"/": ("gone", 80)}, notes)), "i")
    assert [each["severity"] for each in found["problems"]] == ["error"]


async def test_an_edit_that_is_refused_is_shown_as_it_is_written_beside_what_is_served(site: Looked) -> None:
    await site.put(ingress("edited", "edited.example", WEB, {"rewrite-target": "/x"}, namespace="shop"))
    write(site.folder / "shop", ingress("edited", "edited.example", WEB, {"auth-url": "no url {}"}, namespace="shop"))
    await site.until(
        "/ingress/shop/edited", lambda answer: "its last edit is refused; what was valid before is served" in texts(answer.text)
    )
    found = texts((await site.get("/ingress/shop/edited")).text)
    assert "auth-url no url {}" in found
    assert "/ web:80 owned" in found


async def test_heavy_hosts_are_translated_beside_the_loop_and_nothing_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks may go away: the tables must not change while the thread still reads them."""
    monkeypatch.setattr(live, "_HEAVY", 1)
    reading, go_on = threading.Event(), threading.Event()

    def slow(*words: Any) -> Any:
        reading.set()
        assert go_on.wait(60)
        return ingress_document(*words)

    (folder := tmp_path / "m").mkdir()
    async with looked_at(folder, flags_of(folder, tmp_path)) as site:
        await site.put(ingress("web", "a.example", {**WEB, "/b": ("web", 80)}))
        assert "too large to count here" in texts((await site.get("/ingress/default/web")).text)
        monkeypatch.setattr(live, "ingress_document", slow)
        found = site.plane.live()
        asking = asyncio.create_task(found.ingress(Ref("Ingress", "default", "web")))
        assert await asyncio.to_thread(reading.wait, 60)
        asking.cancel()
        steps = found.steps
        write(folder, ingress("late", "late.example", WEB))
        problems = asyncio.create_task(site.plane.problems())  # waits for the lock as well
        await asyncio.sleep(0)
        assert (found.steps, problems.done(), asking.done()) == (steps, False, False)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await problems
