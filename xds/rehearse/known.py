"""The differences of docs/differences.md that two answers can show, each with a predicate that distinguishes it from others. Pure.

Only what can be recognised in the answers, the request and the objects is here: a difference that merely might be a known one is reported
as unexplained. `docs/differences.md` has the same table; a test compares them.

What does not belong here: errors of `xds check`. Where the rule has one, nothing is called known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from xds.explain.route_of import normalised
from xds.rehearse.comparing import Difference, Seen
from xds.rehearse.inquiries import Inquiry

GENERATED = "Kubernetes Ingress Controller Fake Certificate"
"""The common name of generated certificates, of ingress-nginx and of ours."""


@dataclass(frozen=True)
class Difficult:
    """A difference with all that may explain it: both answers, the Ingress' annotations (without prefix) and the keys of the ConfigMap.

    `varied`: one side's own answers differed in the field when it was asked again.
    """

    inquiry: Inquiry
    difference: Difference
    theirs: Seen
    ours: Seen
    annotations: Mapping[str, str]
    keys: Mapping[str, str]
    varied: bool = False

    @property
    def status(self) -> tuple[str, str]:
        """Theirs, and ours."""
        return self.theirs.get("status", ""), self.ours.get("status", "")

    def written(self, name: str) -> str:
        """An annotation, else the key of that name; "" for neither."""
        return self.annotations.get(name, "") or self.keys.get(name, "")


@dataclass(frozen=True)
class KnownDifference:
    """One difference: in a `field` (a glob), of Ingresses with one of the annotations or keys `names` (any, if there are none).

    `row` is the first cell of its row in docs/differences.md, `sentence` what differs.
    """

    id: str
    names: tuple[str, ...]
    field: str
    holds: Callable[[Difficult], bool]
    row: str
    sentence: str

    def covers(self, found: Difficult) -> bool:
        """Whether a difference is this one."""
        named = not self.names or any(found.written(name) for name in self.names)
        return named and fnmatchcase(found.difference.field, self.field) and self.holds(found)


def known(found: Difficult) -> KnownDifference | None:
    """The known difference that one is, if it is one."""
    return next((each for each in KNOWN if each.covers(found)), None)


def _is_climbing(found: Difficult) -> bool:
    path = found.inquiry.target.partition("?")[0]
    depth = 0
    for segment in path.split("/")[1:]:
        depth += -1 if segment == ".." else segment not in ("", ".")
        if depth < 0:
            break
    return found.status[0] == "400" and (depth < 0 or bool(re.search(r"%(?![0-9A-Fa-f]{2})", path)))


def _has_odd_dots(found: Difficult) -> bool:
    path = found.inquiry.target.partition("?")[0]
    return bool(re.search(r"//+(?:[^/]+/)?\.\.|%2[Ff].*/\.\.|\\|/\.\.;", path))


def _has_escaped_slash(found: Difficult) -> bool:
    return "%2f" in found.inquiry.target.partition("?")[0].lower() and found.difference.field in ("status", "backend", "location")


def _is_all_slashes(found: Difficult) -> bool:
    path = found.inquiry.target.partition("?")[0]
    return len(path) > 1 and not path.strip("/")


def _has_large_headers(found: Difficult) -> bool:
    size = sum(len(name) + len(value) for name, value in found.ours.items())
    return found.status[0] == "502" and found.status[1] < "500" and size > 4_000


def _is_other_spelling(found: Difficult) -> bool:
    """Whether both are redirects to https that lead to one path, here as it is normalised."""
    if not (found.difference.theirs and found.difference.ours):
        return False
    theirs, ours = urlsplit(found.difference.theirs), urlsplit(found.difference.ours)
    same = (theirs.scheme, theirs.netloc, theirs.query) == (ours.scheme, ours.netloc, ours.query)
    return same and ours.scheme == "https" and normalised(theirs.path).rstrip("/") == ours.path.rstrip("/")


def _is_added(found: Difficult) -> bool:
    return found.difference.theirs is None and found.difference.ours is not None


def _is_added_over_https(found: Difficult) -> bool:
    return found.inquiry.via.value == "https" and _is_added(found)


def _is_one_of_two(found: Difficult) -> bool:
    theirs, ours = found.difference.theirs or "", found.difference.ours or ""
    return bool(ours) and theirs.count("max-age") > 1 and ours in theirs


def _is_other_order(found: Difficult) -> bool:
    theirs, ours = ((found.difference.theirs or "").split("\n"), (found.difference.ours or "").split("\n"))
    return sorted(theirs) == sorted(ours)


def _is_split(found: Difficult) -> bool:
    theirs, ours = ((found.difference.theirs or "").split("\n"), (found.difference.ours or "").split("\n"))
    joined = ", ".join(theirs)
    return len(theirs) < len(ours) and all(re.search(rf"(?:^|[\n,]\s*){re.escape(each.partition('=')[0])}=", joined) for each in ours)


def _is_of_another_scheme(found: Difficult) -> bool:
    return found.status == ("500", "503") and not re.match(r"https?:", found.written("auth-url").strip())


def _is_rewritten_to_nothing(found: Difficult) -> bool:
    return found.status[0] == "500" and found.status[1] < "500" and found.written("rewrite-target").startswith("$")


def _is_unclaimed(found: Difficult) -> bool:
    return found.status == ("401", "404") and not found.inquiry.rule.startswith("spec.rules[")


def _lets_nobody_in(found: Difficult) -> bool:
    is_path = found.written("auth-tls-error-page").startswith("/")
    return is_path and found.inquiry.via.value == "https" and found.status[1] == "400" and found.status[0] < "400"


def _is_limit(found: Difficult) -> bool:
    code = found.written("limit-req-status-code") or "503"
    return found.varied and code in found.status and found.status[0] != found.status[1]


def _is_compression_apart(found: Difficult) -> bool:
    theirs, ours = (set((text or "").split(", ")) - {""} for text in (found.difference.theirs, found.difference.ours))
    return ours - theirs == {"accept-encoding"} and theirs <= ours


def _is_generated(found: Difficult) -> bool:
    return all((text or "").startswith(f"{GENERATED} ") for text in (found.difference.theirs, found.difference.ours))


_HSTS = "header strict-transport-security"
KNOWN = (
    KnownDifference(
        "path-above-root",
        (),
        "*",
        _is_climbing,
        "a path above the root (`/../x`), a broken escape (`/%zz`)",
        "ingress-nginx answers 400; here the dots stop at the root, and the escape is a character like others",
    ),
    KnownDifference(
        "dots-and-slashes",
        (),
        "*",
        _has_odd_dots,
        r"`/a//../b`, `/x%2Fy/../b`, `/a\..\b`, `/a/..;/b`",
        "dots beside doubled or escaped slashes, backslashes and semicolons lead elsewhere",
    ),
    KnownDifference(
        "escaped-slash",
        (),
        "*",
        _has_escaped_slash,
        "what a path matches",
        "an escaped slash is one only on hosts whose paths differ in their access rules",
    ),
    KnownDifference(
        "only-slashes",
        (),
        "*",
        _is_all_slashes,
        "a path of nothing but slashes (`//`)",
        "for ingress-nginx it is `/`; here it begins with `/`, but is no Exact `/`",
    ),
    KnownDifference(
        "large-response-headers",
        (),
        "status",
        _has_large_headers,
        "headers of a response beyond `proxy-buffer-size` (4k)",
        "ingress-nginx answers 502; here they pass",
    ),
    KnownDifference(
        "redirect-normalised",
        (),
        "location",
        _is_other_spelling,
        "the redirect to https",
        "here it leads to the normalised path",
    ),
    KnownDifference(
        "rewritten-to-nothing",
        ("rewrite-target",),
        "status",
        _is_rewritten_to_nothing,
        "`rewrite-target: $1` where the group is empty",
        "ingress-nginx answers 500; here the path is `/`",
    ),
    KnownDifference(
        "hsts-server-snippet",
        ("server-snippet",),
        _HSTS,
        _is_added_over_https,
        "`server-snippet`: Strict-Transport-Security on what its `location`s answer",
        "here it is there",
    ),
    KnownDifference(
        "hsts-twice",
        ("configuration-snippet",),
        _HSTS,
        _is_one_of_two,
        "`add_header Strict-Transport-Security` on https",
        "ingress-nginx sends that of the snippet beside that of the ConfigMap; here only the latter is sent",
    ),
    KnownDifference(
        "cors-in-if",
        ("configuration-snippet",),
        "header access-control-*",
        _is_added,
        "the CORS headers, where an `if` of a snippet holds",
        "in ingress-nginx they are missing; here they are there",
    ),
    KnownDifference(
        "session-cookie-last",
        ("affinity",),
        "header set-cookie",
        _is_other_order,
        "session cookies and `Set-Cookie` of the backend",
        "in ingress-nginx the session cookie comes first; here it comes last",
    ),
    KnownDifference(
        "auth-cookies-apart",
        ("auth-url", "global-auth-url"),
        "header set-cookie",
        _is_split,
        "several cookies of the service (`Set-Cookie`)",
        "ingress-nginx joins them in one header; here each has its own",
    ),
    KnownDifference(
        "auth-url-scheme",
        ("auth-url",),
        "status",
        _is_of_another_scheme,
        "`auth-url` of another scheme than http and https",
        "ingress-nginx answers 500; here it is 503",
    ),
    KnownDifference(
        "password-for-nothing",
        ("auth-type",),
        "status",
        _is_unclaimed,
        "what no path of a host takes, where its Ingress has `auth-type`",
        "ingress-nginx asks for a password before it answers 404",
    ),
    KnownDifference(
        "no-client-certificate",
        ("auth-tls-error-page",),
        "status",
        _lets_nobody_in,
        "`auth-tls-error-page` with a path",
        "ingress-nginx lets clients in who have no certificate; here they get 400",
    ),
    KnownDifference(
        "limit-counts",
        ("limit-rps", "limit-rpm"),
        "status",
        _is_limit,
        "`limit-rps`, `limit-rpm`",
        "the rehearsal itself came to the limit, which the two count apart",
    ),
    KnownDifference(
        "brotli-vary",
        ("enable-brotli",),
        "header vary",
        _is_compression_apart,
        "`enable-brotli`: `Vary`",
        "here it names Accept-Encoding, so that caches keep responses apart",
    ),
    KnownDifference(
        "generated-certificate",
        (),
        "certificate",
        _is_generated,
        "the certificate that is generated for hosts without one",
        "each side has generated its own",
    ),
)


def page() -> Iterator[str]:
    """The lines of the table in docs/differences.md."""
    yield "| id | differs in | with | the row above | what differs |"
    yield "|---|---|---|---|---|"
    for each in KNOWN:
        names = ", ".join(f"`{name}`" for name in each.names)
        yield f"| `{each.id}` | {each.field if each.field != '*' else 'any field'} | {names} | {each.row} | {each.sentence} |"
