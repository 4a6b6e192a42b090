"""Text → documents: what Kubernetes reads in YAML and JSON, and on which line."""

from __future__ import annotations

import math

import pytest
import yaml

from xds.kube import documents
from xds.kube.documents import UnreadableText


def values(text: str) -> list[object]:
    return [document.value for document in documents.read(text.encode())]


def one(text: str) -> object:
    (value,) = values(text)
    return value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("80", 80),
        ("-1", -1),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("yes", "yes"),
        ("n", "n"),
        ("12:30", "12:30"),
        ("1.2.3.4", "1.2.3.4"),
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01", "2024-05-01"),
        ("0o", "0o"),
        ("None", "None"),
        ("'80'", "80"),
        ("!!str 80", "80"),
        ('!!int "80"', 80),
        ("!ours 80", "80"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_scalar_is_what_kubernetes_takes_it_for(written: str, value: object) -> None:
    found = one(f"a: {written}\n")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize("key", ["data", "stringData"])
def test_values_under_data_are_the_text_as_it_is_written(key: str) -> None:
    written = one(f"{key}: {{6379: 0x1F, true: True, 1.10: 1.10, port: 080, none: ~, text: '1'}}\n")
    assert written == {key: {"6379": "0x1F", "true": "True", "1.10": "1.10", "port": "080", "none": None, "text": "1"}}


def test_values_under_data_of_an_entry_of_a_list_are_text_too() -> None:
    assert one("items: [{data: {a: 1.10}, spec: {a: 1}}]\n") == {"items": [{"data": {"a": "1.10"}, "spec": {"a": 1}}]}


def test_an_alias_is_a_number_or_text_by_where_it_stands() -> None:
    assert one("x: &x 0x10\ndata: {a: *x}\n") == {"x": 16, "data": {"a": "0x10"}}
    assert one("data: {a: &x 0x10}\nx: *x\n") == {"x": 16, "data": {"a": "0x10"}}
    assert one("{&x 0x10: a, *x : b, y: *x}\n") == {"0x10": "b", "y": 16}


def test_keys_are_text_as_it_is_written() -> None:
    assert one("{80: a, 0x10: b, ~: c, on: d}") == {"80": "a", "0x10": "b", "~": "c", "on": "d"}


def test_documents_know_their_first_line_of_content_and_empty_ones_are_skipped() -> None:
    text = "# one\n\na: 1\n---\n---\n# two\n\n- b\n...\n---\n\n---\nc\n"
    assert [(document.value, document.line) for document in documents.read(text.encode())] == [({"a": 1}, 3), (["b"], 8), ("c", 13)]


@pytest.mark.parametrize("text", ["kind: List\nitems:\n- a: 1\n\n- # x\n  b: 2\n- c\n", 'kind: List\nitems: [a,\n\n "b"]'])
def test_entries_of_a_list_know_their_lines(text: str) -> None:
    (document,) = documents.read(text.encode())
    assert document.item_lines == ((3, 6, 7) if "- a" in text else (2, 4))


def test_crlf_and_a_byte_order_mark_are_fine() -> None:
    (document,) = documents.read(b"\xef\xbb\xbfa: 1\r\nb: |\r\n  x\r\n  y\r\n")
    assert document.value == {"a": 1, "b": "x\ny\n"}


def test_tabs_are_taken_where_kubectl_takes_them() -> None:
    assert one("a:\tb\nc: {\t\n\t\td: 1}\n") == {"a": "b", "c": {"d": 1}}


def test_merge_keys_give_way_to_what_is_written_and_the_first_source_wins() -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 3}\nw: {a: 4, <<: *x}\nq: {'<<': 1}\n"
    value = one(text)
    assert value["z"] == {"a": 3, "b": 1, "c": 2}  # type: ignore[index]
    assert value["w"] == {"a": 4, "b": 1}  # type: ignore[index]
    assert value["q"] == {"<<": 1}  # type: ignore[index]


def test_a_key_that_is_written_twice_is_reported_with_its_way_and_line_and_the_last_one_counts() -> None:
    (document,) = documents.read(b"a:\n- b: 1\n  c: 2\n  b: 3\n")
    assert document.value == {"a": [{"b": 3, "c": 2}]}
    assert document.repeats == ((("a", 0, "b"), 4),)


def test_a_key_that_a_merge_brings_again_is_no_repeat() -> None:
    (document,) = documents.read(b"x: &x {a: 1}\ny: {a: 2, <<: *x}\n")
    assert document.repeats == ()


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: [1,\n", 2, "not YAML"),
        ("a: 1\n---\nb: 1\n c: 2\n", 4, "not YAML"),
        ("a:\n\tb: 1\n", 2, "not with tabs"),
        ("a: 1\nb: \x01\n", 2, "control character"),
        ("a: 1\n? [x]\n: 1\n", 2, "cannot be a key"),
        ("a: 1\nb: *nowhere\n", 2, "no anchor &nowhere"),
        ("a: &a\n  b: *a\n", 2, "within its own anchor"),
        ("x: 1\n<<: 2\n", 2, "must be a mapping"),
        ('x: "\\ud83d"\n', 1, ""),
    ],
)
def test_what_cannot_be_read_has_a_line_and_a_sentence(text: str, line: int, part: str) -> None:
    with pytest.raises(UnreadableText) as caught:
        documents.read(text.encode())
    assert caught.value.line == line
    assert part in caught.value.sentence
    assert caught.value.sentence.endswith(".")


def test_without_libyaml_the_same_is_read_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# x\na: &a {b: 0x10, c: '1'}\nd: *a\n---\n- 1.5\n"
    with_libyaml = documents.read(text.encode())
    monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
    assert documents.read(text.encode()) == with_libyaml
    for wrong, line in (('a: 1\nb: "\\ud83d"\n', 2), ("a: 1\nb: [\n", 3), ("a: 1\nb: \x01\n", 2)):
        with pytest.raises(UnreadableText) as caught:
            documents.read(wrong.encode())
        assert caught.value.line == line


def test_text_that_is_not_utf_8_has_the_line_of_the_first_wrong_byte() -> None:
    with pytest.raises(UnreadableText, match="UTF-8") as caught:
        documents.read(b"a: 1\nb: \xff\n")
    assert caught.value.line == 2


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))]
    with pytest.raises(UnreadableText, match="write them out"):
        documents.read("\n".join(lines).encode())


def test_an_alias_bomb_of_many_documents_is_refused() -> None:
    text = f"a: &a [{', '.join('x' * 1000)}]\nb: [{', '.join(['*a'] * 50)}]\n"
    documents.read(text.encode())
    with pytest.raises(UnreadableText, match="write them out"):
        documents.read("---\n".join([text] * 3).encode())


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, '{"a": ' + "[" * 100_000])
def test_depth_without_end_is_refused(text: str) -> None:
    with pytest.raises(UnreadableText, match=r"deep|not JSON"):
        documents.read(text.encode(), only_json=text.startswith('{"'))


def test_json_documents_follow_each_other_and_know_their_lines() -> None:
    text = '{"a": 1}\n{"kind": "List",\n "items": [\n  {"b": 1},\n\n  {"b": 2}]}{}\n["x"]\n'
    found = documents.read(text.encode(), only_json=True)
    assert [(document.value, document.line) for document in found] == [
        ({"a": 1}, 1),
        ({"kind": "List", "items": [{"b": 1}, {"b": 2}]}, 2),
        ({}, 6),
        (["x"], 7),
    ]
    assert found[1].item_lines == (4, 6)


def test_json_has_surrogate_pairs_which_yaml_has_not() -> None:
    assert one('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_flow_mappings_of_yaml_that_are_no_json_are_read_as_yaml() -> None:
    assert values("{a: 1}\n---\n{b: 2}\n") == [{"a": 1}, {"b": 2}]


def test_repeated_keys_in_json_are_reported() -> None:
    (document,) = documents.read(b'{"items": [1,\n {"a": {"b": 1, "b": 2}}],\n "c": 1, "c": 2}', only_json=True)
    assert document.value == {"items": [1, {"a": {"b": 2}}], "c": 2}
    assert document.repeats == ((("items", 1, "b"), 2), (("c",), 3))


@pytest.mark.parametrize(
    "text", ['{"a": 1', '{"a": 1,}', "{a: 1}", '{"a" 1}', '{"items": [1,]}', '{"a": NaN}', '{"a": "\\ud83d"}', '{"items": [1}', "{,}"]
)
def test_what_is_not_json_is_refused_in_a_json_file(text: str) -> None:
    with pytest.raises(UnreadableText):
        documents.read(text.encode(), only_json=True)


def test_a_number_with_thousands_of_digits_does_no_harm() -> None:
    (document,) = documents.read(('{"a": ' + "9" * 10_000 + "}").encode(), only_json=True)
    assert document.value == {"a": math.inf}


def test_a_refusal_never_quotes_the_text() -> None:
    for text in ("stringData: {key: SECRET\n", '{"key": "SECRET', "key: SECRET\n\tx: SECRET\n", "a: 'SECRET\n"):
        with pytest.raises(UnreadableText) as caught:
            documents.read(text.encode(), only_json=text.startswith("{"))
        assert "SECRET" not in str(caught.value)


def test_an_object_of_more_values_than_an_api_server_stores_is_refused_and_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 100)
    many = "kind: ConfigMap\ndata:\n" + "".join(f"  k{n}: v\n" for n in range(1_000))
    with pytest.raises(UnreadableText, match="more than 100 values") as refused:
        values(many)
    assert refused.value.line == 100


def test_the_objects_of_a_file_and_of_a_list_are_counted_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 100)
    some = "".join(f"  k{n}: v\n" for n in range(90))
    assert len(values("---\n".join(f"data:\n{some}" for _ in range(3)))) == 3
    entries = "".join("- data:\n" + some.replace("  k", "    k") for _ in range(3))
    [found] = values(f"kind: List\nitems:\n{entries}")
    assert isinstance(found, dict)
    assert len(found["items"]) == 3
