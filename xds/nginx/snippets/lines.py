"""Header directives as they are written, line by line: what each says, and that it may say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from xds.model import PathKind, PathMatch, Respond, Route
from xds.nginx.snippets.headers import ALL, FRAMING, OF_THE_PROXY, OF_THE_SERVER, USUAL, Expiry, Headers, OnRequest, OnResponse
from xds.nginx.snippets.syntax import Directive
from xds.nginx.values import LONGEST_IN_ROUTE, shown
from xds.nginx.variables import OF_ANSWER, as_format_where, names_in, only_text, unknown

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_TYPE = re.compile(r"[-\w.+]+/[-\w.+*]+(?:; ?charset=[-\w]+)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TIME = re.compile(r"(-?)((?:[0-9]{1,9}(?:ms|[smhdwMy])? *)+)")
_PART = re.compile(r"([0-9]+)(ms|[smhdwMy]?)")
_SECONDS = {"ms": 0, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
_LONGEST_AGE = 10 * 365 * 86400
_EPOCH = "Thu, 01 Jan 1970 00:00:01 GMT"
_MAX = "Thu, 31 Dec 2037 23:55:55 GMT"
_SAME = {
    "x-real-ip": ("$remote_addr", "$the_real_ip"),
    "x-forwarded-for": ("$remote_addr", "$the_real_ip", "$proxy_add_x_forwarded_for", "$http_x_forwarded_for"),
    "x-forwarded-host": ("$host", "$http_host", "$best_http_host"),
    "x-forwarded-proto": ("$scheme", "$pass_access_scheme", "$http_x_forwarded_proto"),
    "x-forwarded-port": ("$server_port", "$pass_port", "$pass_server_port"),
    "x-forwarded-scheme": ("$scheme", "$pass_access_scheme"),
    "x-scheme": ("$scheme", "$pass_access_scheme"),
    "x-request-id": ("$request_id", "$req_id"),
}
"""What can be written of a header that the proxy sets, for it is so anyway."""
_COOKIES = f"{OF_ANSWER}set_cookie"
_SOMEWHERE = Route(PathMatch(PathKind.RAW_PREFIX, "/"), Respond(200))


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """One thing that a directive says; `list_of` is the field of Headers that it belongs to, "type" for default_type."""

    directive: Directive
    list_of: str
    item: OnResponse | OnRequest | Expiry | str

    @property
    def of_the_path(self) -> str:
        """A variable of it that Envoy does not know of a rewritten path: the new one of a request, the old one of a response."""
        if not isinstance(self.item, OnResponse | OnRequest):
            return ""
        unknown_there = ("request_uri",) if isinstance(self.item, OnResponse) else ("uri", "document_uri")
        return next((name for name in names_in(self.item.value) if name in unknown_there), "")

    @property
    def passes_cookies_on(self) -> bool:
        """Whether it gives the client the cookies of an authentication service, which it gets anyway. Raises ValueError for other uses."""
        if not isinstance(self.item, OnResponse | OnRequest) or not any(name.lower() == _COOKIES for name in names_in(self.item.value)):
            return False
        if isinstance(self.item, OnResponse) and self.item.name.lower() == "set-cookie" and self.item.where == USUAL:
            return True
        raise ValueError("takes the service's cookies, which can go to the client only; see the annotation auth-always-set-cookie")

    @property
    def without_value(self) -> HeaderLine | None:
        """What of it counts where its value cannot be had: backends never get a client's own header in its place."""
        if not isinstance(self.item, OnRequest) or self.item.name.lower() == "host":
            return None
        return replace(self, item=replace(self.item, value=""))

    def filled(self, fill: Callable[[str], str]) -> HeaderLine:
        """The same with what a snippet's own variables stand for. Raises ValueError for a variable that nobody knows."""
        if not isinstance(self.item, OnResponse | OnRequest) or only_text(self.item.value):
            return self
        value = fill(self.item.value)
        of_response = isinstance(self.item, OnResponse)
        if why := fault(value, of_response=of_response):
            raise ValueError(why)
        made = replace(self.item, value=value)
        if isinstance(made, OnResponse) and made.where:
            as_format_where(value, _SOMEWHERE, made.where)
        return replace(self, item=made)


def fault(value: str, *, of_response: bool) -> str:
    """Why a text can be no value of a header, as the end of a sentence; "" where it can."""
    if len(value) > LONGEST_IN_ROUTE:
        return f"has {len(value):,} characters, more than {LONGEST_IN_ROUTE:,}, and each path repeats them"
    if found := _CONTROL.search(value):
        return f"has the control character {found[0]!r}"
    if len(names_in(value)) != value.count("$"):
        return f'has {shown(value)}, where a "$" belongs to no variable'
    why = unknown(value, of_response=of_response)
    return f"has {shown(value)}, {why}" if why else ""


def header_lines(directive: Directive) -> Iterator[HeaderLine]:
    """What a directive says. Raises ValueError with the end of a sentence for what it may not say."""
    for list_of, item in _READERS[directive.name](directive.args):
        if isinstance(item, OnResponse | OnRequest) and only_text(item.value) and (why := fault(item.value, of_response=True)):
            raise ValueError(why)
        yield HeaderLine(directive, list_of, item)


def headers_of(lines: Iterable[HeaderLine]) -> tuple[Headers, str]:
    """The headers of one block, and its default_type."""
    lists: dict[str, list[object]] = {"hidden": [], "more": [], "added": [], "request": [], "expiry": [], "type": []}
    for line in lines:
        lists[line.list_of].append(line.item)
    expiry = lists["expiry"][-1] if lists["expiry"] else None
    made = Headers(
        tuple(str(name) for name in lists["hidden"]),
        tuple(item for item in lists["more"] if isinstance(item, OnResponse)),
        expiry if isinstance(expiry, Expiry) else None,
        tuple(item for item in lists["added"] if isinstance(item, OnResponse)),
        tuple(item for item in lists["request"] if isinstance(item, OnRequest)),
    )
    return made, str(lists["type"][-1]) if lists["type"] else ""


_Items = Iterator[tuple[str, OnResponse | OnRequest | Expiry | str]]
_Args = tuple[str, ...]


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or "$" in name:
        raise ValueError(f"has {shown(name)}, which is no name of a header")
    return name


def _of_response(name: str) -> str:
    if _name(name).lower() in FRAMING:
        raise ValueError(f"sets {name}, which says where a message ends, or is for one connection")
    if name.lower() == "host":
        raise ValueError(f"sets {name}, which is a header of requests")
    if OF_THE_SERVER.fullmatch(name.lower()):
        raise ValueError(f"sets {name}, which Envoy writes itself")
    return name


def _add_header(args: _Args) -> _Items:
    if len(args) not in (2, 3) or (len(args) == 3 and args[2] != "always"):
        raise ValueError("takes a name, a value, and perhaps `always`")
    if args[1]:
        how = "set" if args[0].lower() == "content-type" else "add"
        yield "added", OnResponse(how, _of_response(args[0]), args[1], ALL if len(args) == 3 else USUAL)


def _options(args: _Args, flags: str) -> tuple[list[str], str, set[str]]:
    """The fields of more_…, the condition of -s and -t, and the flags without a value."""
    fields: list[str] = []
    conditions: list[str] = []
    seen: set[str] = set()
    rest = iter(args)
    for arg in rest:
        if arg in ("-s", "-t"):
            conditions.append(_condition(arg, next(rest, "")))
        elif arg in ("-a", "-r") and arg[1] in flags:
            seen.add(arg[1])
        elif arg.startswith("-"):
            raise ValueError(f"has {shown(arg)}, which is no option of it")
        else:
            fields.append(arg)
    if not fields:
        raise ValueError("names no header")
    return fields, " && ".join(conditions), seen


def _condition(option: str, text: str) -> str:
    words = text.replace(",", " ").split()
    if option == "-s" and words and all(re.fullmatch(r"[1-5][0-9]{2}", word) for word in words):
        return f"response.code in [{', '.join(words)}]"
    if option == "-t" and words and all(re.fullmatch(r"[-\w.+]+/[-\w.+]+", word) for word in words):
        types = "|".join(word.replace(".", "[.]").replace("+", "[+]") for word in words)
        there = "'content-type' in response.headers"
        return f"{there} && response.headers['content-type'].matches('^({types})(;|$)')"
    raise ValueError(f"has {shown(f'{option} {text}')}, which is no list of {'statuses' if option == '-s' else 'types'}")


def _field(field: str) -> tuple[str, str]:
    name, colon, value = field.partition(":")
    return name.strip(), value.strip() if colon else ""


def _more_set_headers(args: _Args) -> _Items:
    fields, where, flags = _options(args, "ar")
    for name, value in map(_field, fields):
        if not value and where:
            raise ValueError("clears a header under a condition")
        how = "clear" if not value else "add" if "a" in flags else "replace" if "r" in flags else "set"
        yield "more", OnResponse(how, _of_response(name), value, where)


def _more_clear_headers(args: _Args) -> _Items:
    fields, where, _ = _options(args, "")
    if where:
        raise ValueError("clears a header under a condition")
    for name, _value in map(_field, fields):
        if name.lower() in ("server", "x-powered-by") or not OF_THE_SERVER.fullmatch(name.lower()):
            like = name.endswith("*") and len(name) > 1
            yield "more", OnResponse("clear like" if like else "clear", _of_clearing(name.removesuffix("*")))


def _of_clearing(name: str) -> str:
    if _name(name).lower() in FRAMING:
        raise ValueError(f"clears {name}, which says where a message ends, or is for one connection")
    if name.lower() == "host":
        raise ValueError(f"clears {name}, which is a header of requests")
    return name


def _input_headers(args: _Args, *, clear: bool) -> _Items:
    fields, where, flags = _options(args, "r")
    if where or flags:
        raise ValueError("has an option that no route knows")
    for name, value in map(_field, fields):
        lower = _name(name).lower()
        if lower in FRAMING or lower == "host":
            raise ValueError(f"sets {name}, which says where a message ends, or for whom it is")
        if not OF_THE_PROXY.fullmatch(lower):
            yield "request", OnRequest(name, "" if clear else value)


def _proxy_set_header(args: _Args) -> _Items:
    if len(args) != 2:
        raise ValueError("takes a name and a value")
    name, value = _name(args[0]), args[1]
    lower = name.lower()
    if lower in ("upgrade", "connection", "keep-alive", "proxy-connection", "te"):
        return
    if lower in FRAMING:
        raise ValueError(f"sets {name}, which says where a message ends")
    if lower == "host":
        if value in ("$host", "$http_host", "$best_http_host"):
            return
        if not re.fullmatch(r"[-\w.:\[\]${}]+", value, re.ASCII):
            raise ValueError(f"has {shown(value)}, which is no host")
    elif OF_THE_PROXY.fullmatch(lower):
        if value in _SAME.get(lower, ()) or not value:
            return
        raise ValueError(f"sets {name}, which the proxy sets itself, so that backends can believe it")
    yield "request", OnRequest(name, value)


def _proxy_hide_header(args: _Args) -> _Items:
    if len(args) != 1:
        raise ValueError("takes one name")
    yield "hidden", _of_clearing(args[0])


def _expires(args: _Args) -> _Items:
    if args and args[0] == "modified":
        raise ValueError("depends on when a file was modified")
    text = " ".join(args)
    if text == "off":
        yield "expiry", Expiry("")
    elif text == "epoch":
        yield "expiry", Expiry("no-cache", at=_EPOCH)
    elif text == "max":
        yield "expiry", Expiry("max-age=315360000", at=_MAX)
    elif found := _TIME.fullmatch(text):
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(found[2]))
        if seconds > _LONGEST_AGE:
            raise ValueError(f"has {shown(text)}, which is longer than ten years")
        yield "expiry", Expiry("no-cache", -seconds) if found[1] else Expiry(f"max-age={seconds}", seconds)
    else:
        raise ValueError(f"has {shown(text)}, which is no time such as 1h, -1, epoch, max or off")


def _default_type(args: _Args) -> _Items:
    if len(args) != 1 or not _TYPE.fullmatch(args[0]):
        raise ValueError(f"has {shown(' '.join(args))}, which is no type such as text/plain")
    yield "type", args[0]


_READERS: dict[str, Callable[[_Args], _Items]] = {
    "add_header": _add_header,
    "more_set_headers": _more_set_headers,
    "more_clear_headers": _more_clear_headers,
    "more_set_input_headers": lambda args: _input_headers(args, clear=False),
    "more_clear_input_headers": lambda args: _input_headers(args, clear=True),
    "proxy_set_header": _proxy_set_header,
    "grpc_set_header": _proxy_set_header,
    "proxy_hide_header": _proxy_hide_header,
    "expires": _expires,
    "default_type": _default_type,
}
