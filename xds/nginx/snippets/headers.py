"""Header directives of a snippet, and what becomes of them: mutations of Envoy's filter for responses, additions of a route for requests.

nginx works through them in this order: what the backend's response hides, more_set_headers and more_clear_headers, expires, add_header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRemoveOnMatch as RemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.model import Forward, Route
from xds.nginx.messages import action_of, formatted
from xds.nginx.variables import as_format, as_format_where, may_be_empty, names_in, only_text, quoted

USUAL = "response.code in [200, 201, 204, 206, 301, 302, 303, 304, 307, 308]"
"""The statuses for which add_header and expires have an effect (ngx_http_headers_filter_module)."""
ALL = ""
_ADD = HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD
_SET = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_REPLACE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS
_SIZE_OF_EXPIRY, _SIZE_OF_VARIABLE = 5_000, 200
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FRAMING = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings")
)
"""Headers that say where a message ends, or that are for one connection."""
OF_THE_PROXY = re.compile(
    r"x-real-ip|x-request-id|x-scheme|x-forwarded-.*|x-original-.*|x-envoy-.*|x-accel-.*|x-pad|x-passages-.*|ssl-client-.*|:.*|forwarded|proxy"
)
"""Headers of requests that the proxy sets or removes itself, so that backends can believe them."""
OF_THE_SERVER = re.compile(r"server|date|x-envoy-.*|:.*")
"""Headers of responses that Envoy writes after all filters."""


@dataclass(frozen=True, slots=True)
class OnResponse:
    """One change of a response: `how` is add, set, replace, clear or clear like. `where` is a condition of CEL, or `ALL`."""

    how: str
    name: str
    value: str = ""
    where: str = ALL


@dataclass(frozen=True, slots=True)
class OnRequest:
    """A header that the backend gets with this value; without a value it gets none of that name."""

    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What `expires` says: the value of Cache-Control ("" for `off`), and a date: `at`, or so many seconds from now, or none."""

    cached: str
    seconds: int | None = None
    at: str = ""


@dataclass(frozen=True, slots=True)
class Headers:
    """What one block of nginx's configuration says about headers. The values may hold variables."""

    hidden: tuple[str, ...] = ()
    more: tuple[OnResponse, ...] = ()
    expiry: Expiry | None = None
    added: tuple[OnResponse, ...] = ()
    request: tuple[OnRequest, ...] = ()

    def within(self, outer: Headers) -> Headers:
        """What holds in a block within another one: add_header is inherited whole or not at all, more_set_headers line by line."""
        return Headers(
            (*outer.hidden, *self.hidden),
            (*outer.more, *self.more),
            self.expiry or outer.expiry,
            self.added or outer.added,
            (*outer.request, *self.request),
        )

    @property
    def size(self) -> int:
        """Bytes of what each route repeats, rather too many: a condition stands before each piece of a value, and characters by number."""
        changes = (len(each.name) + size_of(each.value, each.where) for each in (*self.more, *self.added))
        request = (len(each.name) + size_of(each.value) for each in self.request)
        return sum(map(len, self.hidden)) + sum(changes) + sum(request) + (_SIZE_OF_EXPIRY if self.expiry else 0)


def size_of(value: str, where: str = ALL) -> int:
    """Bytes of a text with variables as Envoy's format, under a condition, rather too many."""
    most = 4 * len(value.encode()) + _SIZE_OF_VARIABLE * len(names_in(value))
    return most + (2 * len(names_in(value)) + 1) * (len(where) + 20) if where else most


NO_HEADERS = Headers()


def on_response(headers: Headers, route: Route) -> list[Mutation]:
    """The mutations of a response, in the order in which nginx makes them."""
    made = [Mutation(remove=name) for name in headers.hidden]
    for each in headers.more:
        made += _changed(each, route)
    if headers.expiry and headers.expiry.cached:
        made += _expiry(headers.expiry)
    for each in headers.added:
        made += _changed(each, route)
    return made


def _changed(change: OnResponse, route: Route) -> Iterator[Mutation]:
    if change.how == "clear":
        yield Mutation(remove=change.name)
    elif change.how == "clear like":
        yield Mutation(remove_on_match=RemoveOnMatch(key_matcher=StringMatcher(prefix=change.name.lower())))
    else:
        if change.how == "set" and not change.where and may_be_empty(change.name, change.value):
            yield Mutation(remove=change.name)
        action = {"add": _ADD, "set": _SET, "replace": _REPLACE}[change.how]
        yield Mutation(append=_option(change.name, value_of(change, route), action))


def value_of(change: OnResponse, route: Route) -> str:
    """The format of a header's value. Raises ValueError for a variable that cannot depend on the response."""
    return as_format_where(change.value, route, change.where) if change.where else as_format(change.value, route, of_response=True)


def _option(name: str, value: str, action: HeaderValueOptionHeaderAppendAction) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=action)


def _expiry(expiry: Expiry) -> Iterator[Mutation]:
    date = _text(expiry.at) if expiry.at else "" if expiry.seconds is None else _date(expiry.seconds)
    if date:
        yield Mutation(append=_option("Expires", date, _SET))
    yield Mutation(append=_option("Cache-Control", _text(expiry.cached), _SET))


def _date(seconds: int) -> str:
    """The time of a request and some seconds, as HTTP writes dates; CEL has no function for it."""
    time = f"(request.time + duration('{seconds}s'))"

    def one_of(words: Iterable[str], number: str) -> str:
        return _usual("[{}][{}]".format(", ".join(f"'{word}'" for word in words), number))

    def two_digits(number: str) -> str:
        return _usual(f"{number} < 10 ? '0' : ''") + _usual(number)

    day, year = f"{time}.getDate()", f"{time}.getFullYear()"
    clock = _text(":").join(two_digits(f"{time}.{part}()") for part in ("getHours", "getMinutes", "getSeconds"))
    date = f"{two_digits(day)}{_text(' ')}{one_of(_MONTHS, f'{time}.getMonth()')}{_text(' ')}{_usual(year)}"
    return f"{one_of(_DAYS, f'{time}.getDayOfWeek()')}{_text(', ')}{date}{_text(' ')}{clock}{_text(' GMT')}"


def _usual(expression: str) -> str:
    return f"%CEL(({USUAL}) ? ({expression}) : '')%"


def _text(text: str) -> str:
    return _usual(f"'{quoted(text)}'")


def on_request(headers: Headers, route: Route, envoy: EnvoyRoute) -> None:
    """What the backend gets. The last line about a name holds; one without a value, or whose variables are empty, removes it."""
    assert isinstance(route.action, Forward)
    for each in {each.name.lower(): each for each in headers.request}.values():
        if each.name.lower() == "host":
            _put_host(each.value, route, envoy)
            continue
        if not each.value or may_be_empty(each.name, each.value):
            envoy.request_headers_to_remove.append(each.name)
        if each.value:
            envoy.request_headers_to_add.append(formatted(each.name, as_format(each.value, route)))


def _put_host(value: str, route: Route, envoy: EnvoyRoute) -> None:
    action = action_of(envoy)
    action.host_rewrite_literal = action.host_rewrite = None
    if only_text(value):
        action.host_rewrite_literal = value
    else:
        action.host_rewrite = as_format(value, route)
