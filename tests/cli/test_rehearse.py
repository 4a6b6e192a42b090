"""`xds rehearse`: what it asks of whom, what it reports, and its exit codes; two servers of our own stand in for both sides."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.site import Said, Say, write
from tests.envoy.harness.manifests import backend, config_map, ingress
from tests.envoy.harness.tls import Certificate, make_certificate, server_context

Headers = Mapping[str, str]
Answering = Callable[[str, str, Headers], tuple[int, Headers]]


def fine(host: str, target: str, headers: Headers) -> tuple[int, Headers]:
    """An application that answers all, with its name."""
    return 200, {"X-App": "web", "Content-Type": "text/plain"}


@dataclass
class Stand:
    """A server that answers as a function has it, and keeps what it was asked."""

    answering: Answering = fine
    certificate: Certificate | None = None
    asked: list[tuple[str, str, str, Headers]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[Stand]:
        """For the length of a block."""
        stand = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                stand.asked.append((self.command, headers["host"], self.path, headers))
                status, own = stand.answering(headers["host"], self.path, headers)
                self.send_response(status)
                for name, value in own.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.certificate:
            server.socket = server_context(self.certificate).wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    notes = {"enable-cors": "true", "cors-allow-origin": "https://shop.test"}
    objects = [
        *backend("web", ("10.0.0.1", 8080)),
        ingress("web", "a.example.com", {"/": ("web", 80)}, notes),
        ingress("other", "b.example.com", {"/x": ("web", 80)}),
        config_map("config", {"log-format-upstream": '$host "$request"'}),
    ]
    return write(tmp_path / "m", *objects)


@pytest.fixture
def rehearse(say: Say, folder: Path) -> Iterator[Callable[..., Said]]:
    """Run the command with the answers of both sides."""
    with ExitStack() as stack:

        def run(theirs: Stand, ours: Stand, *words: object) -> Said:
            stack.enter_context(theirs.serving())
            stack.enter_context(ours.serving())
            return say("rehearse", "--from", theirs.url, "--to", ours.url, "--rate", "1000", *words, folder)

        yield run


def test_equal_answers_are_said_in_two_lines(rehearse: Callable[..., Said]) -> None:
    theirs, ours = Stand(), Stand()
    said = rehearse(theirs, ours)
    assert said.code == 0
    first, second = said.out.splitlines()
    assert first.endswith(f"to {theirs.url}, and to {ours.url}, about 2 of 2 paths.")
    assert second == f"{len(theirs.asked)} answered alike, 0 with known differences, 0 otherwise."


def test_errors_of_both_sides_are_alike_and_counted(rehearse: Callable[..., Said]) -> None:
    theirs, ours = (Stand(lambda host, *_: (503 if host.startswith("b.") else 404, {})) for _ in range(2))
    said = rehearse(theirs, ours)
    count = sum(host.startswith("b.") for _, host, *_ in theirs.asked)
    assert said.code == 0
    assert f"{count} requests of those got an error (5xx) from both sides, which proves nothing about the backend.\n" in said.out


def test_both_are_asked_for_the_same_and_for_nothing_else(rehearse: Callable[..., Said]) -> None:
    theirs, ours = Stand(), Stand()
    rehearse(theirs, ours)
    assert sorted(map(str, theirs.asked)) == sorted(map(str, ours.asked))
    assert {(method, host) for method, host, *_ in theirs.asked} == {
        (method, host) for method in ("GET", "HEAD") for host in ("a.example.com", "b.example.com", "rehearsal.invalid")
    }
    assert all(headers["user-agent"] == "xds-rehearse" for *_, headers in theirs.asked)
    assert not any({"cookie", "authorization"} & headers.keys() for *_, headers in theirs.asked)


def without_cors(host: str, target: str, headers: Headers) -> tuple[int, Headers]:
    own = {"Access-Control-Allow-Origin": headers["origin"]} if "origin" in headers else {}
    return 200, {"X-App": "web", **own}


def test_a_difference_is_reported_with_its_ingress_and_annotations(rehearse: Callable[..., Said]) -> None:
    said = rehearse(Stand(without_cors), Stand(lambda *_: (200, {"X-App": "web"})))
    assert said.code == 1
    assert (
        "differs  Ingress default/web (ingress-web.json:1) spec.rules[0].http.paths[0]: header access-control-allow-origin of 1 answer"
        in said.out
    )
    assert "annotation cors-allow-origin: https://shop.test, enable-cors: true" in said.out
    assert "GET http://a.example.com/ origin: https://shop.test\n           from https://shop.test\n           to   (none)" in said.out


def test_the_document_has_what_its_schema_says(rehearse: Callable[..., Said]) -> None:
    ours = Stand(lambda host, target, _: (404 if host.startswith("b.") and target == "/x" else 200, {"X-App": "web"}))
    found = rehearse(Stand(lambda *_: (200, {"X-App": "web"})), ours, "-o", "json").json
    assert [(group["field"], group["object"]["name"], group["requests"]) for group in found["differences"]] == [("status", "other", 2)]
    example = found["differences"][0]["examples"][0]
    assert (example["url"], example["from"], example["to"]) == ("http://b.example.com/x", "200", "404")
    assert found["summary"]["differing"] == 2
    assert found["summary"]["alike"] == found["summary"]["requests"] - 2
    assert len(ours.asked) == found["summary"]["requests"] + 2 * 2  # who differs is asked twice more


def test_the_backend_is_compared_by_its_header(rehearse: Callable[..., Said]) -> None:
    said = rehearse(
        Stand(), Stand(lambda *_: (200, {"X-App": "new", "Content-Type": "text/plain"})), "--backend-header", "X-App", "-o", "json"
    )
    assert {group["field"] for group in said.json["differences"]} == {"backend"}
    assert said.code == 1


def test_headers_that_change_by_themselves_are_no_difference(rehearse: Callable[..., Said]) -> None:
    count = iter(range(100_000))
    said = rehearse(*(Stand(lambda *_: (200, {"X-Token": str(next(count))})) for _ in range(2)))
    assert said.code == 0
    assert "Not compared: header x-token of " in said.out


def test_known_differences_alone_end_with_0(rehearse: Callable[..., Said]) -> None:
    pairs = [make_certificate(["Kubernetes Ingress Controller Fake Certificate"]) for _ in range(2)]
    theirs, ours = (Stand(certificate=pair) for pair in pairs)
    said = rehearse(theirs, ours, "--allow", "b.example.com")
    assert said.out.startswith("known    generated-certificate: each side has generated its own\n")
    assert "certificate of 1 answer: Ingress default/other (ingress-other.json:1) spec.rules[0].http.paths[0]\n" in said.out
    assert {host for _, host, *_ in theirs.asked} == {"b.example.com"}
    assert said.code == 0


def test_one_known_difference_of_many_rules_is_said_once(rehearse: Callable[..., Said]) -> None:
    pairs = [make_certificate(["Kubernetes Ingress Controller Fake Certificate"]) for _ in range(2)]
    said = rehearse(*(Stand(certificate=pair) for pair in pairs), "--allow", "*.example.com")
    assert said.out.count("generated-certificate") == 1
    assert (
        "certificate of 2 answers: Ingress default/other (ingress-other.json:1) spec.rules[0].http.paths[0], and 1 other rule\n" in said.out
    )


def test_people_see_so_many_differences_and_programs_all(rehearse: Callable[..., Said], folder: Path) -> None:
    write(folder, *(ingress(f"i{n}", f"h{n}.example.com", {"/": ("web", 80)}) for n in range(60)))
    ours = Stand(lambda *_: (500, {}))
    said = rehearse(Stand(), ours)
    assert said.out.count("\ndiffers  Ingress") <= 50
    assert " more; -o json has all.\n" in said.out


def test_another_certificate_is_a_difference(rehearse: Callable[..., Said]) -> None:
    said = rehearse(
        *(Stand(certificate=make_certificate([f"{name}.example.com"])) for name in "ab"), "--allow", "b.example.com", "-o", "json"
    )
    (group,) = said.json["differences"]
    assert (group["field"], group["known"]) == ("certificate", None)
    assert said.json["summary"]["certificates"] == 1
    assert said.code == 1


def test_a_log_is_asked_for_with_the_format_of_the_config_map(rehearse: Callable[..., Said], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    lines = [
        'a.example.com "GET /one?q=\\x22 HTTP/1.1"',
        'b.example.com "HEAD /x/two HTTP/2.0"',
        'b.example.com "POST /x HTTP/1.1"',
        "noise",
    ]
    log.write_text("\n".join([*lines, *lines]) + "\n")
    theirs = Stand()
    said = rehearse(theirs, Stand(), "--access-log", log, "--configmap", "default/config", "-o", "json")
    assert sorted((method, host, target) for method, host, target, _ in theirs.asked) == [
        ("GET", "a.example.com", '/one?q="'),
        ("HEAD", "b.example.com", "/x/two"),
    ]
    assert said.json["log"] == {"lines": 8, "unreadable": 2, "unasked": [{"reason": "another method than GET and HEAD", "requests": 1}]}
    assert said.code == 0


def test_the_bound_on_requests_holds_and_is_said(rehearse: Callable[..., Said]) -> None:
    theirs = Stand()
    said = rehearse(theirs, Stand(), "--max-requests", "3")
    assert len(theirs.asked) == 3
    assert "--max-requests was reached; there are more." in said.out


def test_redirects_are_not_followed_and_no_proxy_is_asked(rehearse: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    with Stand().serving() as elsewhere:
        monkeypatch.setenv("http_proxy", elsewhere.url)
        both = [Stand(lambda *_: (302, {"Location": f"{elsewhere.url}/x", "Refresh": f"0; {elsewhere.url}"})) for _ in range(2)]
        assert rehearse(*both).code == 0
        assert elsewhere.asked == []


def test_a_side_that_cannot_be_reached_is_a_failure(say: Say, folder: Path) -> None:
    with Stand().serving() as there:
        said = say("rehearse", "--from", there.url, "--to", "http://127.0.0.1:9", folder)
        assert said.code == 1
        assert said.err == "xds rehearse: --to http://127.0.0.1:9 cannot be reached: Connection refused.\n"
        assert there.asked == []


def test_a_rehearsal_that_asks_nothing_is_a_failure(rehearse: Callable[..., Said]) -> None:
    said = rehearse(Stand(), Stand(), "--allow", "typo.example.com")
    assert (said.code, said.out) == (1, "")
    assert "nothing was asked: no host is there that --allow allows." in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--from is missing; name an address, as in --from http://10.0.0.5:80."),
        (["--from", "http://a:80"], "--to is missing"),
        (["--from", "http://a:80", "--to", "https://b"], "--from and --to have different schemes"),
        (["--from", "http://a:80", "--to", "http://a"], "--from and --to are the same."),
        (["--from", "http://a", "--from", "http://b", "--to", "http://c"], "--from has two addresses for one scheme"),
        (["--from", "http://a/x"], "--from: 'http://a/x' is not an address such as http://10.0.0.5:80, without a path."),
        (["--from", "a:80"], "is not an address such as"),
        (["--from", "http://a:0"], "is not an address such as"),
        (["--from", "http://u:p@a"], "is not an address such as"),
        (["--rate", "0"], "--rate: '0' is not a number from 0.1 to 1000."),
        (["--rate", "inf"], "--rate: 'inf' is not"),
        (["--max-requests", "0"], "--max-requests: '0' is not a whole number, 1 or more."),
        (["--allow", "a b"], "--allow: 'a b' is not a list of hosts"),
        (["--backend-header", "x y"], "--backend-header: 'x y' is not the name of a header."),
    ],
)
def test_wrong_usage_ends_with_2(say: Say, folder: Path, words: list[str], sentence: str) -> None:
    said = say("rehearse", *words, folder)
    assert said.code == 2
    assert sentence in said.err


def test_without_objects_there_is_nothing_to_derive_from(say: Say) -> None:
    said = say("rehearse", "--from", "http://a", "--to", "http://b")
    assert said.code == 2
    assert "as in `xds rehearse ./manifests`, or an API server with --kubeconfig." in said.err


LOGGED = 'a.example.com "GET /one HTTP/1.1"\n'


def test_a_log_may_be_packed(rehearse: Callable[..., Said], tmp_path: Path) -> None:
    (log := tmp_path / "access.log.1.gz").write_bytes(gzip.compress(LOGGED.encode()))
    theirs = Stand()
    said = rehearse(theirs, Stand(), "--access-log", log, "--configmap", "default/config")
    assert said.code == 0
    assert [target for _, _, target, _ in theirs.asked] == ["/one"]


def test_a_packed_log_that_breaks_off_is_a_failure(rehearse: Callable[..., Said], tmp_path: Path) -> None:
    (log := tmp_path / "access.log.1.gz").write_bytes(gzip.compress(random.Random(1).randbytes(20_000))[:-4_000])
    said = rehearse(Stand(), Stand(), "--access-log", log, "--configmap", "default/config")
    assert (said.code, said.out) == (1, "")
    assert said.err == f"xds rehearse: --access-log: {log} cannot be read to its end: it is no whole gzip file.\n"


@pytest.mark.parametrize(
    ("lines", "words", "sentence"),
    [
        ("", [], "nothing was asked: {log} has no line."),
        (
            LOGGED,
            [],
            """nothing was asked of 1 line of {log}; left out are 1 line without the form of ingress-nginx' default log-format-upstream \
(--configmap names the ConfigMap that has another one).""",
        ),
        (
            f"{LOGGED.replace('GET', 'POST')}noise\n",
            ["--configmap", "default/config"],
            """nothing was asked of 2 lines of {log}; left out are 1 request for another method than GET and HEAD, \
1 line without the form of log-format-upstream of ConfigMap default/config.""",
        ),
        (
            LOGGED,
            ["--configmap", "default/config", "--allow", "b.example.com"],
            "nothing was asked of 1 line of {log}; left out are 1 request for a host that --allow leaves out.",
        ),
    ],
    ids=["empty", "other format", "other methods", "not allowed"],
)
def test_a_log_of_which_nothing_is_asked_is_a_failure_that_says_why(
    rehearse: Callable[..., Said], tmp_path: Path, lines: str, words: list[str], sentence: str
) -> None:
    (log := tmp_path / "access.log").write_text(lines)
    said = rehearse(Stand(), Stand(), "--access-log", log, *words)
    assert (said.code, said.out) == (1, "")
    assert said.err == f"xds rehearse: {sentence.format(log=log)}\n"


def test_objects_and_log_are_not_both_standard_input(say: Say) -> None:
    said = say("rehearse", "--from", "http://a", "--to", "http://b", "--access-log", "-", "-")
    assert said.code == 2
    assert "cannot both be standard input" in said.err


def test_a_log_that_cannot_be_read_is_a_failure_before_anything_is_asked(say: Say, folder: Path, tmp_path: Path) -> None:
    sides = ("--from", "http://127.0.0.1:9", "--to", "http://127.0.0.2:9")  # where nothing listens
    said = say("rehearse", folder, *sides, "--access-log", tmp_path / "none")
    assert said.code == 1
    assert said.err == f"xds rehearse: --access-log: {tmp_path}/none cannot be read: No such file or directory.\n"
