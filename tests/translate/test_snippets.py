"""Snippets on many paths: what would make too large a table closes its paths, and no other Ingress is touched."""

from __future__ import annotations

from tests.nginx.drawing import Nothing
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.model import CLOSED, Settings
from xds.nginx import registry
from xds.nginx.registry import read_settings

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
