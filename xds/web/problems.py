"""The present Problems, and their number by severity and feature."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds.nginx import registry
from xds.problem import Problem

_NAMED = re.compile(r"(?:metadata\.annotations|data)\[(?:[^]]*/)?(.*)\]")
"""The name of an annotation, without its prefix, or of a ConfigMap key, in the field of a Problem."""


class Problems(Collector):
    """A set of Problems that is also `xds_problems{severity,feature}`.

    It counts as they come and go, so that the cost of a scrape does not depend on their number. A Problem leaves the count that it entered.
    """

    def __init__(self) -> None:
        self._labels: dict[Problem, tuple[str, str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __contains__(self, problem: object) -> bool:
        return problem in self._labels

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._labels)

    def add(self, problem: Problem) -> None:
        """A Problem is present."""
        self.discard(problem)
        labels = self._labels[problem] = (problem.severity.value, feature_of(problem))
        self._counts[labels] += 1

    def discard(self, problem: Problem) -> None:
        """A Problem has ended."""
        labels = self._labels.pop(problem, None)
        if labels is not None:
            self._counts[labels] -= 1

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge. A series stays, at 0, when its last Problem ends, so that an alert resolves."""
        text = "Present Problems: what was written and has no effect, or another effect than it seems to have."
        gauge = GaugeMetricFamily("xds_problems", text, labels=["severity", "feature"])
        for labels, count in sorted(self._counts.items()):
            gauge.add_metric(labels, count)
        yield gauge


def feature_of(problem: Problem) -> str:
    """The label `feature`: the module in `xds/nginx/features` that declares the annotation or key, else the family of the code.

    Neither is text of a user, so the number of series is bounded.
    """
    family = problem.code.partition(":")[0]
    if not family.startswith(("annotation-", "key-")):
        return family
    named = _NAMED.fullmatch(problem.field)
    return _declared().get(named[1], family) if named else family


@functools.cache
def _declared() -> Mapping[str, str]:
    """The names of annotations and keys that features declare → the name of the feature's module."""
    found: dict[str, str] = {}
    for module, feature in registry.features().items():
        found.update((key.name, module) for key in feature.keys)
        for annotation in feature.annotations:
            found.update((name, module) for name in (annotation.name, annotation.alias) if name)
    return found
