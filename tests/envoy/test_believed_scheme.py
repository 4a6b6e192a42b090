"""use-forwarded-headers: a client says by which scheme it came, and gets around nobody's question for a certificate by that."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, backend, config_map, ingress, make_ca, make_certificate, secret, secret_tls
from tests.envoy.harness.http1 import Headers, Response
from tests.envoy.harness.tls import Certificate

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CA, OTHER_CA = make_ca("One"), make_ca("Other")
GOOD, STRANGE = make_certificate(["good"], ca=CA), make_certificate(["good"], ca=OTHER_CA)
HOSTS = {"strict": "on", "optional": "optional", "lenient": "optional_no_ca"}
SERVER = make_certificate([f"{name}.test" for name in HOSTS])
SAID = ["https", "http", "HTTPS", "wss", "https,http", "x"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    asked = {"auth-tls-secret": "default/one", "ssl-redirect": "false"}
    shared_site.folder.write(
        "all.yaml",
        *backend("web", await shared_site.run(HttpApp("web"))),
        *(secret("one", {"ca.crt": CA.cert_pem}), secret("other", {"ca.crt": OTHER_CA.cert_pem}), secret_tls("server", SERVER)),
        config_map("controller", {"use-forwarded-headers": "true"}),
        *(
            ingress(name, f"{name}.test", {"/": ("web", 80)}, asked | {"auth-tls-verify-client": how}, tls={"server": [f"{name}.test"]})
            for name, how in HOSTS.items()
        ),
        ingress("other", "other.test", {"/": ("web", 80)}, {"auth-tls-secret": "default/other"}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="strict.test", tls=Tls("strict.test", client=GOOD))
    return shared_site


async def ask(site: Site, host: str, said: str, client: Certificate | None = None, *, sni: str | None = "") -> Response:
    headers: Headers = [("X-Forwarded-Proto", said)]
    return await site.get("/", host=host, tls=Tls(host if sni == "" else sni, client=client), headers=headers)


@pytest.mark.parametrize("said", SAID)
async def test_who_has_no_good_certificate_is_refused_whatever_it_says(site: Site, said: str) -> None:
    assert (await ask(site, "strict.test", said)).status == 400
    assert (await ask(site, "strict.test", said, STRANGE)).status == 400
    assert (await ask(site, "optional.test", said, STRANGE)).status == 400
    assert (await ask(site, "strict.test", said, sni=None)).status == 400
    assert (await ask(site, "strict.test", said, STRANGE, sni="other.test")).status == 421
    assert (await ask(site, "strict.test", said, GOOD)).app == "web"


@pytest.mark.parametrize("said", SAID)
async def test_what_is_not_validated_is_said_to_be_so(site: Site, said: str) -> None:
    (found,) = (await ask(site, "lenient.test", said, STRANGE)).received("ssl-client-verify")
    assert found.startswith("FAILED")
    for host in ("lenient.test", "optional.test", "strict.test"):
        assert (await ask(site, host, said, GOOD)).received("ssl-client-verify") == ["SUCCESS"]


@pytest.mark.parametrize("said", [each for each in SAID if each != "http"])
async def test_without_tls_only_http_may_be_said(site: Site, said: str) -> None:
    assert (await site.get("/", host="strict.test", headers=[("X-Forwarded-Proto", said)])).status == 400
    assert (await site.get("/", host="strict.test", headers=[("X-Forwarded-Proto", "http")])).app == "web"
