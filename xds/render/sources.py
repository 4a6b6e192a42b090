"""The ConfigSource of every reference to another resource: always the one ADS stream.

These bytes must never change: Envoy treats a changed ConfigSource as a new subscription (rules T5, O9; envoy#47309).
"""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ApiVersion, ConfigSource


@cache
def ads() -> ConfigSource:
    """The stream on which the message itself came."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
