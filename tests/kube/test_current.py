"""Which version of an object there is where it comes from, whatever was read of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.site import write
from tests.envoy.harness.manifests import config_map, ingress
from tests.kube.scripted import Scripted, refusal, serving
from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.current import has_come, of_api, of_folders, version_of
from xds.kube.manifests import Folder
from xds.kube.objects import Ingress, Meta
from xds.problem import Ref

WEB = Ref("Ingress", "shop", "web")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with serving() as found:
        yield found


@pytest.fixture
async def api(server: Scripted, tmp_path: Path) -> AsyncIterator[Api]:
    found = Api(Flags(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig")))
    await found.open()
    try:
        yield found
    finally:
        await found.close()


async def test_the_api_server_is_asked_with_the_right_to_list_for_one_object(server: Scripted, api: Api) -> None:
    server.put("ingresses", "web", "shop")
    server.put("ingresses", "other", "shop")
    server.put("ingresses", "web", "elsewhere")
    assert await of_api(api, WEB) == "101"
    (request,) = server.requests
    assert (request.verb, request.which.plural, request.which.namespace) == ("list", "ingresses", "shop")
    assert "resourceVersion" not in request.query, "else it may answer with what it remembers"
    server.put("configmaps", "tcp", "xds")
    assert await of_api(api, Ref("ConfigMap", "xds", "tcp")) == "104"


async def test_an_object_that_the_api_server_does_not_have_has_no_version(server: Scripted, api: Api) -> None:
    server.put("ingresses", "other", "shop")
    assert await of_api(api, WEB) is None


async def test_an_api_server_that_does_not_say_leaves_it_open(server: Scripted, api: Api) -> None:
    server.faults["ingresses"].append(refusal(403))
    assert await of_api(api, WEB) == ""
    server.close()
    server.cut()
    await api.close()
    assert await of_api(api, WEB) == "", "not even a connection"


def of_folder(folder: Path, about: Ref) -> str:
    found = {Ref(type(item).__name__, item.meta.namespace, item.meta.name): item for item in Folder([folder]).read().put}
    return version_of(found[about])


async def test_files_are_read_once_more(tmp_path: Path) -> None:
    folder = write(tmp_path / "site", ingress("web", "a.example.com", {"/": ("web", 80)}), config_map("tcp", {}))
    about = Ref("Ingress", "default", "web")
    read = of_folder(folder, about)
    assert await of_folders([folder], about) == read
    write(folder, ingress("web", "b.example.com", {"/": ("web", 80)}))
    changed = await of_folders([folder], about)
    assert changed not in (read, None, "")
    assert changed == of_folder(folder, about)
    (folder / "ingress-web.json").unlink()
    assert await of_folders([folder], about) is None


async def test_a_folder_that_cannot_be_read_leaves_it_open(tmp_path: Path) -> None:
    assert await of_folders([tmp_path / "gone"], WEB) == ""


def test_a_hash_depends_on_what_the_object_says_not_on_the_order_in_which_it_says_it() -> None:
    one, same, other = (
        Ingress(meta=Meta(namespace="a", name="b", annotations=json.loads(text)))
        for text in ('{"x": "1", "y": "2"}', '{"y": "2", "x": "1"}', '{"x": "1", "y": "3"}')
    )
    assert version_of(one) == version_of(same) != version_of(other)


@pytest.mark.parametrize(
    ("version", "wanted", "come"),
    [("9", "10", False), ("10", "10", True), ("11", "10", True), ("af", "af", True), ("af", "10", False), ("10", "af", False)],
)
def test_a_version_has_come_with_itself_and_with_a_later_one(version: str, wanted: str, come: bool) -> None:
    assert has_come(version, wanted) is come
