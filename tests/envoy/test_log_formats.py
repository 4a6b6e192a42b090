"""The access log as the ConfigMap describes it: other lines and escapes, other places, and requests without a line."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Site, backend, config_map, fetch, ingress, wait_until
from xds.nginx import log_format

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

JSON_LINE = (
    '{"time": "$time_iso8601", "id": "$req_id", "agent": "$http_user_agent", "custom": "$http_x_custom", "status": $status, '
    '"seconds": $request_time, "upstream": "$upstream_status", "type": "$sent_http_content_type", "ns": "$namespace", '
    '"ing": "$ingress_name", "service": "$service_name:$service_port", '
    '"uri": "$uri", "args": "$args", "host": "$host", "body": "$request_body", "odd": "100% ${scheme}s"}'
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(shared_site: Site) -> Address:
    return await shared_site.run(HttpApp("app"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, app: Address) -> Site:
    shared_site.folder.write("ingress.yaml", ingress("web", "app.test", {"/": ("app", 80)}))
    shared_site.folder.write("silent.yaml", ingress("silent", "silent.test", {"/": ("app", 80)}, {"enable-access-log": "false"}))
    shared_site.folder.write("backends.yaml", *backend("app", app))
    configure(shared_site)
    await shared_site.start("--configmap", "default/config")
    return shared_site


def configure(site: Site, **keys: str) -> None:
    site.folder.write("config.yaml", config_map("config", {name.replace("_", "-"): text for name, text in keys.items()}))


async def logged(site: Site, request_id: str, pattern: str) -> str:
    """The line of a request, once lines begin as this format has them."""
    number = 0

    async def ask() -> str | None:
        nonlocal number
        number += 1
        await site.get(
            '/some/path?a="b', host="app.test", headers=[("X-Request-ID", f"{request_id}-{number}"), ("User-Agent", 'a "b" \\ c\td')]
        )
        line = await site.envoy.process.line(f"{request_id}-{number}")
        return line if line.startswith(pattern) else None

    found = await wait_until(ask, f"a line that begins with {pattern!r}")
    assert found
    return found


async def test_a_line_of_json(site: Site) -> None:
    configure(site, log_format_upstream=JSON_LINE, log_format_escape_json="true")
    line = json.loads(await logged(site, "json", "{"))
    assert 0 <= line.pop("seconds") < 30
    assert line.pop("time")[10] == "T"
    assert line.pop("id").startswith("json-")
    assert line == {
        "agent": 'a "b" \\ c\td',
        "custom": "",
        "status": 200,
        "upstream": "200",
        "type": "application/json; charset=utf-8",
        "ns": "default",
        "ing": "web",
        "service": "app:80",
        "uri": "/some/path",
        "args": 'a="b',
        "host": "app.test",
        "body": "",
        "odd": "100% https",
    }


async def test_a_line_of_json_is_the_text_that_was_asked_for(site: Site) -> None:
    """Its keys stand in their order, with their spaces, and what is missing is an empty text, as nginx writes it."""
    text = '{"z":"$request_method",  "a" : $status, "none": "$http_none", "unknown":"$request_body", '
    text += '"agent":"$http_user_agent", "id":"$req_id"}'
    configure(site, log_format_upstream=text, log_format_escape_json="true")
    line = await logged(site, "as-it-is", '{"z":"GET"')
    written = r'{"z":"GET",  "a" : 200, "none": "", "unknown":"", "agent":"a \"b\" \\ c\td", "id":"as-it-is-'
    assert line.startswith(written)
    for own, sent, name in (("mark", 'https://a.test/?"', "Referer"), ("tab", "t\tab", "X-Custom")):
        configure(
            site,
            log_format_upstream=f'{{"{own}": "$http_{name.lower().replace("-", "_")}", "id": "$req_id"}}',
            log_format_escape_json="true",
        )
        await logged(site, f"begun-{own}", f'{{"{own}"')
        await site.get("/", host="app.test", headers=[("X-Request-ID", own), (name, sent)])
        assert json.loads(await site.envoy.process.line(f'"{own}"}}')) == {own: sent, "id": own}


async def test_every_variable_that_is_known(site: Site) -> None:
    known = sorted(log_format.KNOWN)
    configure(site, log_format_upstream="every $req_id " + " ".join(f"{name}=<${name}>" for name in known))
    line = await logged(site, "every", "every ")
    assert [name for name in known if f"{name}=<" not in line] == []
    assert "namespace=<default>" in line
    assert r"request=<GET /some/path?a=\x22b HTTP/1.1>" in line


@pytest.mark.parametrize("name", ["Accept-Encoding", "Authorization", "Content-Type", "X-Custom"])
async def test_all_values_of_a_header_are_written(site: Site, name: str) -> None:
    """By a command of Envoy's, if nothing of them has to be escaped, and by an expression else: they say the same."""
    variable = f"http_{name.lower().replace('-', '_')}"
    configure(site, log_format_upstream=f"all-of-{variable} $req_id <${variable}>")
    await logged(site, f"begun-{variable}", f"all-of-{variable} ")
    for second, written in (("two", "one,two"), ('"two"', r"one,\x22two\x22")):
        own = f"twice-{variable}-{len(second)}"
        await site.get("/", host="app.test", headers=[("X-Request-ID", own), (name, "one"), (name, second)])
        assert (await site.envoy.process.line(own)).endswith(f"{own} <{written}>")


async def test_nothing_is_escaped_if_so_asked_for(site: Site) -> None:
    configure(site, log_format_upstream="none $req_id $http_user_agent|$http_referer|", log_format_escape_none="true")
    assert (await logged(site, "none", "none ")).endswith(' a "b" \\ c\td||')


async def test_an_ingress_may_have_no_lines(site: Site) -> None:
    configure(site, log_format_upstream="silence $req_id")
    await site.get("/", host="silent.test", headers=[("X-Request-ID", "unheard")])
    await logged(site, "heard", "silence ")
    assert not [line for line in site.envoy.process.stdout if "unheard" in line]


async def test_urls_may_have_no_lines(site: Site) -> None:
    configure(site, log_format_upstream="skips $req_id", skip_access_log_urls="/ready,/healthz?full")
    await logged(site, "skips", "skips ")
    for path in ("/ready", "/healthz?full", "/ready?x", "/healthz"):
        await site.get(path, host="app.test", headers=[("X-Request-ID", f"skipped{path}|")])
    await logged(site, "after", "skips ")
    lines = [line for line in site.envoy.process.stdout if "skipped" in line]
    assert lines == ["skips skipped/ready?x|", "skips skipped/healthz|"]


@pytest.mark.parametrize(
    ("keys", "to_stderr"),
    [
        ({"access_log_path": "/dev/stderr"}, True),
        ({"access_log_path": "/var/log/nginx/access.log"}, False),
        ({"http_access_log_path": "/dev/stderr"}, True),
        ({"http_access_log_path": "/dev/stdout", "access_log_path": "/dev/stderr"}, False),
        ({"stream_access_log_path": "/dev/stderr"}, False),
        ({"access_log_path": "/mnt/access.log"}, False),
        ({"access_log_params": "buffer=16k gzip flush=1m"}, False),
    ],
)
async def test_the_log_may_be_on_standard_error(site: Site, keys: dict[str, str], *, to_stderr: bool) -> None:
    """A line comes at once, whatever nginx would do with it first."""
    own = f"at-{'-'.join([*keys, *keys.values()]).replace('/', '').replace(' ', '')}"
    configure(site, log_format_upstream=f"{own} $req_id", **keys)
    line = await logged(site, own, f"{own} ")
    assert (line in site.envoy.process.stderr, line in site.envoy.process.stdout) == (to_stderr, not to_stderr)


@pytest.mark.parametrize("key", ["disable_access_log", "disable_http_access_log"])
async def test_there_may_be_no_log(site: Site, key: str) -> None:
    configure(site, **{key: "true"})

    def lines() -> int:
        return len(site.envoy.process.stdout) + len(site.envoy.process.stderr)

    async def silent() -> bool:
        before = lines()
        for _ in range(20):
            await fetch(site.http, host="app.test")
        return lines() == before

    assert await wait_until(silent, "a request without a line")
