"""Names of Services and ports that only a folder may hold: no header that is made of them has what no header can hold."""

from __future__ import annotations

from typing import Any

import pytest
from envoy_data_plane.message_pool import default_message_pool

from tests.units.test_any_order import Life, site
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.snapshot import ROUTE

PREFIX = "nginx.ingress.kubernetes.io/"
NAMING: dict[str, dict[str, str]] = {
    "default-backend": {"default-backend": "s0"},
    "pages": {"custom-http-errors": "404,503", "default-backend": "s0"},
}


def values_of_headers(message: Any) -> list[str]:
    """Every value of a header in a message, and every text of its metadata."""
    if isinstance(message, list):
        return [text for each in message for text in values_of_headers(each)]
    if isinstance(message, dict):
        own = [message[key] for key in ("value", "string_value", "host_rewrite") if isinstance(message.get(key), str)]
        return [*own, *(text for each in message.values() for text in values_of_headers(each))]
    return []


@pytest.mark.parametrize("annotations", NAMING.values(), ids=NAMING)
@pytest.mark.parametrize("odd", ["a\nb", "a\r\nX: y", "a\0b", "%REQ(cookie)%"])
def test_a_name_is_one_line_and_no_format(annotations: dict[str, str], odd: str) -> None:
    paths = (Path("/service", "Prefix", Backend(odd, 80)), Path("/port", "Prefix", Backend("s0", odd)))
    notes = {PREFIX + name: text for name, text in annotations.items()}
    item = Ingress(meta=Meta(namespace="one", name="odd", annotations=notes), rules=(Rule("odd.example.org", paths),))
    life = Life([*site(3), item])
    body = life.tables.hosts.values["odd.example.org"].body
    table: Any = default_message_pool.url_to_type[ROUTE].parse(body)
    as_declared: Any = str
    found = values_of_headers(table.to_dict(casing=as_declared))
    assert found
    assert not [text for text in found if set(text) & set("\r\n\0")]
    assert not [text for text in found if "%REQ(cookie)%" in text.replace("%%", "")]
