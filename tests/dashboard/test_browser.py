"""The dashboard in a real Chromium, of a real `xds up` with its Envoy: pages, live update, keys, colours, and what users write."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import write
from tests.dashboard.scene import write_company
from tests.envoy.harness import Ports
from tests.envoy.harness.control_plane import XDS
from tests.envoy.harness.manifests import ingress
from tests.envoy.harness.process import ROOT, environment

pytest.importorskip("envoy", reason="needs a real Envoy: pip install 'xds-ingress[envoy]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'xds-ingress[test]'")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]

PATIENCE = 60_000
"""Milliseconds for what should come at once."""
EVIL = '"><img src=x onerror=window.hit=1><script>window.hit=1</script>'
PATHS = {f"/{number:03}": ("web", 80) for number in range(60)}


@dataclass(frozen=True)
class Running:
    """An `xds up` on `folder`, and where its dashboard is."""

    folder: Path
    base: str


@dataclass
class Seen:
    """What a browser did beside what it was asked for."""

    asked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = write_company(tmp_path_factory.mktemp("browser") / "m", datetime.datetime.now(datetime.UTC))
    notes = {"rewrite-target": EVIL, EVIL.replace("/", "-"): EVIL, "configuration-snippet": EVIL}
    write(folder / "evil", ingress("evil", EVIL, {f"/{EVIL}": (EVIL, 80)}, notes, namespace="evil"))
    write(folder / "evil", ingress("turned", "nigeb\u202etxt.example", {"/": ("web", 80)}, namespace="evil"))
    write(folder / "many", ingress("many", "many.example", PATHS, namespace="many"))
    ports = Ports()
    http, https, health, page = (ports.take() for _ in range(4))
    flags = ["--listen-address=127.0.0.1", f"--http-port={http}", f"--https-port={https}", f"--healthz-port={health}"]
    flags += ["--healthz-host=127.0.0.1", f"--dashboard-address=127.0.0.1:{page}"]
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("r"))}
    with open(folder.parent / "log", "wb") as log:
        up = subprocess.Popen([*XDS, "up", str(folder), *flags], cwd=ROOT, env=environment(runtime), stdout=log, stderr=log)
    found = Running(folder, f"http://127.0.0.1:{page}")
    try:
        wait_for(f"{found.base}/ingress/shop/storefront", "on 1 of 1 Envoy", up, folder.parent / "log")
        yield found
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
        ports.release()
    assert "Traceback" not in (folder.parent / "log").read_text()


def wait_for(url: str, text: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as response:
            if text in response.read().decode():
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield launched
        launched.close()


@pytest.fixture
def seen(running: Running) -> Iterator[Seen]:
    """Nothing may be asked of anybody else, and no error and no violation of the policy may be reported."""
    found = Seen()
    yield found
    assert found.faults == []
    assert [url for url in found.asked if not url.startswith(f"{running.base}/")] == []


@pytest.fixture
def page(browser: Any, seen: Seen) -> Iterator[Any]:
    with opened(browser, seen) as found:
        yield found


@contextlib.contextmanager
def opened(browser: Any, seen: Seen, **how: Any) -> Iterator[Any]:
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | how))
    context.set_default_timeout(PATIENCE)
    found = context.new_page()
    found.on("request", lambda request: seen.asked.append(request.url))
    found.on("console", lambda message: seen.faults.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: seen.faults.append(str(error)))
    found.on("dialog", lambda dialog: seen.faults.append(dialog.message))
    found.add_init_script("addEventListener('securitypolicyviolation', (event) => console.error(`violated ${event.violatedDirective}`))")
    yield found
    context.close()


PAGES = ("/", "/problems", "/fleet", "/changes", "/explain?url=https://shop.example/cart", "/ingress/shop/storefront", "/ingress/evil/evil")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_fits_and_has_the_colours_of_the_user(browser: Any, seen: Seen, running: Running, width: int, scheme: str) -> None:
    with opened(browser, seen, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        for path in PAGES:
            page.goto(running.base + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (sum(map(int, paper[4:-1].split(","))) < 150) == (scheme == "dark"), path
            assert page.locator("main h1").count() == 1


def test_a_page_follows_what_changes_and_keeps_its_place(page: Any, running: Running) -> None:
    page.goto(f"{running.base}/?q=shop.example")
    page.wait_for_selector("#following.is-ok")
    page.evaluate("window.same = true")
    link = page.locator("main tbody a", has_text="shop/checkout").last
    link.focus()
    write(running.folder / "shop", ingress("new", "new.shop.example", {"/": ("web", 80)}, namespace="shop"))
    page.wait_for_selector("td.host:has-text('new.shop.example')")
    assert page.evaluate("window.same") is True  # it is the same page
    assert page.evaluate("document.activeElement.getAttribute('href')") == "/ingress/shop/checkout"
    (running.folder / "shop" / "ingress-new.json").unlink()
    page.wait_for_selector("td.host:has-text('new.shop.example')", state="detached")


def test_a_change_is_accepted_by_the_envoy_before_the_eyes_of_the_user(page: Any, running: Running) -> None:
    page.goto(f"{running.base}/changes")
    write(running.folder / "shop", ingress("next", "next.example", {"/": ("web", 80)}, namespace="shop"))
    row = page.locator("tbody tr", has_text="shop/next added").first
    row.locator("td", has_text="after").wait_for()
    row.get_by_role("link", name="shop/next").click()
    page.get_by_text("on 1 of 1 Envoy").wait_for()


def test_what_users_write_is_text(page: Any, running: Running) -> None:
    for path in (
        "/?q=evil",
        "/problems?q=evil",
        "/ingress/evil/evil",
        "/fleet",
        "/changes",
        f"/explain?url=http://x/{EVIL}",
        f"/?q={EVIL}",
    ):
        page.goto(running.base + path.replace('"', "%22").replace("<", "%3C").replace(">", "%3E"))
        page.wait_for_selector("#following.is-ok")
        assert page.locator("main img, main script, main svg, main iframe").count() == 0, path
        assert page.evaluate("window.hit") is None, path
    assert page.locator("input[type=search]").input_value() == EVIL
    page.goto(f"{running.base}/ingress/evil/evil")
    assert "<img src=x onerror=window.hit=1>" in page.locator("main").inner_text()
    for path in ("/ingress/evil/turned", "/?q=nigeb", "/problems?q=nigeb"):
        page.goto(running.base + path)
        text = page.locator("main").inner_text()
        assert ("nigeb\\u202etxt.example" in text, "\u202e" in text) == (True, False), path


def test_everything_is_reached_by_keys(page: Any, running: Running) -> None:
    page.goto(running.base)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("/")
    page.keyboard.type("many.example")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=many.example")
    assert "1–50 of 60" in page.locator(".pages").inner_text()
    page.keyboard.press("n")
    page.wait_for_url("**page=2")
    page.keyboard.press("p")
    page.wait_for_url("**/?q=many.example")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/ingress/many/many")
    for key, path in zip("12345", ("/", "/problems", "/fleet", "/changes", "/explain"), strict=True):
        if key != "5":
            page.keyboard.press(key)
            page.wait_for_url(running.base + path)
    page.keyboard.press("5")
    page.wait_for_url(f"{running.base}/explain")
    page.keyboard.type("https://shop.example/checkout/now")  # the box has the focus
    page.keyboard.press("Enter")
    page.get_by_text("by Service shop/checkout port 80").wait_for()


SET_HIDDEN = """
  Object.defineProperty(document, "hidden", { configurable: true, get: () => %s });
  document.dispatchEvent(new Event("visibilitychange"));
"""


def test_pages_in_the_background_keep_no_connection_from_others(page: Any, running: Running) -> None:
    """A browser has six connections to a server for all of its tabs. Without a screen all tabs are seen, so each is hidden here."""
    hidden = []
    for _ in range(8):
        hidden.append(page.context.new_page())
        hidden[-1].goto(f"{running.base}/fleet")
        hidden[-1].wait_for_selector("#following.is-ok")
        hidden[-1].evaluate(SET_HIDDEN % "true")
    page.goto(running.base)
    page.wait_for_selector("#following.is-ok")
    assert [each.locator("#following").inner_text() for each in hidden] == ["not live while it is hidden"] * 8
    hidden[0].evaluate(SET_HIDDEN % "false")
    hidden[0].wait_for_selector("#following.is-ok")


def test_without_the_script_pages_work_as_well(browser: Any, seen: Seen, running: Running) -> None:
    with opened(browser, seen, java_script_enabled=False) as page:
        page.goto(running.base)
        page.locator("input[type=search]").fill("grafana")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="monitoring/grafana").click()
        assert "Service monitoring/grafana does not exist" in page.locator("main").inner_text()


def test_who_cannot_see_hears_what_a_page_has(page: Any, running: Running) -> None:
    page.goto(f"{running.base}/ingress/shop/storefront")
    assert page.title() == "shop/storefront · xds"
    assert page.get_by_role("navigation", name="Pages").count() == 1
    assert page.get_by_role("columnheader", name="Verdict").count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((heading) => +heading.tagName[1])")
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    named = "(e) => e.textContent.trim() || e.ariaLabel || e.type === 'hidden'"
    assert page.evaluate(f"[...document.querySelectorAll('a, button, input, select')].every({named})")
