"""docs/requests.md lists what every request pays for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nginx.drawing import settings
from xds.model import Via
from xds.render import passages
from xds.render.connections import connection
from xds.render.routes import table

MANUAL = (Path(__file__).parents[2] / "docs" / "requests.md").read_text()
NOT_BY_NAME = {"envoy.filters.http.router"}
"""What a bare Envoy has as well."""


@pytest.mark.parametrize("via", [Via.HTTP, Via.HTTPS])
def test_each_filter_that_is_not_disabled_is_in_the_manual(via: Via) -> None:
    made = connection(via, 80, settings())
    filters = {each.name for each in made.http_filters if not each.disabled} - NOT_BY_NAME
    early = {each.name for each in made.early_header_mutation_extensions}
    assert filters
    assert [name for name in sorted(filters | early) if f"`{name}`" not in MANUAL] == []


def test_what_the_table_does_for_all_routes_is_in_the_manual() -> None:
    made = table(settings(), passages.of_table("marker"))
    headers = {each.header.key for each in made.request_headers_to_add if each.header}
    assert headers
    assert [name for name in sorted(headers | made.typed_per_filter_config.keys()) if f"`{name}`" not in MANUAL] == []
