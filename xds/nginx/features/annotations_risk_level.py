"""annotations-risk-level: an Ingress with an annotation above this class is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xds.nginx.feature import Feature, Forbidden, Key, Risk, Written

_ORDER = (Risk.LOW, Risk.MEDIUM, Risk.HIGH, Risk.CRITICAL)


def _level(text: str) -> Risk:
    """The class by its name, in any case. As in ingress-nginx, what is no class allows the least."""
    return next((risk for risk in _ORDER if risk.value.lower() == text.lower()), Risk.LOW)


ANNOTATIONS_RISK_LEVEL = Key(
    "annotations-risk-level",
    _level,
    "The class of annotations (Low, Medium, High, Critical) above which an Ingress is left out; any other word counts as Low.",
    "Critical",
    Risk.HIGH,
)


def _forbids(level: Risk, annotations: Iterable[Written]) -> Iterator[Forbidden]:
    for written in annotations:
        if written.risk and _ORDER.index(written.risk) > _ORDER.index(level):
            sentence = f"has the risk {written.risk.value}, and annotations-risk-level allows {level.value}"
            yield Forbidden(written.name, sentence)


FEATURE = Feature(read=lambda notes: notes.key(ANNOTATIONS_RISK_LEVEL), keys=(ANNOTATIONS_RISK_LEVEL,), forbids=_forbids)
