"""Annotations on many paths: what would make too large a table, or one that Envoy compiles for long, has no effect or closes its paths."""

from __future__ import annotations

import pytest

from tests.nginx.drawing import Nothing
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.model import CLOSED, Settings
from xds.nginx import registry
from xds.nginx.registry import read_settings
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.program import program

PREFIX = "nginx.ingress.kubernetes.io/"


def resolved(paths: int, **annotations: str) -> Settings:
    named = {name.replace("_", "-"): text for name, text in annotations.items()}
    rule = Rule("a.test", tuple(Path(f"/{n}", "Prefix", Backend("web")) for n in range(paths)))
    meta = Meta(namespace="default", name="web", annotations={PREFIX + name: text for name, text in named.items()})
    return registry.resolved(read_settings(named, {})[0], Ingress(meta=meta, rules=(rule,)), Nothing())[0]


FEW = "".join(f"if ($http_x{n}) {{ return 403; }}" for n in range(15))


def test_sixteen_ways_are_too_many_for_thousands_of_paths() -> None:
    assert CLOSED not in resolved(100, configuration_snippet=FEW)
    assert "too many for" in resolved(2_000, configuration_snippet=FEW)[CLOSED]


def test_the_ways_of_a_server_and_of_its_locations_count_together() -> None:
    assert CLOSED not in resolved(100, server_snippet=FEW)
    assert "too many for" in resolved(100, server_snippet=FEW, configuration_snippet=FEW)[CLOSED]


@pytest.mark.parametrize(
    "snippet",
    [
        f"set $a {'x' * 1_900};" + "".join(f"if ($http_x{n}) {{ return 200 $a; }}" for n in range(15)),
        f"rewrite ^/(.*) /{'x' * 1_900} break;",
        "rewrite '^/(.*)(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)' https://a.test/$1$2$1$2$1$2 redirect;",
        "return 302 https://a.test/" + "$arg_a" * 8 + ";",
        "".join(f"deny 10.0.{n}.0/24;" for n in range(20)),
    ],
)
def test_whatever_a_way_repeats_counts(snippet: str) -> None:
    assert CLOSED not in resolved(10, configuration_snippet=snippet)
    assert "too many for" in resolved(5_000, configuration_snippet=snippet)[CLOSED]


def test_a_server_snippet_counts_on_the_paths_of_other_ingresses() -> None:
    few, many = (f"set $a {'x' * length};" + "".join(f"if ($http_x{n}) {{ return 200 $a; }}" for n in range(15)) for length in (100, 1_900))
    assert CLOSED not in resolved(1, server_snippet=few)
    assert "too many for 100 paths" in resolved(1, server_snippet=many)[CLOSED]


def test_an_address_has_few_captures() -> None:
    few, many = (f"rewrite ^/(.*) https://a.test/{'$1' * number} redirect;" for number in (8, 9))
    assert not program(few, Block.LOCATION).faults
    assert [fault.name for fault in program(many, Block.LOCATION).faults] == ["rewrite"]


EXPRESSIONS = {
    "upstream-vhost": "$arg_a" * 8,
    "auth-url": "http://auth.test/" + "$arg_a" * 8,
    "x-forwarded-prefix": "/$host" * 8,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_envoy_compiles_on_all_paths_is_bounded(name: str) -> None:
    feature = name.replace("-", "_")
    assert feature in (found := resolved(100, **{feature: EXPRESSIONS[name]}))
    assert CLOSED not in found
    left = resolved(2_000, **{feature: EXPRESSIONS[name]})
    assert feature not in left or "too many for" in left[CLOSED]


def test_texts_without_variables_are_for_all_paths() -> None:
    found = resolved(5_000, upstream_vhost="a.test", auth_url="http://auth.test/x", mirror_target="http://copies.test/x")
    assert {"upstream_vhost", "auth_url", "mirror"} <= found.keys()
    assert CLOSED not in found


def test_a_copy_has_few_variables() -> None:
    assert "mirror" not in read_settings({"mirror-target": "http://copies.test/" + "$args" * 9}, {})[0]
    assert "more than 8" in read_settings({"mirror-target": "http://copies.test/" + "$args" * 9}, {})[1][0].sentence


@pytest.mark.parametrize("header", ["X-Envoy-Retry-On", "x-envoy-max-retries", "x-xds-auth-path"])
def test_no_service_and_no_author_tells_envoy_what_to_do(header: str) -> None:
    found = read_settings({"auth-url": "http://auth.test/", "auth-response-headers": f"X-User, {header}"}, {})
    assert [complaint.name for complaint in found[1]] == ["auth-response-headers"]
