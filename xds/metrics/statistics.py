"""Envoy's page of statistics in Prometheus' text format, read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from xds.request_metrics import SCOPE, TAG

Series = dict[str, float]
"""Value by labels as Envoy writes them, without the braces."""

_COUNTED = re.compile(rf'envoy_{SCOPE}_([a-z_]+)\{{{TAG}="((?:[^"\\]|\\.)*)"(?:,le="([^"]*)")?\}} (\S+)')
_OTHER = re.compile(r"envoy_([a-zA-Z0-9_]+)\{([^}]*)\} (\S+)")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(slots=True)
class Buckets:
    """A histogram: how many values are at most each bound (Envoy's text, "+Inf" the last), and their sum, in Envoy's unit."""

    at_most: dict[str, float] = field(default_factory=dict)
    sum: float = 0.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """`counters` and `histograms` of requests: the statistic's name → the text of its labels → value. `others` are those of Envoy."""

    counters: Mapping[str, Mapping[str, float]]
    histograms: Mapping[str, Mapping[str, Buckets]]
    others: Mapping[str, Series]

    def total(self, name: str) -> float:
        """The sum of a statistic over all its labels; 0 where Envoy has none of this name."""
        return sum(self.others.get(name, {}).values())


def read(page: str) -> Statistics:
    """The statistics on a page. A line that is none of those that Envoy writes is left out."""
    counters: dict[str, dict[str, float]] = defaultdict(dict)
    histograms: dict[str, dict[str, Buckets]] = defaultdict(lambda: defaultdict(Buckets))
    others: dict[str, Series] = defaultdict(dict)
    for line in page.split("\n"):
        if found := _COUNTED.fullmatch(line):
            name, labels, bound, value = found.groups()
            if bound is not None:
                histograms[name.removesuffix("_bucket")][labels].at_most[bound] = float(value)
            elif name.endswith("_sum"):
                histograms[name.removesuffix("_sum")][labels].sum = float(value)
            elif not name.endswith("_count"):
                counters[name][labels] = float(value)
        elif found := _OTHER.fullmatch(line):
            others[found[1]][found[2]] = float(found[3])
    return Statistics(counters, histograms, others)


def unescaped(text: str) -> str:
    """A label's value without Prometheus' escapes."""
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text
