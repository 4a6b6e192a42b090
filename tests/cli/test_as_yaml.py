"""YAML that commands print: whoever reads it finds the strings that were written, whatever they look like."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.http1 import fetch
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process
from tests.envoy.harness.waiting import wait_until
from xds.cli import main
from xds.cli.as_yaml import as_yaml

CASES = [form for word in ("y", "n", "yes", "no", "on", "off", "true", "false") for form in (word, word.capitalize(), word.upper())]
NULLS = ["~", "null", "Null", "NULL", ""]
NUMBERS = [
    *(
        "0",
        "-1",
        "+1",
        "1_000",
        "017",
        "0o17",
        "0x1f",
        "0b101",
        "12:30:00",
        "190:20:30",
        "1e3",
        "1E3",
        "1.",
        ".5",
        "1.5e+3",
        "685.230_15e+03",
    ),
    *(
        "190:20:30.15",
        ".inf",
        "-.Inf",
        "+.INF",
        ".nan",
        ".NaN",
        "nan",
        "inf",
        "Infinity",
        "1__0",
        "0x_1F",
        "00",
        "08",
        "1.2.3",
        "127.0.0.1",
    ),
]
TIMES = ["2001-12-14", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "12:30", "1:2"]
SIGNS = [
    "=",
    "<<",
    "-",
    "?",
    ":",
    "- a",
    "? a",
    "a: b",
    "a #b",
    "#a",
    "&a",
    "*a",
    "!a",
    "!!int 1",
    "|",
    ">",
    "%a",
    "@a",
    "`a",
    "{}",
    "[]",
    ",",
    "'",
    '"',
]
BREAKS = [
    "\n",
    "a\n",
    "\na",
    "a\n\n",
    "a\r\nb",
    "a\rb",
    "a\x85b",
    "a\u2028b",
    "a\u2029b",
    " a\nb",
    "a\n b",
    "a\n---\nb",
    "...\na",
    "a \nb",
    "\t\n",
]
ODD = [
    " a",
    "a ",
    "\ta",
    "a\tb",
    "---",
    "...",
    "a" * 400 + " b" * 400,
    "\ufeff",
    "\x07",
    "\x7f",
    "é",
    "日本",
    "\U0001f600",
    "a\xa0b",
    "$(POD_NAME)",
]
WORDS = [*CASES, *NULLS, *NUMBERS, *TIMES, *SIGNS, *BREAKS, *ODD]

# Of the type repository of YAML 1.1 (yaml.org/type): what PyYAML's own reader leaves out of it.
IMPLICIT = {
    "bool": r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
    "null": r"~|null|Null|NULL|",
    "int": r"[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+|0o[0-7]+)",
    "float": r"[-+]?(?:[0-9][0-9_]*)?\.[0-9._]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "timestamp": r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9].*)?",
    "merge": r"<<",
    "value": r"=",
}


class Strict(yaml.SafeLoader):
    """A reader of YAML 1.1 by the letter, and of what YAML 1.2 changed: what either takes for no string is none here."""

    yaml_implicit_resolvers: ClassVar[Any] = {}


def no_string(_: Any, node: yaml.ScalarNode) -> Any:
    try:
        usual = yaml.safe_load(node.value)
    except yaml.YAMLError:
        usual = node.value
    return usual if not isinstance(usual, str) else (node.tag, node.value)


for kind, pattern in IMPLICIT.items():
    Strict.add_implicit_resolver(f"tag:x,{kind}", re.compile(rf"(?:{pattern})\Z"), None)
    Strict.add_constructor(f"tag:x,{kind}", no_string)


def strings(value: Any) -> Any:
    """What has been read, with everything that is no string shown as such."""
    return [f"not a string: {each!r}" if not isinstance(each, str) else each for each in value]


def test_the_reader_of_the_tests_takes_words_for_other_things() -> None:
    """Else nothing here would be shown."""
    told = yaml.load("[y, 1e3, 0o17, 12:30:00, 1_000, 2001-12-14, ~, off, =, plain]", Strict)
    assert [isinstance(each, str) for each in told] == [False] * 9 + [True]


@pytest.mark.parametrize("read", [Strict, yaml.SafeLoader, yaml.CSafeLoader])
def test_words_that_look_like_something_else_stay_strings(read: Any) -> None:
    assert strings(yaml.load(as_yaml(WORDS), read)) == WORDS
    keyed = {word: word for word in WORDS}
    assert yaml.load(as_yaml(keyed), read) == keyed


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.from_regex(r"[-+.:_0-9eExXoObB~=<nyNYtT]{1,8}", fullmatch=True), st.text())))
def test_every_string_is_read_as_it_was_written(words: list[str]) -> None:
    assert yaml.load(as_yaml({"words": words, "nested": {"list": [{w: w} for w in words]}}), Strict) == {
        "words": words,
        "nested": {"list": [{w: w} for w in words]},
    }


def test_what_is_no_string_keeps_its_type() -> None:
    value = {"a": True, "b": None, "c": 3, "d": 0.5, "e": [], "f": {}}
    assert yaml.safe_load(as_yaml(value)) == value


def test_plain_words_have_no_quotes_and_long_ones_no_breaks() -> None:
    assert as_yaml({"name": "xds_cluster", "path": "/certs/tls.crt", "long": "a " * 500 + "b"}).splitlines() == [
        "name: xds_cluster",
        "path: /certs/tls.crt",
        f"long: {'a ' * 500}b",
    ]


@pytest.mark.parametrize("word", ["y", "n", "1e3", "0x1f", "1_000", "12:30:00", "~", "=", "<<", "off", "2001-12-14", "null"])
def test_a_node_id_is_a_string_in_the_bootstrap(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", f"--node-id={word}", f"--node-cluster={word}"]) == 0
    assert yaml.load(capsys.readouterr().out, Strict)["node"] == {"id": word, "cluster": word}


@pytest.mark.parametrize("flags", [[], ["--static"]])
def test_what_users_wrote_stays_a_string_in_resources(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON knows one kind of string; names of objects, hosts and paths are such words here."""
    paths = [{"path": f"/{word}", "pathType": "Exact", "backend": BACKEND} for word in ("y", "1e3")]
    rules = [{"host": host, "http": {"paths": paths}} for host in ("y", "n", "1e3")]
    (tmp_path / "n.yaml").write_text(json.dumps(INGRESS | {"spec": {"rules": rules}}))
    words = ["translate", str(tmp_path), *flags]
    assert main([*words, "-o", "json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    as_printed = list(yaml.load_all(capsys.readouterr().out, Strict))
    if flags:
        assert as_printed[0]["node"] == as_json["node"]
        assert as_printed[0]["static_resources"]["clusters"] == as_json["static_resources"]["clusters"]
    else:
        assert as_printed == as_json["responses"]


BACKEND = {"service": {"name": "n", "port": {"name": "on"}}}
INGRESS = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "n", "namespace": "y"}}


@pytest.mark.envoy
async def test_a_real_envoy_reads_the_same_strings(tmp_path: Path) -> None:
    """Metadata of a node is a Struct: it shows what type Envoy took a value for.

    Left out is NEL: Envoy's reader takes its escape, \\N, for a single byte that is no UTF-8.
    """
    corpus = [
        *(word for word in WORDS if "\x85" not in word),
        *(a + b for a, b in itertools.product(("", "-", "+", "0", ".", "1e", "1:", "y", "~"), ("1", "e1", ".", "_1", "x1", "n", "\n"))),
    ]
    ports = Ports()
    admin = ("127.0.0.1", ports.take())
    config = {
        "node": {"id": "n", "cluster": "y", "metadata": {"values": corpus, "keys": {f"{word}": "" for word in corpus if word}}},
        "admin": {"address": {"socket_address": {"address": admin[0], "port_value": admin[1]}}},
    }
    (tmp_path / "envoy.yaml").write_text(as_yaml(config), encoding="utf-8")
    command = [envoy_binary(), "-c", str(tmp_path / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    envoy = Process("envoy-yaml", command, tmp_path)
    await envoy.start()
    try:

        async def told() -> Any:
            assert envoy.running, envoy.report()
            try:
                return json.loads((await fetch(admin, "/server_info", host="admin")).text)["node"]
            except OSError:
                return None

        node = await wait_until(told, "Envoy to tell of its node")
    finally:
        await envoy.stop()
        ports.release()
    assert (node["id"], node["cluster"]) == ("n", "y")
    assert strings(node["metadata"]["values"]) == corpus
    assert set(node["metadata"]["keys"]) == {word for word in corpus if word}
