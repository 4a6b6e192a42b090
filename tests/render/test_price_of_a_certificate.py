"""Each certificate has a filter chain with a connection manager of its own, so that whatever stands in one counts a thousand times."""

from __future__ import annotations

from xds.model import Via
from xds.nginx.registry import read_settings
from xds.render.connections import connection
from xds.wire.encode import encode


def test_the_connection_manager_of_a_certificate_has_few_expressions() -> None:
    """Envoy takes some 6 kB for each. What only some routes need stands in the route table, once for all (`Feature.shared`)."""
    defaults, _ = read_settings({}, {})
    written = encode(connection(Via.HTTPS, 443, defaults))
    expressions = written.count(b"%CEL(") + written.count(b"envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter")
    assert expressions <= 21
    assert len(written) <= 24_000
