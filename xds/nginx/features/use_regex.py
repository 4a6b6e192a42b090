"""use-regex: the paths of a host are regular expressions. What those take is `xds.patterns.regex.nginx_location`'s to say."""

from __future__ import annotations

import re

from xds.nginx.feature import Annotation, Feature, Fidelity
from xds.nginx.values import boolean

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
USE_REGEX = Annotation(
    "use-regex",
    boolean,
    "Whether paths are regular expressions; one Ingress that asks for it, or rewrites, decides for all paths of its host.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason="Envoy's expressions (RE2) have neither lookaround nor backreferences, and an escaped slash is one only beside access rules",
    differs=lambda _wanted, paths: any(_SPECIAL.search(path) for path in paths),
)


def _makes_regex(wanted: bool, _path: str, _exact: bool) -> bool:
    return wanted


FEATURE = Feature(read=lambda notes: notes.own(USE_REGEX), annotations=(USE_REGEX,), regex=_makes_regex)
