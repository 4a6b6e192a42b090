"""The authorisation service as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds.authz.service import run
from xds.config import Failure, Flags


async def test_a_socket_that_cannot_be_made_is_a_sentence_with_the_reason(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/none/authz.sock"
    with pytest.raises(Failure) as failed:
        await run(Flags(authz_address=address))
    assert str(failed.value) == f"--authz-address: the service cannot listen on {address}: No such file or directory."
