"""Which rewrites of a snippet nginx ends with, and which it goes on from."""

from __future__ import annotations

import pytest

from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.program import program

BESIDE = 'rewrite ^/b /y break; if ($uri ~ "^/c") { return 404; }'


def refused(text: str, block: Block) -> list[str]:
    return [each.name for each in program(text, block).faults]


@pytest.mark.parametrize("flag", ["last", "break"])
def test_a_rewrite_of_a_server_that_is_the_last_step_works_beside_others(flag: str) -> None:
    """nginx looks for a location only after the steps of a server, so it takes none of them twice."""
    assert refused(f"rewrite ^/a /x {flag}; {BESIDE}", Block.SERVER) == []


def test_after_a_rewrite_of_a_location_nginx_may_come_back_to_it() -> None:
    assert refused(f"rewrite ^/a /x last; {BESIDE}", Block.LOCATION) == ["rewrite"]
    assert refused(f"rewrite ^/a /x break; {BESIDE}", Block.LOCATION) == []
    assert refused("rewrite ^/a /x last;", Block.LOCATION) == []


def test_a_rewrite_without_a_flag_goes_on_with_the_new_path() -> None:
    assert refused(f"rewrite ^/a /x; {BESIDE}", Block.SERVER) == ["rewrite"]


@pytest.mark.parametrize("flag", ["last", ""])
@pytest.mark.parametrize("rewrite", ["rewrite ^/a /b {};", "if ($http_c) {{ rewrite ^/a /b {}; }}"])
def test_no_rewrite_of_a_location_walks_around_what_follows_it(rewrite: str, flag: str) -> None:
    ways = program(f"{rewrite.format(flag)} if ($http_bad) {{ return 403; }}", Block.LOCATION).ways
    assert [bool(way.end) for way in ways if any(test.name == "bad" for test in way.tests)] == [True] * (len(ways) // 2)
    assert any(way.rewritten for way in ways)
    assert all(way.end for way in program(f"rewrite ^/a /b {flag}; return 403;", Block.LOCATION).ways)


def test_a_rewrite_that_says_break_is_the_end() -> None:
    (moved, *_) = program("rewrite ^/a /b break; if ($http_bad) { return 403; }", Block.LOCATION).ways
    assert (moved.end, [test.name for test in moved.tests]) == (None, [":path"])
