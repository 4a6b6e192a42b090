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
