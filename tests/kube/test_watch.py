"""A real folder that changes while it is watched."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from xds.config import Failure
from xds.kube import manifests
from xds.kube.manifests import Folder, Manifests, watch
from xds.kube.objects import Service
from xds.kube.source import Change, Source

from .test_manifests import mount, service, write

DEADLINE = 120


class Watched:
    """Folds the Changes of a watched folder into what is there now: names with their ports, and Problems by file."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.changes = watch(folder)
        self.ports: dict[str, int] = {}
        self.problems: dict[str, list[str]] = {}
        self.seen: list[Change] = []

    def take(self, change: Change) -> None:
        self.seen.append(change)
        for gone in change.drop:
            del self.ports[gone.name]
        for item in change.put:
            assert isinstance(item, Service)
            self.ports[item.meta.name] = item.ports[0].port
        for file, problems in change.problems.items():
            self.problems[file] = [problem.code for problem in problems]

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not wanted():
                self.take(await anext(self.changes))


@asynccontextmanager
async def watching(*roots: Path) -> AsyncIterator[Watched]:
    folder = Folder(roots)
    first = folder.read()
    watched = Watched(folder)
    watched.take(first)
    # the generator runs only while it is awaited: a change that comes through shows that the kernel watches
    marker = write(roots[0] / "marker.yaml", service("marker", 1))
    await watched.until(lambda: "marker" in watched.ports)
    marker.unlink()
    await watched.until(lambda: "marker" not in watched.ports)
    watched.seen.clear()
    try:
        yield watched
    finally:
        await watched.changes.aclose()


async def test_what_changed_before_the_watch_comes_first(tmp_path: Path) -> None:
    folder = Folder([tmp_path])
    folder.read()
    write(tmp_path / "a.yaml", service("a"))
    changes = watch(folder)
    async with asyncio.timeout(DEADLINE):
        assert [item.meta.name for item in (await anext(changes)).put] == ["a"]
    await changes.aclose()


async def test_a_folder_is_a_source(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    source: Source = Manifests([tmp_path])
    assert source.waiting() == ["waiting for the first reading of the manifests"]
    changes = source.changes()
    async with asyncio.timeout(DEADLINE):
        assert [item.meta.name for item in (await anext(changes)).put] == ["a"]
        assert source.waiting() == []
        write(tmp_path / "b.yaml", service("b"))
        assert [item.meta.name for item in (await anext(changes)).put] == ["b"]
    assert source.staleness(0) == {}
    await changes.aclose()
    await source.close()


async def test_a_source_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="absent cannot be read"):
        await anext(Manifests([tmp_path / "absent"]).changes())


async def test_files_are_added_changed_broken_mended_renamed_and_removed(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        path = write(tmp_path / "a.yaml", service("a", 80))
        await watched.until(lambda: watched.ports == {"a": 80})
        write(path, service("a", 81), service("b", 1))
        await watched.until(lambda: watched.ports == {"a": 81, "b": 1})
        path.write_text("a: [")
        await watched.until(lambda: watched.problems == {"a.yaml": ["syntax"]})
        assert watched.ports == {"a": 81, "b": 1}
        write(path, service("a", 82))
        await watched.until(lambda: watched.ports == {"a": 82} and watched.problems == {"a.yaml": []})
        watched.seen.clear()
        path.rename(tmp_path / "b.yaml")
        await watched.until(lambda: bool(watched.seen))
        assert not watched.seen[0].drop
        (tmp_path / "b.yaml").unlink()
        await watched.until(lambda: not watched.ports)


async def test_a_file_that_is_emptied_and_then_written_never_loses_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.yaml", service("a", 80))
    async with watching(tmp_path) as watched:
        monkeypatch.setattr(manifests, "SETTLE", 2000)  # long enough for a test that is not given its turn
        upcoming = asyncio.ensure_future(anext(watched.changes))
        path.write_text("")
        async with asyncio.timeout(DEADLINE):
            while not watched.folder.unsettled:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.001)
        path.write_text(service("a", 81))
        change = await upcoming
        assert not change.drop
        watched.take(change)
        assert watched.ports == {"a": 81}


async def test_a_file_that_stays_empty_loses_its_objects(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a", 80))
    async with watching(tmp_path) as watched:
        path.write_text("")
        await watched.until(lambda: not watched.ports)


async def test_a_new_folder_is_watched_as_well(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        path = write(tmp_path / "new" / "deep" / "a.yaml", service("a", 80))
        await watched.until(lambda: watched.ports == {"a": 80})
        write(path, service("a", 81))
        await watched.until(lambda: watched.ports == {"a": 81})
        shutil.rmtree(tmp_path / "new")
        await watched.until(lambda: not watched.ports)


async def test_a_folder_that_is_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    root, other = tmp_path / "root", write(tmp_path / "other" / "o.yaml", service("o", 1))
    write(root / "a.yaml", service("a", 80))
    async with watching(root, other.parent) as watched:
        shutil.rmtree(root)
        await watched.until(lambda: "a" not in watched.ports and watched.problems.get(str(root)) == ["unreadable"])
        write(other, service("o", 2))
        await watched.until(lambda: watched.ports == {"o": 2})
        upcoming = asyncio.ensure_future(anext(watched.changes))
        await asyncio.sleep(0)  # it waits for the kernel, which does not know the folder that comes now
        write(root / "a.yaml", service("a", 81))
        async with asyncio.timeout(DEADLINE):
            watched.take(await upcoming)
        await watched.until(lambda: watched.ports == {"a": 81, "o": 2} and watched.problems[str(root)] == [])
        write(root / "a.yaml", service("a", 82))
        await watched.until(lambda: watched.ports == {"a": 82, "o": 2})


async def test_the_only_folder_may_come_back_too(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    async with watching(root) as watched:
        shutil.rmtree(root)
        await watched.until(lambda: str(root) not in watched.ports and bool(watched.problems))
        write(root / "a.yaml", service("a", 80))
        await watched.until(lambda: watched.ports == {"a": 80})


async def test_a_mounted_config_map_is_taken_over_when_its_link_is_swapped(tmp_path: Path) -> None:
    mount(tmp_path, "1", 80)
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(tmp_path) as watched:
        mount(tmp_path, "2", 81)
        shutil.rmtree(tmp_path / "..1")
        await watched.until(lambda: watched.ports == {"a": 81})
        mount(tmp_path, "3", 82)
        await watched.until(lambda: watched.ports == {"a": 82})
        assert not any(change.drop for change in watched.seen)


async def test_what_links_lead_to_in_hidden_folders_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LOOK", 60_000)
    file = write(tmp_path / ".one" / "one.yaml", service("a", 80))
    write(tmp_path / ".far" / "b.yaml", service("b", 80))
    async with watching(tmp_path) as watched:
        (tmp_path / "a.yaml").symlink_to(".one/one.yaml")
        (tmp_path / "far").symlink_to(".far")
        await watched.until(lambda: watched.ports == {"a": 80, "b": 80})
        write(file, service("a", 81))
        await watched.until(lambda: watched.ports["a"] == 81)
        write(tmp_path / ".far" / "b.yaml", service("b", 81))
        await watched.until(lambda: watched.ports["b"] == 81)


async def test_a_link_to_proc_that_comes_and_goes_harms_nobody(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        (tmp_path / "proc").symlink_to("/proc/self")
        await watched.until(lambda: watched.problems.get("proc") == ["link-outside"])
        path = write(tmp_path / "a.yaml", service("a", 80))
        await watched.until(lambda: watched.ports == {"a": 80})
        (tmp_path / "proc").unlink()
        write(path, service("a", 81))
        await watched.until(lambda: watched.ports == {"a": 81} and watched.problems["proc"] == [])


async def test_a_file_name_that_is_not_utf_8_does_not_end_the_watch(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        strange = os.fsencode(tmp_path) + b"/\xff.yaml"
        write(Path(os.fsdecode(strange)), service("strange", 1))
        await watched.until(lambda: watched.ports == {"strange": 1})
        write(tmp_path / "a.yaml", service("a", 80))
        await watched.until(lambda: watched.ports == {"strange": 1, "a": 80})
        os.unlink(strange)
        write(tmp_path / "a.yaml", service("a", 81))
        await watched.until(lambda: watched.ports == {"a": 81} and not any(watched.problems.values()))


async def test_what_changes_in_a_folder_whose_name_is_not_utf_8_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LOOK", 50)
    async with watching(tmp_path) as watched:
        strange = os.fsencode(tmp_path) + b"/\xff"
        os.mkdir(strange)
        for port in (1, 2):
            write(Path(os.fsdecode(strange)) / "a.yaml", service("a", port))
            await watched.until(lambda port=port: watched.ports == {"a": port})


async def test_nothing_keeps_the_process_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, read = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        reading.set()
        assert threading.current_thread().daemon
        read.wait(DEADLINE)

    monkeypatch.setattr(Folder, "reread", hang)
    upcoming = asyncio.ensure_future(anext(watch(Folder([tmp_path]))))
    await asyncio.to_thread(reading.wait, DEADLINE)
    upcoming.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await upcoming
    assert not read.is_set()
    read.set()


async def test_a_watch_that_is_cancelled_ends_at_once(tmp_path: Path) -> None:
    folder = Folder([tmp_path])
    folder.read()
    started = asyncio.ensure_future(anext(watch(folder)))
    await asyncio.sleep(0)
    started.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await started


async def test_without_watches_left_the_folder_is_looked_at_until_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> AsyncIterator[set[object]]:
        raise OSError(28, "No space left on device")
        yield set()

    monkeypatch.setattr(manifests, "LOOK", 50)
    works = manifests.awatch
    monkeypatch.setattr(manifests, "awatch", refuse)
    folder = Folder([tmp_path])
    watched = Watched(folder)
    watched.take(folder.read())
    await watched.until(lambda: watched.problems == {str(tmp_path): ["unwatched"]})
    (problem,) = watched.seen[-1].problems[str(tmp_path)]
    assert "cannot be watched ([Errno 28] No space left on device)" in problem.sentence
    assert "max_user_watches" in problem.sentence
    write(tmp_path / "a.yaml", service("a", 80))
    await watched.until(lambda: watched.ports == {"a": 80})
    monkeypatch.setattr(manifests, "awatch", works)
    await watched.until(lambda: watched.problems == {str(tmp_path): []})
    write(tmp_path / "a.yaml", service("a", 81))
    await watched.until(lambda: watched.ports == {"a": 81})
    await watched.changes.aclose()
