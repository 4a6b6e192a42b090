"""From the directives of a snippet to the ways that a request can go through them.

nginx runs `set`, `if`, `return`, `rewrite` and `break` in their order. Then it answers with the headers of the block that it ended in: that
of the last `if` that held, else the snippet's own. So a snippet is a tree: each condition has a branch for requests that have what it
asks for, and one for the others. Each leaf is a Way; the ways are tried in order, and the first whose tests all hold is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from xds.model import LARGEST_BODY, HeaderMatch
from xds.nginx.messages import CACHED
from xds.nginx.snippets import access, backend_tls
from xds.nginx.snippets.access import AccessRule
from xds.nginx.snippets.backend_tls import TowardsBackends
from xds.nginx.snippets.conditions import Condition, Groups, as_sent, condition
from xds.nginx.snippets.directives import ROWS, UNKNOWN, Block, Outcome
from xds.nginx.snippets.headers import NO_HEADERS, Headers, size_of
from xds.nginx.snippets.lines import HeaderLine, fault, header_lines, headers_of
from xds.nginx.snippets.syntax import Directive, parse
from xds.nginx.values import LONGEST_IN_ROUTE, shown
from xds.nginx.variables import CAPTURE, DEAREST, MOST, OF_ANSWER, as_references, header_of_answer, names_in, only_text, unknown
from xds.patterns import regex

MOST_WAYS = 16
"""Ways through one snippet: each is a route more on each path."""
_SIZE_OF_ROUTE, _SIZE_OF_RULE = 200, 60
_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_OF_SERVICE = re.compile(r"\$(?:\{upstream_http_([a-z0-9_]+)\}|upstream_http_([a-z0-9_]+))", re.ASCII | re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)
_ABSOLUTE = ("http://", "https://", "$scheme")


@dataclass(frozen=True, slots=True)
class Answer:
    """The request ends here. `body` may hold variables; `type` is its Content-Type."""

    status: int
    body: str = ""
    type: str = "text/html"


@dataclass(frozen=True, slots=True)
class MovedTo:
    """The request ends with a Location: a text that may hold variables, and captures such as $1.

    These are groups of a `pattern` for the whole path, or for all of the variable that `of` names. `joins`: the location has arguments, and
    those of the request follow.
    """

    status: int
    location: str
    pattern: str = ""
    of: str = ""
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The backend gets another path: what replaces a pattern for the whole path, with groups as RE2 writes them."""

    pattern: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way through a snippet: what a request must have to go it, where it ends (None: at the backend), and what changes on it."""

    tests: tuple[HeaderMatch, ...] = ()
    end: Answer | MovedTo | None = None
    rewritten: Rewritten | None = None
    headers: Headers = NO_HEADERS

    @property
    def size(self) -> int:
        """Bytes of what each path of an Ingress repeats of it, rather too many."""
        rewritten = len(self.rewritten.pattern) + len(self.rewritten.replacement) if self.rewritten else 0
        return _SIZE_OF_ROUTE + self.headers.size + sum(len(test.value) for test in self.tests) + rewritten + self._size_of_end

    @property
    def _size_of_end(self) -> int:
        if isinstance(self.end, MovedTo):
            return size_of(self.end.location) + 4 * len(self.end.pattern) * (len(CAPTURE.findall(self.end.location)) + 1)
        return size_of(self.end.body) if self.end else 0

    @property
    def patterns(self) -> tuple[str, ...]:
        """The regular expressions that Envoy compiles for it, but for those of its tests."""
        moved = (self.end.pattern,) if isinstance(self.end, MovedTo) and self.end.pattern else ()
        return (*moved, *((self.rewritten.pattern,) if self.rewritten else ()))


@dataclass(frozen=True, slots=True)
class Untranslated:
    """A directive without effect: its line and name, and why, as a sentence. `closes`: nginx would have kept somebody out by it."""

    line: int
    name: str
    sentence: str
    closes: bool = False


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """A location of a server: its modifier ("", "=", "^~", "~", "~*"), its path or pattern, and what is in it."""

    modifier: str
    path: str
    program: Program
    line: int


@dataclass(frozen=True, slots=True)
class Program:
    """What a snippet comes to. `remarks` are names of directives that work with a difference, or have no effect."""

    ways: tuple[Way, ...] = (Way(),)
    rules: tuple[AccessRule, ...] = ()
    places: tuple[ServerLocation, ...] = ()
    faults: tuple[Untranslated, ...] = ()
    remarks: tuple[str, ...] = ()
    tls: tuple[tuple[str, TowardsBackends], ...] = ()
    """What is said of TLS to backends, each with the beginning of its directives: `proxy` for HTTP, `grpc` for gRPC."""
    satisfies_any: bool = False
    """Whether one access rule is enough."""
    of_all: bool = False
    """Whether it is that of the ConfigMap alone."""
    source: tuple[Directive, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        """What the manual shows of a default, which is no snippet."""
        return "" if self == Program() else repr(self)

    @property
    def closed(self) -> Untranslated | None:
        """The directive because of which the snippet's paths are closed."""
        return next((fault for fault in self.faults if fault.closes), None)

    @property
    def refuses(self) -> bool:
        """Whether some requests are answered with an error in place of the backend."""
        return any(isinstance(way.end, Answer) and way.end.status >= 400 for way in self.ways)

    @property
    def of_answer(self) -> tuple[str, ...]:
        """The headers, in lower case, of an authentication service's answer that it makes use of."""
        values = [each.value for way in self.ways for each in (*way.headers.more, *way.headers.added)]
        values += [each.value for way in self.ways for each in way.headers.request]
        return tuple(sorted({header_of_answer(name) for value in values for name in names_in(value) if name.startswith(OF_ANSWER)}))

    @property
    def size(self) -> int:
        """The characters that each path of an Ingress repeats."""
        return sum(way.size for way in self.ways) + _SIZE_OF_RULE * len(self.rules)


@lru_cache(maxsize=CACHED)
def program(text: str, block: Block) -> Program:
    """The program of a snippet. Raises ValueError with the rest of the sentence "<annotation> …" where nginx could not read it."""
    return _Translation(block).program(parse(text))


def both(first: Program, second: Program, block: Block) -> Program:
    """The program of one snippet behind another one, as nginx reads them in one block."""
    return _both(first.source, second.source, block)


@lru_cache(maxsize=CACHED)
def _both(first: tuple[Directive, ...], second: tuple[Directive, ...], block: Block) -> Program:
    return _Translation(block).program((*first, *second))


@dataclass(frozen=True, slots=True)
class _State:
    """Where a request is: the values of variables, the tests that it passed, the header lines of the `if` that it is in, its new path.

    `unknown` are the variables that nginx would have set by a step which is refused: they may have another value than the last one.
    `groups` are those of what an `if` has found, until something else is searched.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    tests: tuple[HeaderMatch, ...] = ()
    lines: tuple[HeaderLine, ...] = ()
    rewritten: Rewritten | None = None
    groups: Groups | None = None

    def filled(self, text: str) -> str:
        """A text with the values of the variables that the snippet has set. Raises ValueError."""
        if own := next((name for name in names_in(text) if name.startswith(OF_ANSWER)), ""):
            raise ValueError(f"has ${own[:40]}, which is no variable of nginx")
        if lost := next((name for name in names_in(text) if name in self.unknown), ""):
            raise ValueError(f"depends on ${lost[:40]}, which a step before it would have set, and that is refused")
        made = _NAME.sub(lambda found: self.values.get(found[1] or found[2], found[0]), text)
        if len(made) > LONGEST_IN_ROUTE:
            raise ValueError(f"comes to {len(made):,} characters, more than {LONGEST_IN_ROUTE:,}")
        return made


@dataclass(frozen=True, slots=True)
class _Stop:
    """No further step; where the request ends, or how it goes on."""

    end: Answer | MovedTo | None = None


@dataclass(frozen=True, slots=True)
class _Branch:
    """Some requests go on otherwise: into the block of an `if`, or with what a `rewrite` makes of them (`then`)."""

    condition: Condition
    then: _Stop | None = None
    rewritten: Rewritten | None = None


_Step = _State | _Stop | _Branch


@dataclass(slots=True)
class _Translation:
    """One snippet on its way to a Program: what has been refused, and what works with a difference."""

    block: Block
    lines: tuple[HeaderLine, ...] = ()
    answers: tuple[Directive, ...] = ()
    faults: dict[Directive, Untranslated] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    never: set[Directive] = field(default_factory=set)
    """Directives that are refused wherever a request is."""
    by_path: int = 0

    def program(self, directives: Sequence[Directive]) -> Program:
        """All of it."""
        self.by_path = sum(map(_by_path, directives))
        taken = self._taken(directives, self.block)
        self.lines = tuple(self._header_lines(taken))
        self.answers = tuple(_of_kind(taken, Outcome.ANSWER))
        rules, satisfies_any = tuple(self._rules(taken)), self._satisfies_any(taken)
        ways = self._ways(self._steps(directives))
        places = tuple(self._places(taken))
        tls = self._tls(taken)
        faults, remarks = tuple(self.faults.values()), tuple(self.remarks)
        return Program(ways, rules, places, faults, remarks, tls, satisfies_any, source=tuple(directives))

    def _refuse(self, directive: Directive, sentence: str, *, closes: bool = False) -> None:
        if directive not in self.faults:
            self.faults[directive] = Untranslated(directive.line, directive.name[:40], sentence, closes or _protects(directive))

    def _taken(self, directives: Sequence[Directive], block: Block) -> list[Directive]:
        """The directives of a block that are translated."""
        taken = []
        for each in directives:
            if self._may(each, block):
                taken.append(each)
            elif each in self.faults:
                self.never.add(each)
        return taken

    def _steps(self, directives: Sequence[Directive]) -> list[Directive]:
        """The steps of a block in their order, and with them what is refused, and would set a variable in nginx."""
        return [each for each in directives if (_sets(each) if each in self.never else each.name in _STEPS)]

    def _may(self, directive: Directive, block: Block) -> bool:
        row = ROWS.get(directive.name, UNKNOWN)
        if block in row.idle:
            self.remarks[directive.name] = None
        elif row.kind in (Outcome.REFUSED, Outcome.CLOSES):
            self._refuse(directive, row.remark, closes=row.kind is Outcome.CLOSES)
        elif directive.name == "location" and block is Block.LOCATION:
            self._refuse(directive, "a location within a path is not translated; use the annotation server-snippet")
        elif block not in row.blocks:
            self._refuse(directive, row.elsewhere or f"nginx does not take it in a block of `{block.value}`")
        elif (directive.block is not None) is not (directive.name in ("if", "location")):
            self._refuse(directive, 'nginx wants ";" after it' if directive.block is not None else "nginx wants a block after it")
        else:
            if row.differs:
                self.remarks[directive.name] = None
            return row.kind is not Outcome.IDLE
        return False

    def _header_lines(self, directives: Sequence[Directive]) -> Iterator[HeaderLine]:
        for each in _of_kind(directives, Outcome.HEADERS):
            try:
                yield from tuple(header_lines(each))
            except ValueError as error:
                self._refuse(each, str(error))

    def _rules(self, directives: Sequence[Directive]) -> Iterator[AccessRule]:
        made: list[AccessRule] = []
        for each in (each for each in _of_kind(directives, Outcome.ACCESS) if each.name != "satisfy"):
            try:
                made.append(access.rule(each.name, each.args))
                if why := access.fault(made):
                    raise ValueError(why)
            except ValueError as error:
                self._refuse(each, str(error), closes=True)
        yield from made

    def _satisfies_any(self, directives: Sequence[Directive]) -> bool:
        found: list[bool] = []
        for each in (each for each in _of_kind(directives, Outcome.ACCESS) if each.name == "satisfy"):
            try:
                found.append(access.satisfy(each.args))
                if len(found) > 1:
                    raise ValueError("is there twice, which nginx does not take; each rule must let a client in")
            except ValueError as error:
                self._refuse(each, str(error))
        return found == [True]

    def _tls(self, directives: Sequence[Directive]) -> tuple[tuple[str, TowardsBackends], ...]:
        found: dict[str, TowardsBackends] = {}
        for each in _of_kind(directives, Outcome.BACKEND):
            kind, _, what = each.name.partition("_ssl_")
            try:
                found[kind] = backend_tls.with_directive(what, each.args, found.get(kind, TowardsBackends()))
            except ValueError as error:
                self._refuse(each, str(error))
        return tuple(sorted(found.items()))

    def _places(self, directives: Sequence[Directive]) -> Iterator[ServerLocation]:
        for each in _of_kind(directives, Outcome.PLACE):
            try:
                modifier, path = _where(each.args)
            except ValueError as error:
                self._refuse(each, str(error))
                continue
            inside = _Translation(Block.LOCATION)
            inner = inside.program(each.block or ())
            self.remarks |= dict.fromkeys(inner.remarks)
            self.faults |= {directive: replace(fault, closes=False) for directive, fault in inside.faults.items()}
            yield ServerLocation(modifier, path, inner, each.line)

    def _ways(self, flow: Sequence[Directive]) -> tuple[Way, ...]:
        """The ways in order. Where they are too many, nothing that chooses one has an effect."""
        ways: list[Way] = []
        unanswered = frozenset[str]().union(*map(_sets, self.answers))
        for way in self._run(flow, _State(values=dict.fromkeys(unanswered, "")), ()):
            ways.append(way)
            if len(ways) > MOST_WAYS:
                for each in flow:
                    self._refuse(each, f"there are more than {MOST_WAYS} ways through the snippet")
                return (self._end(_State()),)
        return tuple(ways)

    def _run(self, flow: Sequence[Directive], state: _State, after: Sequence[Directive]) -> Iterator[Way]:
        """The ways through the rest of a block, and through what follows the block."""
        for number, each in enumerate(flow):
            try:
                if each in self.never:
                    raise ValueError("is refused")
                step = _STEPS[each.name](each.args, state)
                if isinstance(step, _Branch) and step.rewritten and each.args[-1] not in _FINAL[self.block]:
                    step = self._taken_again(step)
            except ValueError as error:
                self._refuse(each, str(error))
                state = replace(state, unknown=state.unknown | _sets(each), groups=None)
                continue
            if isinstance(step, _State):
                state = step
            elif isinstance(step, _Stop):
                yield self._end(state, step.end)
                return
            else:
                yield from self._branches(each, step, state, flow[number + 1 :], after)
                return
        if after:
            yield from self._run(after, state, ())
        else:
            yield self._end(state)

    def _taken_again(self, step: _Branch) -> _Branch:
        """A rewrite after which nginx takes all steps anew: those that follow it hold, whether it says `last` or not."""
        if self.by_path > 1:
            raise ValueError("would have the other steps about the path taken again, with the new path; write `break` after it")
        return replace(step, then=None)

    def _branches(
        self, directive: Directive, step: _Branch, state: _State, rest: Sequence[Directive], after: Sequence[Directive]
    ) -> Iterator[Way]:
        """First the ways of requests that have what is asked for, then those of all others."""
        match, holds = step.condition.match, step.condition.holds
        inside = outside = state
        if step.condition.searches:
            inside, outside = replace(state, groups=step.condition.groups), replace(state, groups=None)
        if match is not None:
            tests = (*state.tests, match)
            if holds:
                yield from self._inside(directive, step, replace(inside, tests=tests), rest, after)
            else:
                yield from self._run(rest, replace(outside, tests=tests), after)
        if (match is None and holds) or (match is not None and not holds):
            yield from self._inside(directive, step, inside, rest, after)
        else:
            yield from self._run(rest, outside, after)

    def _inside(
        self, directive: Directive, step: _Branch, state: _State, rest: Sequence[Directive], after: Sequence[Directive]
    ) -> Iterator[Way]:
        if directive.block is None:
            state = replace(state, rewritten=step.rewritten or state.rewritten)
            yield from [self._end(state, step.then.end)] if step.then else self._run(rest, state, after)
            return
        body = self._taken(directive.block, Block.IF)
        entered = replace(state, lines=tuple(self._header_lines(body)))
        yield from self._run(self._steps(directive.block), entered, [*rest, *after])

    def _end(self, state: _State, end: Answer | MovedTo | None = None) -> Way:
        state = state if end else self._answered(state)
        outer, type_ = headers_of(self._filled(self.lines, state))
        inner, inner_type = headers_of(self._filled(state.lines, state))
        if isinstance(end, Answer) and (inner_type or type_):
            end = replace(end, type=inner_type or type_)
        return Way(state.tests, end, None if end else state.rewritten, inner.within(outer))

    def _answered(self, state: _State) -> _State:
        """The variables once an authentication service has answered, which nginx asks after all steps (ngx_http_auth_request_module)."""
        for each in self.answers:
            try:
                state = _auth_request_set(each.args, state)
            except ValueError as error:
                self._refuse(each, str(error))
                state = replace(state, unknown=state.unknown | _sets(each))
        return state

    def _filled(self, lines: Sequence[HeaderLine], state: _State) -> Iterator[HeaderLine]:
        for line in lines:
            try:
                filled = line.filled(state.filled)
                if state.rewritten and (name := filled.of_the_path):
                    raise ValueError(f"has ${name}, which Envoy does not know there once the path is rewritten")
                if not filled.passes_cookies_on:
                    yield filled
            except ValueError as error:
                kept = line.without_value
                self._refuse(line.directive, f"{error}, so that backends get no header of that name" if kept else str(error))
                if kept:
                    yield kept


def _of_kind(directives: Sequence[Directive], kind: Outcome) -> list[Directive]:
    return [each for each in directives if ROWS.get(each.name, UNKNOWN).kind is kind]


def _protects(directive: Directive) -> bool:
    """Whether nginx keeps requests from the backend by a directive, or one within it; a redirect does not count."""
    if ROWS.get(directive.name, UNKNOWN).kind is Outcome.CLOSES or directive.name == "deny":
        return True
    if directive.name == "return":
        return not (directive.args and (directive.args[0].startswith(_ABSOLUTE) or directive.args[0] in map(str, _REDIRECTS)))
    return any(map(_protects, directive.block or ()))


def _sets(directive: Directive) -> frozenset[str]:
    """The names of the variables that a directive may set, or one within it."""
    found = _NAME.fullmatch(directive.args[0]) if directive.args else None
    own = frozenset({found[1] or found[2]}) if found and directive.name not in ("return", "if") else frozenset()
    return own.union(*map(_sets, directive.block or ()))


def _by_path(directive: Directive) -> int:
    """How many steps of a directive ask about the path, which `rewrite` changes."""
    asks = directive.name == "rewrite" or (
        directive.name == "if" and any("uri" in arg and "request_uri" not in arg for arg in directive.args)
    )
    return asks + sum(map(_by_path, directive.block or ()))


def _where(args: Sequence[str]) -> tuple[str, str]:
    """The modifier and the path of a location, which may be one word (`=/path`)."""
    words = list(args)
    if len(words) == 1:
        found = re.fullmatch(r"(=|\^~|~\*|~)?(.*)", words[0], re.DOTALL)
        assert found
        words = [found[1] or "", found[2]]
    if len(words) != 2 or words[0] not in ("", "=", "^~", "~", "~*"):
        raise ValueError("has a path that nginx does not know")
    modifier, path = words
    if modifier in ("~", "~*"):
        if why := regex.fault(path):
            raise ValueError(f"has the path {shown(path)}, which {why}")
    elif not re.fullmatch(r"/[^\x00-\x20\x7f?#\\]*", path) or len(path) > LONGEST_IN_ROUTE:
        raise ValueError(f"has the path {shown(path)}, which no request has")
    return modifier, path


def _set(args: Sequence[str], state: _State) -> _State:
    if len(args) != 2 or not (found := _NAME.fullmatch(args[0])):
        raise ValueError("takes a variable and a value")
    name, value = found[1] or found[2], state.filled(args[1])
    if not unknown(f"${name}", of_response=True):
        raise ValueError(f"sets ${name}, which is nginx's own")
    if CAPTURE.search(value):
        raise ValueError("takes a capture of a regular expression")
    return replace(state, values={**state.values, name: value}, unknown=state.unknown - {name})


def _auth_request_set(args: Sequence[str], state: _State) -> _State:
    """A variable made of what the service answers; of an `$upstream_http_*` in it, nginx means the service's response there."""
    if len(args) != 2 or not (found := _NAME.fullmatch(args[0])):
        raise ValueError("takes a variable and a value")
    name = found[1] or found[2]
    if not unknown(f"${name}", of_response=True):
        raise ValueError(f"sets ${name}, which is nginx's own")
    value = _OF_SERVICE.sub(lambda of: f"${{{OF_ANSWER}{(of[1] or of[2]).lower()}}}", state.filled(args[1]))
    if why := fault(value, of_response=False):
        raise ValueError(why)
    return replace(state, values={**state.values, name: value}, unknown=state.unknown - {name})


def _if(args: Sequence[str], state: _State) -> _Branch:
    found = condition(args, state.filled)
    if found.match and state.rewritten and found.match.name == ":path":
        raise ValueError("asks about a path that was rewritten before")
    return _Branch(found)


def _return(args: Sequence[str], state: _State) -> _Stop:
    if len(args) == 1 and args[0].startswith(_ABSOLUTE):
        args = ("302", args[0])
    if len(args) not in (1, 2) or not re.fullmatch(r"[0-9]{3}", args[0]):
        raise ValueError("takes a status, and perhaps a text or an address")
    status, text = int(args[0]), state.filled(args[1]) if len(args) == 2 else ""
    moves = status in _REDIRECTS and bool(text)
    if moves and state.groups and CAPTURE.search(text):
        return _Stop(_found(status, text, state.groups))
    if why := fault(text if moves else text.replace("\n", "").replace("\r", ""), of_response=False):  # a body may have lines
        raise ValueError(why)
    if status == 444:
        return _Stop(Answer(403))
    if not 200 <= status <= 599:
        raise ValueError(f"has the status {status}, which Envoy cannot answer with")
    if moves:
        return _Stop(MovedTo(status, _absolute(text)))
    if len(text.encode()) > LARGEST_BODY:
        raise ValueError(f"has a text of more than {LARGEST_BODY:,} bytes")
    return _Stop(Answer(status, text))


def _found(status: int, text: str, groups: Groups) -> MovedTo:
    """A redirect to what a pattern has found; nginx' `$host` is in lower case, and that of a request in any."""
    _affordable(text, groups.pattern)
    case = "i" if groups.any_case or groups.variable == "host" else ""
    return MovedTo(status, _absolute(text), f"(?{case}s)^.*?(?:{groups.pattern}).*$", groups.variable)


def _affordable(text: str, pattern: str) -> None:
    """Raises ValueError with the end of a sentence for an address whose captures Envoy cannot search for in each request."""
    captures = len(CAPTURE.findall(text))
    if captures > MOST:
        raise ValueError(f"has {captures} captures in an address, more than {MOST}")
    if captures and regex.cost(_whole(pattern)) > DEAREST:
        raise ValueError(f"looks for {shown(pattern)}, which is too large to be searched for in each request")
    if why := fault(CAPTURE.sub("/", text), of_response=False):  # what is around a capture is no variable together
        raise ValueError(why)


def _absolute(location: str) -> str:
    """A Location with scheme and host, as nginx writes it (absolute_redirect)."""
    return f"$scheme://$host{location}" if location.startswith(("/", "$request_uri", "$uri", "${request_uri}", "${uri}")) else location


def _break(args: Sequence[str], _state: _State) -> _Stop:
    if args:
        raise ValueError("takes no arguments")
    return _Stop()


def _rewrite(args: Sequence[str], state: _State) -> _Branch:
    if len(args) not in (2, 3) or (len(args) == 3 and args[2] not in ("last", "break", "redirect", "permanent")):
        raise ValueError("takes a regular expression, what replaces the path, and perhaps last, break, redirect or permanent")
    if state.rewritten:
        raise ValueError("follows another rewrite of the same path")
    found, text, flag = args[0], state.filled(args[1]), args[2] if len(args) == 3 else ""
    if why := regex.fault(found) or regex.fault(_whole(found)):
        raise ValueError(f"looks for {shown(found)}, which {why}")
    asked = Condition(HeaderMatch(":path", as_sent(found), regex=True), searches=True)
    if flag in ("redirect", "permanent") or text.startswith(_ABSOLUTE):
        return _Branch(asked, _Stop(_moved(301 if flag == "permanent" else 302, found, text)))
    stops = _Stop() if flag in ("last", "break") else None
    return _Branch(asked, stops, Rewritten(_whole(found), _replacement(found, text)))


def _whole(pattern: str) -> str:
    """What finds a pattern anywhere, and takes in the whole path. Unlike Ingress paths it heeds the case."""
    return f"(?s)^.*?(?:{pattern}).*$"


def _replacement(pattern: str, text: str) -> str:
    plain = CAPTURE.sub("", text)
    if not only_text(plain) or "$" in plain:
        raise ValueError(f"has {shown(text)}, and only captures such as $1 can stand in the path for a backend")
    if "?" in text or not re.fullmatch(r"[!-~]*", plain):
        raise ValueError(f"has {shown(text)}, and there can be no query, and no spaces, in the path for a backend")
    groups = regex.groups(pattern)
    made = as_references(_literal(text), groups)
    return made if made.startswith(("/", "\\")) else f"/{made}"


def _literal(text: str) -> str:
    """A text in which RE2 sees no group."""
    return text.replace("\\", "\\\\")


def _moved(status: int, pattern: str, text: str) -> MovedTo:
    """A redirect by `rewrite`: the arguments of the request are kept, unless what replaces the path ends with "?"."""
    has_arguments, ends = "?" in text[:-1], text.endswith("?")
    location = text.removesuffix("?") if ends or has_arguments else f"{text}$is_args$args"
    _affordable(location, pattern)
    absolute = location if location.startswith(_ABSOLUTE) else f"$scheme://$host{'' if location.startswith(('/', '$')) else '/'}{location}"
    return MovedTo(status, absolute, _whole(pattern) if CAPTURE.search(location) else "", joins=has_arguments and not ends)


_FINAL: Mapping[Block, tuple[str, ...]] = {Block.SERVER: ("break", "last"), Block.LOCATION: ("break",)}
"""Flags of `rewrite` after which no step of the block is taken again. Those of a server are taken once, before nginx looks for a location.

Source: ngx_http_core_module, NGX_HTTP_SERVER_REWRITE_PHASE and NGX_HTTP_FIND_CONFIG_PHASE.
"""
_STEPS: Mapping[str, Callable[[Sequence[str], _State], _Step]] = {
    "set": _set,
    "if": _if,
    "return": _return,
    "break": _break,
    "rewrite": _rewrite,
}
