"""Each known difference is one of docs/differences.md, covers what it is about, and not what only looks like it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xds.model import Via
from xds.nginx.registry import known_annotations, known_keys
from xds.problem import Ref
from xds.rehearse.comparing import Difference, Seen
from xds.rehearse.inquiries import Inquiry, Why
from xds.rehearse.known import GENERATED, KNOWN, Difficult, known, page

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


@dataclass(frozen=True)
class Case:
    """Two answers with what they are about; `id` is the known difference, "" for none."""

    id: str
    field: str
    theirs: str | None
    ours: str | None
    target: str = "/"
    via: Via = Via.HTTPS
    notes: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    status: tuple[str, str] = ("200", "200")
    more: Seen = field(default_factory=dict)
    rule: str = "spec.rules[0].http.paths[0]"
    varied: bool = False

    def found(self) -> str:
        """The id of what covers it."""
        about = Ref("Ingress", "default", "i")
        inquiry = Inquiry(Why.RULE, "GET", self.via, "a.test", self.target, (), about, self.rule, "a.test")
        theirs, ours = {"status": self.status[0]}, {"status": self.status[1], **self.more}
        if self.field == "status":
            theirs, ours = {"status": self.theirs or ""}, {"status": self.ours or "", **self.more}
        difference = Difference(self.field, self.theirs, self.ours)
        covering = known(Difficult(inquiry, difference, theirs, ours, self.notes, self.keys, self.varied))
        return covering.id if covering else ""


HSTS, COOKIE = "header strict-transport-security", "header set-cookie"
AGE = "max-age=31536000"
CASES = [
    Case("path-above-root", "status", "400", "200", "/../x"),
    Case("path-above-root", "status", "400", "404", "/a%zz"),
    Case("", "status", "400", "200", "/a/../x"),
    Case("", "status", "200", "400", "/../x"),
    Case("", "status", "400", "200", "/a%20b"),
    Case("dots-and-slashes", "status", "200", "404", "/a//../b"),
    Case("dots-and-slashes", "backend", "a", "b", "/a/..;/b"),
    Case("dots-and-slashes", "status", "200", "404", r"/a\..\b"),
    Case("", "status", "200", "404", "/a/../b"),
    Case("", "status", "200", "404", "/a?b=//../c"),
    Case("escaped-slash", "status", "200", "404", "/api%2Fv1"),
    Case("escaped-slash", "backend", "a", "b", "/api%2fv1"),
    Case("", "header x", "a", "b", "/api%2Fv1"),
    Case("", "status", "200", "404", "/api?x=%2F"),
    Case("only-slashes", "status", "200", "404", "//"),
    Case("", "status", "200", "404", "/"),
    Case("large-response-headers", "status", "502", "200", more={"header x-large": "x" * 5_000}),
    Case("", "status", "502", "200", more={"header x": "x"}),
    Case("", "status", "200", "502", more={"header x-large": "x" * 5_000}),
    Case("redirect-normalised", "location", "https://a.test/a//b", "https://a.test/a/b", status=("308", "308")),
    Case("redirect-normalised", "location", "https://a.test/a/../b", "https://a.test/b", status=("308", "308")),
    Case("", "location", "https://a.test/a/b", "https://a.test/b", status=("308", "308")),
    Case("", "location", "https://a.test/a//b", "https://b.test/a/b", status=("308", "308")),
    Case("", "location", None, "https://b.test/a/b"),
    Case("rewritten-to-nothing", "status", "500", "200", notes={"rewrite-target": "$1"}),
    Case("", "status", "500", "200", notes={"rewrite-target": "/$1"}),
    Case("", "status", "200", "500", notes={"rewrite-target": "$1"}),
    Case("hsts-server-snippet", HSTS, None, AGE, notes={"server-snippet": "return 200;"}),
    Case("", HSTS, None, AGE, via=Via.HTTP, notes={"server-snippet": "return 200;"}),
    Case("hsts-twice", HSTS, f"{AGE}, max-age=1", AGE, notes={"configuration-snippet": "add_header …"}),
    Case("", HSTS, "max-age=1", AGE, notes={"configuration-snippet": "add_header …"}),
    Case("cors-in-if", "header access-control-allow-origin", None, "*", notes={"configuration-snippet": "if …"}),
    Case("", "header access-control-allow-origin", "*", None, notes={"configuration-snippet": "if …"}),
    Case("", "header access-control-allow-origin", None, "*"),
    Case("session-cookie-last", COOKIE, "route=…\nown=…", "own=…\nroute=…", notes={"affinity": "cookie"}),
    Case("", COOKIE, "route=…\nown=…", "own=…", notes={"affinity": "cookie"}),
    Case("auth-cookies-apart", COOKIE, "own=…\na=…; httponly, b=2; path=/", "own=…\na=…\nb=…; path=/", notes={"auth-url": "http://x"}),
    Case("", COOKIE, "own=…\na=…", "own=…\na=…\nc=…", notes={"auth-url": "http://x"}),
    Case("auth-url-scheme", "status", "500", "503", notes={"auth-url": "ftp://x"}),
    Case("", "status", "500", "503", notes={"auth-url": "http://x"}),
    Case("password-for-nothing", "status", "401", "404", notes={"auth-type": "basic"}, rule="spec.defaultBackend"),
    Case("", "status", "401", "404", notes={"auth-type": "basic"}),
    Case("", "status", "401", "200", notes={"auth-type": "basic"}, rule="spec.defaultBackend"),
    Case("no-client-certificate", "status", "200", "400", notes={"auth-tls-error-page": "/cert"}),
    Case("", "status", "200", "400", notes={"auth-tls-error-page": "https://x.test/cert"}),
    Case("", "status", "302", "400", via=Via.HTTP, notes={"auth-tls-error-page": "/cert"}),
    Case("", "status", "200", "403", notes={"auth-tls-error-page": "/cert"}),
    Case("limit-counts", "status", "503", "200", notes={"limit-rps": "1"}, varied=True),
    Case("limit-counts", "status", "200", "429", notes={"limit-rpm": "1"}, keys={"limit-req-status-code": "429"}, varied=True),
    Case("", "status", "200", "503", notes={"limit-rps": "1"}),
    Case("", "status", "200", "503", varied=True),
    Case("brotli-vary", "header vary", None, "accept-encoding", keys={"enable-brotli": "true"}),
    Case("brotli-vary", "header vary", "origin", "accept-encoding, origin", keys={"enable-brotli": "true"}),
    Case("", "header vary", "origin", "accept-encoding", keys={"enable-brotli": "true"}),
    Case("generated-certificate", "certificate", f"{GENERATED} (SHA-256 1)", f"{GENERATED} (SHA-256 2)"),
    Case("", "certificate", "a.test (SHA-256 1)", f"{GENERATED} (SHA-256 2)"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id or 'none'}-{case.field}")
def test_a_known_difference_covers_its_own_and_nothing_else(case: Case) -> None:
    assert case.found() == case.id


def test_every_known_difference_has_a_case() -> None:
    assert {each.id for each in KNOWN} == {case.id for case in CASES} - {""}


def test_each_is_a_row_of_the_manual() -> None:
    rows = re.findall(r"^\| (.*?) \| ", PAGE.read_text().partition("## What `xds rehearse`")[0].replace(r"\|", "¦"), re.MULTILINE)
    for each in KNOWN:
        assert rows.count(each.row.replace(r"\|", "¦")) == 1, each.row


def test_the_table_of_the_manual_is_current(pytestconfig: pytest.Config) -> None:
    """If not: `--update-golden`."""
    text, wanted = PAGE.read_text(), "\n".join(page())
    head, title, rest = text.partition("## What `xds rehearse` recognises\n")
    assert title
    if pytestconfig.getoption("--update-golden"):
        PAGE.write_text(head + title + re.sub(r"TABLE|^\| id .*\n(?:\|.*\n?)*", lambda _: f"{wanted}\n", rest, count=1, flags=re.MULTILINE))
    assert f"\n{wanted}\n" in PAGE.read_text()


def test_each_names_annotations_and_keys_that_there_are() -> None:
    there = {*known_annotations(), *known_keys()}
    assert {name for each in KNOWN for name in each.names} <= there
