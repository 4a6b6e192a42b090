"""Envoy's page of statistics in Prometheus' text format, read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from xds.request_metrics import SCOPE, TAG

Series = dict[str, float]
"""Value by labels as Envoy writes them, without the braces."""

_COUNTED = f"envoy_{SCOPE}_"
_LABELS = f'{{{TAG}="'
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
    """The statistics on a page. A line that is none of those that Envoy writes is left out.

    Nearly all lines are about requests, and there may be hundreds of thousands: they are cut, without a regular expression.
    """
    counters: dict[str, dict[str, float]] = defaultdict(dict)
    histograms: dict[str, dict[str, Buckets]] = defaultdict(lambda: defaultdict(Buckets))
    others: dict[str, Series] = defaultdict(dict)
    for line in page.split("\n"):
        if not line.startswith(_COUNTED):
            if found := _OTHER.fullmatch(line):
                others[found[1]][found[2]] = float(found[3])
            continue
        name, _, rest = line[len(_COUNTED) :].partition(_LABELS)
        labels, end, text = rest.rpartition('"} ')
        try:
            value = float(text)
        except ValueError:
            continue
        if name.endswith("_bucket"):
            labels, _, bound = labels.rpartition('",le="')
            histograms[name[:-7]][labels].at_most[bound] = value
        elif name.endswith("_sum"):
            histograms[name[:-4]][labels].sum = value
        elif end and not name.endswith("_count"):
            counters[name][labels] = value
    return Statistics(counters, histograms, others)


def unescaped(text: str) -> str:
    """A label's value without Prometheus' escapes."""
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text
