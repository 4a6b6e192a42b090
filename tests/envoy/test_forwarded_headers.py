"""use-forwarded-headers: what proxies in front say of scheme, host, port and client, and what nobody may say."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, backend, config_map, ingress, make_ca, make_certificate, secret, secret_tls
from tests.envoy.harness.http1 import Headers, Response

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CA = make_ca("One")
GOOD = make_certificate(["good"], ca=CA)
CERTIFICATE = make_certificate(["tls.test", "strict.test"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        secret_tls("cert", CERTIFICATE),
        secret("one", {"ca.crt": CA.cert_pem}),
        config_map(
            "controller",
            {"use-forwarded-headers": "true", "compute-full-forwarded-for": "true", "forwarded-for-header": "X-Client"},
        ),
        ingress("open", "open.test", {"/": ("web", 80)}),
        ingress("tls", "tls.test", {"/": ("web", 80)}, tls={"cert": ["tls.test"]}),
        ingress("kept", "kept.test", {"/": ("web", 80)}, {"force-ssl-redirect": "true", "preserve-trailing-slash": "true"}),
        ingress("port", "port.test", {"/": ("web", 80)}, {"force-ssl-redirect": "true", "use-port-in-redirects": "true"}),
        ingress("www", "www.name.test", {"/": ("web", 80)}, {"from-to-www-redirect": "true"}),
        ingress("moved", "moved.test", {"/": ("web", 80)}, {"permanent-redirect": "/there"}),
        ingress("vhost", "vhost.test", {"/": ("web", 80)}, {"upstream-vhost": "inner.test"}),
        ingress("strict", "strict.test", {"/": ("web", 80)}, {"auth-tls-secret": "default/one"}, tls={"cert": ["strict.test"]}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


async def ask(site: Site, host: str, target: str = "/a/", *, secure: bool = False, headers: Headers = ()) -> Response:
    return await site.get(target, host=host, tls=Tls(host) if secure else None, headers=headers)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("sent", "redirected"),
    [("http", True), ("https", False), ("HTTPS", False), ("wss", False), ("https, http", False), ("", None), (None, None)],
)
async def test_a_proxy_says_by_which_scheme_its_client_came(site: Site, secure: bool, sent: str | None, redirected: bool | None) -> None:
    answer = await ask(site, "tls.test", secure=secure, headers=[] if sent is None else [("X-Forwarded-Proto", sent)])
    if redirected if redirected is not None else not secure:
        assert (answer.status, answer.header("location")) == (308, "https://tls.test/a")
    else:
        told = sent or "https"
        names = ("X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme")
        assert [answer.received(name) for name in names] == [[told]] * 3


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ("public.test", "public.test"),
        ("public.test:444, other.test", "public.test:444"),
        ("[2001:db8::1]:81", "[2001:db8::1]:81"),
        ("", ""),
    ],
)
async def test_a_proxy_says_which_host_its_client_asked_for(site: Site, secure: bool, sent: str, host: str) -> None:
    headers = [("X-Forwarded-Host", sent), ("X-Forwarded-Port", "8443")]
    answer = await ask(site, "open.test", secure=secure, headers=headers)
    assert answer.app == "web", "the path is that of the Ingress all the same"
    assert (answer.received("Host"), answer.received("X-Forwarded-Host")) == ([host or "open.test"], [host or "open.test"])
    assert answer.received("X-Original-Forwarded-Host") == ([sent] if sent else [])
    assert answer.received("X-Forwarded-Port") == ["8443"]
    bare = (host or "kept.test").removesuffix(":444").removesuffix(":81")
    forwarded = [("X-Forwarded-Proto", "http"), *headers]
    assert (await ask(site, "kept.test", secure=secure, headers=forwarded)).header("location") == f"https://{bare}/a/"
    expected = f"https://{bare.replace('kept', 'port')}:443/a"
    assert (await ask(site, "port.test", secure=secure, headers=forwarded)).header("location") == expected


async def test_a_host_of_an_ingress_counts_more_for_its_backend(site: Site) -> None:
    answer = await ask(site, "vhost.test", headers=[("X-Forwarded-Host", "public.test")])
    assert (answer.received("Host"), answer.received("X-Forwarded-Host")) == (["inner.test"], ["public.test"])


async def test_other_redirects_are_where_they_would_be(site: Site) -> None:
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "public.test"), ("X-Forwarded-Port", "8443")]
    assert (await ask(site, "moved.test", headers=headers)).header("location") == "http://moved.test/there"
    assert (await ask(site, "name.test", headers=headers)).header("location") == "https://www.name.test/a"


async def test_without_words_of_a_proxy_everything_is_as_it_came(site: Site) -> None:
    answer = await ask(site, "open.test", headers=[("x-xds-scheme", "https"), ("x-xds-forwarded-port", "1"), ("x-xds-peer", "192.0.2.1")])
    assert answer.received("X-Forwarded-Port") == [str(site.http[1])]
    assert answer.received("X-Scheme") == ["http"]
    assert answer.received("X-Real-IP") == ["127.0.0.1"]
    assert [name for name, _ in answer.json()["headers"] if name.lower().startswith("x-xds")] == []


@pytest.mark.parametrize(
    ("headers", "client", "full", "original"),
    [
        ([], "127.0.0.1", "127.0.0.1", []),
        ([("X-Forwarded-For", "192.0.2.7")], "127.0.0.1", "192.0.2.7, 127.0.0.1", []),
        ([("X-Client", "192.0.2.1")], "192.0.2.1", "127.0.0.1", ["192.0.2.1"]),
        ([("X-Client", "192.0.2.1:99"), ("X-Forwarded-For", "a, b")], "192.0.2.1", "a, b, 127.0.0.1", ["192.0.2.1:99"]),
        ([("X-Client", "192.0.2.1"), ("X-Client", "192.0.2.2")], "192.0.2.1", "127.0.0.1", ["192.0.2.1"]),
    ],
)
async def test_another_header_names_the_client(site: Site, headers: Headers, client: str, full: str, original: list[str]) -> None:
    answer = await ask(site, "open.test", headers=headers)
    assert (answer.received("X-Real-IP"), answer.received("X-Forwarded-For")) == ([client], [full])
    assert answer.received("X-Original-Forwarded-For") == original


@pytest.mark.parametrize(("told", "status"), [("http", 308), ("https", 400), ("wss", 400), ("", 400)])
async def test_no_word_about_the_scheme_spares_a_client_its_certificate(site: Site, told: str, status: int) -> None:
    headers = [("X-Forwarded-Proto", told)]
    refused = await site.get("/", host="strict.test", tls=Tls("strict.test"), headers=headers)
    assert (refused.status, refused.app) == (status, "")
    headers = [("X-Forwarded-Proto", told if told != "http" else "https")]
    taken = await site.get("/", host="strict.test", tls=Tls("strict.test", client=GOOD), headers=headers)
    assert taken.received("ssl-client-verify") == ["SUCCESS"]
