"""The bytes as google.protobuf reads them.

Its generated classes (xds-protos) own the top-level packages `xds` and `envoy`, so they live in an environment of their own, made once
and kept in pytest's cache, and answer through a pipe. Without a package index the tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.google.protobuf import DoubleValue
from envoy_data_plane.validate import TimestampRules
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from xds.wire.encode import encode, type_url, varint

from .arbitrary import CLASSES, MessageClass, messages

XDS_PROTOS = "xds-protos==1.85.0"

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # the first test makes the environment
]

Answer = dict[str, Any]
Ask = Callable[..., Answer]

AS_DECLARED: Any = str
"""Leaves the names of fields alone; betterproto2's own casing makes consecutive5Xx of consecutive_5xx."""


@pytest.fixture(scope="session")
def python_of_google(pytestconfig: pytest.Config) -> Path:
    """A Python that has xds-protos."""
    home = pytestconfig.cache.mkdir("google-protobuf") / f"{XDS_PROTOS}-python{sys.version_info.major}.{sys.version_info.minor}"
    python = Path("bin", "python")
    if not home.exists():
        with tempfile.TemporaryDirectory(dir=home.parent, ignore_cleanup_errors=True) as building:
            venv.create(building, with_pip=True)
            install = [str(building / python), "-m", "pip", "install", "--quiet", "--retries=1", "--timeout=10", XDS_PROTOS]
            installed = subprocess.run(install, capture_output=True, text=True, check=False)
            if installed.returncode:
                pytest.skip(f"{XDS_PROTOS} cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
            with contextlib.suppress(OSError):  # another process of the same run was first
                Path(building).rename(home)
    return home / python


@pytest.fixture(scope="session")
def ask(python_of_google: Path) -> Iterator[Ask]:
    """Asks google.protobuf about a message; where betterproto2's JSON of it would be wrong, `as_json` says what it is."""
    script = Path(__file__).with_name("google_protobuf.py")
    with subprocess.Popen([python_of_google, "-I", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        questions, answers = child.stdin, child.stdout
        assert questions and answers  # noqa: PT018

        def ask(message: betterproto2.Message, as_json: Any = None) -> Answer:
            _, _, name = type_url(type(message)).partition("/")
            text = json.dumps(message.to_dict(casing=AS_DECLARED) if as_json is None else as_json)
            print(json.dumps({"type": name, "body": encode(message).hex(), "json": text}), file=questions, flush=True)
            answer: Answer = json.loads(answers.readline())
            return answer

        yield ask


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_arbitrary_messages_mean_the_same(ask: Ask, cls: MessageClass, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    answer = ask(message)
    assert answer["misread"] == []
    assert cls.parse(bytes.fromhex(answer["again"])) == message
    assume(not answer["newer"])
    assert answer["same"]


@pytest.mark.parametrize(
    ("duration", "as_json"),
    [
        (timedelta(seconds=-1.5), "-1.500s"),
        (timedelta(microseconds=-1), "-0.000001s"),
        (timedelta(days=-1), "-86400s"),
        (timedelta(days=1_000_000, microseconds=1), "86400000000.000001s"),
    ],
)
def test_durations_that_betterproto2_gets_wrong_mean_what_they_say(ask: Ask, duration: timedelta, as_json: str) -> None:
    assert ask(Cluster(connect_timeout=duration), {"connect_timeout": as_json})["same"]


def test_a_time_before_1970_means_the_same(ask: Ask) -> None:
    when = datetime(1969, 12, 31, 23, 59, 59, 250_000, tzinfo=UTC)
    assert ask(TimestampRules(const=when), {"const": "1969-12-31T23:59:59.250Z"})["same"]


@pytest.mark.parametrize(("number", "as_json"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_numbers_that_are_no_numbers_are_read(ask: Ask, number: float, as_json: str) -> None:
    """Compared by bytes, for NaN equals nothing."""
    message = DoubleValue(value=number)
    answer = ask(message, as_json)
    assert answer["misread"] == []
    assert answer["again"] == encode(message).hex()


def test_bytes_that_mean_something_else_would_be_noticed(ask: Ask) -> None:
    assert not ask(Cluster(name="a"), {"name": "b"})["same"]


def test_a_field_of_the_wrong_wire_type_would_be_noticed(ask: Ask) -> None:
    message = Cluster()
    message._unknown_fields = varint(4 << 3) + varint(5)  # noqa: SLF001 - parsing would put them there, and a parser is what is tested
    assert ask(message, {})["misread"] == ["envoy.config.cluster.v3.Cluster:4"]
