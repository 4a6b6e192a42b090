"""Where Envoy is told to look for what a message only names: always the one ADS stream.

These bytes must stay the same for ever: Envoy takes a changed ConfigSource for a new subscription (rules T5, O9; envoy#47309).
"""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ApiVersion, ConfigSource


@cache
def ads() -> ConfigSource:
    """The stream by which the message itself came."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
