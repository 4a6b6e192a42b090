"""A folder of files → what changed, without any waiting."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from xds.kube import documents, walk
from xds.kube.manifests import Folder, ManifestsError
from xds.kube.objects import ref
from xds.kube.source import Change
from xds.problem import Place, Problem, Ref, Severity


def service(name: str, port: int = 80) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"


def write(path: Path, *documents: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))
    return path


def put(change: Change) -> list[str]:
    return [f"{item.meta.name}@{item.meta.place}" for item in change.put]


def drop(change: Change) -> list[str]:
    return [gone.name for gone in change.drop]


def codes(change: Change) -> dict[str, list[str]]:
    return {file: [problem.code for problem in problems] for file, problems in change.problems.items()}


def only(problems: Iterable[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_files_are_read_by_name_and_documents_by_position_through_all_folders(tmp_path: Path) -> None:
    write(tmp_path / "b.yml", service("b"))
    write(tmp_path / "a" / "z.yaml", "# comment\n\n" + service("z"), "", service("y"))
    write(tmp_path / "a.json", json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "j"}}))
    change = Folder([tmp_path]).read()
    assert put(change) == ["j@a.json:1", "z@a/z.yaml:3", "y@a/z.yaml:9", "b@b.yml:1"]
    assert [item.meta.place.document for item in change.put if item.meta.place] == [0, 0, 1, 0]
    assert sorted(item.meta.place for item in change.put if item.meta.place) == [item.meta.place for item in change.put]


def test_of_several_folders_each_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one" / "a.yaml", service("a"))
    write(tmp_path / "two" / "sub" / "a.yaml", service("b"))
    assert put(Folder([Path("one"), Path("two")]).read()) == ["a@one/a.yaml:1", "b@two/sub/a.yaml:1"]


@pytest.mark.parametrize("several", [["", "sub"], ["sub", ""], ["", ""]])
def test_a_folder_within_another_is_read_once(tmp_path: Path, several: list[str]) -> None:
    write(tmp_path / "sub" / "a.yaml", service("a"))
    change = Folder([tmp_path / each for each in several]).read()
    assert len(change.put) == 1
    assert not change.problems


@pytest.mark.parametrize("name", [".a.yaml", ".hidden/a.yaml", ".#a.yaml", "a.yaml~", ".a.yaml.swp", "a.txt", "a", "kustomization.yaml"])
def test_other_files_are_skipped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, service("a"))
    folder = Folder([tmp_path])
    assert not folder.read()
    assert not folder.reread([path])


def test_what_is_called_like_a_manifest_and_is_no_file_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "nowhere.yaml").symlink_to("gone")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert not Folder([tmp_path]).read()


def test_entries_of_a_list_have_places_of_their_own(tmp_path: Path) -> None:
    entry = "- apiVersion: v1\n  kind: Service\n  metadata: {{name: {}}}\n"
    write(tmp_path / "a.yaml", service("x"), "kind: List\nitems:\n" + entry.format("y") + entry.format("z"))
    places = [item.meta.place for item in Folder([tmp_path]).read().put]
    assert places == [Place("a.yaml", 0, 1), Place("a.yaml", 1, 8), Place("a.yaml", 2, 11)]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("")
    with pytest.raises(ManifestsError, match=r"The folder of manifests .*/x cannot be read: .*\."):
        Folder([path]).read()


@pytest.mark.parametrize("named", [True, False])
def test_a_change_is_only_what_changed(tmp_path: Path, named: bool) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"), service("c"))
    other = write(tmp_path / "b.yaml", service("other"))
    folder = Folder([tmp_path])
    folder.read()
    assert not folder.reread([path, other] if named else None)
    write(path, service("a"), service("b", 81))
    change = folder.reread([path] if named else None)
    assert (put(change), drop(change)) == (["b@a.yaml:6"], ["c"])
    assert change.drop == (Ref("Service", "default", "c"),)


@pytest.mark.parametrize("named", [True, False])
def test_files_are_added_and_removed(tmp_path: Path, named: bool) -> None:
    folder = Folder([tmp_path])
    folder.read()
    path = write(tmp_path / "a.yaml", service("a"))
    assert put(folder.reread([path] if named else None)) == ["a@a.yaml:1"]
    path.unlink()
    assert drop(folder.reread([path] if named else None)) == ["a"]


def test_a_named_file_is_read_again_though_its_times_and_size_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.kube.walk.stamp", lambda _: walk.Stamp(1, 1, 1, 1, 1))
    path = write(tmp_path / "a.yaml", service("a", 80))
    folder = Folder([tmp_path])
    folder.read()
    write(path, service("a", 81))
    assert not folder.reread(None)
    assert put(folder.reread([path])) == ["a@a.yaml:1"]


@pytest.mark.parametrize("named", [True, False])
def test_a_renamed_file_keeps_its_objects_in_a_new_place(tmp_path: Path, named: bool) -> None:
    old, new = write(tmp_path / "a.yaml", service("a")), tmp_path / "b.yaml"
    folder = Folder([tmp_path])
    folder.read()
    old.rename(new)
    change = folder.reread([new, old] if named else None)
    assert (put(change), drop(change)) == (["a@b.yaml:1"], [])


def test_a_new_and_a_removed_folder_are_noticed_by_their_own_paths(tmp_path: Path) -> None:
    folder = Folder([tmp_path])
    folder.read()
    write(tmp_path / "x" / "y" / "a.yaml", service("a"))
    assert put(folder.reread([tmp_path / "x"])) == ["a@x/y/a.yaml:1"]
    (tmp_path / "x").rename(tmp_path / "z")
    change = folder.reread([tmp_path / "x", tmp_path / "z"])
    assert (put(change), drop(change)) == (["a@z/y/a.yaml:1"], [])


@pytest.mark.parametrize(
    ("broken", "line", "code"),
    [
        (service("a", 81) + "---\nkind: Service\nmetadata: {name: b\n", 8, "syntax"),
        ("kind: [\n", 2, "syntax"),
        (b"kind: \xff", 1, "syntax"),
    ],
)
def test_a_broken_file_keeps_its_last_good_objects_and_says_what_is_wrong(
    tmp_path: Path, broken: str | bytes, line: int, code: str
) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"))
    folder = Folder([tmp_path])
    folder.read()
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    change = folder.reread([path])
    assert (change.put, change.drop) == ((), ())
    problem = only(change.problems["a.yaml"])
    assert (problem.about, problem.code) == (Ref("File", "", "a.yaml"), code)
    assert problem.place == Place("a.yaml", 0, line)
    assert problem.sentence.endswith("What it held before stays in effect.")
    write(path, service("a"), service("b"))
    assert folder.reread([path]) == Change(problems={"a.yaml": ()})


def test_a_file_that_was_never_good_has_no_objects_and_the_others_are_as_ever(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"), "b: [")
    write(tmp_path / "b.yaml", service("b"))
    change = Folder([tmp_path]).read()
    assert put(change) == ["b@b.yaml:1"]
    assert only(change.problems["a.yaml"]).sentence.startswith("This is not YAML")
    assert "before" not in only(change.problems["a.yaml"]).sentence


def test_a_broken_file_under_a_new_name_is_a_new_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    folder = Folder([tmp_path])
    folder.read()
    path.rename(tmp_path / "b.yaml").write_text("kind: [")
    change = folder.reread([path, tmp_path / "b.yaml"])
    assert (drop(change), codes(change)) == (["a"], {"b.yaml": ["syntax"]})


def test_a_file_that_cannot_be_opened_keeps_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.yaml", service("a"))
    folder = Folder([tmp_path])
    folder.read()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("xds.kube.manifests.open", refuse, raising=False)
    change = folder.reread([path])
    assert (change.drop, codes(change)) == ((), {"a.yaml": ["unreadable"]})
    assert "permission denied" in only(change.problems["a.yaml"]).sentence


def test_a_folder_that_cannot_be_listed_keeps_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "sub" / "a.yaml", service("a"))
    folder = Folder([tmp_path])
    folder.read()
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    change = folder.reread(None)
    assert (change.drop, codes(change)) == ((), {"sub": ["unreadable"]})
    monkeypatch.undo()
    assert folder.reread(None) == Change(problems={"sub": ()})


def test_a_folder_that_is_gone_takes_its_objects_along_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x" / "a.yaml", service("a"))
    folder = Folder([tmp_path / "x"])
    folder.read()
    path.unlink()
    path.parent.rmdir()
    change = folder.reread(None)
    assert (drop(change), [each[0] for each in codes(change).values()]) == (["a"], ["unreadable"])


def test_a_file_that_is_too_big_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.kube.walk.MAX_BYTES", 10)
    write(tmp_path / "a.yaml", service("a"))
    change = Folder([tmp_path]).read()
    assert (change.put, codes(change)) == ((), {"a.yaml": ["syntax"]})


def test_a_document_that_is_no_object_leaves_the_others_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"), "- 1\n", "text\n", service("b"), "apiVersion: v1\nkind: Service\nspec: 1\n")
    change = Folder([tmp_path]).read()
    assert put(change) == ["a@a.yaml:1", "b@a.yaml:10"]
    assert [(problem.field, problem.place and problem.place.line) for problem in change.problems["a.yaml"]] == [
        ("documents[1]", 6),
        ("documents[2]", 8),
        ("spec", 15),
    ]


def test_an_object_that_became_wrong_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"))
    folder = Folder([tmp_path])
    folder.read()
    write(path, service("a"), service("b").replace("80", "'80'"))
    change = folder.reread([path])
    assert (put(change), drop(change), codes(change)) == ([], ["b"], {"a.yaml": ["wrong-type"]})


def test_of_two_with_one_name_the_first_counts_and_the_other_is_a_problem_that_names_its_place(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", service("other"), service("a", 1))
    write(tmp_path / "b.yaml", service("a", 2), service("a", 3))
    folder = Folder([tmp_path])
    change = folder.read()
    assert put(change) == ["other@a.yaml:1", "a@a.yaml:6"]
    assert codes(change) == {"b.yaml": ["duplicate", "duplicate"]}
    problem = change.problems["b.yaml"][0]
    assert (problem.about, problem.place) == (Ref("Service", "default", "a"), Place("b.yaml", 0, 1))
    assert "a.yaml:6" in problem.sentence
    first.unlink()
    change = folder.reread([first])
    assert (put(change), drop(change), codes(change)) == (["a@b.yaml:1"], ["other"], {"b.yaml": ["duplicate"]})
    write(first, service("a", 1))
    assert put(folder.reread([first])) == ["a@a.yaml:1"]


def test_a_problem_that_moved_is_told_again_and_one_that_stayed_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "- 1\n")
    folder = Folder([tmp_path])
    folder.read()
    assert not folder.reread([path])
    path.write_text("\n- 1\n")
    assert only(folder.reread([path]).problems["a.yaml"]).place == Place("a.yaml", 0, 2)


def test_a_key_written_twice_is_a_warning_about_the_object(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "kind: Deployment\nkind: Pod\n", service("a") + "kind: Service\n")
    entry = "  metadata: {name: x}\n  metadata: {name: b}\n"
    write(
        tmp_path / "b.yaml", f"kind: List\nitems:\n- apiVersion: v1\n  kind: Service\n{entry}- apiVersion: v1\n  kind: Namespace\n{entry}"
    )
    change = Folder([tmp_path]).read()
    assert [str(ref(item)) for item in change.put] == ["Service default/a", "Service default/b", "Namespace b"]
    found = [(str(each.about), each.field, each.place and each.place.line) for file in change.problems.values() for each in file]
    assert found == [("Service default/a", "kind", 8), ("Service default/b", "metadata", 6), ("Namespace b", "metadata", 10)]
    assert {each.severity for file in change.problems.values() for each in file} == {Severity.WARNING}


def test_secrets_never_show_in_a_change(tmp_path: Path) -> None:
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: "
    write(
        tmp_path / "a.yaml",
        head + "a}\nstringData: {key: PRIVATE}\n",
        head + "b}\ndata: {key: PRIVATE}\n",
        head + "c}\ndata: {key: [PRIVATE]}\n",
    )
    write(tmp_path / "b.yaml", head + "d}\nstringData:\n  key: PRIVATE\n bad: PRIVATE\n")
    change = Folder([tmp_path]).read()
    assert codes(change) == {"a.yaml": ["bad-base64", "wrong-type"], "b.yaml": ["syntax"]}
    assert "PRIVATE" not in repr(change)


def test_links_within_the_folders_are_followed_without_end(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    write(other / "far" / "b.yaml", service("b"))
    write(other / "a.txt", service("a"))
    write(root / "real" / "c.yaml", service("c"))
    (root / "linked.yaml").symlink_to(other / "a.txt")
    (root / "far").symlink_to("../other/far")
    (root / "again").symlink_to("real")
    (root / "real" / "self").symlink_to(".")
    (root / "real" / "up").symlink_to("../..")
    change = Folder([root, other]).read()
    assert put(change) == [f"b@{other}/far/b.yaml:1", f"a@{root}/linked.yaml:1", f"c@{root}/real/c.yaml:1"]
    assert codes(change) == {f"{root}/real/up": ["link-outside"]}


def test_a_link_that_leads_out_of_the_folder_is_not_followed_and_the_rest_is_read(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    write(elsewhere / "far" / "b.yaml", service("b"))
    write(root / "c.yaml", service("c"))
    (root / "a.yaml").symlink_to(elsewhere / "far" / "b.yaml")
    (root / "far").symlink_to(elsewhere / "far")
    (root / "proc").symlink_to("/proc/self")
    (root / "README").symlink_to(elsewhere / "far" / "b.yaml")
    (root / "gone.yaml").symlink_to(elsewhere / "gone.yaml")
    folder = Folder([root])
    change = folder.read()
    assert put(change) == ["c@c.yaml:1"]
    assert codes(change) == {name: ["link-outside"] for name in ("a.yaml", "far", "proc")}
    assert "leads out of the folder" in only(change.problems["proc"]).sentence
    for name in ("a.yaml", "far", "proc"):
        (root / name).unlink()
    write(root / "a.yaml", service("a"))
    change = folder.reread()
    assert (put(change), codes(change)) == (["a@a.yaml:1"], {"a.yaml": [], "far": [], "proc": []})


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "b.yaml"))
    (tmp_path / "c.yaml").symlink_to("a.yaml")
    write(tmp_path / "d.yaml", service("d"))
    change = Folder([tmp_path]).read()
    assert (put(change), codes(change)) == (["d@d.yaml:1"], {})


def test_a_fifo_that_takes_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.yaml", service("a"))
    of_a_file = walk.stamp(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").unlink()
    os.mkfifo(tmp_path / "a.yaml")
    monkeypatch.setattr(walk, "stamp", lambda _: of_a_file)
    change = Folder([tmp_path]).read()
    assert (put(change), codes(change)) == ([], {"a.yaml": ["syntax"]})


def test_a_file_that_grows_while_it_is_read_is_read_to_the_bound_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.yaml", service("a"))
    monkeypatch.setattr(walk, "MAX_BYTES", 200)
    fstat = os.fstat

    def small(descriptor: int) -> os.stat_result:
        with open(tmp_path / "a.yaml", "a") as file:
            file.write("# and so on\n" * 1000)
        return fstat(os.open(tmp_path / "empty", os.O_CREAT))

    monkeypatch.setattr(os, "fstat", small)
    change = Folder([tmp_path]).read()
    assert only(change.problems["a.yaml"]).sentence == "The file is bigger than 200 bytes."


@pytest.mark.parametrize(
    ("bound", "most", "unread"),
    [
        ("MOST_DEPTH", 2, "a/b/c"),
        ("MOST_FOLDERS", 4, "a/b/c"),
        ("MOST_IN_FOLDER", 3, "a/b/c"),
        ("MOST_ENTRIES", 8, "a/b/c"),
        ("MOST_FILES", 3, "a/b/c/0.yaml"),
        ("MOST_BYTES", 3 * len(service("s0")), "a/b/c/0.yaml"),
    ],
)
def test_a_tree_beyond_a_bound_is_a_problem_and_what_is_nearer_to_the_top_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, unread: str
) -> None:
    near = [write(tmp_path / name / f"{n}.yaml", service(f"s{n}")) for n, name in enumerate(("a", "a/b", "z"), 1)]
    folder = Folder([tmp_path])
    assert len(put(folder.read())) == 3
    for n in range(5):
        write(tmp_path / "a/b/c" / f"{n}.yaml", service("s0"))
    monkeypatch.setattr(walk, bound, most)
    change = folder.reread()
    assert (put(change), drop(change), codes(change)) == ([], [], {unread: ["too-much"]})
    assert sorted(put(Folder([tmp_path]).read())) == sorted(f"s{n}@{path.relative_to(tmp_path)}:1" for n, path in enumerate(near, 1))
    shutil.rmtree(tmp_path / "a/b/c")
    change = folder.reread()
    assert (put(change), drop(change), codes(change)) == ([], [], {unread: []})


def test_what_is_known_stays_where_a_tree_beyond_a_bound_grows_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "b.yaml", service("b"))
    folder = Folder([tmp_path])
    folder.read()
    write(tmp_path / "a.yaml", service("a"))
    monkeypatch.setattr(walk, "MOST_FILES", 1)
    change = folder.reread()
    assert (put(change), drop(change), codes(change)) == (["a@a.yaml:1"], [], {"b.yaml": ["too-much"]})


def test_not_every_fault_of_a_tree_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MOST_PROBLEMS", 3)
    for n in range(10):
        (tmp_path / f"{n}.yaml").symlink_to("/etc/passwd")
    change = Folder([tmp_path]).read()
    assert codes(change) == {f"{n}.yaml": ["link-outside"] for n in range(3)}
    assert only(change.problems["2.yaml"]).sentence.endswith("More of this kind are not reported.")


def test_a_file_that_leads_to_an_error_of_ours_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = documents.read

    def stumble(raw: bytes, *, only_json: bool = False) -> list[documents.Document]:
        if b"name: b" in raw:
            raise RecursionError("too deep")
        return read(raw, only_json=only_json)

    monkeypatch.setattr(documents, "read", stumble)
    write(tmp_path / "a.yaml", service("a"))
    write(tmp_path / "b.yaml", "name: b")
    change = Folder([tmp_path]).read()
    assert (put(change), codes(change)) == (["a@a.yaml:1"], {"b.yaml": ["unreadable"]})
    assert "internal error while b.yaml was read" in caplog.text


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.yaml", service("a"))
    (tmp_path / "link").symlink_to("real")
    assert put(Folder([tmp_path / "link"]).read()) == ["a@a.yaml:1"]


def mount(root: Path, generation: str, port: int) -> None:
    """What kubelet does to a mounted ConfigMap: a new folder, and one rename that makes all of it visible."""
    write(root / f"..{generation}" / "a.yaml", service("a", port))
    (root / "..data_tmp").symlink_to(f"..{generation}")
    (root / "..data_tmp").rename(root / "..data")


def test_a_mounted_config_map_is_read_through_its_links_and_taken_over_when_they_are_swapped(tmp_path: Path) -> None:
    mount(tmp_path, "1", 80)
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = Folder([tmp_path])
    assert put(folder.read()) == ["a@a.yaml:1"]
    mount(tmp_path, "2", 81)
    assert put(folder.reread([tmp_path / "..data", tmp_path / "..2"])) == ["a@a.yaml:1"]
    changed = write(tmp_path / "..2" / "a.yaml", service("a", 82))
    assert put(folder.reread([changed])) == ["a@a.yaml:1"]


def test_a_hidden_folder_that_no_link_leads_to_is_never_a_reason_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / ".git" / "a.yaml", service("a"))
    folder = Folder([tmp_path])
    folder.read()
    monkeypatch.setattr(walk, "walk", lambda *_: pytest.fail("looked at all files"))
    assert not folder.reread([path])


def test_a_patient_reading_gives_a_file_that_lost_objects_a_second_chance(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", service("a"), service("b"))
    folder = Folder([tmp_path])
    folder.read()
    path.write_text(service("a"))
    assert not folder.reread([path], patient=True)
    assert list(folder.unsettled) == [path]
    assert drop(folder.reread(None, patient=True)) == ["b"]
    assert not folder.unsettled


def test_an_object_that_moved_to_another_file_is_not_lost(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.yaml", service("a"), service("b")), tmp_path / "b.yaml"
    folder = Folder([tmp_path])
    folder.read()
    write(one, service("a"))
    write(two, service("b"))
    change = folder.reread([one, two], patient=True)
    assert (put(change), drop(change), change.problems) == (["b@b.yaml:1"], [], {})
    assert not folder.unsettled


def test_a_file_name_beyond_ascii_is_as_good_as_any(tmp_path: Path) -> None:
    write(tmp_path / "größe.yaml", service("a"))
    change = Folder([tmp_path]).read()
    assert (put(change), codes(change)) == (["a@größe.yaml:1"], {})


def test_a_file_name_that_is_not_utf_8_does_no_harm(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.yaml", "w") as file:
        file.write(service("a"))
    change = Folder([tmp_path]).read()
    (item,) = change.put
    assert str(item.meta.place).encode() == "\ufffd.yaml:1".encode()
    assert codes(change) == {"\ufffd.yaml": ["name-not-utf-8"]}
