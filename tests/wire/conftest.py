"""Fixtures of the tests of `xds.wire.encode`."""

from __future__ import annotations

from collections.abc import Iterator

import betterproto2
import pytest


@pytest.fixture(scope="module")
def without_validation() -> Iterator[None]:
    """betterproto2 validates each message again before it encodes it and after it parsed it, which is most of the time that it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(betterproto2.Message, "_is_pydantic", lambda self: False)
        yield
