"""The kinds of values that flags have: how each is parsed, shown, and described in an error.

What does not belong here: the flags themselves (`xds.config`).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from xds.addresses import PRIVATE, RUNNING, parse_address, parse_origin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What the values of a flag look like.

    `parse` reads one value and raises ValueError for what is none; `expects` ends the sentence "… is not". `many`: the flag may be
    given several times, and its values are joined; its environment variable has them with `between` between. `words`: all values, where
    there are a few.
    """

    metavar: str
    expects: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str
    many: bool = False
    words: tuple[str, ...] = ()
    between: str = ":"


_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_OBJECT = re.compile(rf"(?P<namespace>{_LABEL})/(?P<name>{_SUBDOMAIN})")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,18})")
_KEY = r"(?:[-A-Za-z0-9.]+/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = rf"\(\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*\)"
_REQUIREMENT = rf"(?:!\s*{_KEY}|{_KEY}(?:\s*(?:==?|!=)\s*{_VALUE}|\s+(?:in|notin)\s*{_SET})?)"
_SELECTOR = re.compile(rf"\s*{_REQUIREMENT}\s*(?:,\s*{_REQUIREMENT}\s*)*")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_DURATION = 2.0**63 / 1e9


def parse_bool(text: str) -> bool:
    """The words that Go's strconv.ParseBool takes, and no others. Raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(text)


def parse_duration(text: str) -> float:
    """Seconds, from a duration as Go writes it: `30s`, `1m30s`, `500ms`, `0`. Not negative, at most 292 years (Go). Raises ValueError."""
    body = text.removeprefix("+")
    if body == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(body))
    if not parts or "".join(part.group() for part in parts) != body:
        raise ValueError(text)
    seconds = sum(float(part.group(1)) * _DURATION_UNITS[part.group(2)] for part in parts)
    if seconds > _LONGEST_DURATION:
        raise ValueError(text)
    return seconds


def _socket(text: str) -> str:
    """An address that is a Unix socket. Raises ValueError for others."""
    if not (found := parse_address(text)).path:
        raise ValueError(text)
    return str(found)


def _tcp(text: str) -> str:
    """An address that is no Unix socket. Raises ValueError for one."""
    if (found := parse_address(text)).path:
        raise ValueError(text)
    return str(found)


def show_duration(seconds: float) -> str:
    """A duration as Go writes it, without zero parts: 90.0 is `1m30s`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return (f"{minutes:g}m" if minutes else "") + (f"{rest:g}s" if rest or not minutes else "")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = _integer(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return parse


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or not text.isascii() or "_" in text:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    """ingress-nginx takes whole seconds in these flags; a duration with its unit is as clear."""
    return float(_between(0, 10**9)(text)) if _INTEGER.fullmatch(text) else parse_duration(text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _dns_names(text: str) -> tuple[str, ...]:
    names = _listed(text)
    if not names or not all(len(name) <= 253 and re.fullmatch(_SUBDOMAIN, name) for name in names):
        raise ValueError(text)
    return names


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part)) for part in _listed(text))


def _object(text: str) -> str:
    match = _OBJECT.fullmatch(text)
    if text and (match is None or len(match["namespace"]) > 63 or len(match["name"]) > 253):
        raise ValueError(text)
    return text


def _matching(pattern: str, longest: int) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if len(text) > longest or not compiled.fullmatch(text):
            raise ValueError(text)
        return text

    return parse


def _selector(text: str) -> str:
    if text.strip() and not _SELECTOR.fullmatch(text):
        raise ValueError(text)
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text)


def _origins(text: str) -> tuple[str, ...]:
    return (str(parse_origin(text)),)


def _rate(text: str) -> float:
    number = _number(text)
    if not 0.1 <= number <= 1000:
        raise ValueError(text)
    return number


def _patterns(text: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _listed(text))
    if not names or not all(re.fullmatch(rf"(?:\*\.)?{_SUBDOMAIN}", name) for name in names):
        raise ValueError(text)
    return names


def _folders(text: str) -> tuple[Path, ...]:
    return (_path(text),)


def _numbers_shown(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def choice(*words: str) -> Kind[str]:
    """One of a few words."""
    return Kind("|".join(words), f"one of {', '.join(words)}", _matching("|".join(words), 40), words=words)


BOOL = Kind("", "true or false", parse_bool, lambda value: "true" if value else "false")
COUNT = Kind("N", "a whole number, 0 or more", _between(0, 2**63 - 1))
AMOUNT = Kind("N", "a whole number, 1 or more", _between(1, 2**63 - 1))
INTEGER = Kind("N", "a whole number", _integer)
NUMBER = Kind("N", "a number", _number, lambda value: f"{value:g}")
NUMBERS: Kind[tuple[float, ...]] = Kind(
    "N,N,…", "a list of numbers with commas between", lambda text: tuple(_number(part) for part in _listed(text)), _numbers_shown
)
PORT = Kind("PORT", "a port number from 1 to 65535", _between(1, 65535))
DURATION = Kind("DURATION", "a duration such as 500ms, 30s or 1m30s", parse_duration, show_duration)
SECONDS = Kind("SECONDS", "a number of seconds", _seconds, lambda value: f"{value:g}")
STATUS_SECONDS = Kind("SECONDS", "a number of seconds", lambda text: max(5.0, _seconds(text)), SECONDS.show)
TEXT = Kind("TEXT", "text", str)
URL = Kind("URL", "a URL such as https://10.0.0.1:6443", _matching(r"\S*", 2000))
NAMES: Kind[tuple[str, ...]] = Kind("NAME,…", "a list of names with commas between", _listed, ",".join)
DNS_NAMES: Kind[tuple[str, ...]] = Kind("NAME,…", "a list of DNS names with commas between", _dns_names, ",".join)
NETWORKS: Kind[tuple[str, ...]] = Kind("CIDR,…", "a list of CIDRs with commas between, such as 169.254.20.10/32", _networks, ",".join)
OBJECT = Kind("NAMESPACE/NAME", "a namespace and name such as ingress-nginx/controller", _object)
MAYBE_NAMESPACE = Kind("NAMESPACE", "the name of a namespace", _matching(rf"(?:{_LABEL})?", 63))
PREFIX = Kind("PREFIX", "the prefix of an annotation, such as nginx.ingress.kubernetes.io", _matching(_SUBDOMAIN, 253))
SELECTOR = Kind("SELECTOR", "a label selector such as team=web,tier!=test", _selector)
ADDRESS = Kind("ADDRESS", "host:port, [IPv6]:port or unix:/path", lambda text: str(parse_address(text)))
MAYBE_ADDRESS = Kind("ADDRESS", ADDRESS.expects, lambda text: ADDRESS.parse(text) if text else "")
ADDRESS_OR_OFF = Kind(
    "ADDRESS", f"{ADDRESS.expects}, or off", lambda text: "" if text in ("", "off") else ADDRESS.parse(text), lambda text: text or "off"
)
ADDRESS_OR_PRIVATE = Kind(
    "ADDRESS", f"{ADDRESS.expects}, or {PRIVATE}", lambda text: text if text == PRIVATE else ADDRESS.parse(text), ADDRESS.show
)
PRIVATE_OR_OFF = Kind(
    "ADDRESS",
    f"{ADDRESS.expects}, {PRIVATE} or off",
    lambda text: text if text == PRIVATE else ADDRESS_OR_OFF.parse(text),
    ADDRESS_OR_OFF.show,
)
SOCKET = Kind("SOCKET", "a Unix socket such as unix:/run/authz.sock", _socket)
MAYBE_SOCKET = Kind("SOCKET", SOCKET.expects, lambda text: SOCKET.parse(text) if text else "")
SOCKET_OR_PRIVATE = Kind("SOCKET", f"{SOCKET.expects}, or {PRIVATE}", lambda text: text if text == PRIVATE else _socket(text), SOCKET.show)
ADDRESS_OR_RUNNING = Kind(
    "ADDRESS", f"{ADDRESS.expects}, or {RUNNING}", lambda text: text if text == RUNNING else ADDRESS_OR_OFF.parse(text), ADDRESS_OR_OFF.show
)
TCP_OR_OFF = Kind("ADDRESS", "host:port, [IPv6]:port or off", lambda text: "" if text in ("", "off") else _tcp(text), ADDRESS_OR_OFF.show)
SECRET = Kind("NAME", "the name of a Secret", _matching(_SUBDOMAIN, 253))
IP = Kind("IP", "an IP address", lambda text: str(ipaddress.ip_address(text)))
FILE: Kind[Path | None] = Kind("FILE", "the name of a file", lambda text: _path(text) if text else None, lambda path: str(path or ""))
FOLDER: Kind[Path | None] = Kind("DIR", "the name of a folder", FILE.parse, FILE.show)
FOLDERS: Kind[tuple[Path, ...]] = Kind("DIR", "the name of a folder", _folders, lambda paths: ":".join(map(str, paths)), many=True)
ORIGINS: Kind[tuple[str, ...]] = Kind(
    "URL", "an address such as http://10.0.0.5:80, without a path", _origins, " ".join, many=True, between=" "
)
RATE = Kind("N", "a number from 0.1 to 1000", _rate, lambda value: f"{value:g}")
HOSTS: Kind[tuple[str, ...]] = Kind(
    "HOST,…", "a list of hosts with commas between, such as a.example.com,*.b.example.com", _patterns, ",".join
)
HEADER = Kind("NAME", "the name of a header", _matching(r"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+)?", 200))
URL_PATH = Kind("PATH", "a path that begins with /", _matching(r"/\S*", 1000))
LEASE = Kind("NAME", "the name of a Lease", _matching(_SUBDOMAIN, 253))
NAMESPACE = Kind("NAMESPACE", "the name of a namespace", _matching(_LABEL, 63))
NODE_ID = Kind("ID", "a node id, which is not empty", _matching(r"\S+", 253))
NODE_CLUSTER = Kind("NAME", "the name of a node cluster", _matching(r"\S+", 253))
