"""Writing through the API server: what is sent, and what comes of its answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import MERGE, ApiError, create, patch, read, replace

PATH = "/api/v1/namespaces/a/configmaps"


@dataclass
class Server:
    """Gives the answers that it was told to give, the last one for ever, and keeps what it was asked."""

    answers: list[tuple[int, Any]]
    url: str = ""
    asked: list[tuple[str, str, str, Any, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        authorization = request.headers.get("Authorization", "")
        self.asked.append((request.method, request.path, request.content_type, json.loads(text) if text else None, authorization))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body), content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server([(200, {"kind": "ConfigMap"})])
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def api(server: Server, tmp_path: Path) -> AsyncIterator[Api]:
    token = tmp_path / "token"
    token.write_text("first")
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server.url}}],
        "users": [{"name": "me", "user": {"tokenFile": str(token)}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    found = Api(Flags(kubeconfig=tmp_path / "kubeconfig"))
    await found.open()
    try:
        yield found
    finally:
        await found.close()


def refusal(code: int, reason: str, message: str = "why") -> tuple[int, Any]:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}


async def test_each_verb_is_sent_as_the_api_server_wants_it(server: Server, api: Api) -> None:
    body = {"metadata": {"name": "b"}}
    await create(api, PATH, body)
    await replace(api, f"{PATH}/b", body)
    await patch(api, f"{PATH}/b", {"data": {"x": None}})
    await read(api, f"{PATH}/b")
    assert [asked[:4] for asked in server.asked] == [
        ("POST", PATH, "application/json", body),
        ("PUT", f"{PATH}/b", "application/json", body),
        ("PATCH", f"{PATH}/b", MERGE, {"data": {"x": None}}),
        ("GET", f"{PATH}/b", "application/json", None),
    ]


async def test_the_object_as_it_is_now_comes_back(server: Server, api: Api) -> None:
    server.answers = [(201, {"metadata": {"resourceVersion": "7"}})]
    assert await create(api, PATH, {}) == {"metadata": {"resourceVersion": "7"}}


async def test_what_is_not_there_reads_as_none_and_cannot_be_written(server: Server, api: Api) -> None:
    server.answers = [refusal(404, "NotFound")]
    assert await read(api, f"{PATH}/b") is None
    with pytest.raises(ApiError) as caught:
        await replace(api, f"{PATH}/b", {})
    assert caught.value.status == 404


async def test_a_refusal_has_its_reason_and_nothing_of_what_was_written(server: Server, api: Api) -> None:
    server.answers = [refusal(409, "Conflict", "the object has been modified.")]
    with pytest.raises(ApiError) as caught:
        await replace(api, f"{PATH}/b", {"data": {"key": "hush"}})
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert str(caught.value) == f"The API server answers PUT {PATH}/b with 409 Conflict: the object has been modified."


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null"])
async def test_an_answer_that_is_no_object_is_a_refusal(server: Server, api: Api, body: str) -> None:
    server.answers = [(502, body)]
    with pytest.raises(ApiError, match="502: the body is no JSON object"):
        await create(api, PATH, {})


@pytest.mark.parametrize("verb", [create, replace, patch])
async def test_credentials_that_are_refused_are_read_again_once(server: Server, api: Api, tmp_path: Path, verb: Any) -> None:
    server.answers = [refusal(401, "Unauthorized"), (200, {})]
    (tmp_path / "token").write_text("second")
    await verb(api, PATH, {})
    assert [asked[4] for asked in server.asked] == ["Bearer first", "Bearer second"]


async def test_reading_takes_new_credentials_too_and_no_third_ones(server: Server, api: Api) -> None:
    server.answers = [refusal(401, "Unauthorized")]
    with pytest.raises(ApiError, match="401 Unauthorized"):
        await read(api, PATH)
    assert len(server.asked) == 2
