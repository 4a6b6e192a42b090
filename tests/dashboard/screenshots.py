"""The pictures of docs/dashboard.md: `python -m tests.dashboard.screenshots`, and then look at them."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.dashboard.conftest import Looked, flags_of, looked_at
from tests.dashboard.scene import write_company

DOCS = Path(__file__).parents[2] / "docs"
ENVOYS = ("edge-fra-1", "edge-fra-2", "edge-ams-1")


async def _picture(browser: Browser, url: str, scheme: str, path: Path, height: int) -> None:
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": height})  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector("#following.is-ok")
    await page.screenshot(path=path)
    await context.close()


async def _all(site: Looked) -> None:
    async with AsyncExitStack() as stack:
        for node in ENVOYS:
            await stack.enter_async_context(site.envoy(node))
        await site.until("/ingress/shop/storefront", lambda answer: f"on {len(ENVOYS)} of {len(ENVOYS)}" in answer.text)
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        await _picture(browser, f"{site.base}/", "light", DOCS / "dashboard-hosts.png", 716)
        await _picture(browser, f"{site.base}/ingress/shop/storefront", "dark", DOCS / "dashboard-ingress.png", 1000)
        await browser.close()


async def main() -> None:
    """Serve the company of `scene`, with three Envoys, and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_company(Path(name) / "manifests", datetime.datetime.now(datetime.UTC))
        async with looked_at(folder, flags_of(folder, Path(name))) as site:
            await _all(site)


if __name__ == "__main__":
    asyncio.run(main())
