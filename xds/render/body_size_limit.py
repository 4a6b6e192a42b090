"""The message of Envoy's filter `envoy.filters.http.body_size_limit`; the dialect draws it too, so that it lives there."""

from __future__ import annotations

from xds.nginx._messages import BodySizeLimit

__all__ = ("BodySizeLimit",)
