"""proxy-redirect-* and proxy-cookie-*: whatever a backend answers, its headers come out as out of nginx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.differential.nginx import NGINX, Nginx, location
from tests.envoy.harness import Obeying, Site, asking, backend, config_map, ingress
from tests.exploring import examples

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not NGINX, reason="there is no nginx"),
]

HOSTS: Mapping[str, Mapping[str, str]] = {
    "url.test": {"proxy-redirect-from": "http://in.test/", "proxy-redirect-to": "https://out.test/"},
    "path.test": {"proxy-redirect-from": "/old", "proxy-redirect-to": "/new"},
    "relative.test": {"proxy-redirect-from": "/old", "proxy-redirect-to": "/new", "relative-redirects": "true"},
    "pattern.test": {"proxy-redirect-from": "~in.test/a", "proxy-redirect-to": "/all"},
    "host.test": {"proxy-redirect-from": "http", "proxy-redirect-to": "//"},
    "none.test": {"proxy-redirect-from": "default", "proxy-redirect-to": "/x"},
    "domain.test": {"proxy-cookie-domain": "in.test out.test"},
    "dots.test": {"proxy-cookie-domain": ".in.test .out.test"},
    "domains.test": {"proxy-cookie-domain": "~IN.test out.test"},
    "cookie-path.test": {"proxy-cookie-path": "/a /b/"},
    "cookie-paths.test": {"proxy-cookie-path": "~/a /all"},
    "both.test": {"proxy-cookie-path": "/ /app/", "proxy-cookie-domain": "in.test out.test"},
}


def directives(annotations: Mapping[str, str]) -> str:
    """What ingress-nginx writes for them."""
    before, after = annotations.get("proxy-redirect-from", "off"), annotations.get("proxy-redirect-to", "off")
    redirect = "off" if before in ("off", "default") else f"{before} {after}"  # `default` is about the address of the backend
    lines = [f"proxy_redirect {redirect};", f"absolute_redirect {'off' if 'relative-redirects' in annotations else 'on'};"]
    for what in ("domain", "path"):
        lines.append(f"proxy_cookie_{what} {annotations.get(f'proxy-cookie-{what}', 'off')};")
    return "\n".join(lines)


url = st.builds(
    "{}{}{}".format,
    st.sampled_from(["http://in.test", "https://in.test", "http://IN.test", "", "http://xin.test", "//in.test"]),
    st.sampled_from(["/", "/a", "/old", "/old/a?b=c", "", "/oldest", "a"]),
    st.sampled_from(["", "/x", "#f", ";a=b"]),
).filter(bool)
refresh = st.builds("{}{}{}".format, st.sampled_from(["1; ", "0;", ""]), st.sampled_from(["url=", "URL=", "Url =", "url"]), url)
attribute = st.one_of(
    st.builds(
        "{}={}".format,
        st.sampled_from(["Domain", "domain", " DOMAIN ", "xdomain"]),
        st.sampled_from(["in.test", ".in.test", " In.Test ", "a.in.test", ""]),
    ),
    st.builds("{}={}".format, st.sampled_from(["Path", "path ", "PATH"]), st.sampled_from(["/", "/a", " /a/b ", "/A", "", "/x=/a"])),
    st.sampled_from(["Secure", " HttpOnly", "Domain", "path", "", "Max-Age=1", "=", "= /a"]),
)
cookie = st.builds(";".join, st.lists(attribute, max_size=4)).flatmap(
    lambda rest: st.sampled_from(["a=b", "path=/a", "a", "a = b"]).map(lambda first: f"{first};{rest}" if rest else first)
)
header = st.one_of(
    url.map(lambda text: ("Location", text)), refresh.map(lambda text: ("Refresh", text)), cookie.map(lambda text: ("Set-Cookie", text))
)
answers = st.lists(header, min_size=1, max_size=5, unique_by=lambda pair: pair[0] if pair[0] != "Set-Cookie" else pair)


@dataclass
class Both:
    """nginx and our Envoy before one backend."""

    site: Site
    nginx: Nginx


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    app = await shared_site.run(Obeying())
    made = [ingress(host.partition(".")[0], host, {"/": ("web", 80)}, dict(annotations)) for host, annotations in HOSTS.items()]
    shared_site.folder.write("all.yaml", *backend("web", app), config_map("controller", {"hsts": "false"}), *made)
    await shared_site.start("--configmap", "default/controller")
    nginx = Nginx(shared_site, tmp_path_factory.mktemp("nginx"))
    await nginx.serve({host: location(directives(annotations), app) for host, annotations in HOSTS.items()})
    yield Both(shared_site, nginx)
    await nginx.stop()


@given(st.sampled_from(sorted(HOSTS)), answers, st.sampled_from([200, 201, 302, 404]))
@hypothesis_settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
async def test_headers_of_a_backend_come_out_as_out_of_nginx(both: Both, host: str, headers: list[tuple[str, str]], status: int) -> None:
    seen = []
    for client in (both.nginx, both.site):
        got = await client.get("/", host=f"{host.upper()}:8080", headers=asking(status, *headers))
        seen.append({name: got.all(name) for name in ("Location", "Refresh", "Set-Cookie")})
    assert seen[0] == seen[1]
