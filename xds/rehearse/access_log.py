"""Requests of people, read from an access log in the format of ingress-nginx (`log-format-upstream`), as it writes and escapes it. Pure.

The default line (*upstreaminfo*) has no host. It has the name of the upstream, `<namespace>-<service>-<port>`: the hosts whose rules lead
there are asked. A format of one's own with `$host` says which. Lines of clients decide nothing else: only GET and HEAD count, a target is
a path of visible ASCII, and a host must be one that our Ingresses have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import re2

from xds.explain.route_of import BadUrl, backend_of, names_under, parse_url
from xds.kube.objects import Backend, Ingress
from xds.model import Via
from xds.nginx.log_format import Escape
from xds.nginx.variables import VARIABLE
from xds.rehearse.derive import Scene, asked, name_under
from xds.rehearse.inquiries import Inquiry, Why, is_allowed

LONGEST_LINE = 16_384
"""Bytes of a line; ingress-nginx accepts URLs of 8 KiB."""
LONGEST_TARGET = 4_096
MOST_HOSTS = 4
"""Hosts that are asked for one line that names none."""
MOST_OF_RULE = 200
"""Different requests that one rule answers."""
MOST_DIFFERENT = 100_000
"""Different requests of which it is known that they have been read before."""
_VALUES = {Escape.DEFAULT: r'[^"]*?', Escape.JSON: r'(?:[^"\\]|\\.)*?', Escape.NONE: r".*?"}
"""What a value may be, so that a client cannot end it: nginx escapes quotation marks."""
_ESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})")
_ESCAPED_JSON = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/bfnrt]))')
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9](?:\.[0-9])?")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_TARGET = re.compile(r'/[!"$-~]*')
_LINE = re2.Options()
_LINE.never_nl = True
_LINE.dot_nl = True
_LINE.log_errors = False


class BadFormat(ValueError):
    """Why a format cannot be read: the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Logged:
    """What a line says of a request; "" for what it does not say. `upstream` is the value of $proxy_upstream_name."""

    method: str
    target: str
    host: str = ""
    scheme: str = ""
    upstream: str = ""


@dataclass
class Tally:
    """What has become of the lines of a log: their number, and how many were read as no line of this format, and not asked for a reason."""

    lines: int = 0
    unreadable: int = 0
    unasked: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        """Count a request that is not asked."""
        self.unasked[reason] = self.unasked.get(reason, 0) + 1


def reader(line: str, escape: Escape) -> Callable[[str], Logged | None]:
    """What reads the lines of a format; None for a line that is none of it. Raises BadFormat where it does not say what was asked for."""
    names: set[str] = set()

    def part(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name in names:
            return f"(?:{_VALUES[escape]})"
        names.add(name)
        return f"(?P<{name}>{_VALUES[escape]})" if name in _READ else f"(?:{_VALUES[escape]})"

    line = line.encode().decode("latin-1")  # as the lines of the log are
    variables = iter(VARIABLE.finditer(line))
    texts = VARIABLE.split(line)[:: VARIABLE.groups + 1]
    pattern = "".join(re2.escape(text) + (part(found) if (found := next(variables, None)) else "") for text in texts)
    if not ("request" in names or {"request_method"} < names & (_TARGETS | {"request_method"})):
        raise BadFormat("has neither $request nor $request_method and $request_uri, so requests cannot be read from it")
    try:
        compiled = re2.compile(pattern, _LINE)
    except re2.error:
        raise BadFormat("is too long to be read back") from None

    def read(text: str) -> Logged | None:
        found = compiled.fullmatch(text)
        return _logged({name: _unescaped(value or "", escape) for name, value in found.groupdict().items()}) if found else None

    return read


_TARGETS = {"request_uri"}
_HOSTS = ("host", "best_http_host", "http_host", "ssl_server_name")
_SCHEMES = ("scheme", "pass_access_scheme")
_READ = {"request", "request_method", "proxy_upstream_name", *_TARGETS, *_HOSTS, *_SCHEMES}


def _logged(values: Mapping[str, str]) -> Logged | None:
    request = _REQUEST.fullmatch(values.get("request", ""))
    method = request["method"] if request else values.get("request_method", "")
    target = request["target"] if request else values.get("request_uri", "")
    if not (method and target):
        return None
    host = next((_host(value) for name in _HOSTS if _host(value := values.get(name, ""))), "")
    scheme = next((value for name in _SCHEMES if (value := values.get(name, "")) in ("http", "https")), "")
    return Logged(method, target, host, scheme, values.get("proxy_upstream_name", ""))


def _host(value: str) -> str:
    """A Host without its port, in lower case; "" where there is none."""
    found = re.sub(r":[0-9]*$", "", value).lower().removesuffix(".")
    return "" if found in ("", "-", "_") else found


def _unescaped(value: str, escape: Escape) -> str:
    """A value as it was before it was escaped. Bytes above 126 are characters of Latin-1, so that none is lost."""
    if escape is Escape.DEFAULT:
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    if escape is Escape.JSON:
        return _ESCAPED_JSON.sub(lambda found: chr(int(found[1], 16)) if found[1] else _LETTERS.get(found[2], found[2]), value)
    return value


def logged(found: Scene, lines: Iterable[bytes], read: Callable[[str], Logged | None], tally: Tally) -> Iterator[Inquiry]:
    """The requests of a log, each once, and at most MOST_OF_RULE that one rule answers. `tally` counts along."""
    upstreams = _upstreams(found.ingresses)
    seen: set[int] = set()  # hashes: targets are long, and clients choose them
    of_rule: dict[tuple[object, str, str], int] = {}
    for line in lines:
        tally.lines += 1
        request = read(line.decode("latin-1").rstrip("\r\n")) if len(line) <= LONGEST_LINE else None
        if request is None:
            tally.unreadable += 1
            continue
        if hash(request) in seen:
            continue
        if len(seen) < MOST_DIFFERENT:
            seen.add(hash(request))
        if reason := _why_not(request):
            tally.leave_out(reason)
            continue
        inquiries = [*_inquiries(found, request, upstreams)]
        if not inquiries:
            tally.leave_out(_why_nothing(found, request, upstreams))
        for each in inquiries:
            rule = (each.origin, each.rule, each.served_by)
            of_rule[rule] = of_rule.get(rule, 0) + 1
            if of_rule[rule] <= MOST_OF_RULE:
                yield each
            else:
                tally.leave_out(f"more than {MOST_OF_RULE} different requests of one rule")


def _why_not(request: Logged) -> str:
    if request.method not in ("GET", "HEAD"):
        return "another method than GET and HEAD"
    if not _TARGET.fullmatch(request.target) or len(request.target) > LONGEST_TARGET:
        return f"no path of visible ASCII, or one of more than {LONGEST_TARGET} characters"
    return ""


def _why_nothing(found: Scene, request: Logged, upstreams: Mapping[str, Mapping[str, None]]) -> str:
    """Why no host is asked for a request that might be asked."""
    names = [request.host] if request.host else [name_under(found, host) for host in upstreams.get(request.upstream, {})]
    ours = [name for name in names if not request.host or _is_ours(found, name)]
    if ours and not any(is_allowed(name, found.allow) for name in ours):
        return "a host that --allow leaves out"
    if ours and request.scheme not in ("", *(via.value for via in found.vias)):
        return "another scheme than those of --from and --to"
    return "no Ingress of ours has the host, or leads to the Service"


def _is_ours(found: Scene, host: str) -> bool:
    return any(name in found.served for name in names_under(host))


def _upstreams(ingresses: Iterable[Ingress]) -> dict[str, dict[str, None]]:
    """The hosts whose rules lead to each upstream, by the name that ingress-nginx gives it."""
    made: dict[str, dict[str, None]] = {}
    for item in ingresses:
        for rule in item.rules:
            for path in rule.paths:
                made.setdefault(_upstream(item, path.backend), {})[rule.host.lower()] = None
    return made


def _upstream(item: Ingress, backend: Backend) -> str:
    return f"{item.meta.namespace}-{backend.service}-{backend.port}"


def _inquiries(found: Scene, request: Logged, upstreams: Mapping[str, Mapping[str, None]]) -> Iterator[Inquiry]:
    """For the host of the line, else for those that lead to its upstream; by the scheme of the line, else by all."""
    hosts = [request.host] if request.host else _hosts(found, request, upstreams)
    for host in hosts:
        for via in found.vias:
            if request.scheme in ("", via.value) and (made := _asked(found, request, host, via)):
                yield made


def _hosts(found: Scene, request: Logged, upstreams: Mapping[str, Mapping[str, None]]) -> Sequence[str]:
    """Those of the hosts where the path is one that leads to the upstream of the line, some of them."""
    hosts: list[str] = []
    for host in upstreams.get(request.upstream, {}):
        name = name_under(found, host)
        if host and host not in found.served:
            continue
        made = _asked(found, request, name, found.vias[0])
        if made and _leads_to(found, made, request.upstream):
            hosts.append(name)
        if len(hosts) == MOST_HOSTS:
            break
    return hosts


def _leads_to(found: Scene, made: Inquiry, upstream: str) -> bool:
    item = found.read(tuple(made.origin)) if made.origin else None
    backend = backend_of(item, made.rule) if isinstance(item, Ingress) else None
    return item is not None and backend is not None and _upstream(item, backend) == upstream


def _asked(found: Scene, request: Logged, host: str, via: Via) -> Inquiry | None:
    if not _HOST.fullmatch(host):
        return None
    try:
        made = parse_url(f"{via.value}://{host}{request.target}", request.method)
    except BadUrl:
        return None
    is_ours = not request.host or _is_ours(found, made.host)
    return asked(found, made, request.target, Why.LOG) if is_ours and is_allowed(made.host, found.allow) else None
