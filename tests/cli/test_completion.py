"""`xds completion`: what real shells complete with its scripts."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xds.cli import main
from xds.cli.arguments import COMMANDS, SHELLS, flags_of
from xds.cli.completion import offered
from xds.config import INERT


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    work = tmp_path / "work"
    (work / "manifests").mkdir(parents=True)
    (work / "app.yaml").touch()
    return tmp_path / "script"


def completed(shell: str, script: Path, line: str) -> set[str]:
    """The words that the shell offers for the last word of a line, descriptions taken away."""
    return {"bash": by_bash, "zsh": by_zsh, "fish": by_fish}[shell](script, line)


def by_bash(script: Path, line: str) -> set[str]:
    words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith((" ", "=")) else [])
    listed = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _xds; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return set(run(["bash", "--norc", "-c", code], script).split())


def by_fish(script: Path, line: str) -> set[str]:
    out = run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], script)
    return {each.partition("\t")[0].rstrip("/") for each in out.splitlines()}


def run(command: list[str], script: Path) -> str:
    environment = {**os.environ, "HOME": str(script.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=script.parent / "work", env=environment, timeout=60)
    assert done.stderr == ""
    return done.stdout


def by_zsh(script: Path, line: str) -> set[str]:
    """zsh completes nowhere but on a terminal. What it would add to the line is written to a file on the way."""
    offered = script.parent / "offered"
    setup = (
        f"autoload -Uz compinit; compinit -u -D; source {script}\n"
        f'compadd() {{ local -a found; builtin compadd -O found "$@"; print -rl -- $found >> {offered}; builtin compadd "$@" }}\n'
        "finish() { print E''ND }; zle -N finish; bindkey '^X' list-choices; bindkey '^Y' finish; PS1=RE''ADY\n"
    )
    with terminal(["zsh", "-f", "-i"], script) as (send, until):
        send(setup)
        until("READY")
        send(f"{line}\x18\x19")
        until("END")
    return {word.rstrip("/") for word in offered.read_text().split()}


@contextmanager
def terminal(command: list[str], script: Path) -> Iterator[tuple[Callable[[str], object], Callable[[str], str]]]:
    """A program on a terminal of its own: what types into it, and what reads until something was printed."""
    child, end = pty.fork()
    if child == 0:
        os.chdir(script.parent / "work")
        os.execvpe(command[0], command, {**os.environ, "HOME": str(script.parent), "TERM": "dumb", "COLUMNS": "300"})

    def until(mark: str) -> str:
        seen, deadline = b"", time.monotonic() + 120
        while mark.encode() not in seen:
            assert select.select([end], [], [], max(0, deadline - time.monotonic()))[0], f"no {mark} in {seen!r}"
            seen += os.read(end, 65536)
        return seen.decode()

    try:
        yield lambda text: os.write(end, text.encode()), until
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(end)


def test_commands_are_completed(shell: str, script: Path) -> None:
    assert {"status", "serve"} & completed(shell, script, "xds s") == {"status", "serve"}


def test_flags_of_a_command_are_completed(shell: str, script: Path) -> None:
    offered = completed(shell, script, "xds up --http-p")
    assert "--http-port" in {word.rstrip("=") for word in offered}
    assert "--kubeconfig" not in {word.rstrip("=") for word in completed(shell, script, "xds up --k")}


def test_values_of_a_few_words_are_completed(shell: str, script: Path) -> None:
    assert {"text", "json"} <= completed(shell, script, "xds serve --log-format ")


def test_folders_are_completed_where_a_flag_takes_one(shell: str, script: Path) -> None:
    offered = completed(shell, script, "xds serve --manifests ")
    assert "manifests" in offered
    assert "app.yaml" not in offered


def test_files_are_completed_where_a_command_takes_them(shell: str, script: Path) -> None:
    assert {"manifests", "app.yaml"} <= completed(shell, script, "xds check ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("xds h", {"help", "history"}),
        ("xds help sta", {"status"}),
        ("xds status in", {"ingress"}),
        ("xds dashboard ", {"cluster"}),
        ("xds explain https://a.test/ l", {"live"}),
        ("xds check -o j", {"json"}),
    ],
)
def test_other_words_are_completed(shell: str, script: Path, line: str, expected: set[str]) -> None:
    assert expected <= completed(shell, script, line)
    words = line.split()[1:] + ([""] if line.endswith(" ") else [])
    assert expected <= set(offered(words)[0]), "and for kubectl"


def test_files_are_completed_beside_other_words(shell: str, script: Path) -> None:
    assert {"live", "manifests", "app.yaml"} <= completed(shell, script, "xds explain https://a.test/ ")


def test_shells_are_completed(shell: str, script: Path) -> None:
    assert set(SHELLS) <= completed(shell, script, "xds completion ")


def test_a_value_behind_an_equals_sign_is_completed_in_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    (tmp_path / "work").mkdir()
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    assert by_bash(tmp_path / "script", "xds serve --log-format=") == {"auto", "text", "json"}
    assert by_bash(tmp_path / "script", "xds serve --log-format=j") == {"json"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_with_an_effect_is_in_every_script(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [flag for flag in flags_of(command) if flag.group != INERT]
    for shell in SHELLS:
        main(["completion", shell])
        script = capsys.readouterr().out
        for flag in expected:
            assert (f" -l {flag.name[2:]} " if shell == "fish" else flag.name) in script


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_word_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2
    assert capsys.readouterr().err == "xds completion: name a shell, one of bash, zsh, fish, as in `source <(xds completion bash)`.\n"
