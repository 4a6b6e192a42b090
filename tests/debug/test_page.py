"""docs/debug.md names what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from google.protobuf import json_format

from tests.debug.test_descriptors import message
from xds.config import Flags
from xds.debug import csds, service
from xds.debug.server import ALL_SERVICES, SERVICES

PAGE = Path(__file__).parents[2] / "docs" / "debug.md"


def test_every_service_and_every_method_of_ours_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in ALL_SERVICES if f"`{name}`" not in text] == []
    assert [method for method in service.METHODS if f"{service.SERVICE}/{method}" not in text] == []


def test_every_call_on_the_page_can_be_made() -> None:
    calls = [shlex.split(line) for line in PAGE.read_text().replace("\\\n", " ").splitlines() if line.startswith("    grpcurl")]
    made = 0
    for words in calls:
        assert Flags().debug_address in words
        name, _, method = words[-1].partition("/")
        if method:
            request = words[words.index("-d") + 1] if "-d" in words else "{}"
            json_format.ParseDict(json.loads(request), message(SERVICES[name][method].request)())
            made += 1
    assert made >= len(service.METHODS)


def test_what_the_page_says_of_the_size_of_an_answer_is_true() -> None:
    limit = re.search(r"more than (\d+) MiB", PAGE.read_text())
    assert limit is not None
    assert int(limit[1]) * 2**20 == csds.MOST
