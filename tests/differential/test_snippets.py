"""configuration-snippet: directives about headers, conditions, returns and rewrites do what nginx does with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from examples.apps import Address, HttpApp
from tests.differential.nginx import NGINX, Nginx, location
from tests.envoy.harness import Site, backend, config_map, ingress
from tests.envoy.harness.http1 import Response
from tests.envoy.harness.waiting import wait_until
from tests.exploring import examples
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.program import program

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not NGINX, reason="there is no nginx"),
]

VALUES = (
    '"text"',
    "'50% of it'",
    '"a \\"b\\" c"',
    "$request_uri",
    "$uri",
    '"$request_method-$scheme"',
    '"<$arg_x>"',
    "$http_x_one",
    '"$cookie_c;$host"',
    '"${v}1"',
    "$is_args$args",
    "$remote_addr",
)
SUBJECTS = ("$http_x_one", "$arg_x", "$cookie_c", "$request_method", "$uri", "$request_uri", "$args", "$host", "$v", "$http_none")
OPERANDS = ("1", "a", "GET", "/a", '""', "s0.r1.test")
PATTERNS = ("a", "^/a", "b$", '"^$"', "1", '"[^x]"', "x=1", '"(a|G)"', '"/.*b"')


def once(lines: list[str]) -> list[str]:
    """The lines without what nginx takes once in a block."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        name = line.split(" ")[0]
        found.setdefault(name if name in ("expires", "proxy_set_header", "proxy_hide_header") else str(number), line)
    return list(found.values())


value = st.sampled_from(VALUES)
condition = st.one_of(
    st.sampled_from(SUBJECTS),
    st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(["=", "!="]), st.sampled_from(OPERANDS)).map(" ".join),
    st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(["~", "~*", "!~", "!~*"]), st.sampled_from(PATTERNS)).map(" ".join),
)
ending = st.one_of(
    st.sampled_from(["return 403;", "return 418;", "return 204;", "break;", "return 410;", "return 405;"]),
    st.tuples(st.sampled_from(["200", "404", "301", "302", "308"]), st.sampled_from(['"$uri?x"', "https://e.test$request_uri", "/to"])).map(
        lambda pair: f"return {pair[0]} {pair[1]};"
    ),
)
rewriting = st.tuples(
    st.sampled_from(["^/a/(.*)$", "^/(a)", "b", "/a(?<n>.)?"][:3]),
    st.sampled_from(["/n/$1", "/n", "https://e.test/$1", "/n/$1?"]),
    st.sampled_from(["break", "redirect", "permanent"]),
).map(lambda parts: f"rewrite {' '.join(parts)};" if not (parts[1].endswith("?") and parts[2] == "break") else "")
header = st.one_of(
    st.tuples(st.sampled_from(["X-A", "X-B"]), value, st.sampled_from(["", " always"])).map(
        lambda parts: "add_header {} {}{};".format(*parts)
    ),
    st.sampled_from(["expires 1h;", "expires -1;", "expires epoch;", "expires max;", "expires off;"]),
)
setting = value.map(lambda text: f"set $v {text};")
body = st.lists(st.one_of(header, setting), max_size=2).flatmap(
    lambda first: st.one_of(st.just(""), ending, rewriting).map(lambda last: " ".join((*once(first), last)))
)
block = st.tuples(condition, body).map(lambda pair: f"if ({pair[0]}) {{ {pair[1]} }}")
upwards = st.one_of(value.map(lambda text: f"proxy_set_header X-Up {text};"), st.sampled_from(["proxy_hide_header X-App;", ""]))
snippet = st.tuples(st.lists(st.one_of(header, block, setting, upwards, rewriting), max_size=5), st.one_of(st.just(""), ending)).map(
    lambda parts: "\n".join(('set $v "";', *once(parts[0]), parts[1]))
)
request = st.tuples(
    st.sampled_from(["/", "/a", "/a/b", "/b", "/a/b?x=1", "/?x=a&x=1", "/?y=x=1&X=1", "/status/404", "/a/status/404?x=0"]),
    st.sampled_from(["GET", "GET", "DELETE"]),
    st.lists(
        st.sampled_from([("x-one", "1"), ("x-one", "abc"), ("cookie", "b=1; c=a; c=1"), ("x-one", "0")]),
        max_size=2,
        unique_by=lambda h: h[0],
    ),
)


@dataclass
class Both:
    """nginx and our Envoy before one application."""

    site: Site
    nginx: Nginx
    app: Address
    rounds: int = 0

    async def serve(self, snippets: list[str]) -> None:
        """The host of each number has its snippet; each round has hosts of its own, so that no worker answers for the round before."""
        self.rounds += 1
        await self.nginx.serve({self.host(n): location(text, self.app) for n, text in enumerate(snippets)})
        made = [ingress(f"s{n}", self.host(n), {"/": ("web", 80)}, {"configuration-snippet": text}) for n, text in enumerate(snippets)]
        mark = {"configuration-snippet": f"return 200 {self.rounds};"}
        self.site.folder.write("all.yaml", *made, ingress("mark", "mark.test", {"/": ("web", 80)}, mark))
        if self.rounds == 1:
            await self.site.start("--configmap", "default/controller")
        await wait_until(self._serves, "Envoy to serve")

    def host(self, number: int) -> str:
        """The host of a snippet in this round."""
        return f"s{number}.r{self.rounds}.test"

    async def compare(self, number: int, snippet: str, target: str, method: str, headers: list[tuple[str, str]]) -> None:
        """Wait until both answer alike: a worker of Envoy may have its new routes a little later than another one."""
        theirs = seen(await self.nginx.get(target, host=self.host(number), method=method, headers=headers))

        async def alike() -> bool:
            ours = seen(await self.site.get(target, host=self.host(number), method=method, headers=headers))
            assert ours == theirs, (snippet, method, target, headers)
            return True

        await wait_until(alike, "both to answer alike")

    async def _serves(self) -> bool:
        return (await self.site.get("/", host="mark.test")).body == str(self.rounds).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    app = await shared_site.run(HttpApp("web"))
    allowed = {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true", "hsts": "false"}
    shared_site.folder.write("site.yaml", *backend("web", app), config_map("controller", allowed))
    nginx = Nginx(shared_site, tmp_path_factory.mktemp("nginx"))
    yield Both(shared_site, nginx, app)
    await nginx.stop()


def seen(answer: Response) -> dict[str, object]:
    """What can be seen of an answer, and of what the application got."""
    shown: dict[str, object] = {name: answer.all(name) for name in ("X-A", "X-B", "Cache-Control", "Location", "X-App")}
    shown |= {"status": answer.status, "Expires": [value[:-12] for value in answer.all("Expires")]}
    if answer.app:
        shown |= {"path": answer.json()["path"], "X-Up": answer.received("X-Up")}
    elif answer.status not in (403, 405, 410, 301, 302, 308):
        shown["body"] = answer.body
    return shown


@given(st.lists(snippet, min_size=25, max_size=25), st.lists(request, min_size=4, max_size=4))
@hypothesis_settings(
    max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
async def test_a_snippet_does_what_it_does_in_nginx(
    both: Both, snippets: list[str], requests: list[tuple[str, str, list[tuple[str, str]]]]
) -> None:
    await both.serve(snippets)
    whole = [n for n, text in enumerate(snippets) if not program(text, Block.LOCATION).faults]
    assert len(whole) > len(snippets) // 2
    for n in whole:
        for target, method, headers in requests:
            await both.compare(n, snippets[n], target, method, headers)
