"""From exchanges to the document of a rehearsal: differences grouped by cause. Pure.

The cause is what `xds explain` knows of the request: the Ingress, its rule and annotations. To it belong their Problems, and the known
difference that covers it. docs/schemas/rehearse.schema.json describes the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from xds.json_forms import Json, object_json, place_json, problem_json
from xds.kube.objects import Ingress
from xds.kube.world import Reader
from xds.model import Via
from xds.problem import Problem, Ref, Severity
from xds.rehearse.access_log import Tally
from xds.rehearse.comparing import Difference, Seen, steady
from xds.rehearse.inquiries import Inquiry
from xds.rehearse.known import Difficult, KnownDifference, known

VERSION = 1
"""Of the JSON form."""
MOST_EXAMPLES = 3
_LONGEST = 300
"""Characters of a value that are shown."""
SUSPECTS = (
    ("header access-control-*", ("enable-cors", "cors-*")),
    ("header strict-transport-security", ("hsts*", "ssl-redirect", "*-snippet")),
    ("header set-cookie", ("affinity*", "session-cookie-*", "proxy-cookie-*", "auth-*cookie*")),
    ("header www-authenticate", ("auth-*",)),
    ("header content-encoding", ("use-gzip", "enable-brotli", "gzip-*", "brotli-*")),
    ("header *", ("custom-headers", "add-headers", "*-snippet", "hide-headers", "custom-http-errors")),
    ("location", ("*redirect*", "app-root", "rewrite-target", "proxy-redirect-*", "auth-signin*", "*-snippet", "server-alias")),
    ("backend", ("canary*", "default-backend", "*-snippet", "use-regex", "rewrite-target", "affinity*", "custom-http-errors")),
    ("certificate", ("ssl-passthrough", "server-alias", "from-to-www-redirect", "ssl-*")),
)
"""Which annotations and keys may be behind a difference in a field. Any may be behind another status."""


@dataclass(frozen=True)
class Context:
    """What differences are explained with."""

    read: Reader
    problems: Sequence[Problem]
    prefix: str
    configmap: str

    def annotations(self, about: Ref | None) -> Mapping[str, str]:
        """Those of an Ingress, without prefix."""
        item = self.read(tuple(about)) if about else None
        own = item.meta.annotations if isinstance(item, Ingress) else {}
        return {name.removeprefix(self.prefix + "/"): v for name, v in own.items() if name.startswith(self.prefix + "/")}

    def keys(self) -> Mapping[str, str]:
        """Those of the ConfigMap."""
        found = self.read(("ConfigMap", *self.configmap.split("/", 1))) if self.configmap else None
        data: Mapping[str, str] = found.data if found else {}
        return data

    def about(self, about: Ref | None, rule: str) -> list[Problem]:
        """The Problems of an Ingress, without those of its other rules."""
        of_another = "spec.rules["
        return [p for p in self.problems if p.about == about and (not p.field.startswith(of_another) or _is_within(p.field, rule))]


def _is_within(problem: str, rule: str) -> bool:
    return problem == rule or problem.startswith(f"{rule}.") or rule.startswith(f"{problem}.")


Group = tuple[str, Ref | None, str, str]
"""A known difference ("" for none), the Ingress and the rule that answer, and the field, or those of the known difference."""


@dataclass
class Tallied:
    """What has been found so far."""

    context: Context
    requests: int = 0
    alike: int = 0
    unanswered: int = 0
    """Of those that are alike: neither side has answered."""
    server_errors: int = 0
    """Of those that are alike: both sides have answered with a status of 500 or above."""
    unsteady: dict[str, int] = field(default_factory=dict)
    certificates: dict[str, Inquiry] = field(default_factory=dict)
    """A request over https for each host, whose certificates are to be compared."""
    groups: dict[Group, list[tuple[Inquiry, Difference]]] = field(default_factory=dict)
    counts: dict[Group, int] = field(default_factory=dict)
    known: dict[str, KnownDifference] = field(default_factory=dict)
    known_requests: int = 0
    asked: set[tuple[Ref, str]] = field(default_factory=set)

    def add(self, inquiry: Inquiry, theirs: Sequence[Seen], ours: Sequence[Seen]) -> None:
        """Take one exchange: what each side answered, the first answer first."""
        self.requests += 1
        if inquiry.via is Via.HTTPS and ":" not in inquiry.host:  # an address has no name in TLS
            other = self.certificates.setdefault(inquiry.host, inquiry)
            self.certificates[inquiry.host] = min(other, inquiry, key=_simplest)
        self.asked |= {(inquiry.origin, inquiry.rule)} if inquiry.origin else set()
        self.asked |= {inquiry.derived_from} if inquiry.derived_from else set()
        kept, unsteady = steady(theirs, ours, by_chance=inquiry.by_chance)
        for name in unsteady:
            self.unsteady[name] = self.unsteady.get(name, 0) + 1
        found = [(each, self._known(inquiry, each, theirs, ours)) for each in kept]
        for each, cause in found:
            self._group(inquiry, each, cause)
        self.alike += not found
        self.unanswered += not found and "error" in theirs[0]
        self.server_errors += not found and theirs[0].get("status", "") >= "500"
        self.known_requests += bool(found) and all(cause for _, cause in found)

    def add_certificates(self, inquiry: Inquiry, theirs: str, ours: str) -> None:
        """Take the certificates that both show for the host of a request over https."""
        if theirs != ours:
            each, sides = Difference("certificate", theirs, ours), ([{"certificate": theirs}], [{"certificate": ours}])
            self._group(inquiry, each, self._known(inquiry, each, *sides))

    def _known(self, inquiry: Inquiry, difference: Difference, theirs: Sequence[Seen], ours: Sequence[Seen]) -> KnownDifference | None:
        """The known difference; none where `xds check` reports an error, for then something of the user's does not work."""
        about, rule = _cause(inquiry)
        errors = (p for p in self.context.about(about, rule) if p.severity is Severity.ERROR)
        if difference.field != "certificate" and any(not p.field.startswith("spec.tls") for p in errors):
            return None  # a certificate that neither side has got is generated by both
        varied = any(len({answer.get(difference.field) for answer in side}) > 1 for side in (theirs, ours))
        annotations, keys = self.context.annotations(inquiry.origin), self.context.keys()
        return known(Difficult(inquiry, difference, theirs[0], ours[0], annotations, keys, varied))

    def _group(self, inquiry: Inquiry, difference: Difference, cause: KnownDifference | None) -> None:
        group = (cause.id if cause else "", *_cause(inquiry), cause.field if cause and cause.field != "*" else difference.field)
        if cause:
            self.known[cause.id] = cause
        self.counts[group] = self.counts.get(group, 0) + 1
        examples = [*self.groups.get(group, ()), (inquiry, difference)]
        self.groups[group] = sorted(examples, key=lambda example: _simplest(example[0]))[:MOST_EXAMPLES]


def _simplest(inquiry: Inquiry) -> tuple[object, ...]:
    """The order of examples, whichever answer came first: such as are answered by a rule, by GET, with few headers and a short URL."""
    is_rule = inquiry.rule.startswith("spec.rules[")
    return not is_rule, inquiry.method, len(inquiry.headers), len(inquiry.url), inquiry.url, inquiry.headers


def _cause(inquiry: Inquiry) -> tuple[Ref | None, str]:
    """The Ingress and the rule that a difference is about: what the request was derived from, else what answers it."""
    if inquiry.derived_from and inquiry.derived_from != (inquiry.origin, inquiry.rule):
        return inquiry.derived_from
    return inquiry.origin, inquiry.rule


def document(
    found: Tallied, sides: tuple[Sequence[str], Sequence[str]], ingresses: Sequence[Ingress], *, complete: bool, log: Tally | None
) -> Json:
    """The whole document. `sides` are the addresses of both; `complete`: nothing was left out because of the bound on requests."""
    rules = [(Ref("Ingress", i.meta.namespace, i.meta.name), f"spec.rules[{n}].http.paths[{m}]") for i, n, m in _rules(ingresses)]
    unexplained = sorted((group for group in found.groups if not group[0]), key=_order)
    explained = sorted((group for group in found.groups if group[0]), key=_order)
    return {
        "version": VERSION,
        "from": list(sides[0]),
        "to": list(sides[1]),
        "summary": {
            "requests": found.requests,
            "alike": found.alike,
            "known": found.known_requests,
            "unanswered": found.unanswered,
            "server_errors": found.server_errors,
            "certificates": sum(count for group, count in found.counts.items() if group[3] == "certificate" and not group[0]),
            "differing": found.requests - found.alike - found.known_requests,
            "rules": len(rules),
            "rules_asked": sum(rule in found.asked for rule in rules),
            "complete": complete,
        },
        "differences": [_group_json(found, group) for group in (*unexplained, *explained)],
        "unsteady": [{"field": name, "requests": count} for name, count in sorted(found.unsteady.items())],
        "log": _log_json(log) if log else None,
    }


def _rules(ingresses: Iterable[Ingress]) -> Iterator[tuple[Ingress, int, int]]:
    return ((item, n, m) for item in ingresses for n, rule in enumerate(item.rules) for m in range(len(rule.paths)))


def _order(group: Group) -> tuple[str, ...]:
    return tuple(map(str, (group[1] or "", group[2], group[3], group[0])))


def _group_json(found: Tallied, group: Group) -> Json:
    cause, about, rule, name = group
    covered = found.known.get(cause)
    item = found.context.read(tuple(about)) if about else None
    examples = found.groups[group]
    return {
        "field": name,
        "requests": found.counts[group],
        "object": object_json(about) | {"place": place_json(item.meta.place if item else None)} if about else None,
        "rule": rule,
        "known": {"id": covered.id, "row": covered.row, "sentence": covered.sentence} if covered else None,
        "annotations": _suspects(found.context.annotations(about), name, covered),
        "keys": _suspects(found.context.keys(), name, covered),
        "problems": [problem_json(p) for p in found.context.about(about, rule)],
        "examples": [_example_json(inquiry, difference) for inquiry, difference in examples],
    }


def _suspects(written: Mapping[str, str], name: str, covered: KnownDifference | None) -> list[Json]:
    """The annotations or keys that may be behind a difference in a field."""
    globs = covered.names if covered else next((names for glob, names in SUSPECTS if fnmatchcase(name, glob)), ("*",))
    found = [each for each in sorted(written) if any(fnmatchcase(each, glob) for glob in globs)]
    return [{"name": each, "value": written[each][:200]} for each in found][:20]


def _example_json(inquiry: Inquiry, difference: Difference) -> Json:
    return {
        "why": inquiry.why.value,
        "method": inquiry.method,
        "url": inquiry.url,
        "headers": [{"name": name, "value": value} for name, value in inquiry.headers],
        "answered_by": object_json(inquiry.origin) | {"rule": inquiry.rule} if inquiry.origin else None,
        "from": _shown(difference.theirs),
        "to": _shown(difference.ours),
    }


def _shown(value: str | None) -> str | None:
    return value if value is None or len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


def _log_json(log: Tally) -> Json:
    return {
        "lines": log.lines,
        "unreadable": log.unreadable,
        "unasked": [{"reason": reason, "requests": count} for reason, count in sorted(log.unasked.items())],
    }
