"""What the pages say, as HTML without a browser: of a control plane on a folder, and of Envoys that a test plays."""

from __future__ import annotations

import html
import re
from pathlib import Path

from tests.dashboard.conftest import Looked, flags_of, looked_at
from tests.envoy.harness.manifests import ingress, service


def texts(page: str) -> str:
    """What of a page is read, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page[page.index("<main") :])).split())


async def test_hosts_have_their_paths_with_owner_backend_rivals_and_canaries(site: Looked) -> None:
    found = texts((await site.get("/")).text)
    assert "12 paths of 7 hosts" in found
    assert "/cart shop/storefront also claimed by shop/checkout cart:80 error" in found
    assert "/ shop/storefront canary shop/web-canary web:80" in found
    assert "www.blog.example a further name of blog.example press/blog" in found


async def test_every_word_of_a_search_must_be_in_a_row(site: Looked) -> None:
    found = texts((await site.get("/?q=SHOP.example+checkout")).text)
    assert "1 of 12 paths" in found
    assert "/checkout" in found
    assert "blog" not in found
    assert "Nothing matches." in texts((await site.get("/?q=none-such")).text)
    assert "1 of 12 paths" in texts((await site.get("/?only=contested")).text)
    assert "metrics.example" in texts((await site.get("/?only=problems")).text)
    assert "api.shop.example" not in texts((await site.get("/?only=problems")).text)


async def test_a_long_list_is_shown_in_pages(tmp_path: Path) -> None:
    (folder := tmp_path / "m").mkdir()
    paths = {f"/{number:03}": ("web", 80) for number in range(120)}
    async with looked_at(folder, flags_of(folder, tmp_path)) as site:
        await site.put(ingress("many", "many.example", paths), service("web"))
        first, last = (await site.get("/")).text, (await site.get("/?page=3")).text
        assert "1–50 of 120" in texts(first)
        assert re.findall(r"<code>(/\d+)</code>", first) == [f"/{number:03}" for number in range(50)]
        assert re.findall(r"<code>(/\d+)</code>", last) == [f"/{number:03}" for number in range(100, 120)]
        assert (await site.get("/?page=99")).text.count("<tr") == last.count("<tr")
        for odd in ("0", "-1", "x", "١", "9" * 400):
            assert "1–50 of 120" in texts((await site.get(f"/?page={odd}")).text) or odd == "9" * 400


async def test_an_ingress_has_verdicts_problems_endpoints_and_days(site: Looked) -> None:
    page = (await site.get("/ingress/shop/storefront")).text
    found = texts(page)
    assert "on 0 of 0 Envoys" in found
    assert "cors-allow-orign (9 characters) unknown cors-allow-orign is no annotation of ingress-nginx" in found
    assert "limit-rps 50 approximate limit-rps works nearly as in ingress-nginx" in found
    assert "proxy-body-size 20m exact" in found
    assert "shop/cart 80 2 of 3 ready 10.42.2.17:8080 ready 10.42.5.17:8080 not ready 10.42.6.31" in found
    assert "shop/shop-tls *.shop.example, shop.example shop.example 61 days left until" in found
    assert '<span class="is-ok">61 days left' in page
    assert '<span class="is-warning">9 days left' in (await site.get("/ingress/press/blog")).text
    taken = texts((await site.get("/ingress/shop/checkout")).text)
    assert "/cart checkout:80 taken by shop/storefront" in taken
    assert "/checkout checkout:80 owned" in taken
    assert "/ web-next:80 canary" in texts((await site.get("/ingress/shop/web-canary")).text)


async def test_programmed_counts_envoys_and_shows_their_words(site: Looked) -> None:
    async with site.envoy("edge-1"), site.envoy("edge-2", rejects="the regex is <b>too</b> complex"):
        await site.until("/ingress/shop/storefront", lambda answer: "edge-2 rejects" in texts(answer.text))
        found = (await site.get("/ingress/shop/storefront")).text
        assert "on 1 of 2 Envoys" in texts(found)
        assert "edge-2 rejects rds" in texts(found)
        assert "the regex is &lt;b&gt;too&lt;/b&gt; complex" in found
        fleet = (await site.get("/fleet")).text
        assert texts(fleet).index("edge-2") < texts(fleet).index("edge-1")  # who needs a look comes first
        assert "rejects rds ingress the regex is <b>too</b> complex" in texts(fleet)
        assert "2 Envoys" in html.unescape(re.sub(r"<[^>]*>", "", fleet))


async def test_the_last_changes_have_causes_and_what_became_of_them(site: Looked) -> None:
    async with site.envoy("edge-1"):
        await site.until("/fleet", lambda answer: "edge-1 in sync" in texts(answer.text))
        await site.put(ingress("late", "late.example", {"/": ("web", 80)}, namespace="shop"))
        accepted = re.compile(r"shop/late added rds ingress [\d.]+ ms after \d+ ms")
        await site.until("/changes", lambda answer: accepted.search(texts(answer.text)) is not None)


async def test_a_url_is_explained_as_by_the_command(site: Looked) -> None:
    found = texts((await site.get("/explain?url=https://shop.example/cart/1%3Fa=b")).text)
    assert "answered by Service shop/cart port 80, which gets the path /cart/1?a=b" in found
    assert "programmed on 0 of 0" in found
    assert "'ftp://x' has the scheme 'ftp'" in texts((await site.get("/explain?url=ftp://x")).text)
    assert "answered by none of your Ingresses 404" in texts((await site.get("/explain?url=nobody.example")).text)
    assert "POST https://" in texts((await site.get("/explain?url=https://shop.example/&method=POST")).text)


async def test_problems_can_be_narrowed(site: Looked) -> None:
    assert "2 Problems: what was written" in texts((await site.get("/problems?only=error")).text)
    found = texts((await site.get("/problems?q=grafana")).text)
    assert "Service monitoring/grafana does not exist" in found
    assert "storefront" not in found


async def test_what_is_not_there_is_a_page_that_says_so(site: Looked) -> None:
    for path, words in (("/none", "There is no such page."), ("/ingress/a/%3Cb%3E", "There is no Ingress a/<b> here.")):
        answer = await site.get(path)
        assert (answer.status, words in texts(answer.text)) == (404, True)


async def test_credentials_are_on_no_page(site: Looked) -> None:
    notes = {
        "auth-url": "http://monitor:hunter2@auth.example/v",
        "configuration-snippet": 'proxy_set_header Authorization "Bearer hunter2";',
        "my-tokenn": "hunter2",
    }
    await site.put(ingress("leaky", "leaky.example", {"/": ("web", 80)}, notes, namespace="shop"))
    assert "auth-url http://…@auth.example/v" in texts((await site.get("/ingress/shop/leaky")).text)
    for path in ("/ingress/shop/leaky", "/problems?q=leaky", "/explain?url=http://leaky.example/", "/changes", "/"):
        answer = await site.get(path)
        assert answer.status == 200, path
        assert "hunter2" not in answer.text, path
        assert "PRIVATE KEY" not in answer.text, path
